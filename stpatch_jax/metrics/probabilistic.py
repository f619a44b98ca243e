"""Scores of probabilistic forecasts of numbers, one for each target: `Mean` averages them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stpatch_jax.errors import InputError
from stpatch_jax.losses.reduction import check_last_axis, check_one_shape
from stpatch_jax.losses.regression import check_quantiles, tilted
from stpatch_jax.metrics.sums import Array, host_or_device


def crps_from_quantiles(prediction: Array, target: Array, *, quantiles: Sequence[float]) -> Array:
    """Continuous ranked probability score of each forecast, approximated from its quantiles.

    Twice the pinball loss averaged over the quantiles. The score itself is twice the integral of
    the pinball loss over all levels from 0 to 1; the average comes near it for many evenly spaced
    levels `(i - 1/2) / n`, and says nothing of the tails beyond the outermost ones. Compare only
    forecasts with the same levels.

    Args:
        prediction: [..., quantile], one value for each of `quantiles`.
        target: [...].
        quantiles: Their levels, increasing, each in (0, 1).

    Returns:
        [...] in the target's units, lower is better: NumPy float64 if all arrays are NumPy's, else
        JAX float32. NaN where the target or a quantile is.

    Raises:
        InputError: If shapes or levels do not fit.

    References:
        Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", J. Am.
        Stat. Assoc. 102 (2007).

    >>> forecast, target = np.array([[0.0, 4.0]]), np.array([2.0])
    >>> crps_from_quantiles(forecast, target, quantiles=(0.25, 0.75)).tolist()
    [1.0]
    """
    xp, dtype = host_or_device(prediction, target)
    check_quantiles("crps_from_quantiles", prediction.shape, quantiles)
    check_last_axis("crps_from_quantiles", "quantile", prediction.shape, target.shape)
    error = xp.asarray(target, dtype)[..., None] - xp.asarray(prediction, dtype)
    return 2 * tilted(error, quantiles).mean(axis=-1)


def crps_from_ensemble(members: Array, target: Array, *, fair: bool = False) -> Array:
    """Continuous ranked probability score of each forecast, from an ensemble in energy form.

    `mean |x_i - y| - sum_ij |x_i - x_j| / (2 m^2)` of the m members x and the target y: exactly
    the score of the ensemble's step function. With one member it is the absolute error.

    Args:
        members: [..., member], in any order.
        target: [...].
        fair: Divide the second sum by `2 m (m - 1)` instead, which is an unbiased estimate of the
            score of the distribution that the members were drawn from, whatever their number; it
            may be negative.

    Returns:
        [...] in the target's units, lower is better: NumPy float64 if all arrays are NumPy's, else
        JAX float32. NaN where the target or a member is.

    Raises:
        InputError: If the shapes do not fit, or `fair` has fewer than two members.

    References:
        Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", J. Am.
        Stat. Assoc. 102 (2007), eq. 21; fair: Ferro, "Fair scores for ensemble forecasts", Q. J. R.
        Meteorol. Soc. 140 (2014).

    >>> members, target = np.array([[1.0, 3.0]]), np.array([2.0])
    >>> crps_from_ensemble(members, target).tolist()
    [0.5]
    >>> crps_from_ensemble(members, target, fair=True).tolist()
    [0.0]
    """
    xp, dtype = host_or_device(members, target)
    check_last_axis("crps_from_ensemble", "member", members.shape, target.shape)
    m = members.shape[-1]
    if m < 1 + fair:
        raise InputError(
            f"crps_from_ensemble must get at least {1 + fair} members (fair={fair}), got {m}; give "
            "more members on the last axis"
        )
    # Differences to the target, sorted: sum_ij |x_i - x_j| is 2 sum_i (2 i - m + 1) x_(i), which
    # needs no pairs, and small numbers keep their digits.
    error = xp.asarray(members, dtype) - xp.asarray(target, dtype)[..., None]
    rank = np.arange(1 - m, m, 2, dtype=dtype).reshape((1,) * (error.ndim - 1) + (m,))
    spread = (xp.sort(error, axis=-1) * rank).sum(axis=-1) / (m * (m - 1 if fair else m))
    return xp.abs(error).mean(axis=-1) - spread


def covered(lower: Array, upper: Array, target: Array) -> Array:
    """Whether each target lies in its interval, `lower <= target <= upper`, as 1 or 0.

    The mean is the interval's coverage: for the quantiles 0.1 and 0.9 of a calibrated forecast of
    a continuous target it is 0.8.

    Args:
        lower: [...] lower ends.
        upper: [...] upper ends.
        target: [...].

    Returns:
        [...]: NumPy float64 if all arrays are NumPy's, else JAX float32. NaN where one of them is.

    Raises:
        InputError: If the shapes differ.

    >>> covered(np.zeros(3), np.ones(3), np.array([0.5, 2.0, np.nan])).tolist()
    [1.0, 0.0, nan]
    """
    check_one_shape("lower, upper and target of covered", lower, upper, target)
    xp, dtype = host_or_device(lower, upper, target)
    missing = xp.isnan(lower) | xp.isnan(upper) | xp.isnan(target)
    inside = (lower <= target) & (target <= upper)
    return xp.where(missing, xp.nan, inside).astype(dtype)
