"""Forecast frames of a whole split of clips, judged as images beside persistence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from stpatch_jax import plotting
from stpatch_jax.data import Batch
from stpatch_jax.metrics import ssim
from stpatch_jax.recipes.video.data import NextFrames
from stpatch_jax.runs.judging import (
    Judge,
    Judged,
    Losses,
    Shows,
    Tree,
    judges,
    losses_of,
    markdown_table,
)
from stpatch_jax.tasks import Forecast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAME_METRICS = ("mse", "mae", "ssim")
_SHOWN = 3
_MOST_FRAMES = 10
_RULES = ("model", "persistence")


@judges(Forecast, NextFrames)
class FramesJudge(Judge):
    """Judges forecasts of frames with values from 0 to 1.

    In the protocol of Moving MNIST: forecasts are clipped to 0..1, squared and absolute errors are
    summed over the cells of a frame, and means are over frames.

    Its rows, by metric and rule: the errors of each clip and lead time [clip, horizon], float64.
    """

    task: Forecast
    data: NextFrames

    def __init__(self, task: Forecast, data: NextFrames, mesh: Mesh, *, batch_size: int):
        super().__init__(task, data, mesh, batch_size=batch_size)
        self._errors = jax.jit(_frame_errors)

    def answers(self, batch: Batch, outputs: Tree) -> Tree:
        """The frames by rule."""
        rules = {"model": self.task.point(outputs), **self.task.baselines(batch)}
        return {name: np.asarray(frames) for name, frames in rules.items()}

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """The errors of each clip, see the class."""
        errors = {
            name: self._errors(np.clip(frames, 0, 1), batch["target"])
            for name, frames in answers.items()
        }
        return {
            metric: {name: np.asarray(of[metric], np.float64) for name, of in errors.items()}
            for metric in FRAME_METRICS
        }

    def shows(self, count: int) -> Mapping[str, Shows]:
        """The frames of the first clips: `context`, `target`, and the forecasts by rule."""

        def frames(batch: Batch, answers: Tree) -> Tree:
            return {"context": batch["context"], "target": batch["target"], **answers}

        return {"frames": Shows(range(min(_SHOWN, count)), frames)}

    def header(self) -> dict[str, Any]:
        """Frames of the context and of the horizon."""
        return {"context": self.data.context, "horizon": self.data.horizon}

    def validation(self, judged: Judged) -> dict[str, float]:
        """Mean errors of the model's frames: squares and absolutes summed per frame, and SSIM."""
        return {metric: float(judged.rows[metric]["model"].mean()) for metric in FRAME_METRICS}

    def losses(self, judged: Judged) -> Losses | None:
        """Squared errors of the frames of each clip."""
        of = {name: errors.mean(axis=1) for name, errors in judged.rows["mse"].items()}
        return losses_of("MSE per frame", of)

    def report(self, judged: Judged) -> dict[str, Any]:
        """Every metric per lead time and over all, of each rule."""
        return {
            "clips": judged.count,
            "scaled": {
                "unit": "cells from 0 to 1, squared or absolute errors summed over a frame",
                "data_range": 1.0,
                **{
                    name: {metric: _by_lead(judged.rows[metric][name]) for metric in FRAME_METRICS}
                    for name in judged.rows["mse"]
                },
            },
        }

    def markdown(self, report: Mapping[str, Any]) -> list[str]:
        """The model beside persistence, per lead time."""
        test = report["test"]
        columns = {
            f"{metric.upper()} {rule}": test["scaled"][rule][metric]
            for metric in FRAME_METRICS
            for rule in _RULES
        }
        by_lead = zip(*(of["per_lead"] for of in columns.values()), strict=True)
        rows = [[lead, *values] for lead, values in enumerate(by_lead, 1)]
        return [
            f"{report['context']} frames in, {report['horizon']} frames out. Test: "
            f"{test['clips']} clips of digits from {report['data']['source']}.",
            "",
            "Values from 0 to 1; squared (MSE) and absolute errors (MAE) summed over a frame, mean "
            "over frames; SSIM at a data range of 1.",
            "",
            *markdown_table(
                ["lead (frames)", *columns],
                [*rows, ["all", *(of["all"] for of in columns.values())]],
            ),
            "",
        ]

    def figures(self, judged: Judged, report: Mapping[str, Any]) -> dict[str, Figure]:
        """Frames of the first clips, and the error by lead time."""
        test = report["test"]["scaled"]
        errors = plotting.new_figure(1, 2, size=(9, 3.6))
        units = {"mse": "per frame", "ssim": "data range 1"}
        for ax, (metric, unit) in zip(errors.axes, units.items(), strict=True):
            by_rule = {rule: test[rule][metric]["per_lead"] for rule in _RULES}
            plotting.error_by_lead_time(by_rule, ax=ax, metric=metric.upper(), unit=unit)
        return {"frames": _frames(judged.shown["frames"]), "errors": errors}


def _frame_errors(prediction: jax.Array, target: jax.Array) -> dict[str, jax.Array]:
    """The metrics of every frame [batch, time] of [batch, time, height, width, channel]."""
    error, cells = prediction - target, (-3, -2, -1)
    return {
        "mse": jnp.square(error).sum(cells),
        "mae": jnp.abs(error).sum(cells),
        "ssim": ssim(prediction, target, data_range=1.0),
    }


def _by_lead(values: np.ndarray) -> dict[str, Any]:
    return {"per_lead": [float(x) for x in values.mean(axis=0)], "all": float(values.mean())}


def _frames(shown: Mapping[str, np.ndarray]) -> Figure:
    """Three rows a clip: what was seen, what came, what was forecast; every other frame of many."""
    rows = {"seen": shown["context"], "came": shown["target"], "forecast": shown["model"]}
    clips = len(rows["came"])
    steps = {name: _every(frames.shape[1]) for name, frames in rows.items()}
    columns = max(map(len, steps.values()))
    size = (0.95 * columns + 0.5, 0.95 * len(rows) * clips + 0.3)
    figure = plotting.new_figure(len(rows) * clips, columns, size=size)
    axes = np.array(figure.axes).reshape(clips, len(rows), columns)
    for clip in range(clips):
        for row, (name, frames) in enumerate(rows.items()):
            # What was seen is counted back from the last frame of it.
            last = frames.shape[1] if name == "seen" else 0
            for column, ax in enumerate(axes[clip, row]):
                ax.set_xticks([])
                ax.set_yticks([])
                if column >= len(steps[name]):
                    ax.set_axis_off()
                    continue
                at = steps[name][column]
                frame = frames[clip, at].mean(axis=-1)
                ax.imshow(frame, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                lead = at + 1 - last
                ax.set_title(f"{lead:+d}" if lead else "0", fontsize="x-small", pad=2)
            axes[clip, row, 0].set_ylabel(name, fontsize="small")
    return figure


def _every(frames: int) -> range:
    """Numbers of at most ten frames, the last one among them."""
    step = -(-frames // _MOST_FRAMES)
    return range((frames - 1) % step, frames, step)
