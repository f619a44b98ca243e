"""Series with missing values: carried forward, and their quantiles."""

from collections.abc import Sequence

import numpy as np


def forward_fill(values: np.ndarray) -> np.ndarray:
    """Carries the last known value forward in time: `out[t] = values[s]`, largest known `s <= t`.

    Row `t` of the result [time, ...] depends on no later row. Values stay NaN where nothing
    precedes them.

    >>> forward_fill(np.array([np.nan, 1.0, np.nan, 2.0]))
    array([nan,  1.,  1.,  2.])
    """
    rows = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, rows), axis=0)
    return np.take_along_axis(values, last, axis=0)


def nan_quantiles(values: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """Quantiles [quantile, ...] along the first axis over the values [row, ...] that are there.

    Equals `numpy.nanquantile(values, quantiles, axis=0)` (linear interpolation) up to rounding,
    without its loop over series and without its warning; NaN where a series has no value.
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
