"""ETTh1: forecast the loads and the oil temperature of a transformer, hour by hour."""

from stpatch_jax.data import FieldConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import TrainConfig


@register("etth1", data="ETTh1, fetched (2.6 MB)")
def etth1() -> RunConfig:
    """Forecasts hourly series, 336 hours in, 96 out, in the protocol of ETTh1.

    Any wide or long table of series can take its place with `--data.path`; of the first 14,400 rows
    60 % are trained and 20 % tested on. `--data.horizon` 192, 336 and 720 are the other published
    settings.

    One patch is the whole past of one series, and the same two linear maps forecast every series:
    one sees its level, the other does not, and the forecast is their mean. Where levels may or may
    not come back, no deeper network that was tried did better on validation. Neither adds a
    constant: on rolling origins before the test span the drift of the past year did not go on.
    """
    return RunConfig(
        data=FieldConfig(
            path="catalog:etth1",
            context=336,
            horizon=96,
            train_share=0.6,
            test_share=0.2,
            most_rows=14400,
            season=24,
        ),
        model=FlatPatchesConfig(WindowSpec((None, 1))),
        task=ForecastConfig(loss="mse", residual="none", normalize="both", bias=False),
        train=TrainConfig.cosine(
            2000,
            2e-3,
            checkpoint_every=1000,
            optimizer="adam",
            # Ridge regression: the steps suffice to come close to its closed form.
            weight_decay=5e-4,
            warmup_steps=100,
        ),
    )
