"""NextTokenHead: at every position of a sequence, how likely each token comes next."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import DTypeName, is_size


class NextTokenHead(nnx.Module):
    """One logit per token of the vocabulary at every position, by one dense layer.

    Its weights start at zero, so an untrained head holds all tokens for equally likely.

    Maps [batch, nt, features] to logits [batch, nt, vocabulary] in float32.

    Args:
        in_features: Number of channels of the feature map.
        vocabulary: Number of tokens.
        dtype: Name of the dtype of the dense layer.
        param_dtype: Name of the dtype that stores.
        rngs: Stream `params`.

    Raises:
        InputError: If the vocabulary has less than 2 tokens.
    """

    def __init__(
        self,
        in_features: int,
        *,
        vocabulary: int,
        dtype: DTypeName = "float32",
        param_dtype: DTypeName = "float32",
        rngs: nnx.Rngs,
    ):
        require(
            is_size(vocabulary) and vocabulary > 1,
            f"NextTokenHead needs a vocabulary of at least 2 tokens, got {vocabulary!r}",
        )
        self.in_features = in_features
        self.dense = nnx.Linear(
            in_features,
            vocabulary,
            kernel_init=nnx.initializers.zeros_init(),
            dtype=jnp.dtype(dtype),
            param_dtype=jnp.dtype(param_dtype),
            rngs=rngs,
        )

    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps [batch, nt, features] to logits [batch, nt, vocabulary] in float32."""
        require(
            features.ndim == 3 and features.shape[-1] == self.in_features,
            f"NextTokenHead needs a feature map (batch, time, {self.in_features}) without space, "
            f"got shape {features.shape}; build the head with the backbone's out_features",
        )
        return self.dense(features).astype(jnp.float32)
