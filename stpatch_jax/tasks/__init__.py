"""Tasks: a head, a loss, metrics and the naive rules that every report prints beside them."""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.tasks.classify import Classify, ClassifyConfig
    from stpatch_jax.tasks.detect import Detect, DetectConfig
    from stpatch_jax.tasks.forecast import Forecast, ForecastConfig
    from stpatch_jax.tasks.models import BackboneWithHead, Ensemble, transfer_backbone
    from stpatch_jax.tasks.next_token import NextToken, NextTokenConfig
    from stpatch_jax.tasks.reconstruct import MaskedModel, Reconstruct, ReconstructConfig
    from stpatch_jax.tasks.regress import Regress, RegressConfig
    from stpatch_jax.tasks.segment import Segment, SegmentConfig
    from stpatch_jax.tasks.task import Batch, Task, TaskBase, TaskConfig

__all__ = [
    "BackboneWithHead", "Batch", "Classify", "ClassifyConfig", "Detect", "DetectConfig", "Ensemble",
    "Forecast", "ForecastConfig", "MaskedModel", "NextToken", "NextTokenConfig", "Reconstruct",
    "ReconstructConfig", "Regress", "RegressConfig", "Segment", "SegmentConfig", "Task",
    "TaskBase", "TaskConfig", "transfer_backbone",
]  # fmt: skip

__getattr__, __dir__ = on_demand(__name__)
