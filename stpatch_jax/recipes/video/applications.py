"""What clips of moving digits are asked: which they show, where, and what comes next."""

import dataclasses

from stpatch_jax import nn, tasks
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.registry import register
from stpatch_jax.recipes.video.data import ClipClassesConfig, ClipObjectsConfig, NextFramesConfig
from stpatch_jax.runs import RunConfig
from stpatch_jax.training import TrainConfig


@register("video-classification", data="clips made of the digits that scikit-learn ships")
def video_classification() -> RunConfig:
    """Says which digit a clip shows, in noise and partly hidden by a grey square.

    Digits are those scikit-learn ships; `--data.path` takes a file of images of MNIST.

    Convolutions over time and space at once tell digits and motion alike.
    """
    return RunConfig(
        data=ClipClassesConfig(),
        model=nn.Conv3DConfig(2, features=(32, 64, 128), window=(1, 2, 2)),
        task=tasks.ClassifyConfig(),
        train=TrainConfig.cosine(
            4000, 2e-3, checkpoint_every=1000, weight_decay=1e-3, warmup_steps=50
        ),
    )


@register("video-classification-motion", data="clips made of the digits that scikit-learn ships")
def video_classification_motion() -> RunConfig:
    """Says in which of eight directions the digit of such a clip moves."""
    config = video_classification()
    return dataclasses.replace(
        config,
        data=ClipClassesConfig(label="motion"),
        train=dataclasses.replace(config.train, steps=300),
    )


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
        model=nn.UNetConfig(
            WindowSpec((3, 4, 4), stride=(1, 4, 4), padding=("SAME", "VALID", "VALID")),
            features=(32, 64, 128),
        ),
        task=tasks.DetectConfig(hidden=(64,)),
        train=TrainConfig.cosine(
            1200, 2e-3, batch_size=8, checkpoint_every=300, weight_decay=1e-3, warmup_steps=50
        ),
    )


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
        model=nn.UNetConfig(WindowSpec((None, 4, 4)), features=(64, 96, 128)),
        task=tasks.ForecastConfig(loss="mse", residual="none"),
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
        model=nn.UNetConfig(WindowSpec((None, 4, 4)), features=(256, 384, 512), depth=4),
        train=dataclasses.replace(
            config.train,
            steps=100_000,
            batch_size=64,
            checkpoint_every=5000,
            evaluate_every=5000,
            optimizer=dataclasses.replace(config.train.optimizer, learning_rate=1e-3),
        ),
    )
