"""Heads: from a feature map to the output of a task."""

from stpatch_jax.nn.heads.classification import (
    ClassificationHead,
    ClassificationReduce,
    FieldHead,
    NextTokenHead,
)
from stpatch_jax.nn.heads.dense import DenseHead
from stpatch_jax.nn.heads.detection import (
    DetectionHead,
    DetectionMap,
    Detections,
    non_maximum_suppression,
)
from stpatch_jax.nn.heads.forecast import ForecastHead, ForecastTime
from stpatch_jax.nn.heads.ridge import Ridge, RidgeFieldHead, RidgeHead, fit_ridge

__all__ = [
    "ClassificationHead",
    "ClassificationReduce",
    "DenseHead",
    "DetectionHead",
    "DetectionMap",
    "Detections",
    "FieldHead",
    "ForecastHead",
    "ForecastTime",
    "NextTokenHead",
    "Ridge",
    "RidgeFieldHead",
    "RidgeHead",
    "fit_ridge",
    "non_maximum_suppression",
]
