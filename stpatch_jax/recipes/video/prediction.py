"""Video prediction: the coming frames of bouncing digits."""

import dataclasses

from stpatch_jax.nn import UNetConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.registry import register
from stpatch_jax.recipes.video.data import NextFramesConfig
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import TrainConfig


@register("video-prediction", data="clips made of the digits that scikit-learn ships")
def video_prediction() -> RunConfig:
    """Forecasts ten frames of two bouncing digits from ten, in the protocol of Moving MNIST.

    The digits are those scikit-learn ships; `--data.path` takes a file of images of MNIST, with its
    file of labels beside it. Clips are made while it trains, so none is seen twice.

    A patch is the whole context of 4 x 4 cells, so that time becomes channels; convolutions at
    three scales of the patch grid then see across the frame. At equal cost that learns much faster
    than a recurrence over frames.
    """
    return RunConfig(
        data=NextFramesConfig(),
        model=UNetConfig(WindowSpec((None, 4, 4)), features=(64, 96, 128)),
        task=ForecastConfig(loss="mse", residual="none"),
        train=TrainConfig.cosine(
            2400,
            2e-3,
            batch_size=8,
            checkpoint_every=400,
            evaluate_every=800,
            weight_decay=1e-4,
            warmup_steps=50,
        ),
    )


@register("video-prediction-full", data="clips made of the digits of MNIST, fetched (1.6 MB)")
def video_prediction_full() -> RunConfig:
    """Forecasts bouncing digits of MNIST, with a network and a training sized for a GPU."""
    config = video_prediction()
    return dataclasses.replace(
        config,
        data=NextFramesConfig(path="catalog:mnist_images"),
        model=UNetConfig(WindowSpec((None, 4, 4)), features=(256, 384, 512), depth=4),
        train=dataclasses.replace(
            config.train,
            steps=100_000,
            batch_size=64,
            checkpoint_every=5000,
            evaluate_every=5000,
            optimizer=dataclasses.replace(config.train.optimizer, learning_rate=1e-3),
        ),
    )
