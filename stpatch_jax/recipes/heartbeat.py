"""Heartbeat: is one recorded heartbeat normal?"""

from stpatch_jax.data import LabelledSeriesConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ClassifyConfig
from stpatch_jax.training import TrainConfig


@register("heartbeat", data="ECG200 (0.2 MB) in STPATCH_DATA, else made from a seed")
def heartbeat() -> RunConfig:
    """Classifies single heartbeats of an electrocardiogram, in the protocol of ECG200.

    Any pair of files of the UCR archive can take its place with `--data.path NAME_TRAIN.tsv`. All
    training series are trained on, and the last step counts.

    A hundred series of 96 values ask for no more than a perceptron of three layers with dropout:
    convolutions did no better in ten-fold cross-validation of the training series. Nor does the
    average of five networks, `--task.members 5`, but it depends less on the seed.
    """
    return RunConfig(
        data=LabelledSeriesConfig(path="catalog:ecg200_train"),
        model=FlatPatchesConfig(WindowSpec((None,)), dropout=0.1),
        task=ClassifyConfig(hidden=(500, 500, 500)),
        train=TrainConfig.cosine(1000, 5e-4, batch_size=16, checkpoint_every=500, optimizer="adam"),
    )
