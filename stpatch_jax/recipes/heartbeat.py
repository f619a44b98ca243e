"""Heartbeat: is one recorded heartbeat normal?"""

from stpatch_jax.data import LabelledSeriesConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.running import RunConfig
from stpatch_jax.tasks import ClassifyConfig
from stpatch_jax.training import OptimizerConfig, TrainConfig
from stpatch_jax.windows import WindowSpec


def heartbeat() -> RunConfig:
    """Classifies single heartbeats of an electrocardiogram, in the protocol of ECG200.

    Any pair of files of the UCR archive can take its place with `--data.path NAME_TRAIN.tsv`. All
    training series are trained on, and the last step counts.

    A hundred series of 96 values ask for no more than a perceptron of three layers with dropout:
    convolutions did no better in ten-fold cross-validation of the training series. Which of them is
    found depends on the initial weights, so five are trained and their probabilities averaged.
    """
    return RunConfig(
        recipe="heartbeat",
        data=LabelledSeriesConfig(path="catalog:ecg200_train"),
        model=FlatPatchesConfig(WindowSpec((None,)), dropout=0.1),
        task=ClassifyConfig(hidden=(500, 500, 500), members=5),
        train=TrainConfig(
            steps=500,
            batch_size=16,
            checkpoint_every=250,
            evaluate_every=250,
            optimizer=OptimizerConfig(name="adam", learning_rate=5e-4, schedule="cosine"),
        ),
    )
