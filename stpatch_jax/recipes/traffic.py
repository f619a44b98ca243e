"""Traffic: forecast the flow of bikes in every cell of a city, and warn of congestion."""

from stpatch_jax.data import AlertConfig, CleaningConfig, FieldConfig
from stpatch_jax.nn import NeighborhoodConfig
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import TrainConfig


@register("traffic", data="BikeNYC (0.2 MB) in STPATCH_DATA, else made from a seed")
def traffic() -> RunConfig:
    """Forecasts the in- and outflow of a grid one hour ahead, in the protocol of BikeNYC.

    Any file of hourly grids can take its place with `--data.path`. The last ten days are tested on.
    Only 47 days lie before them here, and 4 of these validate; published networks were trained on
    173. Settings were chosen with ten days for validation (`--data.train-share 0.65`).

    One small network for all cells sees how far the last three hours of a cell were from what is
    usual at that hour of a working day or of a weekend, the same of the grid as a whole, and what
    is usual one hour ahead, to which its forecast is added. Neither the cells around it nor what
    happened a day or a week ago added to that on validation. Congestion is a flow above the 90 %
    quantile of its cell.
    """
    return RunConfig(
        data=FieldConfig(
            path="catalog:bikenyc",
            context=3,
            horizon=1,
            train_share=0.75,
            test_share=0.1754,
            season=7 * 24,
            climatology="workday_hour",
            anomalies=True,
            climatology_channel=True,
            space_means=True,
            cleaning=CleaningConfig(per="channel"),
            alert=AlertConfig("above", 0.9, quantile=True),
        ),
        model=NeighborhoodConfig(((0, 0),), lags=3, hidden=(64, 32), features=16, dropout=0.1),
        task=ForecastConfig(loss="mse", residual="climatology"),
        train=TrainConfig.cosine(
            500, 1e-2, checkpoint_every=100, ema=0.98, weight_decay=1e-2, warmup_steps=20
        ),
    )
