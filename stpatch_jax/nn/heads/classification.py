"""Heads of a whole field, classes among them, and of the next token at every position."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import check_choice, check_size, require
from stpatch_jax.nn.layers import Dropout, check_sizes
from stpatch_jax.nn.options import FLOAT32, LayerOptions

ClassificationReduce = Literal["flatten", "mean"]


class FieldHead(nnx.Module):
    """Numbers for the whole field: feature map, dense layers with ReLU, the outputs.

    Maps [batch, nt, *ns, features] to [batch, outputs] in float32.

    Args:
        grid: `(nt, *ns)` of the feature map.
        in_features: Number of channels of the feature map.
        outputs: How many numbers come out.
        hidden: Width of each hidden layer; empty for a linear head.
        reduce: "flatten" lines up all grid cells as one vector, so that it counts where a feature
            is; "mean" averages over them, which needs fewer weights and takes any grid.
        dropout: Probability that an input or hidden feature is dropped in training.

    Raises:
        InputError: If a size is not positive or `reduce` is not known.
    """

    def __init__(
        self,
        grid: Sequence[int],
        in_features: int,
        *,
        outputs: int,
        hidden: Sequence[int] = (64,),
        reduce: ClassificationReduce = "flatten",
        dropout: float = 0.0,
        options: LayerOptions = FLOAT32,
        rngs: nnx.Rngs,
    ):
        check_size("outputs", outputs)
        check_sizes("hidden", hidden, least=0)
        check_choice("reduce", reduce, get_args(ClassificationReduce))
        self.grid = tuple(grid)
        self.in_features = in_features
        self.reduce = reduce
        cells = math.prod(self.grid) if reduce == "flatten" else 1
        widths = (cells * in_features, *hidden, outputs)
        self.layers = nnx.List(
            options.linear(*width, rngs=rngs) for width in itertools.pairwise(widths)
        )
        self.dropout = Dropout(dropout, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps [batch, nt, *ns, features] to [batch, outputs] in float32."""
        grid = features.shape[1:-1]
        require(
            features.shape[-1] == self.in_features and len(grid) == len(self.grid),
            f"the feature map must be (batch, *{self.grid}, {self.in_features}), got shape "
            f"{features.shape}; build the head with the backbone's out_features",
        )
        if self.reduce == "mean":
            y = features.mean(tuple(range(1, features.ndim - 1)))
        else:
            require(
                grid == self.grid,
                f"the grid must be {self.grid} to be flattened, got {grid}; give fields of one "
                'size or use reduce="mean"',
            )
            y = features.reshape(features.shape[0], -1)
        for layer in self.layers[:-1]:
            y = jax.nn.relu(layer(self.dropout(y)))
        return self.layers[-1](self.dropout(y)).astype(jnp.float32)


class ClassificationHead(FieldHead):
    """Classifies the whole field: a `FieldHead` with one logit per class.

    Maps [batch, nt, *ns, features] to logits [batch, classes] in float32; their softmax is the
    probability of each class.

    Args:
        grid: `(nt, *ns)` of the feature map.
        in_features: Number of channels of the feature map.
        classes: Number of classes.
        **more: The other arguments of `FieldHead`.

    Raises:
        InputError: If a size is not positive or `reduce` is not known.
    """

    def __init__(self, grid: Sequence[int], in_features: int, *, classes: int, **more: Any):
        check_size("classes", classes, least=2)
        super().__init__(grid, in_features, outputs=classes, **more)


class NextTokenHead(nnx.Module):
    """One logit per token of the vocabulary at every position, by one dense layer.

    Its weights start at zero, so an untrained head holds all tokens for equally likely.

    Maps [batch, nt, features] to logits [batch, nt, vocabulary] in float32.

    Args:
        in_features: Number of channels of the feature map.
        vocabulary: Number of tokens.

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
