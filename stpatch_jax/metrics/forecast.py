"""Errors of forecasts per lead time, and skill against a naive baseline."""

from __future__ import annotations

import dataclasses

import jax

from stpatch_jax.errors import InputError
from stpatch_jax.losses.reduction import check_one_shape
from stpatch_jax.metrics.sums import Array, Sums, divide, host_or_device


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LeadTimeErrors(Sums):
    """Sums of forecast errors per lead time, from which MAE and RMSE follow.

    The mean is over all real entries of all batches, not over batch means.

    Attributes:
        absolute: [horizon] sum of absolute errors over batch, space and channel.
        squared: [horizon] sum of squared errors.
        count: [horizon] number of real entries, an integer.
    """

    absolute: Array
    squared: Array
    count: Array

    @classmethod
    def of(cls, prediction: Array, target: Array, *, mask: Array | None = None) -> LeadTimeErrors:
        """Sums the errors of one batch, as `Sums` says.

        Args:
            prediction: [batch, horizon, *space, channel].
            target: Shape of `prediction`.
            mask: Bool, shape of `target`, True where the target is real; None means everywhere.

        Raises:
            InputError: If the shapes differ or there is no lead-time axis.

        >>> import numpy as np
        >>> errors = LeadTimeErrors.of(np.zeros((1, 2, 1)), np.array([[[3.0], [4.0]]]))
        >>> errors.rmse().tolist(), errors.pooled().mae().tolist()
        ([3.0, 4.0], [3.5])
        """
        names = "prediction, target and mask of LeadTimeErrors"
        check_one_shape(names, prediction, target, mask)
        if prediction.ndim < 2:
            raise InputError(
                f"{names} must have the axes (batch, horizon, *space, channel), got shape "
                f"{prediction.shape}; add the missing axes"
            )
        xp, dtype = host_or_device(prediction, target, mask)
        if mask is None:
            mask = xp.ones(target.shape, bool)
        error = xp.where(mask, prediction.astype(dtype) - target.astype(dtype), 0)
        axes = (0, *range(2, error.ndim))
        absolute, squared = xp.sum(xp.abs(error), axis=axes), xp.sum(xp.square(error), axis=axes)
        return cls(absolute, squared, xp.sum(mask, axis=axes))

    def pooled(self) -> LeadTimeErrors:
        """The same errors with all lead times taken together, [1]."""
        return jax.tree.map(lambda s: s.sum(keepdims=True), self)

    def mae(self) -> Array:
        """Mean absolute error [horizon], in the target's units; NaN where nothing is real."""
        return divide(self.absolute, self.count)

    def mse(self) -> Array:
        """Mean squared error [horizon], squared target's units; NaN where nothing is real."""
        return divide(self.squared, self.count)

    def rmse(self) -> Array:
        """Root of the mean squared error [horizon], target's units; NaN where nothing is real."""
        return self.mse() ** 0.5


def skill(error: Array, error_naive: Array) -> Array:
    """Skill against a naive baseline, `1 - error / error_naive`.

    1 is a perfect forecast, 0 no better than the baseline, negative worse. Both errors are MAE, or
    both RMSE, over the same targets.

    Args:
        error: The model's error, any shape.
        error_naive: The baseline's error, shape of `error`.

    Returns:
        Shape of `error`; NaN where the baseline's error is 0 and there is nothing to gain.

    Raises:
        InputError: If the shapes differ.

    >>> import numpy as np
    >>> skill(np.array([0.5, 3.0]), np.array([2.0, 2.0])).tolist()
    [0.75, -0.5]
    """
    check_one_shape("both errors of skill", error, error_naive)
    return 1 - divide(error, error_naive)
