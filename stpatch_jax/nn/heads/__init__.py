"""Heads: from a feature map to the output of a task."""

from stpatch_jax.nn.heads.classification import ClassificationHead, ClassificationReduce
from stpatch_jax.nn.heads.forecast import ForecastHead

__all__ = ["ClassificationHead", "ClassificationReduce", "ForecastHead"]
