"""The runs of a search, and the table of their validation errors."""

import dataclasses
import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stpatch_jax.data import Data, DataConfig
from stpatch_jax.errors import InputError, require
from stpatch_jax.files import to_json, usable
from stpatch_jax.runs.config import InMemory, RunConfig, data_of, resolved
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.judging.tables import document, markdown_table
from stpatch_jax.runs.lock import held
from stpatch_jax.runs.pages import write_told
from stpatch_jax.runs.results import finished, write_finished
from stpatch_jax.runs.run import Run
from stpatch_jax.runs.searching.space import Space, candidates, with_values
from stpatch_jax.runs.trained import digests_of, require_same_data

RESULT = "validation.json"
"""The file in a trial's directory that marks it as finished."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One line of a search's table.

    Attributes:
        name: Name of its run directory, below that of the search.
        values: The searched fields.
        validation: Figures on the validation split, the first of which decides, the less the
            better; None if the run failed.
        error: Why the run failed, one sentence; None if it did not.
    """

    name: str
    values: dict[str, Any]
    validation: dict[str, float] | None = None
    error: str | None = None

    @property
    def loss(self) -> float:
        """The figure that trials are ordered by, infinite where the run failed."""
        return math.inf if self.validation is None else next(iter(self.validation.values()))


@usable()
def search(
    config: RunConfig,
    space: Space,
    *,
    workdir: str | Path,
    data: Data | InMemory | None = None,
    trials: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> list[Trial] | None:
    """Trains a run for every trial and tells which has the least error on the validation split.

    The test split is never judged: `stpatch evaluate` on the best trial's directory reports on it,
    once. Trials that are there already must be of the same data. What counts is the first figure of
    the task's summary, such as the MAE of a forecast, after the last step. Every trial is a run
    directory of its own, named by its values, so the same call resumes and trains nothing twice,
    more `trials` keep the first ones, and another space those that it shares. After each trial
    `search.json`, `search.md` and `search.html` in `workdir` hold the table so far. A run that
    fails (its loss is not finite, say) stands there with the reason, and the next call tries it
    again.

    Args:
        config: What holds for every trial; of it only `train.steps` may grow between calls.
        space: What is tried, see `with_values`.
        workdir: The directory of the search.
        data: The data where they are in memory, as in `train`.
        trials: Number of random trials; None tries the whole grid.
        seed: Of the random trials.
        progress: Whether to tell on stderr what is going on.

    Returns:
        The trials, best first, failed ones last; None where SIGTERM ended the search.

    Raises:
        InputError: A field or value cannot be used, or a directory is not this search's; nothing
            was trained then.

    References:
        Bergstra and Bengio, "Random search for hyper-parameter optimization", JMLR 2012, on why
        random trials find more than a grid of as many.
    """
    config, workdir = resolved(config), Path(workdir)
    with held(workdir):
        return _search(config, space, workdir, data, trials, seed, progress)


def _search(
    config: RunConfig,
    space: Space,
    workdir: Path,
    data: Data | InMemory | None,
    trials: int | None,
    seed: int,
    progress: bool,
) -> list[Trial] | None:
    rows = {_name(values): values for values in candidates(space, trials, seed)}
    config = dataclasses.replace(config, data=config.data.held_out())
    configs = {name: with_values(config, values) for name, values in rows.items()}
    loaded = _loaded(configs, workdir, data)
    done = [
        Trial(name, rows[name], validation)
        for name, config in configs.items()
        if (validation := _finished(workdir / name, config))
    ]
    there = {trial.name for trial in done}
    waiting = {name: config for name, config in configs.items() if name not in there}
    runs = _checked_runs(waiting, workdir, loaded)
    for trial in done:
        if RunDirectory(workdir / trial.name).has_unfinished():
            with held(workdir / trial.name):
                pass  # Killed at its very end, a trial leaves its lock.
    _write(workdir, done)
    for name, run in runs.items():
        if progress:
            print(f"{name} ({len(done) + 1} of {len(rows)}): {rows[name]}", file=sys.stderr)
        with held(workdir / name):
            trial = _train(Trial(name, rows[name]), run, RunDirectory(workdir / name), progress)
        if trial is None:
            return None
        done.append(trial)
        _write(workdir, done)
    return sorted(done, key=lambda trial: trial.loss)


def _name(values: Mapping[str, Any]) -> str:
    text = to_json(values, sort_keys=True)
    return f"trial-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _finished(path: Path, config: RunConfig) -> dict[str, float] | None:
    """The result of a trial that was finished with this very configuration."""
    found = finished(path / RESULT, config, "validation")
    # What is no number is measured anew.
    return found if found and all(isinstance(x, float) for x in found.values()) else None


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """The data of a trial, and their digests."""

    config: DataConfig
    data: Data
    digests: dict[str, str]


def _loaded(
    configs: Mapping[str, RunConfig], workdir: Path, given: Data | InMemory | None
) -> dict[str, _Loaded]:
    """The data of all trials by name; those that are there already must be of the same."""
    read: list[_Loaded] = []  # Settings by name are no keys of a dict.
    loaded = {}
    for name, config in configs.items():
        one = next((one for one in read if one.config == config.data), None)
        if one is None:
            data = data_of(config, given)
            require(
                data is not given or not read,
                "data.context must be left out of a search on a data set that is built already, "
                f"got {config.data}; give the values that config.data.of takes",
            )
            one = _Loaded(config.data, data, digests_of(data))
            read.append(one)
        require_same_data(RunDirectory(workdir / name), one.data, one.digests)
        loaded[name] = one
    return loaded


def _checked_runs(
    configs: Mapping[str, RunConfig], workdir: Path, loaded: Mapping[str, _Loaded]
) -> dict[str, Run]:
    """Every run, ready: what cannot be used shows before the first is trained."""
    runs = {}
    for name, config in configs.items():
        run = runs[name] = Run(config, data=loaded[name].data)
        run.digests = loaded[name].digests
    for name, run in runs.items():
        with held(workdir / name):
            run.claim(RunDirectory(workdir / name))
    return runs


def _train(trial: Trial, run: Run, directory: RunDirectory, progress: bool) -> Trial | None:
    try:
        result = run.fit(directory, progress=progress)
    except InputError as error:
        return dataclasses.replace(trial, error=str(error))
    if result.interrupted:
        return None
    validation = run.validate(result.model)
    if not all(map(math.isfinite, validation.values())):
        return dataclasses.replace(trial, error="its validation error is not finite")
    write_finished(directory.path / RESULT, run.config, "validation", validation)
    return dataclasses.replace(trial, validation=validation)


def _write(workdir: Path, done: Sequence[Trial]) -> None:
    if done := sorted(done, key=lambda trial: trial.loss):
        RunDirectory(workdir).write_json(
            workdir / "search.json", list(map(dataclasses.asdict, done))
        )
        write_told(workdir / "search.md", table(done, workdir))


def table(trials: Sequence[Trial], workdir: Path) -> str:
    """Returns the trials as a Markdown table in their order, and what the first of them is.

    >>> print(table([Trial("t", {"a": 3}, {"mae": 0.5, "rmse": 0.7, "skill": 0.1})], Path("s")))
    | trial | a | mae | rmse | skill |
    |---|---|---:|---:|---:|
    | t | 3 | 0.5 | 0.7 | 0.1 |
    <BLANKLINE>
    Figures are on the validation split, those of forecasts in scaled units; mae decides.
    Best is t with a = 3; stpatch evaluate s/t reports it on the test split.
    <BLANKLINE>
    """
    fields, measured = list(trials[0].values), list(trials[0].validation or {})
    rows = []
    for trial in trials:
        figures = trial.validation or {}
        numbers = (f"{figures[name]:.4g}" if figures else "" for name in measured)
        rows.append([trial.name, *map(to_json, trial.values.values()), *numbers])
    lines = markdown_table(["trial", *fields, *measured], rows, texts=1 + len(fields))
    return document([*lines, "", *_told(trials, workdir), ""])


def _told(trials: Sequence[Trial], workdir: Path) -> list[str]:
    best = trials[0]
    failed = [f"{trial.name} failed: {trial.error}" for trial in trials if trial.error]
    if best.validation is None:
        return failed
    values = ", ".join(f"{name} = {to_json(value)}" for name, value in best.values.items())
    return [
        "Figures are on the validation split, those of forecasts in scaled units; "
        f"{next(iter(best.validation))} decides.",
        f"Best is {best.name} with {values}; stpatch evaluate {workdir / best.name} reports it "
        "on the test split.",
        *failed,
    ]
