"""Forecasts over a whole split, and what a report says of them beside the naive baselines."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.data import PanelData, sequential_batches
from stpatch_jax.metrics import LeadTimeErrors, skill
from stpatch_jax.tasks import Forecast
from stpatch_jax.training import shard_batch, whole_model


@dataclasses.dataclass(frozen=True, eq=False)
class SplitForecasts:
    """Every forecast of one split beside the truth, in scaled units.

    Attributes:
        forecasts: By name (`model` and the naive baselines), each [window, horizon, *space, 1].
        target: The truth, 0 where missing.
        mask: True where the target is real.
        index: Row of the first target of each window [window].
    """

    forecasts: dict[str, np.ndarray]
    target: np.ndarray
    mask: np.ndarray
    index: np.ndarray

    def errors(self) -> dict[str, LeadTimeErrors]:
        """Errors in scaled units, by the forecast's name."""
        return {
            name: LeadTimeErrors.of(values, self.target, mask=self.mask)
            for name, values in self.forecasts.items()
        }


class Forecaster:
    """Runs a model over all windows of a split, in batches sharded over the mesh.

    Args:
        task: The forecast task.
        data: Where the windows come from.
        mesh: The mesh of the run.
        batch_size: Windows of a global batch, a multiple of the number of devices.
    """

    def __init__(self, task: Forecast, data: PanelData, mesh: Mesh, *, batch_size: int):
        self.task, self.data, self.mesh, self.batch_size = task, data, mesh, batch_size
        self._predict = nnx.jit(lambda model, batch: task.point(task.predict(model, batch)))

    def __call__(self, model: nnx.Module, split: str) -> SplitForecasts:
        """Forecasts every window of a split, without dropout."""
        model = whole_model(nnx.view(model, deterministic=True), self.mesh)
        kept: dict[str, list[np.ndarray]] = {}
        with jax.set_mesh(self.mesh):
            for batch in sequential_batches(self.data.source(split), batch_size=self.batch_size):
                inputs = {name: batch[name] for name in ("context", "persistence")}
                forecast = self._predict(model, shard_batch(inputs, self.mesh))
                rows = {
                    "model": np.asarray(forecast),
                    **{k: np.asarray(v) for k, v in self.task.baselines(batch).items()},
                    **{f"/{k}": batch[k] for k in ("target", "target_mask", "index")},
                }
                for name, values in rows.items():
                    kept.setdefault(name, []).append(values[batch["example_mask"]])
        arrays = {name: np.concatenate(parts) for name, parts in kept.items()}
        target, mask, index = (arrays.pop(f"/{k}") for k in ("target", "target_mask", "index"))
        return SplitForecasts(arrays, target, mask, index)

    def summary(self, model: nnx.Module, split: str) -> dict[str, float]:
        """MAE and RMSE over all lead times in scaled units, and the skill against persistence."""
        pooled = {k: e.pooled() for k, e in self(model, split).errors().items()}
        gained = skill(pooled["model"].mae(), pooled["persistence"].mae())
        return {
            "mae": float(pooled["model"].mae()[0]),
            "rmse": float(pooled["model"].rmse()[0]),
            "skill": float(gained[0]),
        }


def split_report(data: PanelData, split: SplitForecasts) -> dict[str, Any]:
    """The figures of one split, JSON-able: per lead time and over all, scaled and in prices.

    Prices are compared with the untouched table, over the targets that are real. Skill is
    `1 - error / error of persistence`.
    """
    truth = data.true_price(split.index)
    mask = split.mask & np.isfinite(truth)
    prices = {name: data.to_price(values, split.index) for name, values in split.forecasts.items()}
    in_prices = {name: _price_errors(values, truth, mask) for name, values in prices.items()}
    return {
        "windows": len(split.index),
        "targets": int(mask.sum()),
        "scaled": {
            "unit": "standard deviations of the training rows",
            **_figures(split.errors()),
        },
        "price": {"unit": data.unit, **_figures(in_prices)},
        "companies": {
            company: {
                name: _figure(
                    _price_errors(
                        values[:, :, at : at + 1], truth[:, :, at : at + 1], mask[:, :, at : at + 1]
                    )
                    .pooled()
                    .mae()[0]
                )
                for name, values in prices.items()
            }
            for at, company in enumerate(data.companies)
        },
    }


def _price_errors(values: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> LeadTimeErrors:
    return LeadTimeErrors.of(values, np.where(mask, truth, 0.0), mask=mask)


def _figures(errors: Mapping[str, LeadTimeErrors]) -> dict[str, Any]:
    """MAE and RMSE by forecast, each per lead time and over all, then the skill of the model."""
    figures: dict[str, Any] = {name: _measures(error) for name, error in errors.items()}
    pooled = {name: error.pooled() for name, error in errors.items()}
    figures["skill"] = {
        metric: {
            "per_lead": _list(_skill(errors["model"], errors["persistence"], metric)),
            "all": _figure(_skill(pooled["model"], pooled["persistence"], metric)[0]),
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
            "all": _figure(getattr(error.pooled(), metric)()[0]),
        }
        for metric in ("mae", "rmse")
    }


def _list(values: Any) -> list[float | None]:
    return [_figure(value) for value in values]


def _figure(value: Any) -> float | None:
    """A plain number; None where nothing was there to be measured."""
    value = float(value)
    return value if math.isfinite(value) else None
