"""Reconstruct: hidden parts of any file of times, without a label."""

from stpatch_jax.data import FieldPartsConfig
from stpatch_jax.nn import PatchTransformerConfig
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ReconstructConfig
from stpatch_jax.training import TrainConfig


@register("reconstruct", data="your own file")
def reconstruct() -> RunConfig:
    """Reconstructs hidden patches of your own file: a series, a panel, a map, a volume or a video.

    `--data.path FILE` names it, `--data.horizon` is how many time steps an example has, and half of
    its patches are hidden, `--task.window` cells each. `stpatch predict` fills the same patches of
    another file.

    What is learnt without a label is a start for a task with few: `stpatch train forecast --model
    patch_transformer ... --start-from RUN` begins with this backbone, where its settings are the
    same.
    """
    return RunConfig(
        data=FieldPartsConfig(horizon="auto"),
        model=PatchTransformerConfig(features=64, depth=2, heads=4),
        task=ReconstructConfig(mask_ratio=0.5),
        train=TrainConfig.cosine(
            300, 2e-3, batch_size="auto", checkpoint_every=100, weight_decay=1e-3, warmup_steps=20
        ),
    )
