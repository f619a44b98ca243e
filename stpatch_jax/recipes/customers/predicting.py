"""What the customers of another table will buy."""

import numpy as np
import pandas as pd

from stpatch_jax.data import EVERYTHING
from stpatch_jax.recipes.customers.data import Customers
from stpatch_jax.recipes.customers.judging import TARGETS
from stpatch_jax.runs.predicting import Predictor, predictors
from stpatch_jax.tasks import Forecast


@predictors(Forecast, Customers)
class CustomersPredictor(Predictor):
    """Forecasts what every customer of a table of purchases does in the weeks behind it.

    One row a customer: `customer`, the days `from` and `to` of the forecast, and how many
    `purchases` and how much `spending` are to be expected, never less than nothing.
    """

    task: Forecast
    data: Customers

    def table(self) -> pd.DataFrame:
        """As the class says."""
        span, examples = self.data.report["splits"][EVERYTHING], self.data.splits[EVERYTHING]
        scaled = np.concatenate([self.task.point(part)[:, 0] for part in self.chunks()])
        values = np.maximum(scaled, 0.0) * examples.scale
        table = pd.DataFrame(self.names())
        table["from"], table["to"] = span["first_target"], span["last_target"]
        table[list(TARGETS)] = values
        return table
