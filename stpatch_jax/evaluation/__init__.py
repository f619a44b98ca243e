"""Evaluation: a model judged on whole splits beside the naive rules, one file per kind of task."""

from typing import Any

from jax.sharding import Mesh

from stpatch_jax.data import RiskData
from stpatch_jax.evaluation.classification import Classifier, SplitClasses
from stpatch_jax.evaluation.common import Evaluator
from stpatch_jax.evaluation.forecast import Forecaster, SplitForecasts
from stpatch_jax.evaluation.quantiles import QuantileForecaster, SplitQuantiles
from stpatch_jax.tasks import Classify, Forecast


def make_evaluator(task: Any, data: Any, mesh: Mesh, *, batch_size: int) -> Evaluator:
    """Returns what judges the models of a task on its data."""
    kinds: dict[type, Any] = {Forecast: Forecaster, Classify: Classifier}
    if isinstance(data, RiskData):
        kinds[Forecast] = QuantileForecaster
    return kinds[type(task)](task, data, mesh, batch_size=batch_size)


__all__ = [
    "Classifier",
    "Evaluator",
    "Forecaster",
    "QuantileForecaster",
    "SplitClasses",
    "SplitForecasts",
    "SplitQuantiles",
    "make_evaluator",
]
