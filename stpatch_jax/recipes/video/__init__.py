"""Video: clips of moving digits to be classified, searched and continued."""

from stpatch_jax.recipes.video import classification, detection, prediction
from stpatch_jax.recipes.video.data import ClipClassesConfig, ClipObjectsConfig, NextFramesConfig
from stpatch_jax.recipes.video.judging import FramesJudge

__all__ = [
    "ClipClassesConfig", "ClipObjectsConfig", "FramesJudge", "NextFramesConfig", "classification",
    "detection", "prediction",
]  # fmt: skip
