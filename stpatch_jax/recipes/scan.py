"""Scan: does a small 3-D scan show disease?"""

from stpatch_jax.data import Augmentation, LabelledVolumesConfig
from stpatch_jax.nn import Conv3DConfig
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ClassifyConfig
from stpatch_jax.training import TrainConfig


@register("scan", data="AdrenalMNIST3D, fetched (0.3 MB)")
def scan() -> RunConfig:
    """Classifies volumes of 28 x 28 x 28 cells, in the protocol of AdrenalMNIST3D.

    Any `.npz` of 3-D volumes of MedMNIST can take its place with `--data.path`.

    A small network: windows of 2 x 2 x 2 cells become channels, two stages of convolution follow,
    and the mean over the volume is classified. Training volumes are moved by up to two cells.
    Turning them as well did harm on held-out training volumes, as if it mattered how a gland lies
    in the body; mirroring them, more stages and more steps did not help.
    """
    return RunConfig(
        data=LabelledVolumesConfig(path="catalog:adrenal", augmentation=Augmentation(shift=2)),
        model=Conv3DConfig(3, features=(16, 32), window=(1, 2, 2, 2)),
        task=ClassifyConfig(hidden=(), reduce="mean"),
        train=TrainConfig.cosine(
            400,
            4e-3,
            checkpoint_every=200,
            evaluate_every=100,
            ema=0.99,
            weight_decay=1e-2,
            warmup_steps=30,
        ),
    )
