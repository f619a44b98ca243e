"""NextTokenHead: at every position of a sequence, how likely each token comes next."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import check_size, require
from stpatch_jax.nn.layers import FLOAT32, LayerOptions


class NextTokenHead(nnx.Module):
    """One logit per token of the vocabulary at every position, by one dense layer.

    Its weights start at zero, so an untrained head holds all tokens for equally likely.

    Maps [batch, nt, features] to logits [batch, nt, vocabulary] in float32.

    Args:
        in_features: Number of channels of the feature map.
        vocabulary: Number of tokens.
        options: How the dense layer computes, stores and splits its parameters.
        rngs: Stream `params`.

    Raises:
        InputError: If the vocabulary has less than 2 tokens.
    """

    def __init__(
        self, in_features: int, *, vocabulary: int, options: LayerOptions = FLOAT32, rngs: nnx.Rngs
    ):
        check_size("vocabulary", vocabulary, least=2)
        self.in_features = in_features
        zeros = nnx.initializers.zeros_init()
        self.dense = options.linear(in_features, vocabulary, kernel_init=zeros, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps [batch, nt, features] to logits [batch, nt, vocabulary] in float32."""
        require(
            features.ndim == 3 and features.shape[-1] == self.in_features,
            f"the feature map must be (batch, time, {self.in_features}) without space, got shape "
            f"{features.shape}; build the head with the backbone's out_features",
        )
        return self.dense(features).astype(jnp.float32)
