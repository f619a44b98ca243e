"""Errors of forecasts on a globe: every cell weighs as much as its area."""

from __future__ import annotations

import dataclasses

import jax

from stpatch_jax.errors import InputError
from stpatch_jax.losses.reduction import check_one_shape, check_weights
from stpatch_jax.metrics.sums import Array, Sums, divide, host_or_device


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AreaErrors(Sums):
    """Weighted sums of forecast errors per lead time and channel.

    From them follow RMSE and bias, over all cells and forecasts, and the anomaly correlation, whose
    mean is over forecasts, as in Rasp et al., "WeatherBench 2", J. Adv. Model. Earth Syst. 16
    (2024).

    Attributes:
        weight: [horizon, channel] sum of the weights of real entries.
        error: [horizon, channel] weighted sum of prediction - target.
        squared: [horizon, channel] weighted sum of squared errors.
        correlation: [horizon, channel] sum over forecasts of their anomaly correlation.
        forecasts: [horizon, channel] number of forecasts that have one.
    """

    weight: Array
    error: Array
    squared: Array
    correlation: Array
    forecasts: Array

    @classmethod
    def of(
        cls,
        prediction: Array,
        target: Array,
        weights: Array,
        *,
        climatology: Array | None = None,
        mask: Array | None = None,
    ) -> AreaErrors:
        """Sums the errors of one batch, as `Sums` says.

        Args:
            prediction: [batch, horizon, *space, channel].
            target: Shape of `prediction`.
            weights: Weight >= 0 of each entry: the rank of `target`, each axis as long as its own
                or 1, such as `losses.latitude_weights(lat).reshape(1, 1, -1, 1, 1)`.
            climatology: Shape of `target`, what anomalies depart from; None for no correlation.
            mask: Bool, shape of `target`, True where the target is real; None means everywhere.

        Raises:
            InputError: If the shapes do not fit or there is no lead-time axis.

        >>> import numpy as np
        >>> target = np.array([1.0, -1.0]).reshape(1, 1, 2, 1)
        >>> weights = np.ones((1, 1, 2, 1))
        >>> errors = AreaErrors.of(2 * target, target, weights, climatology=0 * target)
        >>> errors.rmse().item(), errors.bias().item(), round(errors.acc().item(), 6)
        (1.0, 0.0, 1.0)
        """
        names = "prediction, target, climatology and mask of AreaErrors"
        check_one_shape(names, prediction, target, climatology, mask)
        if prediction.ndim < 3:
            raise InputError(
                f"{names} must have the axes (batch, horizon, *space, channel), got shape "
                f"{prediction.shape}; add the missing axes"
            )
        check_weights("AreaErrors", tuple(weights.shape), tuple(target.shape))
        xp, dtype = host_or_device(prediction, target, weights, climatology, mask)
        mask = xp.ones(target.shape, bool) if mask is None else mask
        weight = xp.where(mask, xp.asarray(weights, dtype), 0)
        error = xp.where(mask, prediction.astype(dtype) - target.astype(dtype), 0)
        axes = (0, *range(2, error.ndim - 1))
        total, first, squared = (
            xp.sum(weight * values, axis=axes) for values in (1, error, xp.square(error))
        )
        if climatology is None:
            return cls(total, first, squared, 0 * total, 0 * total)
        there = mask & xp.isfinite(climatology)
        weight = xp.where(there, weight, 0)
        a, b = (xp.where(there, x.astype(dtype) - climatology, 0) for x in (prediction, target))
        products = [xp.sum(weight * x * y, axis=axes[1:]) for x, y in ((a, b), (a, a), (b, b))]
        each = divide(products[0], (products[1] * products[2]) ** 0.5)
        has = xp.isfinite(each)
        correlation = xp.sum(xp.where(has, each, 0), axis=0)
        return cls(total, first, squared, correlation, xp.sum(has, axis=0))

    def pooled(self) -> AreaErrors:
        """The same errors with all lead times taken together, [1, channel]."""
        return jax.tree.map(lambda s: s.sum(axis=0, keepdims=True), self)

    def rmse(self) -> Array:
        """Root of the mean squared error [horizon, channel]; NaN where nothing is real."""
        return divide(self.squared, self.weight) ** 0.5

    def bias(self) -> Array:
        """Mean of prediction - target [horizon, channel]; NaN where nothing is real."""
        return divide(self.error, self.weight)

    def acc(self) -> Array:
        """Anomaly correlation [horizon, channel], from -1 to 1; NaN where there is none.

        Of each forecast it is `sum w a b / sqrt(sum w a**2 sum w b**2)` over the cells, with the
        weights `w` and the anomalies `a` and `b` of prediction and target.
        """
        return divide(self.correlation, self.forecasts)
