"""A low quantile of returns over a whole split: its level kept online, beside naive rules."""

import dataclasses
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.data import truth
from stpatch_jax.errors import require
from stpatch_jax.losses.quantile import tilted
from stpatch_jax.recipes.risk.data import SINCE_VALIDATION, RiskData
from stpatch_jax.runs.judging.forecast import Forecaster, SplitForecasts
from stpatch_jax.tasks import Forecast


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SplitQuantiles(SplitForecasts):
    """The forecasts of one split, and a low quantile beside the returns in their own units.

    Attributes:
        level: Level of the quantile.
        tails: The quantile by name (`model`, `model_without_level`, then the naive rules), each
            [window, 1, company, 1], NaN where not known.
        returns: What really came, the same shape; NaN where missing or where a rule says nothing,
            so that all are judged on the same returns.
    """

    level: float
    tails: dict[str, np.ndarray]
    returns: np.ndarray

    @property
    def scored(self) -> np.ndarray:
        """True where all quantiles are judged [window, 1, company, 1]."""
        return np.isfinite(self.returns)

    def breaches(self, name: str) -> np.ndarray:
        """True where a return fell below its quantile [window, 1, company, 1]."""
        return self.returns < self.tails[name]

    def losses(self, name: str) -> np.ndarray:
        """The pinball loss of each return [window, 1, company, 1], 0 where it is not scored."""
        error = np.where(self.scored, self.returns - self.tails[name], 0.0)
        return tilted(error[..., None], (self.level,))[..., 0]

    def figures(self, name: str) -> dict[str, float]:
        """Mean pinball loss, and coverage, the share of returns below their quantile."""
        count = int(self.scored.sum())
        sums = {"pinball": self.losses(name).sum(), "coverage": self.breaches(name).sum()}
        return {metric: float(total) / count for metric, total in sums.items()}


class QuantileForecaster(Forecaster):
    """Judges quantiles of returns, whose level is kept online; see `online_factors`.

    The level is learned from the first row of validation on, so the test split begins with what
    validation taught, as it would in use.
    """

    def __init__(self, task: Forecast, data: RiskData, mesh: Mesh, *, batch_size: int):
        super().__init__(task, data, mesh, batch_size=batch_size)
        self.risk = data
        level = data.config.level
        require(
            level in task.config.quantiles,
            f"task.quantiles must hold the level {level:g} of the data, but they are "
            f"{task.config.quantiles}; add it, or change data.level",
        )
        self.at = task.config.quantiles.index(level)

    def __call__(self, model: nnx.Module, split: str) -> SplitQuantiles:
        """Forecasts every row of a split, without dropout; for test, those since validation too."""
        found = super().__call__(model, SINCE_VALIDATION if split == "test" else split)
        quantiles: Any = found.quantiles
        level, index = self.risk.config.level, found.index
        tail = self.risk.in_units(quantiles[..., self.at], index)
        real = np.where(found.mask, truth(self.risk, index), np.nan)
        factors = online_factors(tail, real, level=level, lag=self.risk.config.horizon)
        tails = {
            "model": tail * factors.reshape(-1, 1, 1, 1),
            "model_without_level": tail,
            **self.risk.naive_quantiles(index),
        }
        judged = np.logical_and.reduce([np.isfinite(values) for values in tails.values()])
        rows = np.isin(index, self.risk.splits[split])
        return SplitQuantiles(
            forecasts={name: values[rows] for name, values in found.forecasts.items()},
            target=found.target[rows],
            mask=found.mask[rows],
            index=index[rows],
            quantiles=quantiles[rows],
            level=level,
            tails={name: values[rows] for name, values in tails.items()},
            returns=np.where(judged, real, np.nan)[rows],
        )

    def summary(self, model: nnx.Module, split: str) -> dict[str, float]:
        """Pinball loss of the quantile in the data's units, and its coverage."""
        return self(model, split).figures("model")

    def report(self, predictions: Any) -> dict[str, Any]:
        """The figures of the median, see `Forecaster.report`, and under `quantile` of the tail."""
        figures = super().report(predictions)
        figures["scaled"]["unit"] = "sigma * sqrt(horizon)"
        return {
            **figures,
            "quantile": {
                "level": predictions.level,
                "unit": self.data.unit,
                "targets": int(predictions.scored.sum()),
                "rules": {name: predictions.figures(name) for name in predictions.tails},
            },
        }


def online_factors(
    quantiles: np.ndarray,
    returns: np.ndarray,
    *,
    level: float,
    lag: int,
    rate: float = 0.005,
    most: float = 0.25,
) -> np.ndarray:
    """Factors on low quantiles that bring their coverage back to its level, from past rows only.

    Adaptive conformal inference on a log scale: the factor of row t is `exp(theta)`, and with the
    share b of the panel's returns that fell below `factor * quantile` in row `t - lag`,

        theta += rate * (min(b, most) / level - 1)

    Quantiles are negative, so too many breaches push them down.

    Args:
        quantiles: Quantiles [row, ...] of consecutive rows, NaN where not known.
        returns: What came [row, ...], NaN where missing.
        level: Level of the quantiles.
        lag: Number of rows after which a return is known: the horizon.
        rate: How fast theta moves.
        most: Largest share that counts, so that one crash does not decide for months.

    Returns:
        float64 [row], 1 in the first `lag` rows.

    References:
        Gibbs and Candes, "Adaptive conformal inference under distribution shift", NeurIPS 2021.

    >>> quantiles, returns = np.full((3, 1), -1.0), np.array([[-2.0], [0.0], [0.0]])
    >>> online_factors(quantiles, returns, level=0.5, lag=1, rate=0.1, most=1.0).round(2).tolist()
    [1.0, 1.11, 1.0]
    """
    count = len(quantiles)
    quantiles, returns = quantiles.reshape(count, -1), returns.reshape(count, -1)
    known = np.isfinite(quantiles) & np.isfinite(returns)
    factors, theta = np.ones(count), 0.0
    for row in range(lag, count):
        past = row - lag
        if known[past].any():
            below = returns[past] < factors[past] * quantiles[past]
            share = below.sum() / known[past].sum()
            theta += rate * (min(share, most) / level - 1)
        factors[row] = np.exp(theta)
    return factors
