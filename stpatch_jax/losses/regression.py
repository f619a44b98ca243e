"""Losses of numbers: squares, absolute values, and Huber's mixture."""

import math

import jax
import jax.numpy as jnp

from stpatch_jax.errors import check_range
from stpatch_jax.losses.reduction import Mask, Weights, masked_error, weighted_mean


def mse(
    prediction: jax.Array, target: jax.Array, *, mask: Mask = None, weights: Weights = None
) -> jax.Array:
    """Mean squared error, `sum(w * mask * (prediction - target)^2) / sum(w * mask)`.

    Args:
        prediction: Any floating dtype, any shape.
        target: Shape of `prediction`; what it holds where the mask is False, NaN included, counts
            neither in the loss nor in its gradient.
        mask: Bool, shape of `target`, True where the target is real; None means everywhere.
        weights: The w >= 0 of each entry: the target's rank, each axis as long as the target's
            or 1 (`latitude_weights`); None means 1 everywhere.

    Returns:
        Scalar, float32, in the square of the target's units; 0 if nothing is real.

    Raises:
        InputError: If the shapes do not fit.

    >>> float(mse(jnp.array([1.0, 5.0]), jnp.array([3.0, 0.0]), mask=jnp.array([True, False])))
    4.0
    """
    error, count = masked_error("mse", prediction, target, mask)
    return weighted_mean("mse", jnp.square(error), count, mask=mask, weights=weights)


def mae(
    prediction: jax.Array, target: jax.Array, *, mask: Mask = None, weights: Weights = None
) -> jax.Array:
    """Mean absolute error, `sum(w * mask * |prediction - target|) / sum(w * mask)`.

    Arguments as in `mse`; the result is in the target's units.

    >>> float(mae(jnp.array([1.0, 5.0]), jnp.array([3.0, 4.0])))
    1.5
    """
    error, count = masked_error("mae", prediction, target, mask)
    return weighted_mean("mae", jnp.abs(error), count, mask=mask, weights=weights)


def huber(
    prediction: jax.Array,
    target: jax.Array,
    *,
    mask: Mask = None,
    weights: Weights = None,
    delta: float = 1.0,
) -> jax.Array:
    """Mean Huber loss: `e^2 / 2` where `|e| <= delta`, `delta (|e| - delta / 2)` beyond it.

    `delta > 0` is an error in the target's units. Other arguments as in `mse`.

    Returns:
        Scalar, float32: the mean over the real entries; 0 if nothing is real.

    Raises:
        InputError: If the shapes do not fit or `delta` is not positive.

    References:
        Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35 (1964).

    >>> float(huber(jnp.array([0.0, 0.0]), jnp.array([1.0, 3.0]), delta=1.0))
    1.5
    """
    check_range("delta", delta, 0, math.inf, bounds="()")
    error, count = masked_error("huber", prediction, target, mask)
    size = jnp.abs(error)
    # |e| clipped at delta makes both branches one polynomial, without a select in the gradient.
    clipped = jnp.minimum(size, delta)
    values = clipped * (size - 0.5 * clipped)
    return weighted_mean("huber", values, count, mask=mask, weights=weights)
