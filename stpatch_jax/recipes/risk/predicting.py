"""Value at risk of another price table."""

from typing import Any

import numpy as np
import pandas as pd

from stpatch_jax.recipes.risk.data import RiskConfig, RiskData
from stpatch_jax.recipes.risk.judging import online_factors
from stpatch_jax.runs.predicting.tables import long_table, origins
from stpatch_jax.runs.trained import TrainedRun


def forecast_risk(run: TrainedRun, source: str, *, every: int | None) -> pd.DataFrame:
    """Forecasts the quantile of the return over the next rows for every company of a price table.

    Args:
        run: A run on a `RiskConfig`.
        source: A price table of any companies, with the columns of the run's.
        every: A forecast every so many rows from the first on; None for one, from the last row.

    Returns:
        One row per forecast and company: `init_time`, `rows` (that the return spans), `company`,
        `quantile` (a log return, its level kept online over the rows of this table, see
        `online_factors`) and `quantile_without_level`; empty where a company is too young.

    Raises:
        InputError: The table cannot be used.
    """
    config: RiskConfig | Any = run.config.data
    data: RiskData = config.restore(source, run.scaler)
    rows = np.arange(len(data.times)) + config.horizon
    batch = {
        "context": data.inputs[:, None],
        "persistence": np.zeros((len(rows), 1, len(data.companies), 1), np.float32),
    }
    shapes = {"context": batch["context"].shape, "target": batch["persistence"].shape}
    at = run.task.config.quantiles.index(config.level)
    tail = data.in_units(run.predict(batch, shapes)[..., at], rows)
    tail = np.where(data.known[:, None, :, None], tail, np.nan)
    # What came is known for the rows of the table alone.
    real = np.full(tail.shape, np.nan)
    real[: -config.horizon] = data.values(slice(config.horizon, None))[:, None]
    factors = online_factors(tail, real, level=config.level, lag=config.horizon)
    index = origins(source, 1, len(rows), every) - 1
    spans = np.full((len(index), 1), config.horizon)
    values = {
        "quantile": (tail * factors.reshape(-1, 1, 1, 1))[index, ..., 0],
        "quantile_without_level": tail[index, ..., 0],
    }
    return long_table({"init_time": data.times[index]}, {"rows": spans}, data.companies, values)
