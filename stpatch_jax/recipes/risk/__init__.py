"""Stock risk: how far prices may fall; with data, judge and predictions of its own."""

from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.registry import register
from stpatch_jax.recipes.risk.data import RiskConfig, RiskData
from stpatch_jax.recipes.risk.judging import RiskJudge
from stpatch_jax.recipes.risk.predicting import RiskPredictor
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import TrainConfig

__all__ = ["RiskConfig", "RiskData", "RiskJudge", "RiskPredictor", "stock_risk"]


@register("stock-risk", data="87 companies' prices (2.2 MB) in STPATCH_DATA, else made from a seed")
def stock_risk() -> RunConfig:
    """Forecasts the 5 % quantile of each company's return over the next day (value at risk).

    Any table of daily prices can take its place with `--data.path`; `--data.horizon 5` forecasts
    the return over five days.

    The quantile is a multiple of the exponentially weighted volatility, and one linear map of how
    other estimators differ from it gives the multiple, the same map for every company and day.
    Deeper networks were no better on validation. How often returns fell below the quantile since
    the first day of validation then moves its level, day by day.
    """
    return RunConfig(
        data=RiskConfig(horizon=1),
        model=FlatPatchesConfig(WindowSpec((1, 1))),
        task=ForecastConfig(quantiles=(0.05, 0.5), residual="none"),
        train=TrainConfig.cosine(
            600, 1e-2, batch_size=256, checkpoint_every=300, optimizer="adam", weight_decay=1e-2
        ),
    )
