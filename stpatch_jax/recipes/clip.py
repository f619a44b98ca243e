"""Clip: which class is a short video of?"""

from stpatch_jax.data import Augmentation, LabelledClipsConfig
from stpatch_jax.nn import ConvRecurrentConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ClassifyConfig
from stpatch_jax.training import TrainConfig


@register("clip", data="your own folder, of a folder of videos for each class")
def clip() -> RunConfig:
    """Classifies the video files of any folder that holds one folder of files for each class.

    `--data.path FOLDER` names it. Of each file 8 frames are seen, resized to 64 x 64; training sees
    other frames, other squares of the picture and its mirror image each time. Where left and right
    are what tells the classes apart, give `--data.augmentation.flip` without a number.

    A small network reads patches of 16 x 16 pixels frame by frame, convolutions over neighbours and
    a recurrence over time follow.
    """
    return RunConfig(
        data=LabelledClipsConfig(
            augmentation=Augmentation(flip=(1,), contrast=0.2, brightness=0.2)
        ),
        model=ConvRecurrentConfig(
            WindowSpec((1, 16, 16)),
            patch_features=(16, 32, 64),
            grid_features=64,
            grid_depth=1,
            recurrent_features=64,
            dropout=0.1,
        ),
        task=ClassifyConfig(hidden=(), reduce="mean", class_weights="balanced"),
        train=TrainConfig.cosine(
            1000, 1e-3, batch_size=16, checkpoint_every=250, weight_decay=1e-2, warmup_steps=50
        ),
    )
