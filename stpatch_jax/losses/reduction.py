"""What the losses share: the masked error, the weights of cells, and the mean."""

import jax
import jax.numpy as jnp
import numpy as np

from stpatch_jax.errors import InputError, check_range

Mask = jax.Array | None
Weights = jax.Array | np.ndarray | None


def masked_error(
    name: str, prediction: jax.Array, target: jax.Array, mask: Mask
) -> tuple[jax.Array, jax.Array]:
    """Returns the error, 0 where masked, and the number of real entries, both in float32."""
    check_one_shape(f"prediction, target and mask of {name}", prediction, target, mask)
    error = prediction.astype(jnp.float32) - target.astype(jnp.float32)
    if mask is None:
        return error, jnp.asarray(error.size, jnp.float32)
    # Selecting the difference (not the loss of it) keeps a NaN target out of the gradient too.
    return jnp.where(mask, error, 0.0), jnp.sum(mask, dtype=jnp.float32)


def masked_mean(values: jax.Array, total: jax.Array) -> jax.Array:
    """Divides the sum of the values by the total weight of the real entries; 0 without any."""
    return jnp.sum(values) / jnp.where(total > 0, total, 1.0)


def weighted_mean(
    name: str, values: jax.Array, count: jax.Array, *, mask: Mask, weights: Weights
) -> jax.Array:
    """Returns `sum(weights * values) / sum(weights)` over the `count` real entries; 0 without any.

    `values` are 0 where masked; weights have their rank, each axis as long as theirs or 1.
    """
    if weights is None:
        return masked_mean(values, count)
    check_weights(name, weights.shape, values.shape)
    real = jnp.ones(values.shape, bool) if mask is None else mask
    weight = entry_weights(real, weights=weights)
    return masked_mean(weight * values, jnp.sum(weight))


def entry_weights(mask: jax.Array | np.ndarray, *, weights: Weights = None) -> jax.Array:
    """Returns how much each entry counts in a masked mean, whose divisor is the sum of it all.

    Args:
        mask: Bool, any shape, True where an entry is real.
        weights: The mask's rank, each axis as long as the mask's or 1; None means 1 everywhere.

    Returns:
        Float32, shape of `mask`: the weights, 0 where it is False.

    >>> mask = np.array([[True, True], [True, False]])
    >>> entry_weights(mask, weights=np.array([[2.0], [3.0]])).tolist()
    [[2.0, 2.0], [3.0, 0.0]]
    """
    weight = jnp.asarray(1.0 if weights is None else weights, jnp.float32)
    return jnp.where(mask, weight, 0.0)


def check_one_shape(names: str, *arrays: jax.Array | np.ndarray | None) -> None:
    """Raises an InputError unless all arrays that are there have one shape."""
    shapes = [tuple(np.shape(array)) for array in arrays if array is not None]
    if len(set(shapes)) > 1:
        raise InputError(
            f"{names} must have one shape, got {', '.join(map(str, shapes))}; reshape them, since "
            "nothing is broadcast"
        )


def check_last_axis(
    name: str, axis: str, prediction: tuple[int, ...], target: tuple[int, ...]
) -> None:
    """Raises an InputError unless predictions have the targets' shape and one more axis behind."""
    if len(prediction) != len(target) + 1 or prediction[:-1] != target:
        raise InputError(
            f"predictions of {name} must be (*target, {axis}), got {prediction} for targets "
            f"{target}; put one value for each {axis} on the last axis"
        )


def check_weights(name: str, weights: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Raises an InputError unless weights of that shape fit targets of `shape`.

    They have the target's rank and each of their axes has its length or 1, so that every axis is
    named by its place and none is guessed.
    """
    pairs = zip(weights, shape, strict=False)
    if len(weights) != len(shape) or any(have not in (1, want) for have, want in pairs):
        raise InputError(
            f"weights of {name} must have the target's rank, each axis as long as in {shape} or 1, "
            f"got {weights}; reshape them, latitudes for instance to (1, 1, lat, 1, 1)"
        )


def latitude_weights(latitude_degrees: jax.Array | np.ndarray) -> np.ndarray:
    """Weights of the rows of a regular latitude-longitude grid, by area: `cos(latitude)`, mean 1.

    Reshape them to the target's rank, `latitude_weights(lat).reshape(1, 1, -1, 1, 1)` for
    [batch, time, lat, lon, channel], and hand them to a loss as `weights`.

    Args:
        latitude_degrees: [lat] latitudes of the cell centres in degrees north, known outside jit.

    Returns:
        NumPy float32 [lat] whose mean is 1.

    Raises:
        InputError: If the latitudes are not one row of numbers within [-90, 90].

    References:
        Rasp et al., "WeatherBench", J. Adv. Model. Earth Syst. 12 (2020).

    >>> latitude_weights(np.array([0.0, 60.0])).tolist()
    [1.3333333730697632, 0.6666666865348816]
    """
    latitude = np.asarray(latitude_degrees, np.float64)
    if latitude.ndim != 1 or latitude.size == 0:
        raise InputError(
            f"latitudes must have the shape (lat,), got {latitude.shape}; give one for each row of "
            "the grid"
        )
    for degrees in latitude.tolist():
        check_range("latitudes in degrees north", degrees, -90, 90)
    weights = np.cos(np.deg2rad(latitude))
    return (weights / weights.mean()).astype(np.float32)
