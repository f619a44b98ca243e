"""Regress: which numbers belong to an item? Series, images, volumes, texts, rows of a table."""

from stpatch_jax.data import MeasuredConfig
from stpatch_jax.nn import ConvRecurrentConfig
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import RegressConfig
from stpatch_jax.training import TrainConfig


@register("regress", data="your own: .npz, tables, texts")
def regress() -> RunConfig:
    """Tells numbers for the items of your own data: series, images, volumes, texts or table rows.

    `--data.path` names an `.npz` file of arrays, or a table of texts or numbers with columns of
    what is to be told; `--data.labels age weight` names these, `--data.inputs` or `--data.text`
    from what. What is not said is told by the data, and by the report.

    The network is that of `classify`. `--task.loss mae` tells medians, `mse` means; `--model NAME`
    takes another network.
    """
    return RunConfig(
        data=MeasuredConfig(),
        model=ConvRecurrentConfig(
            patch_features=(16, 32),
            grid_features=32,
            grid_depth=1,
            recurrent_features=32,
            dropout=0.1,
        ),
        task=RegressConfig(),
        train=TrainConfig.cosine(
            400,
            3e-3,
            batch_size="auto",
            checkpoint_every=100,
            weight_decay=1e-2,
            warmup_steps=20,
        ),
    )
