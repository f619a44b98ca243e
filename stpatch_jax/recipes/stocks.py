"""Stocks: forecast the prices of N companies from their common past."""

from stpatch_jax.data import PanelConfig
from stpatch_jax.nn import ConvRecurrentConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import OptimizerConfig, TrainConfig


@register("stocks", data="ten monthly prices that matplotlib ships, or your own table")
def stocks() -> RunConfig:
    """Forecasts the prices of a panel of companies, 24 rows in, 6 rows out.

    By default from the monthly table of ten names that matplotlib ships; `--data.path` reads a
    daily table of open, high, low, close, adjusted close and volume, or any wide table.

    Each patch is 4 rows of one company, overlapping by half: the order of companies carries no
    meaning, so no patch and no convolution reaches across neighbours along that axis.
    """
    return RunConfig(
        data=PanelConfig(context=24, horizon=6),
        model=ConvRecurrentConfig(
            WindowSpec((4, 1), stride=(2, 1)),
            patch_features=(16, 32),
            grid_features=32,
            grid_depth=1,
            spatial_kernel_size=1,
            recurrent_features=32,
            dropout=0.2,
        ),
        task=ForecastConfig(loss="huber"),
        train=TrainConfig(
            steps=200,
            batch_size=32,
            checkpoint_every=50,
            evaluate_every=25,
            optimizer=OptimizerConfig(learning_rate=5e-4, weight_decay=1e-2, warmup_steps=40),
        ),
    )
