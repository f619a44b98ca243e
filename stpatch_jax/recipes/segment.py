"""Segment: which class is each cell of an image, a volume or a clip of?"""

from stpatch_jax.data import SegmentedFieldsConfig
from stpatch_jax.nn import UNetConfig
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import SegmentConfig
from stpatch_jax.training import TrainConfig


@register("segment", data="made from a seed, or your own images with masks")
def segment() -> RunConfig:
    """Gives every cell of images, volumes or clips a class, learnt from images with masks.

    `--data.path` takes an `.npz` file or a folder of images and masks, see `read_masked_images`;
    without one, volumes of 32 x 32 x 32 cells with balls and tubes in noise are made of a seed.

    Windows of 2 cells along each axis are what a small U-Net sees at its finest scale.
    """
    return RunConfig(
        data=SegmentedFieldsConfig(),
        model=UNetConfig(side=2, features=(16, 32)),
        task=SegmentConfig(),
        train=TrainConfig.cosine(
            250, 1e-2, batch_size=4, checkpoint_every=125, evaluate_every=125, weight_decay=1e-3
        ),
    )
