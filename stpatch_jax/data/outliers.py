"""Outliers in time: the Hampel filter, causal."""

import numpy as np

from stpatch_jax.data.cleaning import nan_quantiles
from stpatch_jax.errors import require

# Makes the median absolute deviation of normal numbers their standard deviation.
_MAD_TO_STD = 1.4826


def hampel_filter(values: np.ndarray, *, window: int, threshold: float = 3.0) -> np.ndarray:
    """Replaces outliers by the median of the steps that lead up to them.

    With `m` the median and `d` the median absolute deviation of the known values among the last
    `window` time steps, the present one included, `x` is an outlier where
    `|x - m| > threshold * 1.4826 d`, and becomes `m`. Where `d` is 0 (most of the values are equal)
    nothing is an outlier. Row `t` of the result depends on no later row. NaN stays NaN.

    Args:
        values: Array [time, ...], NaN where missing.
        window: Length of the window, in time steps, at least 3; it holds fewer at the start.
        threshold: Bound in scaled median absolute deviations, above 0. Infinity replaces nothing.

    Returns:
        A new array of the same shape and dtype. Memory is `window` times that of `values`.

    Raises:
        InputError: If window or threshold is out of range.

    Example:
        >>> hampel_filter(np.array([1.0, 2.0, 1.0, 50.0, 2.0]), window=4).tolist()
        [1.0, 2.0, 1.0, 1.5, 2.0]

    References:
        Hampel, The influence curve and its role in robust estimation, JASA 69 (1974).
    """
    require(
        window >= 3, f"a Hampel window must hold at least 3 time steps, but it is {window}; use 3"
    )
    require(
        threshold > 0, f"a Hampel threshold must be above 0, but it is {threshold:g}; 3 is usual"
    )
    front = np.full((window - 1, *values.shape[1:]), np.nan, values.dtype)
    padded = np.concatenate([front, values])
    windows = np.stack([padded[lag : lag + len(values)] for lag in range(window)])
    median = nan_quantiles(windows, (0.5,))[0]
    deviation = nan_quantiles(np.abs(windows - median), (0.5,))[0]
    bound = threshold * _MAD_TO_STD * deviation
    outlier = (deviation > 0) & (np.abs(values - median) > bound)
    return np.where(outlier, median, values).astype(values.dtype)
