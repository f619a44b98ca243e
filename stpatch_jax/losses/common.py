"""What the losses share: the masked error and its mean."""

import jax
import jax.numpy as jnp

from stpatch_jax.errors import InputError


def masked_error(
    name: str, prediction: jax.Array, target: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Returns the error, 0 where masked, and the number of real entries, both in float32.

    Raises:
        InputError: If the shapes differ; `name` is the loss that the message names.
    """
    if prediction.shape != target.shape:
        raise InputError(
            f"{name} needs prediction and target of one shape, got {prediction.shape} and "
            f"{target.shape}; reshape one of them instead of relying on broadcasting"
        )
    if mask is not None and mask.shape != target.shape:
        raise InputError(
            f"{name} needs a mask of the target's shape {target.shape}, got {mask.shape}; "
            "broadcast the mask to the target first"
        )
    error = prediction.astype(jnp.float32) - target.astype(jnp.float32)
    if mask is None:
        return error, jnp.asarray(error.size, jnp.float32)
    # Selecting the difference (not the loss of it) keeps a NaN target out of the gradient too.
    return jnp.where(mask, error, 0.0), jnp.sum(mask, dtype=jnp.float32)


def masked_mean(values: jax.Array, count: jax.Array) -> jax.Array:
    """Divides the sum of the values by the number of real entries; 0 if there is none."""
    return jnp.sum(values) / jnp.maximum(count, 1.0)
