"""A penalty on the weights of a model, to be added to a loss."""

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
    weights = [
        leaf
        for leaf in jax.tree.leaves(params)
        if jnp.ndim(leaf) >= 2 and jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    sums = [jnp.sum(jnp.abs(weight.astype(jnp.float32))) for weight in weights]
    return sum(sums, jnp.zeros((), jnp.float32))
