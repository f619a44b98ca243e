"""Losses of numbers: squares, absolute values, Huber's mixture, and quantiles."""

import math
from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from stpatch_jax.errors import InputError, check_range
from stpatch_jax.losses.reduction import (
    Mask,
    Weights,
    check_last_axis,
    check_one_shape,
    masked_error,
    weighted_mean,
)

Array = TypeVar("Array", jax.Array, np.ndarray)


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

    Arguments as in `mse`; the result is a scalar in the target's units.

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


def pinball(
    prediction: jax.Array,
    target: jax.Array,
    *,
    quantiles: Sequence[float],
    mask: Mask = None,
    weights: Weights = None,
) -> jax.Array:
    """Mean pinball loss, which the true quantiles minimise, over the quantiles and real entries.

    `max(q e, (q - 1) e)` of the error `e = target - prediction` at the quantile level q; at
    q = 0.5 that is half the absolute error.

    Args:
        prediction: [..., quantile], any floating dtype; one value for each of `quantiles`.
        target: [...]; ignored where the mask is False, also if it is NaN there.
        quantiles: Their levels, increasing, each in (0, 1).
        mask: Bool [...], True where the target is real; None means everywhere.
        weights: The weight of each target in the mean, as in `mse`.

    Returns:
        Scalar, float32, in the target's units; 0 if nothing is real.

    Raises:
        InputError: If shapes or levels do not fit.

    References:
        Koenker and Bassett, "Regression quantiles", Econometrica 46 (1978).

    >>> round(float(pinball(jnp.array([[0.0, 4.0]]), jnp.array([2.0]), quantiles=(0.1, 0.9))), 3)
    0.2
    """
    check_quantiles("pinball", prediction.shape, quantiles)
    check_last_axis("pinball", "quantile", prediction.shape, target.shape)
    check_one_shape("target and mask of pinball", target, mask)
    error = target.astype(jnp.float32)[..., None] - prediction.astype(jnp.float32)
    if mask is not None:
        error = jnp.where(mask[..., None], error, 0.0)
    values = jnp.mean(tilted(error, quantiles), axis=-1)
    count = jnp.asarray(values.size) if mask is None else jnp.sum(mask)
    return weighted_mean("pinball", values, count, mask=mask, weights=weights)


def tilted(error: Array, quantiles: Sequence[float]) -> Array:
    """The pinball loss `max(q e, (q - 1) e)` of each error, target less forecast."""
    levels = np.asarray(quantiles, error.dtype).reshape((1,) * (error.ndim - 1) + (-1,))
    return error * (levels - (error < 0))


def check_quantiles(name: str, shape: tuple[int, ...], quantiles: Sequence[float]) -> None:
    """Raises an InputError unless the levels are legal and belong to the last axis of `shape`."""
    levels = [float(q) for q in quantiles]
    legal = all(0 < q < 1 for q in levels) and levels == sorted(set(levels))
    if not levels or not legal:
        raise InputError(
            f"quantiles of {name} must increase between 0 and 1, got {tuple(quantiles)}; sort them "
            "and leave out 0, 1 and doubles"
        )
    if not shape or shape[-1] != len(levels):
        raise InputError(
            f"predictions of {name} must have one value on the last axis for each of "
            f"{len(levels)} quantiles, got shape {shape}; give the levels that were predicted"
        )
