"""Our recipes in the published protocols, beside the published numbers and the naive rules.

    python -m benchmarks.published NAME [--horizons 96 192] [--seeds 3] [--results FOLDER]
    python -m benchmarks.published RECIPE --data.path FILE
    python -m benchmarks.published NAME --folds 6

Trains the recipe for every horizon and seed and scores it on the whole test split. Rows go to
`benchmarks/results/published.json` and replace older ones of the same recipe, data set, horizon and
metric. `value` is the mean over the seeds (of a cross-validation, over the folds), `std` their
standard deviation, `interval` a 95 % bootstrap interval of the mean, drawn by case, day or block of
one horizon (a twentieth of the test span, where that is shorter). `test_openings` counts how often
the test split was scored for that row. Configurations are chosen on validation; `python -m
benchmarks.tables` writes the table of docs/results.md from the file.

With `--data.path` any recipe is scored on a file in that file's own split, by every metric of its
kind; the row has the file's stem as its data set and nothing published. With `--folds` a model is
trained anew before each of so many spans of the later half of the rows and scored on all of them,
the test split included; rows, with what ours is ahead of the best rule, go to `walk_forward.json`.
A mistake is one sentence, with exit code 2.
"""

import argparse
import dataclasses
import functools
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments import EXPERIMENTS, Experiment
from benchmarks.rivals import customer_scores, token_scores
from benchmarks.scores import (
    Score,
    Scores,
    alert_scores,
    class_scores,
    detection_scores,
    forecast_scores,
    frame_scores,
    interval,
    loss_scores,
    quantile_scores,
)
from benchmarks.timing import RESULTS, device
from benchmarks.walking import compared, joined, walk
from stpatch_jax.data.times import time_text
from stpatch_jax.errors import InputError, check_choice, check_size, require
from stpatch_jax.files import replaced, usable
from stpatch_jax.recipes import recipe
from stpatch_jax.recipes.customers import CustomersJudge
from stpatch_jax.recipes.risk import RiskJudge
from stpatch_jax.recipes.video import FramesJudge
from stpatch_jax.runs import Judged, Run, RunConfig, RunDirectory
from stpatch_jax.runs.judging import (
    ClassJudge,
    DetectionJudge,
    FieldJudge,
    ForecastJudge,
    TextJudge,
)

FILE, WALKED = "published.json", "walk_forward.json"
ALERT_BLOCK = 24  # rows: a day of hours
RISK_BLOCK = 20  # rows: calm and wild days come in weeks
LEAST_BLOCKS = 20
KEY = ("recipe", "dataset", "horizon", "metric")
Row = dict[str, Any]
Scored = tuple[Scores, np.ndarray]
"""The scores by metric and rule, and the group of each example."""


def configured(experiment: Experiment, horizon: int | None, seed: int) -> RunConfig:
    """The recipe at one horizon with one seed; of a cross-validation, the fold of that number."""
    config = recipe(experiment.recipe)
    data: Any = config.data
    if experiment.folds:
        data = dataclasses.replace(data, fold=seed)
    if horizon is not None:
        data = dataclasses.replace(data, horizon=horizon)
    if experiment.path is not None:
        data = dataclasses.replace(data, path=experiment.path)
    train = dataclasses.replace(config.train, seed=seed)
    return dataclasses.replace(config, data=data, train=train)


def judged(config: RunConfig, folder: Path, data: Any = None) -> tuple[Any, Judged]:
    """Trains a run, or goes on with it: its judge, and what that says of the test split."""
    run, directory = Run(config, data=data), RunDirectory(folder)
    run.claim(directory)
    return run.judge, run.judge(run.fit(directory).model, "test")


def scored(config: RunConfig, folder: Path, experiment: Experiment, data: Any = None) -> Scored:
    """Trains a run, or goes on with it, and scores it on the test split, of data in memory too."""
    return scores_of(*judged(config, folder, data), experiment)


@functools.singledispatch
def scores_of(judge: Any, judged: Judged, experiment: Experiment) -> Scored:
    """The scores of a split by metric and rule, as its judge's kind is scored, and groups."""
    losses = judge.losses(judged)
    if losses is None:
        raise InputError(
            f"{experiment.recipe} must be a recipe whose losses are compared with rules', got the "
            f"judge {type(judge).__name__}; give its judge a method losses"
        )
    return loss_scores(losses), np.arange(len(losses.weight)) // losses.block


@scores_of.register
def _(judge: ClassJudge, judged: Judged, _experiment: Experiment) -> Scored:
    rows = judged.rows
    return class_scores(rows), rows.get("group", np.arange(judged.count))


@scores_of.register
def _(judge: TextJudge, judged: Judged, _experiment: Experiment) -> Scored:
    data: Any = judge.data  # the n-gram model needs the texts themselves
    return token_scores(judged.rows, data), np.arange(judged.count)


@scores_of.register
def _(judge: CustomersJudge, judged: Judged, _experiment: Experiment) -> Scored:
    return customer_scores(judge.forecasts(judged), judge.data), np.arange(judged.count)


@scores_of.register
def _(judge: FramesJudge, judged: Judged, _experiment: Experiment) -> Scored:
    return frame_scores(judged.rows), np.arange(judged.count)


@scores_of.register
def _(judge: DetectionJudge, judged: Judged, _experiment: Experiment) -> Scored:
    return detection_scores(judged.rows), np.arange(judged.count)


@scores_of.register
def _(judge: RiskJudge, judged: Judged, _experiment: Experiment) -> Scored:
    return quantile_scores(judge.tails(judged)), np.arange(judged.count) // RISK_BLOCK


@scores_of.register
def _(judge: ForecastJudge, judged: Judged, experiment: Experiment) -> Scored:
    # One horizon of windows, which share targets, or a twentieth of the span if that is less.
    block = max(1, min(judge.data.horizon, judged.count // LEAST_BLOCKS))
    return forecast_scores(judged.rows, batch=experiment.batch), np.arange(judged.count) // block


@scores_of.register
def _(judge: FieldJudge, judged: Judged, experiment: Experiment) -> Scored:
    if not judge.warns:
        return scores_of.dispatch(ForecastJudge)(judge, judged, experiment)
    changing = np.isfinite(judge.thresholds)
    scores = alert_scores(judged.rows, leads=experiment.chosen_leads, changing=changing)
    return scores, np.arange(judged.count) // ALERT_BLOCK


def rows(experiment: Experiment, horizon: int | None, seeds: int, workdir: Path) -> list[Row]:
    """Trains every seed at one horizon: one row a metric, also of those that are only shown."""
    results = [
        scored(
            configured(experiment, horizon, seed),
            workdir / f"{_run_name(experiment, horizon)}-seed{seed}",
            experiment,
        )
        for seed in range(seeds)
    ]
    if experiment.folds:
        results = pooled(results)
    groups = results[0][1]
    return [
        scored_row(experiment, horizon, metric, [scores[metric] for scores, _ in results], groups)
        for metric in _metrics(experiment, results[0])
    ]


def _run_name(experiment: Experiment, horizon: int | None) -> str:
    return experiment.name if horizon is None else f"{experiment.name}-{horizon}"


def _metrics(experiment: Experiment, result: Scored) -> tuple[str, ...]:
    """What is told: of a file all that is defined there."""
    if experiment.metrics:
        return *experiment.metrics, *experiment.shown
    scores, every = result[0], np.arange(len(result[1]))
    return tuple(
        metric
        for metric in scores
        if not metric.endswith("_drop_last") and np.isfinite(scores[metric]["model"](every))
    )


def walk_rows(
    experiment: Experiment, horizon: int | None, seeds: int, folds: int, workdir: Path, looks: int
) -> list[Row]:
    """Trains every seed before every span: one row a metric over all spans.

    `looks` says how often the test split was scored before.
    """
    walked, results = walk(configured(experiment, horizon, 0), folds), []
    for seed in range(seeds):
        spans = []
        for number, (config, data) in enumerate(walked.parts, 1):
            config = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))
            folder = f"{_run_name(experiment, horizon)}-fold{number}-seed{seed}"
            spans.append(judged(config, workdir / folder, data))
        judge, whole = spans[-1][0], joined([span for _, span in spans])
        results.append((scores_of(judge, whole, experiment)[0], whole.rows))
    scores, told = results[0]
    days = told.get("group", told.get("index"))
    times = [time_text(walked.times[day]) for day in (days.min(), days.max())]
    level = vars(walked.parts[0][0].data).get("level", 0.0)
    return [
        {
            **{"recipe": experiment.recipe, "dataset": experiment.dataset, "horizon": horizon},
            **{"metric": metric, "folds": folds, "seeds": seeds, "rows": len(np.unique(days))},
            **dict(zip(("first", "last"), times, strict=True)),
            **compared(metric, [scores[metric] for scores, _ in results], days, level=level),
            **{"test_openings": looks + 1, "device": device(), "commit": _commit()},
        }
        for metric in _metrics(experiment, (scores, days))
        if not metric.endswith("_drop_last")
    ]


def pooled(folds: list[Scored]) -> list[Scored]:
    """The scores of each fold over the examples of all folds, each example of one group."""
    sizes = [len(groups) for _, groups in folds]
    numbers = np.arange(sum(sizes))

    def within(score: Score, start: int, stop: int) -> Score:
        return lambda chosen: score(chosen[(chosen >= start) & (chosen < stop)] - start)

    stops = np.cumsum(sizes)
    return [
        (
            {
                metric: {name: within(score, stop - size, stop) for name, score in by_rule.items()}
                for metric, by_rule in scores.items()
            },
            numbers,
        )
        for (scores, _), stop, size in zip(folds, stops, sizes, strict=True)
    ]


def scored_row(
    experiment: Experiment,
    horizon: int | None,
    metric: str,
    seeds: list[Mapping[str, Score]],
    groups: np.ndarray,
) -> Row:
    """One row out of the scores of each seed or fold, by rule, over examples of these groups."""
    every = np.arange(len(groups))
    values = [scores["model"](every) for scores in seeds]

    def mean(chosen: np.ndarray) -> float:
        return float(np.mean([scores["model"](chosen) for scores in seeds]))

    return {
        "recipe": experiment.recipe,
        "dataset": experiment.dataset,
        "split": "test",
        "horizon": "{}-{}".format(*experiment.leads) if experiment.leads else horizon,
        "metric": metric,
        "value": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "interval": interval(mean, groups),
        "seeds": len(values),
        "naive": {
            name: value
            for name in seeds[0]
            if name != "model"
            # Of a file not every rule has every metric.
            and np.isfinite(value := float(np.mean([scores[name](every) for scores in seeds])))
        },
        "published": experiment.published.get(horizon, {}).get(metric),
        "published_by": experiment.published_by,
        "test_openings": experiment.openings,
        "command": f"python -m benchmarks.published {experiment.name}",
        "device": device(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of the source tree, with `+` where files differ from it."""
    command = ("git", "-C", str(Path(__file__).parent))
    try:
        head, changes = (
            subprocess.run(
                [*command, *words], capture_output=True, text=True, check=True, encoding="utf-8"
            ).stdout
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.strip() + ("+" if changes.strip() else "")


def merged(before: list[Row], now: list[Row]) -> list[Row]:
    """The rows of a file with new ones in the place of those with the same key.

    A row that is scored again has one opening more than the one it replaces.
    """
    rows = {tuple(row[name] for name in KEY): row for row in before}
    for row in now:
        key = tuple(row[name] for name in KEY)
        openings = rows[key]["test_openings"] + 1 if key in rows else row["test_openings"]
        rows[key] = {**row, "test_openings": openings}
    return list(rows.values())


def write(folder: Path, now: list[Row], *, name: str = FILE) -> Path:
    """Merges rows into a file of a folder, in one rename."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with replaced(path) as part:
        part.write_text(
            json.dumps(merged(_written(path), now), indent=1, allow_nan=False) + "\n",
            encoding="utf-8",
        )
    return path


def _written(path: Path) -> list[Row]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def experiment_of(name: str, path: str | None) -> Experiment:
    """The protocol of a name; with a path, a recipe on that file.

    Raises:
        InputError: There is none, the recipe reads no file, or the rows would be a protocol's.
    """
    if path is None:
        own = "the protocol (a recipe without one needs --data.path)"
        check_choice(own, name, sorted(EXPERIMENTS))
        return EXPERIMENTS[name]
    config = recipe(EXPERIMENTS[name].recipe if name in EXPERIMENTS else name)
    require(
        "path" in _settings(config),
        f"--data.path must be given to a recipe that reads files, got {name}; leave it out",
    )
    stem, own = Path(path).stem, config.recipe or name
    require(
        (own, stem) not in {(of.recipe, of.dataset) for of in EXPERIMENTS.values()},
        f"--data.path must not be called as the data set of {own}'s protocol, got {stem}; give "
        "the file another name",
    )
    return Experiment(own, stem, (), name=f"{own}-{stem}", path=path)


def _settings(config: RunConfig) -> set[str]:
    return {of.name for of in dataclasses.fields(config.data)}


def horizons_of(experiment: Experiment, given: list[int] | None) -> tuple[int | None, ...]:
    """The horizons that are scored; of a file each was tried, and what it left open is settled.

    Raises:
        InputError: The recipe has none, or the file cannot be used.
    """
    require(
        given is None or "horizon" in _settings(recipe(experiment.recipe)),
        "--horizons must be given to a recipe with data.horizon, got "
        f"{experiment.recipe}; leave it out",
    )
    chosen = tuple(given or experiment.horizons)
    if experiment.metrics:
        return chosen
    settled = (Run(configured(experiment, horizon, 0)).config.data for horizon in chosen)
    return tuple(vars(data).get("horizon") for data in settled)


def _looks(experiment: Experiment, folder: Path) -> int:
    """How often the test split was scored before, at any horizon: the span is the same."""
    own = (experiment.recipe, experiment.dataset)
    rows = (row for row in _written(folder / FILE) if (row["recipe"], row["dataset"]) == own)
    return max((row["test_openings"] for row in rows), default=experiment.openings - 1)


def _told(row: Row) -> str:
    """A row in a line."""
    ends = "[{:.4g}, {:.4g}]".format(*row["interval"])
    told = f"{row['recipe']} {row['horizon'] or ''} {row['metric']}: {row['value']:.4g} {ends}, "
    if "rules" not in row:
        naive = ", ".join(f"{name} {value:.4g}" for name, value in row["naive"].items())
        return f"{told}naive {naive}, published {row['published']}"
    rules = ", ".join(f"{name} {of['value']:.4g}" for name, of in row["rules"].items())
    ahead = row["ahead"]
    ends = "[{:.4g}, {:.4g}]".format(*ahead["interval"])
    return f"{told}rules {rules}, ahead of {ahead['of']} by {ahead['value']:.4g} {ends}"


def _score(given: argparse.Namespace) -> None:
    """Trains, scores, prints and writes, a horizon at a time."""
    experiment = experiment_of(given.name, given.path)
    for name in ("seeds", "folds"):
        if (value := getattr(given, name)) is not None:
            check_size(f"--{name}", value)
    seeds = given.seeds or experiment.seeds
    flags = {"--data.path": given.path, "--folds": given.folds, "--seeds": given.seeds}
    words = [str(word) for flag in flags.items() if flag[1] for word in flag]
    file = WALKED if given.folds else FILE
    with tempfile.TemporaryDirectory() as scratch:
        workdir = given.workdir or Path(scratch)
        for horizon in horizons_of(experiment, given.horizons):
            if given.folds:
                looks = _looks(experiment, given.results)
                now = walk_rows(experiment, horizon, seeds, given.folds, workdir, looks)
            else:
                now = rows(experiment, horizon, seeds, workdir)
            command = shlex.join(["python", "-m", "benchmarks.published", given.name, *words])
            now = [{**row, "command": command} for row in now]
            for row in now:
                print(_told(row), flush=True)
            shown = () if given.folds else experiment.shown
            told = [row for row in now if row["metric"] not in shown]
            print(write(given.results, told, name=file), file=sys.stderr)


def main() -> None:
    """Scores what is asked for; a mistake is one sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "name", help=f"a protocol, of {', '.join(sorted(EXPERIMENTS))}; or a recipe"
    )
    parser.add_argument("--data.path", dest="path", help="a file for the recipe, in its own split")
    parser.add_argument("--folds", type=int, help="walk forward over so many spans")
    parser.add_argument("--horizons", type=int, nargs="+", help="only these horizons")
    parser.add_argument("--seeds", type=int, help="number of seeds instead of the protocol's")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    parser.add_argument("--workdir", type=Path, help="keeps the runs here, to go on after a break")
    given = parser.parse_args()
    try:
        with usable():
            _score(given)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
