"""Video: clips of moving digits to be classified, searched and continued."""

from stpatch_jax.recipes.video import applications
from stpatch_jax.recipes.video.data import ClipClassesConfig, ClipObjectsConfig, NextFramesConfig
from stpatch_jax.recipes.video.judging import FramesJudge
from stpatch_jax.recipes.video.predicting import FramesPredictor

__all__ = [
    "ClipClassesConfig", "ClipObjectsConfig", "FramesJudge", "FramesPredictor",
    "NextFramesConfig", "applications",
]  # fmt: skip
