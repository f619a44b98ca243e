"""Video: clips of moving digits to be classified, searched and continued."""

from stpatch_jax.recipes.video.classification import (
    video_classification,
    video_classification_motion,
)
from stpatch_jax.recipes.video.data import (
    ClipClasses,
    ClipClassesConfig,
    ClipObjects,
    ClipObjectsConfig,
    NextFrames,
    NextFramesConfig,
)
from stpatch_jax.recipes.video.detection import video_detection
from stpatch_jax.recipes.video.judging import FramesJudge
from stpatch_jax.recipes.video.prediction import video_prediction, video_prediction_full

__all__ = [
    "ClipClasses",
    "ClipClassesConfig",
    "ClipObjects",
    "ClipObjectsConfig",
    "FramesJudge",
    "NextFrames",
    "NextFramesConfig",
    "video_classification",
    "video_classification_motion",
    "video_detection",
    "video_prediction",
    "video_prediction_full",
]
