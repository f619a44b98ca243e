"""Forecast: what comes next in any file of times."""

from stpatch_jax.data import FieldConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import TrainConfig


@register("forecast", data="your own file")
def forecast() -> RunConfig:
    """Forecasts your own file: a series, a panel, a map, a volume or a video, by `--data.path`.

    What is not said is told by the file: seasons, context and horizon, the windows, the batch; the
    report says what was chosen and why. `--data.horizon 24` is how far to forecast, and
    `--data.variables` what of the file; `--model NAME` takes another network.

    The past of each window is one patch, and two linear maps of it are averaged: one sees its level
    and the other does not. How far their forecast may leave that of the best rule tell rolling
    origins before the test span and, of the trained network, the validation split.
    """
    return RunConfig(
        data=FieldConfig(context="auto", horizon="auto", season="auto", climatology="auto"),
        model=FlatPatchesConfig(),
        task=ForecastConfig(
            loss="mse",
            normalize="both",
            bias=False,
            model_weight="validation",
            weighed_against="auto",
        ),
        train=TrainConfig.cosine(
            300,
            2e-3,
            batch_size="auto",
            checkpoint_every=100,
            optimizer="adam",
            weight_decay=1e-3,
            warmup_steps=20,
        ),
    )
