"""Customers: who will buy again, how often, and for how much?"""

from stpatch_jax.nn import PatchCNNConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.recipes.customers.data import CustomersConfig
from stpatch_jax.runs.run import RunConfig
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import OptimizerConfig, TrainConfig


def customers() -> RunConfig:
    """Forecasts the purchases and the spending of every customer over the next 39 weeks.

    Any table of events (customer, date, amount) can take the place of the shop's with
    `--data.path`; `--data.horizon` is the number of weeks.

    A perceptron of what is known of a customer says which part of the rate so far goes on. It is
    trained on earlier weeks only, at which it did better than a BG/NBD model of the same weeks.
    """
    return RunConfig(
        recipe="customers",
        data=CustomersConfig(path="catalog:cdnow"),
        model=PatchCNNConfig(WindowSpec((1,)), features=(32, 32)),
        task=ForecastConfig(residual="none"),
        train=TrainConfig(
            steps=800,
            batch_size=2048,
            checkpoint_every=400,
            evaluate_every=200,
            optimizer=OptimizerConfig(
                learning_rate=3e-3, weight_decay=1e-3, clip_norm=None, schedule="cosine"
            ),
        ),
    )
