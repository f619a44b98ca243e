"""Transforms of values that are undone on output; what is fitted is fitted to training rows."""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from stpatch_jax.data.transforms.cleaning import nan_quantiles

# Stands for "no bound", which clips nothing that is finite.
_NO_BOUND = float(np.finfo(np.float64).max)
_EPSILON = np.finfo(np.float64).eps


class Transform(abc.ABC):
    """A step of a `Pipeline`: a dataclass whose fields are all that was fitted, float64 arrays."""

    @abc.abstractmethod
    def transform(self, values: np.ndarray) -> np.ndarray:
        """Transforms values [..., *series]; NaN stays NaN."""

    @abc.abstractmethod
    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Undoes `transform`, as far as it can be."""

    def to_dict(self) -> dict[str, np.ndarray]:
        """The arrays by the name of their field."""
        return {name: getattr(self, name) for name in _fields(self)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Undoes `to_dict`, bit for bit."""
        return cls(**{name: np.asarray(state[name], np.float64) for name in _fields(cls)})

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> Self:
        """The same transform with another version of each of its arrays."""
        return type(self)(**{name: function(array) for name, array in self.to_dict().items()})


def _fields(of: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(of)]


@dataclass(frozen=True, eq=False)
class Affine(Transform):
    """Scales each series by two numbers of its own, `(x - center) / scale`.

    Every way to fit it takes training rows [row, *series] alone, NaN where missing, as one array or
    as an iterable of parts. The scale is 1 for a series that is constant in training; a series
    without any training value has center 0 and scale 1.

    Attributes:
        center: One number per series [...], float64, in the units of the values.
        scale: Divisors [...], float64, positive, in the same units.
    """

    center: np.ndarray
    scale: np.ndarray

    @classmethod
    def standard(cls, values: np.ndarray | Iterable[np.ndarray]) -> Self:
        """Mean and population standard deviation, as scikit-learn's StandardScaler takes them.

        Parts need not fit into memory together.

        >>> Affine.standard(np.array([[1.0], [np.nan], [3.0]])).center
        array([2.])

        References:
            Chan, Golub, LeVeque, Updating formulae and a pairwise algorithm for computing sample
            variances (1979).
        """
        count, mean, squares = np.asarray(0), np.asarray(0.0), np.asarray(0.0)
        for part in _parts(values):
            known = np.isfinite(part)
            added = known.sum(axis=0)
            own = np.where(known, part, 0.0).sum(axis=0, dtype=np.float64)
            own /= np.maximum(added, 1)
            deviations = np.where(known, part - own, 0.0)
            share = added / np.maximum(count + added, 1)
            shift = own - mean
            squares = squares + (deviations**2).sum(axis=0) + shift**2 * count * share
            mean = mean + shift * share
            count = count + added
        count = np.maximum(count, 1)
        variance = squares / count
        # A constant series leaves a variance of rounding errors, which must not be divided by.
        constant = variance <= (count * mean * _EPSILON) ** 2
        return cls(mean, np.where(constant, 1.0, np.sqrt(variance)))

    @classmethod
    def robust(cls, values: np.ndarray | Iterable[np.ndarray]) -> Self:
        """Median and interquartile range, as scikit-learn's RobustScaler takes them.

        Parts are put together, as quantiles need all of them.
        """
        rows = np.concatenate(list(_parts(values))).astype(np.float64)
        low, median, high = nan_quantiles(rows, (0.25, 0.5, 0.75))
        return cls(np.nan_to_num(median), _divisors(high - low))

    @classmethod
    def min_max(cls, values: np.ndarray | Iterable[np.ndarray]) -> Self:
        """Smallest value and range, so that training values lie in [0, 1]; later ones may not."""
        low, high = np.asarray(np.inf), np.asarray(-np.inf)
        for part in _parts(values):
            known = np.isfinite(part)
            low = np.minimum(low, np.where(known, part, np.inf).min(axis=0, initial=np.inf))
            high = np.maximum(high, np.where(known, part, -np.inf).max(axis=0, initial=-np.inf))
        empty = low > high
        low, high = np.where(empty, 0.0, low), np.where(empty, 0.0, high)
        return cls(low.astype(np.float64), _divisors(high - low))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Scales values [..., *series]; NaN stays NaN."""
        scaled = values - self.center
        # In place: another array of that size costs more than the division.
        scaled /= self.scale
        return scaled

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Undoes `transform` up to rounding."""
        return values * self.scale + self.center

    def channel(self, at: int) -> Self:
        """The scaling of one channel [..., 1] out of that of series [..., channel]."""
        return self.mapped(lambda array: array[..., at : at + 1])


@dataclass(frozen=True, eq=False)
class Winsorizer(Transform):
    """Clips each series at two of its own training quantiles (winsorising).

    The rule is `clip(x, quantile(q), quantile(1 - q))` per series, after C. P. Winsor; NaN stays
    NaN. A series without any training value has no bounds, and its bounds are the largest float64.

    Attributes:
        lower: Lower bounds [...], one per series, float64.
        upper: Upper bounds [...], one per series, float64.
    """

    lower: np.ndarray
    upper: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, quantile: float) -> Self:
        """Takes the bounds from training rows alone [row, ...], NaN where missing.

        `quantile` is the share of the values beyond each bound, in [0, 0.5); 0 sets no bounds.
        """
        if quantile == 0:
            none = np.full(values.shape[1:], _NO_BOUND)
            return cls(-none, none)
        lower, upper = nan_quantiles(values, (quantile, 1 - quantile))
        return cls(
            np.where(np.isnan(lower), -_NO_BOUND, lower),
            np.where(np.isnan(upper), _NO_BOUND, upper),
        )

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Clips values [..., *series] at the bounds of their series."""
        return np.clip(values, self.lower, self.upper)

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Returns the values: what was clipped cannot be known any more."""
        return values


@dataclass(frozen=True, eq=False)
class Log(Transform):
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


@dataclass(frozen=True, eq=False)
class Log1p(Transform):
    """Logarithm of one plus the value, `log(1 + x)`; values of -1 and below become missing."""

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Takes the logarithm; NaN where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values > -1, np.log1p(values), np.nan).astype(values.dtype)

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Undoes `transform` up to rounding."""
        return np.expm1(values)


def _parts(values: np.ndarray | Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    return [values] if isinstance(values, np.ndarray) else values


def _divisors(ranges: np.ndarray) -> np.ndarray:
    """Ranges as divisors: 1 where a range is zero (up to rounding) or not known."""
    return np.where(ranges > 10 * _EPSILON, ranges, 1.0)
