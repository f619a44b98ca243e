"""Video detection: where bouncing digits are in each frame, and which."""

from stpatch_jax.nn import UNetConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.registry import register
from stpatch_jax.recipes.video.data import ClipObjectsConfig
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import DetectConfig
from stpatch_jax.training import TrainConfig


@register("video-detection", data="clips made of the digits that scikit-learn ships")
def video_detection() -> RunConfig:
    """Finds two bouncing digits in every frame: a box and a class for each.

    Digits are those scikit-learn ships; `--data.path` takes a file of images of MNIST. Every patch
    of 4 x 4 cells says whether a digit has its middle there, which, and how far it reaches; a patch
    spans three frames, since one frame alone may not show which of two digits that overlap is
    which.
    """
    return RunConfig(
        data=ClipObjectsConfig(),
        model=UNetConfig(
            WindowSpec((3, 4, 4), stride=(1, 4, 4), padding=("SAME", "VALID", "VALID")),
            features=(32, 64, 128),
        ),
        task=DetectConfig(hidden=(64,)),
        train=TrainConfig.cosine(
            1200, 2e-3, batch_size=8, checkpoint_every=300, weight_decay=1e-3, warmup_steps=50
        ),
    )
