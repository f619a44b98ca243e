"""What do window, stride, dilation and footprint do to error, tokens and cost?

    python -m benchmarks.window_study [map video] [--small] [--seeds 3] [--results FOLDER]

One small transformer, trained alike for every choice of windows, on a map (ERA5, the next six
hours of temperature from the last twelve) and on video (in which of eight directions a digit goes).
A token is a window. Errors are of the validation split, so that no test split is looked at; nothing
was tuned to any of the windows. Cost is the arithmetic of one gradient of one example, and the
median time of a step. `--small` takes two steps of one block with the first two choices, which says
nothing of any of them. Results are tables by `python -m benchmarks.tables`, and one picture.
"""

import dataclasses
import itertools
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.arguments import arguments
from benchmarks.timing import Answer, write_results
from stpatch_jax.data import CleaningConfig, FieldConfig
from stpatch_jax.nn import PatchTransformerConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.plotting import MODEL
from stpatch_jax.recipes import recipe
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.run import Run, RunConfig
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import OptimizerConfig, TrainConfig

PICTURE = "window_study.png"


@dataclass(frozen=True)
class Study:
    """One problem and the windows that are tried on it.

    Attributes:
        config: The run with given windows.
        error: The validation error of its report, and that of the naive rule.
        unit: What the error is.
        specs: The windows by what is special about them; the first is what the others vary.
    """

    config: Callable[[WindowSpec], RunConfig]
    error: Callable[[Mapping[str, Any]], tuple[float, float]]
    unit: str
    specs: Mapping[str, WindowSpec]


def _model(spec: WindowSpec, depth: int = 2) -> PatchTransformerConfig:
    return PatchTransformerConfig(spec, features=64, depth=depth, heads=4)


def _map(spec: WindowSpec) -> RunConfig:
    optimizer = OptimizerConfig(
        learning_rate=1e-3, weight_decay=1e-2, warmup_steps=30, schedule="cosine"
    )
    return RunConfig(
        recipe="window_study",
        data=FieldConfig(
            path="catalog:era5_uk",
            context=12,
            horizon=6,
            train_share=0.6,
            cleaning=CleaningConfig(per="channel"),
        ),
        model=_model(spec),
        task=ForecastConfig(loss="mse"),
        train=TrainConfig(steps=400, batch_size=16, optimizer=optimizer),
    )


def _map_error(report: Mapping[str, Any]) -> tuple[float, float]:
    figures = report["original"]
    model, naive = (figures[rule]["rmse"]["all"] for rule in ("model", "persistence"))
    return model, naive


def _video(spec: WindowSpec) -> RunConfig:
    config = recipe("pretrain-motion")
    data: Any = config.data
    return dataclasses.replace(
        config,
        recipe="window_study",
        data=dataclasses.replace(data, train_clips=1_000_000, validation_clips=1000),
        model=_model(spec),
        train=dataclasses.replace(config.train, steps=400),
    )


def _video_error(report: Mapping[str, Any]) -> tuple[float, float]:
    model, naive = (100 * (1 - report[rule]["accuracy"]) for rule in ("model", "majority"))
    return model, naive


def _covering(window: tuple[int | None, ...], **options: Any) -> WindowSpec:
    return WindowSpec(window, padding="COVER", **options)


STUDIES = {
    "map": Study(
        _map,
        _map_error,
        "RMSE (K)",
        {
            "8 x 8 cells, 12 h": _covering((None, 8, 8)),
            "4 x 4 cells": _covering((None, 4, 4)),
            "16 x 16 cells": _covering((None, 16, 16)),
            "3 h": _covering((3, 8, 8)),
            "half stride": _covering((None, 8, 8), stride=(None, 4, 4)),
            "every 2nd hour": WindowSpec(
                (6, 8, 8),
                stride=(12, 8, 8),
                dilation=(2, 1, 1),
                padding=("VALID", "COVER", "COVER"),
            ),
            "cylinder": _covering((None, 8, 8), footprint="cylinder"),
            "half stride, cylinder": _covering(
                (None, 8, 8), stride=(None, 4, 4), footprint="cylinder"
            ),
        },
    ),
    "video": Study(
        _video,
        _video_error,
        "wrong directions (%)",
        {
            "2 frames": _covering((2, 8, 8)),
            "4 x 4 cells": _covering((2, 4, 4)),
            "16 x 16 cells": _covering((2, 16, 16)),
            "1 frame": _covering((1, 8, 8)),
            "3 frames": _covering((3, 8, 8)),
            "6 frames": _covering((6, 8, 8)),
            "half stride": _covering((2, 8, 8), stride=(2, 4, 4)),
            "every 2nd cell": WindowSpec((2, 4, 4), stride=(2, 8, 8), dilation=(1, 2, 2)),
            "every 2nd frame": _covering((3, 8, 8), dilation=(2, 1, 1), stride=(1, 8, 8)),
            "ball": _covering((2, 8, 8), footprint="ball"),
        },
    ),
}
SMALL = 2


def tried(study: Study, spec: WindowSpec, *, seeds: int, small: bool) -> Answer:
    """Trains one choice of windows with each seed: errors, tokens and cost."""
    config = study.config(spec)
    steps = SMALL if small else config.train.steps
    if small:
        config = dataclasses.replace(config, model=_model(spec, depth=1))
    errors, milliseconds, naive, run = [], [], 0.0, Run(config)
    for seed in range(seeds):
        train = dataclasses.replace(
            config.train, steps=steps, checkpoint_every=steps, evaluate_every=steps, seed=seed
        )
        run = Run(dataclasses.replace(config, train=train), data=run.data)
        with tempfile.TemporaryDirectory() as folder:
            directory = RunDirectory(folder)
            run.claim(directory)
            result = run.fit(directory, progress=False)
        error, naive = study.error(run.judge.report(run.judge(result.model, "validation")))
        errors.append(error)
        milliseconds.append(1e3 / result.machine["steps_per_second"])
    return {
        "window": spec.window,
        "stride": spec.stride,
        "dilation": spec.dilation,
        "footprint": spec.footprint,
        "tokens": run.patches,
        "parameters": run.parameters,
        "flops": run.flops,
        "ms": statistics.median(milliseconds),
        "error": statistics.fmean(errors),
        "std": statistics.stdev(errors) if seeds > 1 else None,
        "naive": naive,
    }


def draw(answers: Mapping[str, Mapping[str, Answer]], path: Path) -> None:
    """Error against cost, a point for each choice of windows, a panel for each problem."""
    figure, panels = plt.subplots(
        1, len(answers), figsize=(7 * len(answers), 5.5), layout="constrained", squeeze=False
    )
    for ax, (name, choices) in zip(panels[0], answers.items(), strict=True):
        points = {
            label: (answer["flops"] / 1e6, answer["error"]) for label, answer in choices.items()
        }
        errors = [error for _, error in points.values()]
        middle = statistics.median(cost for cost, _ in points.values())
        near = 0.15 * (max(errors) - min(errors))
        for label, (cost, error) in points.items():
            ax.errorbar(cost, error, choices[label]["std"], fmt="o", color=MODEL, capsize=3)
            # A name points outwards, and goes below its point where another one is close above.
            side = 1 if cost > middle else -1
            crowded = any(
                cost / 1.4 < x < cost * 1.4 and error < y < error + near for x, y in points.values()
            )
            ax.annotate(
                label,
                (cost, error),
                (5 * side, -12 if crowded else 5),
                textcoords="offset points",
                ha="left" if side > 0 else "right",
                fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0},
            )
        ax.set(xscale="log", xlabel="MFLOP of a gradient of one example", title=name)
        ax.set_ylabel(f"{STUDIES[name].unit}, validation")
        ax.margins(x=0.4, y=0.1)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    figure.savefig(path, dpi=64)
    plt.close(figure)


def main() -> None:
    """Trains, prints, and writes the results and the picture."""
    given = arguments(__doc__ or "", STUDIES, seeds=3)
    answers: dict[str, dict[str, Answer]] = {}
    for name, study in given.cases.items():
        answers[name] = {}
        for label, spec in itertools.islice(study.specs.items(), 2 if given.small else None):
            answer = tried(study, spec, seeds=given.seeds, small=given.small)
            answers[name][label] = answer
            print(
                f"{name}, {label}: {answer['tokens']} tokens, {answer['flops'] / 1e6:.3g} MFLOP, "
                f"{answer['ms']:.3g} ms a step, {study.unit} {answer['error']:.4g}, naive "
                f"{answer['naive']:.4g}",
                flush=True,
            )
    units = {name: STUDIES[name].unit for name in answers}
    answer = {"studies": answers, "units": units}
    write_results("window_study", answer, folder=given.results, note=f"seeds: {given.seeds}")
    if given.results:
        draw(answers, given.results / PICTURE)


if __name__ == "__main__":
    main()
