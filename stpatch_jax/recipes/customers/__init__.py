"""Customers: who will buy again, how often and for how much; with data and judge of its own."""

from stpatch_jax.nn import PatchCNNConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.customers.data import Customers, CustomersConfig
from stpatch_jax.recipes.customers.judging import CustomersJudge
from stpatch_jax.recipes.customers.predicting import CustomersPredictor
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import TrainConfig

__all__ = ["Customers", "CustomersConfig", "CustomersJudge", "CustomersPredictor", "customers"]


@register("customers", data="orders of CDNOW, fetched (2.0 MB)")
def customers() -> RunConfig:
    """Forecasts the purchases and the spending of every customer over the next 39 weeks.

    Any table of events (customer, date, amount) can take the place of the shop's with
    `--data.path`; `--data.horizon` is the number of weeks.

    A perceptron of what is known of a customer says which part of the rate so far goes on. It is
    trained on earlier weeks only, at which it did better than a BG/NBD model of the same weeks.
    """
    return RunConfig(
        data=CustomersConfig(path="catalog:cdnow"),
        model=PatchCNNConfig(WindowSpec((1,)), features=(32, 32)),
        task=ForecastConfig(residual="none"),
        train=TrainConfig.cosine(
            800,
            3e-3,
            batch_size=2048,
            checkpoint_every=400,
            evaluate_every=200,
            weight_decay=1e-3,
            clip_norm=None,
        ),
    )
