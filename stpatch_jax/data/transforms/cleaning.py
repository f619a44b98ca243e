"""Missing values and outliers of a panel; whatever is fitted is fitted on training rows only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Stands for "no bound": unlike infinity it goes to JSON.
_NO_BOUND = float(np.finfo(np.float64).max)


def forward_fill(values: np.ndarray) -> np.ndarray:
    """Carries the last known value forward in time: `out[t] = values[s]`, largest known `s <= t`.

    Row `t` of the result depends on no later row. Values stay NaN where nothing precedes them.

    Args:
        values: Array [time, ...], NaN where missing.

    Returns:
        A new array of the same shape.

    Example:
        >>> forward_fill(np.array([np.nan, 1.0, np.nan, 2.0]))
        array([nan,  1.,  1.,  2.])
    """
    rows = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, rows), axis=0)
    return np.take_along_axis(values, last, axis=0)


def nan_quantiles(values: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """Quantiles along the first axis over the values that are there.

    Equals `numpy.nanquantile(values, quantiles, axis=0)` (linear interpolation) up to rounding,
    without its loop over series and without its warning; NaN where a series has no value.

    Args:
        values: Array [row, ...], NaN where missing.
        quantiles: Numbers in [0, 1].

    Returns:
        Array [quantile, ...].
    """
    # NaN sorts to the end, so the values that are there come first.
    ordered = np.sort(values, axis=0)
    last = np.maximum(np.isfinite(values).sum(axis=0, keepdims=True) - 1, 0)
    result = []
    for quantile in quantiles:
        low = np.floor(quantile * last).astype(np.int64)
        below = np.take_along_axis(ordered, low, axis=0)
        above = np.take_along_axis(ordered, np.minimum(low + 1, last), axis=0)
        result.append((below + (above - below) * (quantile * last - low))[0])
    return np.stack(result)


@dataclass(frozen=True, eq=False)
class Winsorizer:
    """Clips each series at two of its own training quantiles (winsorising).

    The rule is `clip(x, quantile(q), quantile(1 - q))` per series, after C. P. Winsor; NaN stays
    NaN. A series without any training value has no bounds.

    Attributes:
        lower: Lower bounds [...], one per series, float64.
        upper: Upper bounds [...], one per series, float64.
    """

    lower: np.ndarray
    upper: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, quantile: float) -> "Winsorizer":
        """Takes the bounds from training rows.

        Args:
            values: The training rows alone [row, ...], NaN where missing.
            quantile: Share of the values beyond each bound, in [0, 0.5); 0 sets no bounds.
        """
        if quantile == 0:
            none = np.full(values.shape[1:], _NO_BOUND)
            return cls(-none, none)
        lower, upper = nan_quantiles(values, (quantile, 1 - quantile))
        return cls(
            np.where(np.isnan(lower), -_NO_BOUND, lower),
            np.where(np.isnan(upper), _NO_BOUND, upper),
        )

    def clip(self, values: np.ndarray) -> np.ndarray:
        """Clips values [..., *series] at the bounds of their series."""
        return np.clip(values, self.lower, self.upper)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """The same as `clip`, under the name that steps of a `Pipeline` have."""
        return self.clip(values)

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Returns the values: what was clipped cannot be known any more."""
        return values

    def to_dict(self) -> dict[str, Any]:
        """The bounds as nested lists for JSON; no bound is the largest float64."""
        return {"lower": self.lower.tolist(), "upper": self.upper.tolist()}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "Winsorizer":
        """Undoes `to_dict`, bit for bit."""
        return cls(np.asarray(state["lower"], np.float64), np.asarray(state["upper"], np.float64))
