"""What customers will buy, beside what they bought before and what they really bought."""

import dataclasses
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.recipes.customers.data import Customers
from stpatch_jax.runs.judging.judge import Evaluator, Kept, figure
from stpatch_jax.tasks import Forecast

TARGETS = ("purchases", "spending")
_LISTED = 10
_MOST_BEFORE = 7
# Who bought less often than this since the first time has not stopped: he never began.
_REGULAR = 3


@dataclasses.dataclass(frozen=True, eq=False)
class SplitCustomers:
    """The forecasts of every customer of one split, in purchases and in money.

    Attributes:
        forecasts: By name (`model` and the naive rules), each [customer, 2].
        real: What they really did [customer, 2].
        before: Purchases after the first one, and spending at them, before the cut [customer, 2].
        names: Names of the customers.
    """

    forecasts: dict[str, np.ndarray]
    real: np.ndarray
    before: np.ndarray
    names: np.ndarray


class CustomerForecaster(Evaluator):
    """Judges forecasts of what customers buy; see `Evaluator`."""

    def __init__(self, task: Forecast, data: Customers, mesh: Mesh, *, batch_size: int):
        super().__init__(task.predict, task.inputs, data, mesh, batch_size=batch_size)
        self.task = task
        self.data: Customers = data

    def __call__(self, model: nnx.Module, split: str) -> SplitCustomers:
        """Forecasts every customer of a split, without dropout; never less than nothing."""
        kept = Kept()
        for batch, prediction in self.predicted(model, split):
            rows = {"model": self.task.point(prediction), **self.task.baselines(batch)}
            kept.add({**rows, "/index": batch["index"]}, batch["example_mask"])
        arrays = kept.arrays()
        found = self.data.splits[split].of(arrays.pop("/index"))
        forecasts = {
            name: np.maximum(values[:, 0], 0.0) * found.scale for name, values in arrays.items()
        }
        names = np.asarray(self.data.names)[found.customer]
        return SplitCustomers(forecasts, found.real, found.before, names)

    def summary(self, model: nnx.Module, split: str) -> dict[str, float]:
        """RMSE and MAE of the number of purchases of a customer."""
        found = self(model, split)
        errors = _errors(found.forecasts["model"][:, 0], found.real[:, 0])
        return {"rmse": errors["rmse"], "mae": errors["mae"]}

    def report(self, predictions: SplitCustomers) -> dict[str, Any]:
        """The figures of one split: errors and totals of each forecast, calibration, and lists.

        The lists name the customers who will buy most often, those who bought at least three times
        again and will fall back most, and those who will spend most.
        """
        rules = {
            name: {
                target: _errors(values[:, at], predictions.real[:, at])
                for at, target in enumerate(TARGETS)
            }
            for name, values in predictions.forecasts.items()
        }
        return {
            "kind": "Customers",
            "customers": len(predictions.names),
            "real": dict(zip(TARGETS, predictions.real.sum(axis=0).tolist(), strict=True)),
            "scaled": rules,
            "calibration": calibration(predictions),
            "lists": _lists(predictions),
        }


def calibration(predictions: SplitCustomers) -> list[dict[str, Any]]:
    """Mean purchases, forecast and real, of those who came back 0, 1, 2, ... times before."""
    repeats = np.minimum(predictions.before[:, 0], _MOST_BEFORE)
    rows = []
    for count in np.unique(repeats):
        chosen = repeats == count
        means = {n: x[chosen, 0].mean() for n, x in predictions.forecasts.items()}
        rows.append(
            {
                "before": int(count),
                "customers": int(chosen.sum()),
                "real": float(predictions.real[chosen, 0].mean()),
                **{name: float(mean) for name, mean in means.items()},
            }
        )
    return rows


def _errors(forecast: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    error = forecast - real
    return {
        "rmse": figure(np.sqrt(np.mean(error**2))),
        "mae": figure(np.mean(np.abs(error))),
        "total": figure(forecast.sum()),
    }


def _lists(predictions: SplitCustomers) -> dict[str, list[dict[str, Any]]]:
    model, before = predictions.forecasts["model"], predictions.before
    kept = (model[:, 0] + 1) / (before[:, 0] + 1)
    orders = {
        "return": np.argsort(-model[:, 0], kind="stable"),
        "stop": np.argsort(np.where(before[:, 0] >= _REGULAR, kept, np.inf), kind="stable"),
        "spend": np.argsort(-model[:, 1], kind="stable"),
    }
    regular = int((before[:, 0] >= _REGULAR).sum())
    most = {"stop": min(_LISTED, regular)}
    return {
        name: [_customer(predictions, int(at)) for at in order[: most.get(name, _LISTED)]]
        for name, order in orders.items()
    }


def _customer(predictions: SplitCustomers, at: int) -> dict[str, Any]:
    rows = {
        "before": predictions.before[at],
        "forecast": predictions.forecasts["model"][at],
        "real": predictions.real[at],
    }
    return {
        "customer": str(predictions.names[at]),
        **{name: dict(zip(TARGETS, values.tolist(), strict=True)) for name, values in rows.items()},
    }
