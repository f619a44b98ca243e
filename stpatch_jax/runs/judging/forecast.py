"""Forecasts over a whole split, and what a report says of them beside the naive baselines."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.data import ForecastData, truth
from stpatch_jax.runs.judging.judge import Evaluator, Kept, figure
from stpatch_jax.metrics import LeadTimeErrors, skill
from stpatch_jax.tasks import Forecast


@dataclasses.dataclass(frozen=True, eq=False)
class SplitForecasts:
    """Every forecast of one split beside the truth, in scaled units.

    Attributes:
        forecasts: By name (`model` and the naive baselines), each
            [window, horizon, *space, channel].
        target: The truth, 0 where missing.
        mask: True where the target is real.
        index: Row of the first target of each window [window].
        quantiles: The model's quantiles [window, horizon, *space, channel, quantile] where the task
            forecasts them, else None.
    """

    forecasts: dict[str, np.ndarray]
    target: np.ndarray
    mask: np.ndarray
    index: np.ndarray
    quantiles: np.ndarray | None = None

    def errors(self) -> dict[str, LeadTimeErrors]:
        """Errors in scaled units, by the forecast's name."""
        return {
            name: LeadTimeErrors.of(values, self.target, mask=self.mask)
            for name, values in self.forecasts.items()
        }


class Forecaster(Evaluator):
    """Judges forecasts of a table or field; see `Evaluator`."""

    def __init__(self, task: Forecast, data: ForecastData, mesh: Mesh, *, batch_size: int):
        super().__init__(task.predict, task.inputs, data, mesh, batch_size=batch_size)
        self.task = task
        self.data: ForecastData = data

    def __call__(self, model: nnx.Module, split: str) -> SplitForecasts:
        """Forecasts every window of a split, without dropout."""
        kept = Kept()
        for batch, prediction in self.predicted(model, split):
            rows = {"model": self.task.point(prediction), **self.task.baselines(batch)}
            rows |= {f"/{name}": batch[name] for name in ("target", "target_mask", "index")}
            if self.task.config.quantiles:
                rows["/quantiles"] = prediction
            kept.add(rows, batch["example_mask"])
        arrays = kept.arrays()
        target, mask, index = (arrays.pop(f"/{k}") for k in ("target", "target_mask", "index"))
        return SplitForecasts(
            quantiles=arrays.pop("/quantiles", None),
            forecasts=arrays,
            target=target,
            mask=mask,
            index=index,
        )

    def summary(self, model: nnx.Module, split: str) -> dict[str, float]:
        """MAE and RMSE over all lead times in scaled units, and the skill against persistence."""
        pooled = {k: e.pooled() for k, e in self(model, split).errors().items()}
        gained = skill(pooled["model"].mae(), pooled["persistence"].mae())
        return {
            "mae": float(pooled["model"].mae()[0]),
            "rmse": float(pooled["model"].rmse()[0]),
            "skill": float(gained[0]),
        }

    def report(self, predictions: SplitForecasts) -> dict[str, Any]:
        """The figures of one split: per lead time and over all, scaled and in the data's units.

        What is in units is compared with the untouched data, over the targets that are real. Skill
        is `1 - error / error of persistence`.
        """
        data, index = self.data, predictions.index
        real = truth(data, index)
        mask = predictions.mask & np.isfinite(real)
        values = {name: data.in_units(x, index) for name, x in predictions.forecasts.items()}
        in_units = {name: _errors(x, real, mask) for name, x in values.items()}
        return {
            "windows": len(index),
            "targets": int(mask.sum()),
            "scaled": {
                "unit": "standard deviations of the training rows",
                **_figures(predictions.errors()),
            },
            "original": {"unit": data.unit, **_figures(in_units)},
            "series": {
                series: {
                    name: figure(_errors(x[at], real[at], mask[at]).pooled().mae()[0])
                    for name, x in values.items()
                }
                for series, at in data.series.items()
            },
        }


def _errors(values: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> LeadTimeErrors:
    return LeadTimeErrors.of(values, np.where(mask, truth, 0.0), mask=mask)


def _figures(errors: Mapping[str, LeadTimeErrors]) -> dict[str, Any]:
    """MAE and RMSE by forecast, each per lead time and over all, then the skill of the model."""
    figures: dict[str, Any] = {name: _measures(error) for name, error in errors.items()}
    pooled = {name: error.pooled() for name, error in errors.items()}
    figures["skill"] = {
        metric: {
            "per_lead": _list(_skill(errors["model"], errors["persistence"], metric)),
            "all": figure(_skill(pooled["model"], pooled["persistence"], metric)[0]),
        }
        for metric in ("mae", "rmse")
    }
    return figures


def _skill(model: LeadTimeErrors, naive: LeadTimeErrors, metric: str) -> np.ndarray:
    return np.asarray(skill(getattr(model, metric)(), getattr(naive, metric)()))


def _measures(error: LeadTimeErrors) -> dict[str, Any]:
    return {
        metric: {
            "per_lead": _list(getattr(error, metric)()),
            "all": figure(getattr(error.pooled(), metric)()[0]),
        }
        for metric in ("mae", "rmse")
    }


def _list(values: Any) -> list[float | None]:
    return [figure(value) for value in values]
