"""Classify: which class is an item of? Series, images, clips, volumes, texts, rows of a table."""

from stpatch_jax.data import LabelledConfig
from stpatch_jax.nn import ConvRecurrentConfig
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ClassifyConfig
from stpatch_jax.training import TrainConfig


@register("classify", data="your own: folders, .npz, tables, texts")
def classify() -> RunConfig:
    """Classifies the items of your own data: series, images, clips, volumes, texts or table rows.

    `--data.path` names a folder with a folder of files for each class, an `.npz` file of arrays, a
    table of texts or numbers with a column of labels, or series as the UCR archive stores them;
    `--data.inputs`, `--data.text` and `--data.labels` say which arrays or columns are meant where
    their names do not. What is not said is told by the data, and by the report.

    Patches are read by a small network, convolutions over neighbours and a recurrence over time
    follow; each class counts the same, however many items it has. `--model NAME` takes another
    network.
    """
    return RunConfig(
        data=LabelledConfig(),
        model=ConvRecurrentConfig(
            patch_features=(16, 32),
            grid_features=32,
            grid_depth=1,
            recurrent_features=32,
            dropout=0.1,
        ),
        task=ClassifyConfig(class_weights="balanced"),
        train=TrainConfig.cosine(
            400,
            3e-3,
            batch_size="auto",
            checkpoint_every=100,
            weight_decay=1e-2,
            warmup_steps=20,
        ),
    )
