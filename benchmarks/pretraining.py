"""Does it help to reconstruct hidden patches first? With a tenth of the labels, and with all.

    python -m benchmarks.pretraining [NAME ...] [--seeds 5] [--workdir FOLDER] [--results FOLDER]

For each seed a backbone is pretrained without labels; then, for either share of the labels, the
task is trained from it and from random weights: the same network, examples in the same order and as
many steps. Both are scored on the whole test split. Rows go to `benchmarks/results/published.json`,
with the start from random weights among the naive rules. Those of `METRIC_gain` are the
differences: `value` is their mean over the seeds, `interval` the 95 % bootstrap interval of that
mean, drawn by clip or day, with the same ones for both.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments import Experiment
from benchmarks.published import Row, scored, scored_row, write
from benchmarks.scores import Score
from benchmarks.timing import RESULTS
from stpatch_jax.recipes import recipe
from stpatch_jax.rundir import RunDirectory
from stpatch_jax.running import Run, RunConfig


@dataclass(frozen=True)
class Pretraining:
    """One task and what comes before it.

    Attributes:
        before: Recipe of the pretraining.
        dataset: Name of the data set.
        metrics: What is scored.
        tenth: Settings of the data that leave a tenth of the labels.
    """

    before: str
    dataset: str
    metrics: tuple[str, ...]
    tenth: Mapping[str, Any]


CASES = {
    "pretrain-motion": Pretraining(
        "pretrain", "moving digits (motion)", ("accuracy",), {"train_clips": 100}
    ),
    "pretrain-movement": Pretraining(
        "pretrain-stocks", "ACL18", ("mcc", "accuracy"), {"train_from": "2015-06-05"}
    ),
}


def _seeded(name: str, seed: int) -> RunConfig:
    config = recipe(name)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))


def pretrained(name: str, seed: int, workdir: Path) -> str:
    """Pretrains with one seed, or goes on with it; the run directory."""
    folder = workdir / f"{name}-seed{seed}"
    run, directory = Run(_seeded(name, seed)), RunDirectory(folder)
    run.claim(directory)
    run.fit(directory)
    return str(folder)


def compared(name: str, share: int, seeds: int, workdir: Path) -> list[Row]:
    """The rows of one task with one share of the labels, in percent."""
    case = CASES[name]
    experiment = Experiment(
        recipe=name, dataset=f"{case.dataset}, {share} % of labels", metrics=case.metrics
    )
    results: list[dict[str, dict[str, Score]]] = []
    groups = np.empty(0)
    for seed in range(seeds):
        config = _seeded(name, seed)
        if share < 100:
            data: Any = config.data
            config = dataclasses.replace(config, data=dataclasses.replace(data, **case.tenth))
        start = pretrained(case.before, seed, workdir)
        tuned = dataclasses.replace(config, start_from=start)
        folder = workdir / f"{name}-{share}-seed{seed}"
        found, groups = scored(tuned, folder, experiment)
        scratch, _ = scored(config, folder.with_name(f"{folder.name}-scratch"), experiment)
        results.append(
            {
                metric: {**found[metric], "random weights": scratch[metric]["model"]}
                for metric in case.metrics
            }
        )
    gains = [
        {metric: {"model": _difference(scores)} for metric, scores in by_metric.items()}
        for by_metric in results
    ]
    return [
        {**row, "command": f"python -m benchmarks.pretraining {name}"}
        for metric in case.metrics
        for row in (
            scored_row(experiment, None, metric, [seed[metric] for seed in results], groups),
            scored_row(experiment, None, f"{metric}_gain", [s[metric] for s in gains], groups),
        )
    ]


def _difference(scores: Mapping[str, Score]) -> Score:
    tuned, scratch = scores["model"], scores["random weights"]
    return lambda chosen: tuned(chosen) - scratch(chosen)


def main() -> None:
    """Trains, scores, prints and writes, a task and a share at a time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    parser.add_argument("--workdir", type=Path, help="keeps the runs here, to go on after a break")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in CASES]:
        parser.error(f"no task is called {unknown[0]}; choose from {', '.join(CASES)}")
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.names or CASES:
            for share in (10, 100):
                found = compared(name, share, given.seeds, given.workdir or Path(scratch))
                for row in found:
                    low, high = row["interval"]
                    print(
                        f"{name} {share} % {row['metric']}: {row['value']:.4g} [{low:.4g}, "
                        f"{high:.4g}], {row['naive']}",
                        flush=True,
                    )
                print(write(given.results, found), file=sys.stderr)


if __name__ == "__main__":
    main()
