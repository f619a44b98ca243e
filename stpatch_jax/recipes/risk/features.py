"""What a price table tells of the risk of every company and row, before anything is fitted."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data import PriceTable
from stpatch_jax.data.prices.problem import mask_impossible
from stpatch_jax.recipes.risk.volatility import (
    ewma_variance,
    parkinson_variance,
    rolling_mean,
    rolling_quantile,
)

WARM_UP = 66
"""Rows before the first origin: what the slower features need."""
RULE_ROWS = 250
"""Rows of historical simulation: a year of trading days."""
LEAST_RULE_ROWS = 200
"""Returns that it needs among them."""

_LEAST_VARIANCE = 1e-8  # of a price that never moved
_MOST_DEVIATIONS = 6.0


@dataclass(frozen=True, eq=False)
class RiskFeatures:
    """Features, scales and naive quantiles of one table; every row knows the rows up to it alone.

    Attributes:
        times: Time of each row, datetime64 [time].
        unscaled: Features [time, company, feature], NaN where missing.
        scale: `sigma * sqrt(horizon)` [time, company], NaN where missing.
        returns: Log returns by the row in which they end [time, company], NaN where missing.
        rules: The naive quantiles by name [time, company], NaN where missing.
        report: What was read; JSON-able.
        field: The table as it was read [time, company, channel].
    """

    times: np.ndarray
    companies: tuple[str, ...]
    features: tuple[str, ...]
    unscaled: np.ndarray
    scale: np.ndarray
    returns: np.ndarray
    rules: Mapping[str, np.ndarray]
    report: dict[str, Any]
    field: xr.DataArray

    @classmethod
    def of(cls, table: PriceTable, *, horizon: int, level: float) -> "RiskFeatures":
        """Computes them for returns over `horizon` rows and the quantile of a level."""
        channels = [str(name) for name in table.field.channel.values]
        values, impossible = mask_impossible(table.field.values, channels)
        prices = dict(zip(channels, np.moveaxis(values, -1, 0), strict=True))
        logs = np.log(prices.get("adjusted_close", values[..., 0]))
        daily, returns = _change(logs, 1), _change(logs, horizon)
        variance = np.maximum(ewma_variance(daily), _LEAST_VARIANCE)
        features = _features(logs, daily, np.sqrt(variance), prices)
        scale = np.sqrt(variance * horizon)
        history = rolling_quantile(returns, level, RULE_ROWS, least=LEAST_RULE_ROWS)
        normal = NormalDist().inv_cdf(level) * scale
        report = {"impossible_values": impossible, "features": list(features)}
        return cls(
            times=table.field.time.values,
            companies=tuple(str(name) for name in table.field.company.values),
            features=tuple(features),
            unscaled=np.stack(list(features.values()), axis=-1),
            scale=scale,
            returns=returns,
            rules={"historical_simulation": history, "ewma_normal": normal},
            report={**table.report, **report},
            field=table.field,
        )

    @cached_property
    def known(self) -> np.ndarray:
        """Whether all features of a row are known [time, company]."""
        return np.asarray(np.isfinite(self.unscaled).all(axis=-1))


def _change(logs: np.ndarray, rows: int) -> np.ndarray:
    """Log returns over some rows, by the row in which they end."""
    result = np.full(logs.shape, np.nan)
    result[rows:] = logs[rows:] - logs[:-rows]
    return result


def _features(
    logs: np.ndarray, daily: np.ndarray, sigma: np.ndarray, prices: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What is known of each company in each row [time, company], by name; NaN where missing."""
    squares = daily**2
    variances = {
        "ewma_097": ewma_variance(daily, decay=0.97),
        "ewma_0985": ewma_variance(daily, decay=0.985, start=WARM_UP),
        **{f"squares_{n}": rolling_mean(squares, n, least=n // 2 + 1) for n in (5, 22, 66)},
        "squares_250": rolling_mean(squares, 250, least=WARM_UP),
    }
    if "high" in prices:
        ranges = parkinson_variance(prices["high"], prices["low"])
        variances |= {f"range_{n}": rolling_mean(ranges, n, least=n // 2 + 1) for n in (1, 5, 22)}
    # Ratios to sigma, so that a quiet company and a wild one look alike.
    features = {
        name: np.log(values + _LEAST_VARIANCE) / 2 - np.log(sigma)
        for name, values in variances.items()
    }
    scaled = {n: _change(logs, n) / (sigma * np.sqrt(n)) for n in (1, 5, 22)}
    features["size_1"] = np.minimum(np.abs(scaled[1]), _MOST_DEVIATIONS)
    for rows, values in scaled.items():
        features[f"return_{rows}"] = np.clip(values, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)
    return features
