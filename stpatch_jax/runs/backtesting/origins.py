"""The runs of a backtest: a model trained before each origin, or once, and scored on each fold."""

import contextlib
import dataclasses
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from flax import nnx

from stpatch_jax.data import Data
from stpatch_jax.data.sampling.splits import require_windows, splits_report
from stpatch_jax.data.times import time_text
from stpatch_jax.errors import check_choice, listed, require, require_members
from stpatch_jax.files import usable
from stpatch_jax.runs.backtesting.folds import Fold, Over, RollingData, all_folds, folds_of
from stpatch_jax.runs.backtesting.scoring import FoldJudge
from stpatch_jax.runs.backtesting.telling import summary_of, table_of, write_all
from stpatch_jax.runs.config import InMemory, RunConfig, data_of, resolved
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.judging.forecast import ForecastJudge
from stpatch_jax.runs.judging.judge import Judged, judges
from stpatch_jax.runs.judging.registry import kind_of
from stpatch_jax.runs.judging.undefined import without_undefined
from stpatch_jax.runs.lock import held
from stpatch_jax.runs.results import finished, write_finished
from stpatch_jax.runs.run import Run, Stopped, stopped_text
from stpatch_jax.runs.trained import digests_of, require_same_data
from stpatch_jax.runs.values import plain, to_values
from stpatch_jax.training.fitting import temporary_workdir

MODEL = "model"
"""The run directory, below that of a backtest, of the one model that is scored on every fold."""

ENTRY = "fold"
"""The entry of a result file that holds the scores of its fold."""

_Scored = tuple[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Backtest:
    """What came out of a backtest.

    Attributes:
        directory: Its directory.
        metrics: The figures, as in `backtest.json`.
        report: The report as Markdown text, as in `backtest.md`.
    """

    directory: Path
    metrics: Mapping[str, Any]
    report: str

    @property
    def table(self) -> pd.DataFrame:
        """A row for each fold, lead, method and metric, as in `backtest.csv`."""
        return table_of(self.metrics)


@usable()
def backtest(
    config: RunConfig,
    *,
    data: Data | InMemory | None = None,
    folds: int = 8,
    refit: bool = False,
    over: Over = "train",
    workdir: str | Path | None = None,
    progress: bool = True,
) -> Backtest:
    """Scores a forecast at rolling origins, beside the rules that fit.

    The second half of the rows is cut into spans of equal length, the folds, see `rolling_folds`.
    What scores a fold was trained on rows before its origin alone, all of them (the window grows):
    the last of these are its validation span, as long a share as the configuration has it, and
    every training target lies before that. A fold's windows begin at each of its rows, each sees
    what lies before it, and all of its targets lie in the fold.

    Without `refit` one model, trained before the first origin, is scored on every fold; with it one
    is trained for each. What is left to the data is chosen by the rows before the first origin, and
    holds for all folds. Rules are fitted to the training rows of the model they stand beside.

    The same call on the same directory resumes: folds that are finished are not done again. It
    holds `backtest.json`, `.md`, `.html` and `.csv`, `plots/folds.png`, and of each fold
    `fold-N.json`; run directories are `fold-N`, or `model` without `refit`.

    Args:
        config: What is trained; of it only `train.steps` may grow between calls.
        data: The data where they are in memory, as in `train`.
        folds: How many there are.
        refit: Whether a model is trained for each fold.
        over: What is cut: "train", the training span, so that the test span stays unseen, or
            "all" rows.
        workdir: The directory of the backtest; without it a temporary one, which lasts as long as
            what is returned.
        progress: Whether to tell on stderr what is going on.

    Raises:
        InputError: Configuration, data or directory cannot be used, or so many folds do not fit.
        Stopped: SIGTERM ended it; a checkpoint is committed.

    References:
        Tashman, "Out-of-sample tests of forecasting accuracy", International Journal of Forecasting
        16 (2000).
    """
    config = resolved(config)
    check_choice("refit=", refit, (True, False))
    with contextlib.ExitStack() as temporary:
        path = Path(workdir or temporary_workdir(temporary))
        task = config.task.create()
        whole: Any = data_of(config, data)
        require(
            config.data.rolling and issubclass(judges.of(task, whole), ForecastJudge),
            "a backtest must be of a forecast of a series, a map or a panel, got "
            f"{kind_of(task)} on {kind_of(whole)}; give a recipe such as forecast or stocks",
        )
        require_members(whole, RollingData, what="the data of a backtest")
        if whole is data:
            config = dataclasses.replace(config, data=whole.config)
        settings = {"folds": folds, "refit": refit, "over": over}
        parts = _parts(config, whole, folds_of(whole, folds, over), refit, path)
        if progress and not workdir:
            told = f"the backtest lies in {path} while it is in use; give workdir= to keep it"
            print(told, file=sys.stderr)
        with held(path):
            found = _backtest(parts, settings, path, progress)
        weakref.finalize(found, temporary.pop_all().close)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """A model, and the folds that it is scored on: splits of `scored` by their names."""

    directory: RunDirectory
    config: RunConfig
    data: Any
    scored: Any
    folds: Mapping[str, Fold]

    @classmethod
    def of(cls, directory: Path, config: RunConfig, data: Any, folds: Sequence[Fold]) -> "_Part":
        named = {f"fold-{fold.number}": fold for fold in folds}
        spans = {name: range(fold.origin, fold.stop) for name, fold in named.items()}
        scored = dataclasses.replace(data, splits={**data.splits, **spans})
        advice = "use fewer folds=, a shorter context= or horizon=, or a file with fewer gaps"
        parts, size = {name: scored.spans[name] for name in spans}, data.past + data.horizon
        require_windows(parts, data.segments, rows=size, advice=advice)
        return cls(RunDirectory(directory), config, data, scored, named)

    @cached_property
    def digests(self) -> dict[str, str]:
        """Those of the run, which must not have changed since."""
        return digests_of(self.data)

    def ready(self) -> Run:
        """The run in its directory, with what is known here."""
        run = Run(self.config, data=self.data)
        run.digests = self.digests
        with held(self.directory.path):
            run.claim(self.directory)
        return run

    def score(self, run: Run, model: nnx.Module, waiting: Sequence[str]) -> Iterator[_Scored]:
        """The entries of some folds by their names, with the judge that is needed for all."""
        size = run.config.train.examples
        judge = FoldJudge(run.task, self.scored, run.mesh, batch_size=size)
        past = judge(model, "validation") if judge.levels else None
        for name in waiting:
            yield name, self._entry(name, judge, judge(model, name, past=past))

    def _entry(self, name: str, judge: FoldJudge, judged: Judged) -> dict[str, Any]:
        data, splits = self.scored, ("train", "validation", name)
        rows, spans = ({split: of[split] for split in splits} for of in (data.splits, data.spans))
        told = splits_report(rows, data.times, horizon=data.horizon, spans=spans)
        entry = {
            "fold": self.folds[name].number,
            "origin": self.folds[name].origin,
            "splits": {"test" if split == name else split: of for split, of in told.items()},
            "scores": judge.report(judged),
        }
        entry = plain(entry, where=name, finite=False)
        return without_undefined(entry, {"scores": judged})


def _parts(
    config: RunConfig, whole: Any, folds: Sequence[Fold], refit: bool, path: Path
) -> list[_Part]:
    """The models of a backtest; what the first origin's past chooses holds for all."""
    cuts = [(f"fold-{fold.number}", fold, [fold]) for fold in folds]
    cuts = cuts if refit else [(MODEL, all_folds(folds), folds)]
    parts = []
    for name, cut, scored in cuts:
        data = config.data.rolled(whole, cut.split_at)
        config = dataclasses.replace(config, data=data.config)
        config = config if parts else Run(config, data=data).config
        parts.append(_Part.of(path / name, config, data, scored))
    return parts


def _backtest(
    parts: Sequence[_Part], settings: dict[str, Any], path: Path, progress: bool
) -> Backtest:
    files = {name: path / f"{name}.json" for part in parts for name in part.folds}
    of = {name: part.config for part in parts for name in part.folds}
    there = ((name, finished(file, of[name], ENTRY)) for name, file in files.items())
    entries = {name: entry for name, entry in there if entry}
    RunDirectory(path).claim({"backtest": settings} | to_values(parts[0].config))
    for part in parts:
        require_same_data(part.directory, part.data, part.digests)
    # What cannot be used shows before the first is trained.
    ready = [(part, part.ready()) for part in parts if not part.folds.keys() <= entries.keys()]
    for part, run in ready:
        waiting = [name for name in part.folds if name not in entries]
        if progress:
            last = time_text(part.data.times[part.data.splits["train"].stop - 1])
            told = f"{listed(waiting)} of {len(files)}: a model of what came up to {last}"
            print(told, file=sys.stderr)
        with held(part.directory.path):
            result = run.fit(part.directory, progress=progress)
            if result.interrupted:
                if progress:
                    print(stopped_text(path), file=sys.stderr)
                raise Stopped
            for name, entry in part.score(run, result.model, waiting):
                write_finished(files[name], part.config, ENTRY, entry)
                entries[name] = entry
    metrics = summary_of(parts[0].config, settings, [entries[name] for name in files])
    return Backtest(path, metrics, write_all(path, metrics))
