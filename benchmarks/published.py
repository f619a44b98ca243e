"""Our recipes in the published protocols, beside the published numbers and the naive rules.

    python -m benchmarks.published NAME [--horizons 96 192] [--seeds 3] [--results FOLDER]

Trains the recipe for every horizon and seed and scores it on the whole test split. Rows go to
`benchmarks/results/published.json` and replace older ones of the same recipe, data set, horizon and
metric. `value` is the mean over the seeds (of a cross-validation, over the folds), `std` their
standard deviation, `interval` a 95 % bootstrap interval of the mean, drawn by case, day or block of
one horizon (a twentieth of the test span, where that is shorter). `test_openings` counts how often
the test split was scored for that row. Configurations are chosen on validation; `python -m
benchmarks.tables` writes the table of docs/results.md from the file.
"""

import argparse
import dataclasses
import functools
import json
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
    quantile_scores,
)
from benchmarks.timing import RESULTS, device
from stpatch_jax.files import replaced
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

FILE = "published.json"
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


def scored(config: RunConfig, folder: Path, experiment: Experiment, data: Any = None) -> Scored:
    """Trains a run, or goes on with it, and scores it on the test split, of data in memory too."""
    run, directory = Run(config, data=data), RunDirectory(folder)
    run.claim(directory)
    return scores_of(run.judge, run.judge(run.fit(directory).model, "test"), experiment)


@functools.singledispatch
def scores_of(judge: Any, judged: Judged, experiment: Experiment) -> Scored:
    """The scores of a split by metric and rule, as its judge's kind is scored, and groups."""
    raise NotImplementedError(f"no published metric is scored of a {type(judge).__name__}")


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
    name = experiment.name
    name = name if horizon is None else f"{name}-{horizon}"
    results = [
        scored(configured(experiment, horizon, seed), workdir / f"{name}-seed{seed}", experiment)
        for seed in range(seeds)
    ]
    if experiment.folds:
        results = pooled(results)
    groups = results[0][1]
    return [
        scored_row(experiment, horizon, metric, [scores[metric] for scores, _ in results], groups)
        for metric in (*experiment.metrics, *experiment.shown)
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
            name: float(np.mean([scores[name](every) for scores in seeds]))
            for name in seeds[0]
            if name != "model"
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


def write(folder: Path, now: list[Row]) -> Path:
    """Merges rows into the file of a folder, in one rename."""
    path = folder / FILE
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    with replaced(path) as part:
        part.write_text(
            json.dumps(merged(before, now), indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
    return path


def main() -> None:
    """Trains, scores, prints and writes, a horizon at a time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=sorted(EXPERIMENTS), help="the recipe")
    parser.add_argument("--horizons", type=int, nargs="+", help="only these horizons")
    parser.add_argument("--seeds", type=int, help="number of seeds instead of the protocol's")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    parser.add_argument("--workdir", type=Path, help="keeps the runs here, to go on after a break")
    given = parser.parse_args()
    experiment = EXPERIMENTS[given.name]
    seeds = given.seeds or experiment.seeds
    with tempfile.TemporaryDirectory() as scratch:
        for horizon in given.horizons or experiment.horizons:
            now = rows(experiment, horizon, seeds, given.workdir or Path(scratch))
            for row in now:
                naive = ", ".join(f"{name} {value:.4g}" for name, value in row["naive"].items())
                print(
                    f"{row['recipe']} {row['horizon'] or ''} {row['metric']}: {row['value']:.4g} "
                    f"[{row['interval'][0]:.4g}, {row['interval'][1]:.4g}], naive {naive}, "
                    f"published {row['published']}",
                    flush=True,
                )
            told = [row for row in now if row["metric"] in experiment.metrics]
            print(write(given.results, told), file=sys.stderr)


if __name__ == "__main__":
    main()
