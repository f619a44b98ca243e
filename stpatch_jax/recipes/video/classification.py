"""Video classification: which digit moves, or where to, behind an obstacle and in noise."""

import dataclasses

from stpatch_jax.nn import Conv3DConfig
from stpatch_jax.recipes.registry import register
from stpatch_jax.recipes.video.data import ClipClassesConfig
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ClassifyConfig
from stpatch_jax.training import TrainConfig


@register("video-classification", data="clips made of the digits that scikit-learn ships")
def video_classification() -> RunConfig:
    """Says which digit a clip shows, in noise and partly hidden by a grey square.

    Digits are those scikit-learn ships; `--data.path` takes a file of images of MNIST.

    Convolutions over time and space at once tell digits and motion alike.
    """
    return RunConfig(
        data=ClipClassesConfig(),
        model=Conv3DConfig(2, features=(32, 64, 128), window=(1, 2, 2)),
        task=ClassifyConfig(),
        train=TrainConfig.cosine(
            4000, 2e-3, checkpoint_every=1000, weight_decay=1e-3, warmup_steps=50
        ),
    )


@register("video-classification-motion", data="clips made of the digits that scikit-learn ships")
def video_classification_motion() -> RunConfig:
    """Says in which of eight directions the digit of such a clip moves."""
    config = video_classification()
    return dataclasses.replace(
        config,
        data=ClipClassesConfig(label="motion"),
        train=dataclasses.replace(config.train, steps=300),
    )
