"""Penalties on the weights of a model, to be added to a loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def l1_penalty(params: Any) -> jax.Array:
    """Sum of absolute weights, `sum(|w|)`, which drives weights that do not help to 0.

    Biases and norm scales are spared, as weight decay spares them: only leaves with two axes or
    more count. Multiply by a strength before adding it to a loss.

    Args:
        params: Any pytree of arrays, such as `nnx.state(model, nnx.Param)`; leaves that are not
            floating are ignored.

    Returns:
        Scalar, float32; 0 if there is no weight.

    References:
        Tibshirani, "Regression shrinkage and selection via the lasso", J. R. Stat. Soc. B 58
        (1996).

    >>> float(l1_penalty({"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([7.0])}))
    3.0
    """
    return _penalty(params, jnp.abs)


def l2_penalty(params: Any) -> jax.Array:
    """Half the sum of squared weights, `sum(w^2) / 2`, whose gradient is the weight itself.

    A loss plus `c * l2_penalty(params)` has the gradient that an optimiser with the L2 term
    `weight_decay = c` sees. Biases and norm scales are spared: only leaves with two axes or more
    count.

    Args:
        params: Any pytree of arrays, such as `nnx.state(model, nnx.Param)`; leaves that are not
            floating are ignored.

    Returns:
        Scalar, float32; 0 if there is no weight.

    >>> float(l2_penalty({"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([7.0])}))
    2.5
    """
    return _penalty(params, lambda weight: jnp.square(weight) / 2)


def _penalty(params: Any, of: Callable[[jax.Array], jax.Array]) -> jax.Array:
    weights = [
        leaf
        for leaf in jax.tree.leaves(params)
        if jnp.ndim(leaf) >= 2 and jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    sums = [jnp.sum(of(weight.astype(jnp.float32))) for weight in weights]
    return sum(sums, jnp.zeros((), jnp.float32))
