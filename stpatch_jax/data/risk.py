"""Value at risk: how far prices may fall over the next rows, for many companies at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from stpatch_jax.data.cleaning import mask_impossible
from stpatch_jax.data.problem import DataConfig
from stpatch_jax.data.sampling import Batch, Source
from stpatch_jax.data.splits import chronological_splits
from stpatch_jax.data.tables import PriceTable, read_price_table
from stpatch_jax.data.volatility import (
    ewma_variance,
    parkinson_variance,
    rolling_mean,
    rolling_quantile,
)
from stpatch_jax.errors import require

SINCE_VALIDATION = "since_validation"
"""Name of the source of all examples from the first of validation to the last of test."""

_WARM_UP = 66  # rows before the first origin: what the slower features need
_RULE_ROWS = 250  # a year of trading days
_LEAST_RULE_ROWS = 200
_LEAST_VARIANCE = 1e-8  # of a price that never moved
_MOST_DEVIATIONS = 6.0
_MOST_SCALED = 5.0


@dataclass(frozen=True)
class RiskConfig(DataConfig):
    """A quantile of the return over the next rows, for every company of a table of prices.

    The model reads features of the last row alone: how the variances of several estimators relate
    to `sigma**2`, the exponentially weighted one, and the latest returns over `sigma`. Its target
    is the log return over the whole horizon divided by `sigma * sqrt(horizon)`. The rows are split
    in order of time; no return reaches across a border.

    Attributes:
        path: Price table, see `read_price_table`. A long table gives `adjusted_close`, `high` and
            `low`; of a wide one, which has no highs and lows, the features that need them are left
            out.
        horizon: Number of rows that a return spans.
        level: Level of the quantile, in (0, 0.5); the task must forecast it.
        validation_fraction: Share of the rows in the validation span, in (0, 1).
        test_fraction: Share of the rows in the test span, in (0, 1), the last ones.

    Raises:
        InputError: If a value is out of range.
    """

    path: str | None = "catalog:stocks"
    horizon: int = 1
    level: float = 0.05
    validation_fraction: float = 0.15
    test_fraction: float = 0.15

    def __post_init__(self) -> None:
        require(
            self.horizon >= 1,
            f"data.horizon must be at least 1 row, but it is {self.horizon}; use 1 or more",
        )
        require(
            0 < self.level < 0.5,
            f"data.level must be above 0 and below 0.5, but it is {self.level:g}; use e.g. 0.05",
        )
        shares = self.validation_fraction, self.test_fraction
        require(
            min(shares) > 0 and sum(shares) < 1,
            "data.validation_fraction and data.test_fraction must be above 0 and leave a rest to "
            f"train, but they are {shares[0]:g} and {shares[1]:g}; use for example 0.15 and 0.15",
        )

    def load(self) -> "RiskData":
        """Reads the table, makes features, and scales them by the training rows.

        Raises:
            InputError: If the table cannot be used or is too short; see `read_price_table`.
        """
        return _build(self, read_price_table(None if self.path is None else self.file()))


@dataclass(frozen=True, eq=False)
class RiskData:
    """Everything of one value-at-risk problem; made by `RiskConfig.load`.

    Rows count from 0. An example is named by the row in which its return ends, `horizon` rows
    after its origin, the last row that a forecast knows. There is one lead time: the return over
    the whole horizon.

    Attributes:
        config: The configuration it was made from.
        times: Time of each row, datetime64 [time].
        companies: Names of the companies; their order carries no meaning.
        features: Names of the input channels.
        splits: Target rows of `train`, `validation` and `test`.
        report: What was read, and the dates of the splits; JSON-able.
        inputs: Scaled features by origin [time, company, channel], float32, 0 where missing.
        known: Whether all features of an origin are known [time, company].
        scale: `sigma * sqrt(horizon)` by origin [time, company], float64, NaN where missing.
        returns: Log returns by the row in which they end [time, company], NaN where missing.
        rules: The naive quantiles by name and origin [time, company], NaN where missing.
        scaling: Mean and standard deviation of each feature over the training rows.
    """

    config: RiskConfig
    times: np.ndarray
    companies: tuple[str, ...]
    features: tuple[str, ...]
    splits: Mapping[str, range]
    report: dict[str, Any]
    inputs: np.ndarray
    known: np.ndarray
    scale: np.ndarray
    returns: np.ndarray
    rules: Mapping[str, np.ndarray]
    scaling: Mapping[str, np.ndarray]

    @property
    def context(self) -> int:
        """Number of input time steps: the features of one row."""
        return 1

    @property
    def horizon(self) -> int:
        """Number of predicted values: one return, over `config.horizon` rows."""
        return 1

    @property
    def unit(self) -> str:
        """Unit of the targets, for reports."""
        rows = self.config.horizon
        return f"log return over {rows} row{'s' if rows > 1 else ''}"

    @property
    def series(self) -> dict[str, tuple[slice, ...]]:
        """Every company, and where it lies in an array [n, 1, company, 1]."""
        whole = slice(None)
        return {name: (whole, whole, slice(i, i + 1)) for i, name in enumerate(self.companies)}

    def source(self, split: str) -> Source:
        """The examples of a split, one a row, in order of time.

        Each is a dict of `context` [1, company, channel] scaled features, 0 where missing, `target`
        [1, company, 1] scaled, 0 where missing, `target_mask` (same shape, bool) True where the
        target is real, `persistence` [1, company, 1] zeros, and `index`, an int64 scalar, the row
        in which the return ends. Floats are float32.

        Args:
            split: `train`, `validation` or `test`, or `SINCE_VALIDATION`: validation, test and the
                rows between them, for what is learned online.

        Raises:
            InputError: If there is no such split.
        """
        if split == SINCE_VALIDATION:
            rows = range(self.splits["validation"].start, self.splits["test"].stop)
            return _RiskSource(self, rows)
        require(
            split in self.splits,
            f"split must be one of {', '.join(self.splits)}, but it is {split!r}; choose one of "
            "them",
        )
        return _RiskSource(self, self.splits[split])

    def in_units(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Scaled predictions [n, 1, company, 1] as log returns, float64; NaN where not known.

        Args:
            values: Scaled predictions.
            index: Row in which each return ends [n].
        """
        return np.asarray(values, np.float64) * self._at_origins(self.scale, index)

    def values(self, rows: slice) -> np.ndarray:
        """The log returns that end in some rows [rows, company, 1], NaN where missing."""
        return self.returns[rows][..., None]

    def naive_quantiles(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """What two rules without a model say of the quantile, as log returns [n, 1, company, 1].

        `historical_simulation` is the quantile of the returns over the same horizon that ended in
        the last 250 rows; `ewma_normal` that of a normal law with mean 0 and the deviation
        `sigma * sqrt(horizon)`. NaN where a company is too young.

        Args:
            index: Row in which each return ends [n].
        """
        return {name: self._at_origins(values, index) for name, values in self.rules.items()}

    def scaler_state(self) -> dict[str, Any]:
        """Everything fitted to the training rows, JSON-able."""
        return {
            "companies": list(self.companies),
            "features": list(self.features),
            **{name: values.tolist() for name, values in self.scaling.items()},
        }

    def _at_origins(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        return values[np.asarray(index) - self.config.horizon][:, None, :, None]


@dataclass(frozen=True, eq=False)
class _RiskSource:
    """Examples by number; an example is the row in which its return ends."""

    data: RiskData
    rows: range

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int, /) -> Batch:
        row = self.rows[i]
        data, origin = self.data, row - self.data.config.horizon
        target = data.returns[row] / data.scale[origin]
        mask = np.isfinite(target) & data.known[origin]
        column = (None, slice(None), None)
        return {
            "context": data.inputs[origin][None],
            "target": np.where(mask, target, 0.0).astype(np.float32)[column],
            "target_mask": mask[column],
            "persistence": np.zeros((1, len(mask), 1), np.float32),
            "index": np.asarray(row, np.int64),
        }


def _build(config: RiskConfig, table: PriceTable) -> RiskData:
    channels = [str(name) for name in table.field.channel.values]
    values, impossible = mask_impossible(table.field.values, channels)
    prices = dict(zip(channels, np.moveaxis(values, -1, 0), strict=True))
    splits = _splits(len(values), config)
    logs = np.log(prices.get("adjusted_close", values[..., 0]))
    daily, returns = _change(logs, 1), _change(logs, config.horizon)
    variance = np.maximum(ewma_variance(daily), _LEAST_VARIANCE)
    features = _features(logs, daily, np.sqrt(variance), prices)
    stacked = np.stack(list(features.values()), axis=-1)
    known = np.asarray(np.isfinite(stacked).all(axis=-1))
    train = slice(splits["train"].start - config.horizon, splits["train"].stop - config.horizon)
    rows = stacked[train][known[train] & np.isfinite(returns[splits["train"]])]
    require(
        len(rows) > 0,
        f"the price table must have a company with {_WARM_UP + config.horizon + 2} prices in its "
        f"{train.stop} training rows, but none has; use a longer table or smaller validation and "
        "test fractions",
    )
    scaling = {"mean": rows.mean(axis=0), "deviation": rows.std(axis=0) + 1e-9}
    inputs = np.clip(
        (stacked - scaling["mean"]) / scaling["deviation"], -_MOST_SCALED, _MOST_SCALED
    )
    scale = np.sqrt(variance * config.horizon)
    history = rolling_quantile(returns, config.level, _RULE_ROWS, least=_LEAST_RULE_ROWS)
    _check_judged(splits, history, known, returns, config.horizon)
    return RiskData(
        config=config,
        times=table.field.time.values,
        companies=tuple(str(name) for name in table.field.company.values),
        features=tuple(features),
        splits=splits,
        report={
            **table.report,
            "impossible_values": impossible,
            "features": list(features),
            "training_targets": len(rows),
            "splits": _split_report(splits, table.field.time.values),
        },
        inputs=np.where(known[..., None], inputs, 0.0).astype(np.float32),
        known=known,
        scale=scale,
        returns=returns,
        rules={
            "historical_simulation": history,
            "ewma_normal": NormalDist().inv_cdf(config.level) * scale,
        },
        scaling=scaling,
    )


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
        "ewma_0985": ewma_variance(daily, decay=0.985, start=_WARM_UP),
        **{f"squares_{n}": rolling_mean(squares, n, least=n // 2 + 1) for n in (5, 22, 66)},
        "squares_250": rolling_mean(squares, 250, least=_WARM_UP),
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


def _splits(rows: int, config: RiskConfig) -> dict[str, range]:
    """Target rows whose origin lies in the same span."""
    spans = chronological_splits(
        rows,
        context=_WARM_UP,
        horizon=config.horizon + 1,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
    )
    least = _RULE_ROWS + config.horizon
    found = spans["train"].stop
    require(
        found >= least,
        f"the training split must hold at least {least} rows ({_RULE_ROWS} returns of historical "
        f"simulation), but it has {found} of the table's {rows}; use a longer table or smaller "
        "validation and test fractions",
    )
    return {name: range(span.start + config.horizon, span.stop) for name, span in spans.items()}


def _check_judged(
    splits: Mapping[str, range],
    history: np.ndarray,
    known: np.ndarray,
    returns: np.ndarray,
    horizon: int,
) -> None:
    """Refuses tables with so many gaps that there is nothing to be judged by."""
    for name in ("validation", "test"):
        origins = np.array(splits[name]) - horizon
        both = known[origins] & np.isfinite(history[origins])
        require(
            bool((both & np.isfinite(returns[splits[name]])).any()),
            f"the price table must have a company with {_LEAST_RULE_ROWS} returns in {_RULE_ROWS} "
            f"rows for its {name} split, but none has; use a longer table or one with fewer gaps",
        )


def _split_report(splits: Mapping[str, range], times: np.ndarray) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "first_target": str(times[rows[0]].astype("datetime64[s]")),
            "last_target": str(times[rows[-1]].astype("datetime64[s]")),
            "target_rows": len(rows),
            "windows": len(rows),
        }
        for name, rows in splits.items()
    }
