"""Scores of probabilistic forecasts of numbers, one for each target: `Mean` averages them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from stpatch_jax.errors import InputError
from stpatch_jax.losses.reduction import check_last_axis, check_one_shape
from stpatch_jax.losses.regression import check_quantiles, tilted
from stpatch_jax.metrics.sums import Array, Sums, divide, host_or_device


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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class QuantileErrors(Sums):
    """Sums of the scores of quantile forecasts per lead time, over all real entries.

    An interval lies between the first and the last quantile, the second and the last but one, and
    so on; one left over in the middle is none.

    Attributes:
        pinball: [horizon, quantile] sum of the pinball losses, see `losses.pinball`.
        below: [horizon, quantile] number of targets at or below their quantile.
        inside: [horizon, interval] number of targets in their interval, see `covered`.
        magnitude: [horizon] sum of the absolute values of the targets.
        count: [horizon] number of real entries, an integer.

    References:
        WQL: Salinas et al., "DeepAR: probabilistic forecasting with autoregressive recurrent
        networks", Int. J. Forecast. 36 (2020), whose rho-risk it is the mean of.
    """

    pinball: Array
    below: Array
    inside: Array
    magnitude: Array
    count: Array

    @classmethod
    def of(
        cls,
        prediction: Array,
        target: Array,
        *,
        quantiles: Sequence[float],
        mask: Array | None = None,
    ) -> QuantileErrors:
        """Sums the scores of one batch, as `Sums` says.

        Args:
            prediction: [batch, horizon, *space, channel, quantile].
            target: [batch, horizon, *space, channel].
            quantiles: Their levels, increasing, each in (0, 1).
            mask: Bool, shape of `target`, True where the target is real; None means everywhere.

        Raises:
            InputError: If shapes or levels do not fit, or there is no lead-time axis.

        >>> forecast, target = np.array([[[[0.0, 4.0]]]]), np.array([[[2.0]]])
        >>> scores = QuantileErrors.of(forecast, target, quantiles=(0.25, 0.75))
        >>> scores.crps().tolist(), scores.wql().tolist(), scores.coverage().tolist()
        ([1.0], [0.5], [[1.0]])
        """
        check_quantiles("QuantileErrors", prediction.shape, quantiles)
        check_last_axis("QuantileErrors", "quantile", prediction.shape, target.shape)
        check_one_shape("target and mask of QuantileErrors", target, mask)
        if target.ndim < 2:
            raise InputError(
                "targets of QuantileErrors must have the axes (batch, horizon, *space, channel), "
                f"got shape {target.shape}; add the missing axes"
            )
        xp, dtype = host_or_device(prediction, target, mask)
        mask = xp.asarray(xp.ones(target.shape, bool) if mask is None else mask)
        real = xp.expand_dims(mask, -1)
        error = xp.asarray(target, dtype)[..., None] - xp.asarray(prediction, dtype)
        error = xp.where(real, error, 0)
        half = len(quantiles) // 2
        low, high = error[..., :half], error[..., ::-1][..., :half]
        axes = (0, *range(2, target.ndim))
        return cls(
            xp.sum(tilted(error, quantiles), axis=axes),
            xp.sum((error <= 0) & real, axis=axes),
            xp.sum((low >= 0) & (high <= 0) & real, axis=axes),
            xp.sum(xp.where(mask, xp.abs(xp.asarray(target, dtype)), 0), axis=axes),
            xp.sum(mask, axis=axes),
        )

    def pooled(self) -> QuantileErrors:
        """The same scores with all lead times taken together, [1] or [1, ...]."""
        return jax.tree.map(lambda s: s.sum(axis=0, keepdims=True), self)

    def loss(self) -> Array:
        """Mean pinball loss [horizon, quantile], in the target's units."""
        return divide(self.pinball, self.count[:, None])

    def crps(self) -> Array:
        """Mean of `crps_from_quantiles` [horizon], in the target's units."""
        return 2 * self.loss().mean(axis=-1)

    def wql(self) -> Array:
        """Weighted quantile loss [horizon]: the sum of the CRPS over that of absolute targets."""
        return divide(2 * self.pinball.mean(axis=-1), self.magnitude)

    def share_below(self) -> Array:
        """Share of the targets at or below each quantile [horizon, quantile], at best its level."""
        return divide(self.below, self.count[:, None])

    def coverage(self) -> Array:
        """Share of the targets in each interval [horizon, interval], at best what it spans."""
        return divide(self.inside, self.count[:, None])
