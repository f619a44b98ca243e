"""A low quantile of returns over a whole split: its level kept online, beside naive rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax import plotting
from stpatch_jax.data import Batch
from stpatch_jax.errors import require
from stpatch_jax.recipes.risk.data import SINCE_VALIDATION, RiskData
from stpatch_jax.runs.judging import (
    ForecastJudge,
    Judged,
    Losses,
    Shows,
    Tree,
    error_figure,
    judges,
    markdown_table,
)
from stpatch_jax.tasks import Forecast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_ROWS = 250
WITHOUT_LEVEL = "model_without_level"
"""Name of the model's quantile as it is, before its level is kept online."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tails:
    """A low quantile of returns, beside what came.

    Attributes:
        level: Level of the quantile.
        quantiles: By name (`model`, `model_without_level`, then the naive rules)
            [window, company], NaN where not known.
        returns: What really came [window, company]; NaN where missing or where a rule says
            nothing, so that all are judged on the same returns.
    """

    level: float
    quantiles: Mapping[str, np.ndarray]
    returns: np.ndarray

    @property
    def scored(self) -> np.ndarray:
        """True where all quantiles are judged [window, company]."""
        return np.isfinite(self.returns)

    def breaches(self, name: str) -> np.ndarray:
        """True where a return fell below its quantile [window, company]."""
        return self.returns < self.quantiles[name]

    def losses(self, name: str) -> np.ndarray:
        """The pinball loss of each return [window, company], 0 where it is not scored."""
        error = np.where(self.scored, self.returns - self.quantiles[name], 0.0)
        return error * (self.level - (error < 0))

    def metrics(self, name: str) -> dict[str, float]:
        """Mean pinball loss, and coverage, the share of returns below their quantile.

        NaN where no return is scored.
        """
        count = int(self.scored.sum()) or np.nan
        sums = {"pinball": self.losses(name).sum(), "coverage": self.breaches(name).sum()}
        return {metric: float(total / count) for metric, total in sums.items()}


@judges(Forecast, RiskData)
class RiskJudge(ForecastJudge):
    """Judges quantiles of returns, whose level is kept online; see `online_factors`.

    The level is learned from the first row of validation on, so the test split begins with what
    validation taught, as it would in use. The median is judged as a forecast is. Its rows also
    have `quantiles` by name and `returns`, see `Tails`.
    """

    data: RiskData  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, task: Forecast, data: RiskData, mesh: Mesh, *, batch_size: int):
        super().__init__(task, data, mesh, batch_size=batch_size)
        self.level, quantiles = data.config.level, task.config.quantiles
        require(
            self.level in quantiles,
            f"task.quantiles must hold the level {self.level:g} of the data, got {quantiles}; add "
            "it, or change data.level",
        )
        self.at = quantiles.index(self.level)

    @property
    def levels(self) -> tuple[float, ...]:
        """None as they are: the low one is judged with its level kept online."""
        return ()

    @property
    def explained_level(self) -> float:
        """The low quantile is explained."""
        return self.level

    def __call__(self, model: nnx.Module, split: str, *, past: Judged | None = None) -> Judged:
        """Goes through a split, without dropout; for the level again from validation to test."""
        judged = super().__call__(model, split, past=past)
        # All rows in between, too: the level moves with each of them.
        since = super().__call__(model, SINCE_VALIDATION) if split == "test" else judged
        index, real = since.rows["index"], since.rows["returns"]
        tail = since.rows["quantiles"]["model"]
        factors = online_factors(tail, real, level=self.level, lag=self.data.config.horizon)
        quantiles = {
            "model": tail * factors[:, None],
            WITHOUT_LEVEL: tail,
            **{name: x[:, 0, :, 0] for name, x in self.data.naive_quantiles(index).items()},
        }
        known = np.logical_and.reduce([np.isfinite(values) for values in quantiles.values()])
        own = np.isin(index, judged.rows["index"])
        rows = {
            **judged.rows,
            "quantiles": {name: values[own] for name, values in quantiles.items()},
            "returns": np.where(known, real, np.nan)[own],
        }
        return dataclasses.replace(judged, rows=rows)

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """Sums of errors as of any forecast; the model's quantile and what came, by company."""
        tail = self.data.in_units(answers["outputs"][..., self.at], batch["index"])
        real = np.where(batch["target_mask"], answers["real"], np.nan)
        return {
            **super().rows(batch, answers),
            "quantiles": {"model": tail[:, 0, :, 0]},
            "returns": real[:, 0, :, 0],
        }

    def shows(self, count: int) -> Mapping[str, Shows]:
        """Nothing but what is in the rows."""
        return {}

    def losses(self, judged: Judged) -> Losses | None:
        """Pinball losses of the quantile; windows closer than a horizon share returns."""
        tails = self.tails(judged)
        names = (name for name in tails.quantiles if name != WITHOUT_LEVEL)
        losses = {name: tails.losses(name).sum(axis=1) for name in names}
        block = self.data.config.horizon
        return Losses("the pinball loss", losses, tails.scored.sum(axis=1), block=block)

    def tails(self, judged: Judged) -> Tails:
        """The quantiles of a split beside what came."""
        return Tails(self.level, judged.rows["quantiles"], judged.rows["returns"])

    def validation(self, judged: Judged) -> dict[str, float]:
        """Pinball loss of the quantile in the data's units, and its coverage."""
        return self.tails(judged).metrics("model")

    def report(self, judged: Judged) -> dict[str, Any]:
        """Errors of the median, see `ForecastJudge.report`, and under `quantile` of the tail."""
        report, tails = super().report(judged), self.tails(judged)
        report["scaled"]["unit"] = "sigma * sqrt(horizon)"
        return {
            **report,
            "quantile": {
                "level": self.level,
                "unit": self.data.unit,
                "targets": int(tails.scored.sum()),
                "rules": {name: tails.metrics(name) for name in tails.quantiles},
            },
        }

    def before_errors(self, test: Mapping[str, Any]) -> list[str]:
        """Coverage and pinball loss of model and naive rules."""
        tail = test["quantile"]
        rules = tail["rules"].items()
        return [
            f"The {tail['level']:.3g} quantile over {tail['targets']} targets: coverage is the "
            "share below it; of the pinball loss less is better.",
            "",
            *markdown_table(
                ["quantile", "coverage", f"pinball loss ({tail['unit']})"],
                ([name, of["coverage"], of["pinball"]] for name, of in rules),
            ),
            "",
        ]

    def figures(self, judged: Judged, report: Mapping[str, Any]) -> dict[str, Figure]:
        """The error by lead time, and the quantiles under most scored returns of a company."""
        tails = self.tails(judged)
        company = int(tails.scored.sum(axis=0).argmax())
        last = slice(-_MOST_ROWS, None)
        figure = plotting.new_figure(1, 1, size=(9, 4))
        plotting.returns_and_quantiles(
            self.data.times[judged.rows["index"][last]],
            tails.returns[last, company],
            {
                name: values[last, company]
                for name, values in tails.quantiles.items()
                if name != WITHOUT_LEVEL
            },
            ax=figure.axes[0],
            title=f"{self.data.companies[company]}: {self.level:.3g} quantile",
            unit=self.data.unit,
        )
        return {"errors": error_figure(report["test"]), "quantile": figure}


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
        lag: Number of rows after which a return is known: the horizon; the first ones have 1.
        rate: How fast theta moves.
        most: Largest share that counts, so that one crash does not decide for months.

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
