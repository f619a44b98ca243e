"""The loss of quantiles."""

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from stpatch_jax.errors import InputError
from stpatch_jax.losses.reduction import check_last_axis, check_one_shape, weighted_mean

Array = TypeVar("Array", jax.Array, np.ndarray)


def pinball(
    prediction: jax.Array,
    target: jax.Array,
    *,
    quantiles: Sequence[float],
    mask: jax.Array | None = None,
    weights: jax.Array | np.ndarray | None = None,
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
