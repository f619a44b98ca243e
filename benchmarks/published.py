"""Our recipes in the published protocols, beside the published numbers and the naive rules.

    python -m benchmarks.published NAME [--horizons 96 192] [--seeds 3] [--results FOLDER]

Trains the recipe for every horizon and seed and scores it on the whole test split. Rows go to
`benchmarks/results/published.json` and replace older ones of the same recipe, data set, horizon and
metric. `value` is the mean over the seeds (of a cross-validation, over the folds), `std` their
standard deviation, `interval` a 95 % bootstrap interval of the mean, drawn by case, day or block of
one horizon (a twentieth of the test span, where that is shorter). `test_openings` counts how often
the test split was scored for that row. Configurations are chosen on validation; `python -m
benchmarks.tables` writes the table of the README from the file.
"""

import argparse
import dataclasses
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
    alert_scores,
    class_scores,
    detection_scores,
    forecast_scores,
    frame_scores,
    interval,
    quantile_scores,
)
from benchmarks.timing import RESULTS, device
from stpatch_jax.recipes import recipe
from stpatch_jax.recipes.customers.judging import SplitCustomers
from stpatch_jax.recipes.risk.judging import SplitQuantiles
from stpatch_jax.recipes.video.judging import SplitFrames
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.judging.registry import (
    SplitAlerts,
    SplitClasses,
    SplitDetections,
    SplitForecasts,
    SplitTokens,
)
from stpatch_jax.runs.run import Run, RunConfig

FILE = "published.json"
ALERT_BLOCK = 24  # rows: a day of hours
RISK_BLOCK = 20  # rows: calm and wild days come in weeks
LEAST_BLOCKS = 20
KEY = ("recipe", "dataset", "horizon", "metric")
Row = dict[str, Any]
Scores = Mapping[str, Mapping[str, Score]]


def configured(experiment: Experiment, horizon: int | None, seed: int) -> RunConfig:
    """The recipe at one horizon with one seed; of a cross-validation, the fold of that number."""
    config = recipe(experiment.recipe)
    data: Any = config.data
    if hasattr(data, "fold"):
        data = dataclasses.replace(data, fold=seed)
    if horizon is not None:
        data = dataclasses.replace(data, horizon=horizon)
    if experiment.path is not None:
        data = dataclasses.replace(data, path=experiment.path)
    train = dataclasses.replace(config.train, seed=seed)
    return dataclasses.replace(config, data=data, train=train)


def scored(config: RunConfig, folder: Path, experiment: Experiment) -> tuple[Scores, np.ndarray]:
    """Trains a run, or goes on with it, and scores it on the test split.

    Returns:
        The scores by metric and rule, and the group of each example.
    """
    run, directory = Run(config), RunDirectory(folder)
    run.claim(directory)
    predictions = run.evaluator(run.fit(directory).model, "test")
    if isinstance(predictions, SplitClasses):
        return class_scores(predictions), predictions.group
    if isinstance(predictions, SplitTokens):
        return token_scores(predictions, run.data), np.arange(len(predictions.count))
    if isinstance(predictions, SplitCustomers):
        return customer_scores(predictions, run.data), np.arange(len(predictions.names))
    if isinstance(predictions, SplitFrames):
        return frame_scores(predictions), np.arange(len(predictions.errors["mse"]["model"]))
    if isinstance(predictions, SplitDetections):
        return detection_scores(predictions), np.arange(len(predictions.matched["model"]))
    number = np.arange(len(predictions.index))
    if isinstance(predictions, SplitQuantiles):
        return quantile_scores(predictions), number // RISK_BLOCK
    if isinstance(predictions, SplitAlerts):
        return alert_scores(predictions, leads=experiment.chosen_leads), number // ALERT_BLOCK
    return forecast_scores(predictions, batch=experiment.batch), number // _block(predictions)


def _block(predictions: SplitForecasts) -> int:
    """One horizon of windows, which share targets, or a twentieth of the span if that is less."""
    windows, horizon = predictions.target.shape[:2]
    return max(1, min(horizon, windows // LEAST_BLOCKS))


def rows(experiment: Experiment, horizon: int | None, seeds: int, workdir: Path) -> list[Row]:
    """Trains every seed at one horizon: one row a metric, also of those that are only shown."""
    name = experiment.name or experiment.recipe
    name = name if horizon is None else f"{name}-{horizon}"
    results = [
        scored(configured(experiment, horizon, seed), workdir / f"{name}-seed{seed}", experiment)
        for seed in range(seeds)
    ]
    if hasattr(recipe(experiment.recipe).data, "fold"):
        results = pooled(results)
    groups = results[0][1]
    return [
        scored_row(experiment, horizon, metric, [scores[metric] for scores, _ in results], groups)
        for metric in (*experiment.metrics, *experiment.shown)
    ]


def pooled(folds: list[tuple[Scores, np.ndarray]]) -> list[tuple[Scores, np.ndarray]]:
    """The scores of each fold over the examples of all folds, each example of one group."""
    sizes = [len(groups) for _, groups in folds]
    numbers = np.arange(sum(sizes))

    def within(score: Score, start: int, stop: int) -> Score:
        return lambda chosen: score(chosen[(chosen >= start) & (chosen < stop)] - start)

    found = []
    for (scores, _), stop, size in zip(folds, np.cumsum(sizes), sizes, strict=True):
        own = {
            metric: {name: within(score, stop - size, stop) for name, score in by_rule.items()}
            for metric, by_rule in scores.items()
        }
        found.append((own, numbers))
    return found


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
        "command": f"python -m benchmarks.published {experiment.name or experiment.recipe}",
        "device": device(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of the source tree, with `+` where files differ from it."""
    command = ("git", "-C", str(Path(__file__).parent))
    try:
        head, changes = (
            subprocess.run([*command, *words], capture_output=True, text=True, check=True).stdout
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.strip() + ("+" if changes.strip() else "")


def merged(before: list[Row], now: list[Row]) -> list[Row]:
    """The rows of a file with new ones in the place of those with the same key.

    A row that is scored again has one opening more than the one it replaces.
    """
    found = {tuple(row[name] for name in KEY): row for row in before}
    for row in now:
        key = tuple(row[name] for name in KEY)
        openings = found[key]["test_openings"] + 1 if key in found else row["test_openings"]
        found[key] = {**row, "test_openings": openings}
    return list(found.values())


def write(folder: Path, now: list[Row]) -> Path:
    """Merges rows into the file of a folder, in one rename."""
    path = folder / FILE
    before = json.loads(path.read_text()) if path.exists() else []
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(merged(before, now), indent=1, allow_nan=False) + "\n")
    part.replace(path)
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
            found = rows(experiment, horizon, seeds, given.workdir or Path(scratch))
            for row in found:
                naive = ", ".join(f"{name} {value:.4g}" for name, value in row["naive"].items())
                print(
                    f"{row['recipe']} {row['horizon'] or ''} {row['metric']}: {row['value']:.4g} "
                    f"[{row['interval'][0]:.4g}, {row['interval'][1]:.4g}], naive {naive}, "
                    f"published {row['published']}",
                    flush=True,
                )
            kept = [row for row in found if row["metric"] in experiment.metrics]
            print(write(given.results, kept), file=sys.stderr)


if __name__ == "__main__":
    main()
