"""Does it help to reconstruct hidden patches first? With a tenth of the labels, and with all.

    python -m benchmarks.pretraining [NAME ...] [--small] [--seeds 5] [--results FOLDER]

For each seed a backbone is pretrained without labels; then, for either share of the labels, the
task is trained from it and from random weights: the same network, examples in the same order and as
many steps. Both are scored on the whole test split. Rows go to `benchmarks/results/published.json`,
with the start from random weights among the naive rules. Those of `METRIC_gain` are the
differences: `value` is their mean over the seeds, `interval` the 95 % bootstrap interval of that
mean, drawn by clip or day, with the same ones for both. `--small` takes two steps of one block,
which says only that all of it works.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.arguments import arguments
from benchmarks.experiments import Experiment
from benchmarks.published import Row, scored, scored_row, write
from benchmarks.scores import Score
from stpatch_jax.recipes import recipe
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.run import Run, RunConfig


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
SMALL = 2
"""Steps of each training with `--small`."""


def configured(name: str, seed: int, *, small: bool) -> RunConfig:
    """The recipe with one seed."""
    config = recipe(name)
    steps, model = config.train.steps, cast(Any, config.model)
    if small:
        steps, model = SMALL, dataclasses.replace(model, depth=1)
    train = dataclasses.replace(config.train, seed=seed, steps=steps)
    return dataclasses.replace(config, model=model, train=train)


def pretrained(config: RunConfig, folder: Path) -> str:
    """Pretrains, or goes on with it; the run directory."""
    run, directory = Run(config), RunDirectory(folder)
    run.claim(directory)
    run.fit(directory)
    return str(folder)


def compared(name: str, share: int, seeds: int, workdir: Path, *, small: bool) -> list[Row]:
    """The rows of one task with one share of the labels, in percent."""
    case = CASES[name]
    experiment = Experiment(
        recipe=name, dataset=f"{case.dataset}, {share} % of labels", metrics=case.metrics
    )
    results: list[dict[str, dict[str, Score]]] = []
    groups = np.empty(0)
    for seed in range(seeds):
        config = configured(name, seed, small=small)
        if share < 100:
            data: Any = config.data
            config = dataclasses.replace(config, data=dataclasses.replace(data, **case.tenth))
        before = configured(case.before, seed, small=small)
        start = pretrained(before, workdir / f"{case.before}-seed{seed}")
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
    workdir = {"type": Path, "help": "keeps the runs here, to go on after a break"}
    given = arguments(__doc__ or "", CASES, seeds=5, merges=True, workdir=workdir)
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.cases:
            for share in (10,) if given.small else (10, 100):
                workdir = given.workdir or Path(scratch)
                found = compared(name, share, given.seeds, workdir, small=given.small)
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
