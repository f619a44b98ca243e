"""Exchange rates: forecast series that hardly leave a random walk."""

from stpatch_jax.data import FieldConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import TrainConfig


@register("exchange", data="exchange_rate, fetched (0.6 MB)")
def exchange() -> RunConfig:
    """Forecasts daily exchange rates, 24 days in, 96 out, in the protocol of exchange_rate.

    Any table of series can take its place with `--data.path`. `--data.horizon` 192, 336 and 720 are
    the other published settings.

    Repeating the last value is hard to beat here. The forecast is that value, drawn a little
    towards a linear map of the last 24: how far, the rows before the test span tell, at thirty
    origins (`rolling_weight`). The validation span alone, which drifts one way, cannot.
    """
    return RunConfig(
        data=FieldConfig(path="catalog:exchange_rate", context=24, horizon=96),
        model=FlatPatchesConfig(WindowSpec((None, 1))),
        task=ForecastConfig(loss="mse", model_weight="auto"),
        train=TrainConfig.cosine(
            800, 1e-3, checkpoint_every=400, optimizer="adam", weight_decay=0.0, warmup_steps=40
        ),
    )
