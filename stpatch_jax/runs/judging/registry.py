"""Evaluation: a model judged on whole splits beside the naive rules, one file per kind of task."""

from typing import Any

from jax.sharding import Mesh

from stpatch_jax.recipes.customers.data import (Customers)
from stpatch_jax.data import (FieldData)
from stpatch_jax.recipes.video.data import (NextFrames)
from stpatch_jax.recipes.risk.data import (RiskData)
from stpatch_jax.runs.judging.alerts import AlertForecaster, SplitAlerts
from stpatch_jax.runs.judging.classification import Classifier, SplitClasses
from stpatch_jax.runs.judging.judge import Evaluator
from stpatch_jax.recipes.customers.judging import CustomerForecaster, SplitCustomers
from stpatch_jax.runs.judging.detection import Detector, SplitDetections
from stpatch_jax.runs.judging.forecast import Forecaster, SplitForecasts
from stpatch_jax.recipes.video.judging import FrameForecaster, SplitFrames
from stpatch_jax.runs.judging.next_token import SplitTokens, TextModeller
from stpatch_jax.recipes.risk.judging import QuantileForecaster, SplitQuantiles
from stpatch_jax.runs.judging.reconstruction import Reconstructor, SplitReconstructions
from stpatch_jax.tasks import Classify, Detect, Forecast, NextToken, Reconstruct


def make_evaluator(task: Any, data: Any, mesh: Mesh, *, batch_size: int) -> Evaluator:
    """Returns what judges the models of a task on its data."""
    kinds: dict[type, Any] = {Forecast: Forecaster, Classify: Classifier, Detect: Detector}
    kinds[NextToken] = TextModeller
    kinds[Reconstruct] = Reconstructor
    if isinstance(data, RiskData):
        kinds[Forecast] = QuantileForecaster
    if isinstance(data, FieldData) and data.config.alert.event != "none":
        kinds[Forecast] = AlertForecaster
    if isinstance(data, Customers):
        kinds[Forecast] = CustomerForecaster
    if isinstance(data, NextFrames):
        kinds[Forecast] = FrameForecaster
    return kinds[type(task)](task, data, mesh, batch_size=batch_size)


__all__ = [
    "AlertForecaster",
    "Classifier",
    "CustomerForecaster",
    "Detector",
    "Evaluator",
    "Forecaster",
    "FrameForecaster",
    "QuantileForecaster",
    "Reconstructor",
    "SplitAlerts",
    "SplitClasses",
    "SplitCustomers",
    "SplitDetections",
    "SplitForecasts",
    "SplitFrames",
    "SplitQuantiles",
    "SplitReconstructions",
    "SplitTokens",
    "TextModeller",
    "make_evaluator",
]
