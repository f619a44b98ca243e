"""Detect: where are the objects in pictures, clips or volumes, and which?"""

from stpatch_jax.data import Augmentation, BoxedConfig
from stpatch_jax.nn import UNetConfig
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import DetectConfig
from stpatch_jax.training import TrainConfig


@register("detect", data="your own: COCO, a table of boxes beside images, .npz")
def detect() -> RunConfig:
    """Finds objects in your own pictures, clips or volumes: a box, a class and a score for each.

    `--data.path` names a `.json` of COCO, a table with a row for each box, a folder with one of
    them beside the images, or an `.npz` file of arrays, see `read_boxes`. Pictures of several sizes
    are resized with their boxes. What is not said is told by the data, and by the report.

    Every window says whether an object has its middle there, which, and how far it reaches; of
    several in one window the smallest is learnt: mind `lost_objects` in the log, and make windows
    smaller by `--model.side`. Training pictures are mirrored; where left and right tell the classes
    apart, give `--data.augmentation.flip` without a number.
    """
    return RunConfig(
        data=BoxedConfig(augmentation=Augmentation(flip=(1,))),
        model=UNetConfig(),
        task=DetectConfig(hidden=(64,)),
        train=TrainConfig.cosine(
            1000,
            2e-3,
            batch_size="auto",
            checkpoint_every=250,
            weight_decay=1e-3,
            warmup_steps=50,
        ),
    )
