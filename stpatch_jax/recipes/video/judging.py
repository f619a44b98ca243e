"""Forecast frames of a whole split of clips, judged as images beside persistence."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.metrics import ssim
from stpatch_jax.recipes.video.data import NextFrames
from stpatch_jax.runs.judging.judge import Evaluator, Kept, figure
from stpatch_jax.tasks import Forecast

_SHOWN = 3
FRAME_METRICS = ("mse", "mae", "ssim")


@dataclasses.dataclass(frozen=True, eq=False)
class SplitFrames:
    """How well every frame of one split was forecast; the frames themselves of a few clips.

    Attributes:
        errors: By metric and forecast (`model` and the naive ones), each [clip, horizon]: `mse` and
            `mae` summed over the cells of a frame, and `ssim`; values are from 0 to 1.
        shown: `context`, `target` and each forecast of the first clips
            [clip, time, height, width, channel].
    """

    errors: dict[str, dict[str, np.ndarray]]
    shown: dict[str, np.ndarray]


class FrameForecaster(Evaluator):
    """Judges forecasts of frames with values from 0 to 1; see `Evaluator`.

    In the protocol of Moving MNIST: forecasts are clipped to 0..1, squared and absolute errors are
    summed over the cells of a frame, and means are over frames.
    """

    def __init__(self, task: Forecast, data: NextFrames, mesh: Mesh, *, batch_size: int):
        super().__init__(
            task.predict, ("context", "persistence"), data, mesh, batch_size=batch_size
        )
        self.task = task
        self._errors = jax.jit(_frame_errors)

    def __call__(self, model: nnx.Module, split: str) -> SplitFrames:
        """Forecasts every clip of a split, without dropout."""
        kept, shown = Kept(), {}
        for batch, prediction in self.predicted(model, split):
            forecasts = {"model": self.task.point(prediction), **self.task.baselines(batch)}
            rows = {}
            for name, frames in forecasts.items():
                found = self._errors(np.clip(frames, 0, 1), batch["target"])
                rows |= {f"{metric}/{name}": values for metric, values in found.items()}
            kept.add(rows, batch["example_mask"])
            if not shown:
                first = np.flatnonzero(batch["example_mask"])[:_SHOWN]
                frames = {name: batch[name] for name in ("context", "target")} | forecasts
                shown = {name: np.asarray(values)[first] for name, values in frames.items()}
        errors: dict[str, dict[str, np.ndarray]] = {metric: {} for metric in FRAME_METRICS}
        for key, values in kept.arrays().items():
            metric, name = key.split("/")
            errors[metric][name] = values.astype(np.float64)
        return SplitFrames(errors, shown)

    def summary(self, model: nnx.Module, split: str) -> dict[str, float]:
        """Mean errors of the model's frames: squares and absolutes summed per frame, and SSIM."""
        errors = self(model, split).errors
        return {metric: float(by_name["model"].mean()) for metric, by_name in errors.items()}

    def report(self, predictions: SplitFrames) -> dict[str, Any]:
        """The figures of one split: every metric per lead time and over all, of each forecast."""
        errors = predictions.errors
        return {
            "kind": "Frames",
            "clips": len(errors["mse"]["model"]),
            "scaled": {
                "unit": "cells from 0 to 1, squared or absolute errors summed over a frame",
                "data_range": 1.0,
                **{
                    name: {metric: _by_lead(errors[metric][name]) for metric in FRAME_METRICS}
                    for name in errors["mse"]
                },
            },
        }


def _frame_errors(prediction: jax.Array, target: jax.Array) -> dict[str, jax.Array]:
    """The metrics of every frame [batch, time] of [batch, time, height, width, channel]."""
    error, cells = prediction - target, (-3, -2, -1)
    return {
        "mse": jnp.square(error).sum(cells),
        "mae": jnp.abs(error).sum(cells),
        "ssim": ssim(prediction, target, data_range=1.0),
    }


def _by_lead(values: np.ndarray) -> dict[str, Any]:
    return {"per_lead": [figure(x) for x in values.mean(axis=0)], "all": figure(values.mean())}
