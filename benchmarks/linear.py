"""What a network is worth: recipes beside their linear forms, on validation and test.

    python -m benchmarks.linear [NAME ...] [--results FOLDER] [--workdir FOLDER]

The linear form of a recipe has its data, its training and its task; of the network what is left
is a linear map of what the network sees: of all cells of an example at once, of each window, or of
the features that the recipe makes. Both are scored as `benchmarks.published` scores the recipe.
The interval is that of the difference, drawn by example, day or block of one horizon. Rows go to
`benchmarks/results/linear.json`, and replace older ones of the same name.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arguments import add_names
from benchmarks.experiments import EXPERIMENTS, HIGHER_IS_BETTER
from benchmarks.published import configured, scores_of
from benchmarks.scores import Score, interval
from benchmarks.timing import RESULTS, device, versions
from stpatch_jax.files import replaced
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.runs import Run, RunConfig, RunDirectory
from stpatch_jax.runs.judging import FieldJudge, ForecastJudge

FILE = "linear.json"


def _of_example(config: RunConfig) -> RunConfig:
    """One linear map of all cells of an example."""
    network: Any = config.model
    spec = WindowSpec((None,) * len(network.window))
    task: Any = dataclasses.replace(config.task, hidden=(), reduce="flatten")
    return dataclasses.replace(config, model=FlatPatchesConfig(spec), task=task)


def _of_windows(config: RunConfig) -> RunConfig:
    """The same linear map of every window of the network."""
    network: Any = config.model
    return dataclasses.replace(config, model=FlatPatchesConfig(network.spec))


def _of_features(config: RunConfig) -> RunConfig:
    """A linear map of the features that the network is given."""
    model: Any = dataclasses.replace(config.model, hidden=())
    return dataclasses.replace(config, model=model)


# The linear form and the metric.
CASES: dict[str, tuple[Callable[[RunConfig], RunConfig], str]] = {
    "video-classification": (_of_example, "accuracy"),
    "video-classification-motion": (_of_example, "accuracy"),
    "traffic": (_of_features, "rmse"),
    "video-prediction": (_of_windows, "mse"),
}
SPLITS = ("validation", "test")


def measured(name: str, config: RunConfig, folder: Path, metric: str) -> Mapping[str, Any]:
    """Trains a run, or goes on with it: scores and groups by split, and what it costs."""
    run, directory = Run(config), RunDirectory(folder)
    run.claim(directory)
    begun = time.process_time()
    model = run.fit(directory).model
    seconds = time.process_time() - begun
    found: dict[str, Any] = {
        "cost": {
            "parameters": run.parameters,
            "flops_per_example": run.flops,
            "cpu_seconds": round(seconds, 1),
        }
    }
    # Alerts are scored on the test split alone.
    kind = ForecastJudge if isinstance(run.judge, FieldJudge) else type(run.judge)
    scored = scores_of.dispatch(kind)
    for split in SPLITS:
        scores, groups = scored(run.judge, run.judge(model, split), EXPERIMENTS[name])
        found[split] = scores[metric]["model"], groups
    return found


def row(name: str, workdir: Path) -> dict[str, Any]:
    """What a recipe and its linear form reach and cost."""
    linear, metric = CASES[name]
    sign = 1 if metric in HIGHER_IS_BETTER else -1
    experiment = EXPERIMENTS[name]
    config = configured(experiment, experiment.horizons[0], 0)
    forms = {"network": config, "linear": linear(config)}
    found = {
        form: measured(name, of, workdir / f"{name}-{form}", metric) for form, of in forms.items()
    }
    answer: dict[str, Any] = {
        "recipe": name,
        "dataset": experiment.dataset,
        "metric": metric,
        "cost": {form: of["cost"] for form, of in found.items()},
    }
    for split in SPLITS:
        (ours, groups), (other, _) = (found[form][split] for form in forms)
        every = np.arange(len(groups))
        answer[split] = {
            "network": ours(every),
            "linear": other(every),
            "gain": interval(_gain(ours, other, sign), groups),
        }
    return answer


def _gain(ours: Score, other: Score, sign: int) -> Score:
    return lambda chosen: sign * (ours(chosen) - other(chosen))


def main() -> None:
    """Trains both forms of each, and writes after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_names(parser, list(CASES))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    parser.add_argument("--workdir", type=Path, help="keeps the runs here, to go on after a break")
    given = parser.parse_args()
    path = given.results / FILE
    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    rows = {of["recipe"]: of for of in before}
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.names or CASES:
            rows[name] = row(name, given.workdir or Path(scratch))
            print(json.dumps(rows[name]), flush=True)
            told = {"device": device(), "versions": versions(), "rows": list(rows.values())}
            with replaced(path) as part:
                part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
