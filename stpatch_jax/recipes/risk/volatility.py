"""How large returns were lately: variances by row from rows up to it, in plain NumPy."""

import numpy as np

from stpatch_jax.data.transforms.cleaning import nan_quantiles
from stpatch_jax.errors import check_range, check_size


def ewma_variance(returns: np.ndarray, *, decay: float = 0.94, start: int = 20) -> np.ndarray:
    """Exponentially weighted mean of squared returns, each row from the rows up to it.

    `v[t] = decay * v[t - 1] + (1 - decay) * r[t]**2`, begun at the `start`-th known return of a
    series with the mean of its squares so far. A missing return leaves the variance as it was. The
    `decay` in (0, 1) of 0.94 is that of RiskMetrics for daily returns [time, ...].

    Returns:
        float64 [time, ...], NaN before a series has begun and in the row in which it begins.

    References:
        J.P. Morgan, RiskMetrics Technical Document, 4th edition, 1996, section 5.2.

    >>> ewma_variance(np.array([1.0, 3.0, 1.0]), decay=0.5, start=2).tolist()
    [nan, nan, 3.0]
    """
    check_range("decay", decay, 0, 1, bounds="()")
    check_size("start", start)
    squares = np.asarray(returns, np.float64) ** 2
    known = np.isfinite(squares)
    number = known.cumsum(axis=0)
    total = np.zeros(squares.shape[1:])
    variance = np.full(squares.shape[1:], np.nan)
    result = np.full(squares.shape, np.nan)
    for row, square in enumerate(squares):
        running = known[row] & (number[row] > start)
        variance = np.where(running, decay * variance + (1 - decay) * square, variance)
        total += np.where(known[row] & (number[row] <= start), square, 0.0)
        result[row] = np.where(number[row] > start, variance, np.nan)
        variance = np.where(number[row] == start, total / start, variance)
    return result


def rolling_mean(values: np.ndarray, rows: int, *, least: int | None = None) -> np.ndarray:
    """Mean [time, ...] of the known values among the last `rows`, this one included, float64.

    Of squared returns it is the historical variance (about a mean of 0). NaN where fewer than
    `least` values are known, all `rows` by default.

    >>> rolling_mean(np.array([1.0, 3.0, np.nan, 5.0]), 2, least=1).tolist()
    [1.0, 2.0, 3.0, 5.0]
    """
    least = _least(rows, least)
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    total, count = np.zeros(values.shape), np.zeros(values.shape)
    # Differences of running sums would be faster, but one huge value would spoil all after it.
    for back in range(min(rows, len(values))):
        total[back:] += filled[: len(values) - back]
        count[back:] += known[: len(values) - back]
    return np.where(count >= least, total / np.maximum(count, 1), np.nan)


def rolling_quantile(
    values: np.ndarray, level: float, rows: int, *, least: int | None = None
) -> np.ndarray:
    """Quantile of a level in [0, 1], else as `rolling_mean`.

    Of returns over one horizon it is *historical simulation*: what the past lost in the worst
    `level` of the cases. Linear interpolation, as in `numpy.nanquantile`.

    References:
        Hendricks, "Evaluation of value-at-risk models using historical data", Federal Reserve Bank
        of New York Economic Policy Review 2 (1996).

    >>> rolling_quantile(np.array([4.0, 0.0, 2.0]), 0.25, 3, least=2).tolist()
    [nan, 1.0, 1.0]
    """
    least = _least(rows, least)
    values = np.asarray(values, np.float64)
    series = values.reshape(len(values), -1)
    result = np.empty(series.shape)
    padding = np.full(rows - 1, np.nan)
    for at in range(series.shape[1]):  # one at a time: all windows of all series are many
        padded = np.concatenate([padding, series[:, at]])
        windows = np.lib.stride_tricks.sliding_window_view(padded, rows)
        quantile = nan_quantiles(windows.T, (level,))[0]
        result[:, at] = np.where(np.isfinite(windows).sum(axis=1) >= least, quantile, np.nan)
    return result.reshape(values.shape)


def parkinson_variance(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Variance of one row's log price from its highest and lowest price, positive or NaN.

    `ln(high / low)**2 / (4 ln 2)`, unbiased for a Brownian motion without drift, and some five
    times as precise as one squared return.

    References:
        Parkinson, "The extreme value method for estimating the variance of the rate of return",
        Journal of Business 53 (1980).

    >>> round(float(parkinson_variance(np.array(4.0), np.array(2.0))), 4)
    0.1733
    """
    return np.log(high / low) ** 2 / (4 * np.log(2.0))


def _least(rows: int, least: int | None) -> int:
    check_size("rows", rows)
    least = rows if least is None else least
    check_range("least", least, 1, rows)
    return least
