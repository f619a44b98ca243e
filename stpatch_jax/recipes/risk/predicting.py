"""Value at risk of another price table."""

import numpy as np
import pandas as pd

from stpatch_jax.recipes.risk.data import RiskData
from stpatch_jax.recipes.risk.judging import online_factors
from stpatch_jax.runs.predicting import Predictor, long_table, predictors
from stpatch_jax.tasks import Forecast


@predictors(Forecast, RiskData)
class RiskPredictor(Predictor):
    """Forecasts the quantile of the return over the next rows for the companies of a price table.

    One row per forecast and company: `init_time`, `rows` (that the return spans), `valid_time` (of
    the last of them), `company`,
    `quantile` (a log return, its level kept online over the rows of this table, see
    `online_factors`) and `quantile_without_level`; empty where a company is too young.
    """

    takes = ("every",)
    task: Forecast
    data: RiskData

    def table(self) -> pd.DataFrame:
        """As the class says; by default from the last row of the table."""
        data, config = self.data, self.data.config
        index = self.origins()
        valid = self.valid_times(data.times, index + 1, config.horizon)[:, -1:]
        batch = self.batch(np.arange(len(self.examples)))
        at = self.task.config.quantiles.index(config.level)
        tail = data.in_units(self.run.answers(batch)[..., at], batch["index"])
        tail = np.where(data.known[:, None, :, None], tail, np.nan)
        # What came is known for the rows of the table alone.
        real = np.full(tail.shape, np.nan)
        real[: -config.horizon] = data.values(slice(config.horizon, None))[:, None]
        factors = online_factors(tail, real, level=config.level, lag=config.horizon)
        spans = np.full((len(index), 1), config.horizon)
        values = {
            "quantile": (tail * factors.reshape(-1, 1, 1, 1))[index, ..., 0],
            "quantile_without_level": tail[index, ..., 0],
        }
        by_lead = {"rows": spans, "valid_time": valid}
        return long_table({"init_time": data.times[index]}, by_lead, data.companies, values)
