"""What the metrics share."""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


def divide(numerator: Array, denominator: Array) -> Array:
    """Divides where the denominator is not 0; NaN, without a warning, where it is."""
    xp = jnp if isinstance(numerator, jax.Array) or isinstance(denominator, jax.Array) else np
    nonzero = xp.asarray(denominator) != 0
    ratio = xp.asarray(numerator) / xp.where(nonzero, denominator, 1)
    return xp.where(nonzero, ratio, xp.nan)
