"""Tasks: a head, a loss, metrics and the naive baselines that every report prints beside them."""

from stpatch_jax.tasks.classify import Classify, ClassifyConfig
from stpatch_jax.tasks.common import BackboneWithHead, Batch, real_targets
from stpatch_jax.tasks.forecast import Forecast, ForecastConfig

__all__ = [
    "BackboneWithHead",
    "Batch",
    "Classify",
    "ClassifyConfig",
    "Forecast",
    "ForecastConfig",
    "real_targets",
]
