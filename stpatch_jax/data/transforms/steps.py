"""Transforms of values that are undone on output, beside `StandardScaler` and `Winsorizer`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from stpatch_jax.data.transforms.cleaning import nan_quantiles


class Transform(Protocol):
    """What every step of a `Pipeline` offers once it is fitted."""

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Transforms values [..., *series]; NaN stays NaN."""
        ...

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Undoes `transform`, as far as it can be."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Everything fitted, ready for JSON."""
        ...


@dataclass(frozen=True, eq=False)
class RobustScaler:
    """Scales each series by its own training median and interquartile range.

    The rule is `(x - median) / (q75 - q25)` over the values that are there, as scikit-learn's
    `RobustScaler` does. The divisor is 1 where the range is 0; a series without any training value
    has median 0 and divisor 1.

    Attributes:
        center: Medians [...], one per series, float64, in the units of the values.
        scale: Divisors [...], one per series, float64, positive, in the same units.
    """

    center: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> "RobustScaler":
        """Takes median and interquartile range from training rows.

        Args:
            values: The training rows alone [row, *series], NaN where missing.
        """
        low, median, high = nan_quantiles(values.astype(np.float64), (0.25, 0.5, 0.75))
        return cls(np.nan_to_num(median), _divisors(high - low))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Scales values [..., *series]; NaN stays NaN."""
        return (values - self.center) / self.scale

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Undoes `transform` up to rounding."""
        return values * self.scale + self.center

    def to_dict(self) -> dict[str, Any]:
        """Center and scale as nested lists for JSON."""
        return {"center": self.center.tolist(), "scale": self.scale.tolist()}


@dataclass(frozen=True, eq=False)
class MinMaxScaler:
    """Maps the training range of each series to [0, 1].

    The rule is `(x - min) / (max - min)` over the values that are there, as scikit-learn's
    `MinMaxScaler` does; later values may lie outside. The divisor is 1 for a series that is
    constant in training; a series without any training value has minimum 0 and divisor 1.

    Attributes:
        minimum: Minima [...], one per series, float64, in the units of the values.
        span: Divisors [...], one per series, float64, positive, in the same units.
    """

    minimum: np.ndarray
    span: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> "MinMaxScaler":
        """Takes the range from training rows.

        Args:
            values: The training rows alone [row, *series], NaN where missing.
        """
        return cls.fit_chunks((values,))

    @classmethod
    def fit_chunks(cls, chunks: Iterable[np.ndarray]) -> "MinMaxScaler":
        """As `fit`, from rows that come in parts."""
        low, high = np.asarray(np.inf), np.asarray(-np.inf)
        for values in chunks:
            known = np.isfinite(values)
            low = np.minimum(low, np.where(known, values, np.inf).min(axis=0, initial=np.inf))
            high = np.maximum(high, np.where(known, values, -np.inf).max(axis=0, initial=-np.inf))
        empty = low > high
        low, high = np.where(empty, 0.0, low), np.where(empty, 0.0, high)
        return cls(low.astype(np.float64), _divisors(high - low))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Scales values [..., *series]; NaN stays NaN."""
        return (values - self.minimum) / self.span

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Undoes `transform` up to rounding."""
        return values * self.span + self.minimum

    def to_dict(self) -> dict[str, Any]:
        """Minimum and span as nested lists for JSON."""
        return {"minimum": self.minimum.tolist(), "span": self.span.tolist()}


@dataclass(frozen=True, eq=False)
class Log:
    """Natural logarithm, `log(x)`; values that have none (x <= 0) become missing.

    Of log values, the residual to persistence that a forecast model learns is the log return since
    the last context step.
    """

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Takes the logarithm; NaN where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values > 0, np.log(values), np.nan).astype(values.dtype)

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Undoes `transform` up to rounding."""
        return np.exp(values)

    def to_dict(self) -> dict[str, Any]:
        """Nothing: it has no state."""
        return {}


@dataclass(frozen=True, eq=False)
class Log1p:
    """Logarithm of one plus the value, `log(1 + x)`; values of -1 and below become missing."""

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Takes the logarithm; NaN where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values > -1, np.log1p(values), np.nan).astype(values.dtype)

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Undoes `transform` up to rounding."""
        return np.expm1(values)

    def to_dict(self) -> dict[str, Any]:
        """Nothing: it has no state."""
        return {}


def _divisors(ranges: np.ndarray) -> np.ndarray:
    """Ranges as divisors: 1 where a range is zero (up to rounding) or not known."""
    usable = ranges > 10 * np.finfo(np.float64).eps
    return np.where(usable, ranges, 1.0)


@dataclass(frozen=True, eq=False)
class StandardScaler:
    """Standardises each series by its own training mean and standard deviation.

    The rule is `z = (x - mean) / std` with the population standard deviation (divided by n) over
    the values that are there, as scikit-learn's `StandardScaler` does. The divisor is 1 for a
    series that is constant in training; a series without any training value has mean 0 and std 1.

    Attributes:
        mean: Means [...], one per series, float64, in the units of the values.
        std: Divisors [...], one per series, float64, positive, in the same units.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> "StandardScaler":
        """Takes mean and standard deviation from training rows.

        Args:
            values: The training rows alone [row, ...], NaN where missing.

        Example:
            >>> StandardScaler.fit(np.array([[1.0], [np.nan], [3.0]])).mean
            array([2.])
        """
        return cls.fit_chunks((values,))

    @classmethod
    def fit_chunks(cls, chunks: Iterable[np.ndarray]) -> "StandardScaler":
        """As `fit`, from rows that come in parts, which need not fit into memory together.

        Args:
            chunks: Arrays [row, ...] with the same series.

        References:
            Chan, Golub, LeVeque, Updating formulae and a pairwise algorithm for computing sample
            variances (1979).
        """
        count, mean, squares = np.asarray(0), np.asarray(0.0), np.asarray(0.0)
        for values in chunks:
            known = np.isfinite(values)
            added = known.sum(axis=0)
            part = np.where(known, values, 0.0).sum(axis=0, dtype=np.float64)
            part /= np.maximum(added, 1)
            deviations = np.where(known, values - part, 0.0)
            share = added / np.maximum(count + added, 1)
            shift = part - mean
            squares = squares + (deviations**2).sum(axis=0) + shift**2 * count * share
            mean = mean + shift * share
            count = count + added
        count = np.maximum(count, 1)
        variance = squares / count
        # A constant series leaves a variance of rounding errors, which must not be divided by.
        epsilon = np.finfo(np.float64).eps
        constant = variance <= (count * mean * epsilon) ** 2
        return cls(mean, np.where(constant, 1.0, np.sqrt(variance)))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Scales values [..., *series]; NaN stays NaN."""
        scaled = values - self.mean
        # In place: another array of that size costs more than the division.
        scaled /= self.std
        return scaled

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Undoes `transform` up to rounding."""
        return values * self.std + self.mean

    def channel(self, at: int) -> "StandardScaler":
        """The scaler of one channel [..., 1] out of a scaler with series [..., channel]."""
        return StandardScaler(self.mean[..., at : at + 1], self.std[..., at : at + 1])

    def to_dict(self) -> dict[str, Any]:
        """Mean and std as nested lists for JSON."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "StandardScaler":
        """Undoes `to_dict`, bit for bit."""
        return cls(np.asarray(state["mean"], np.float64), np.asarray(state["std"], np.float64))
