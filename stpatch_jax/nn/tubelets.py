"""Tubelet embedding: the windows of a field as tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.nn.layers import FLOAT32, LayerOptions, Shape, add_bias, cut_patches, known_window
from stpatch_jax.patches.windows import WindowSpec


class TubeletEmbedding(nnx.Module):
    """Embeds each window of a field as one token: `token = values @ kernel + bias`.

    Non-overlapping windows are cut by a reshape alone; overlap, dilation, padding and footprints
    go through `extract_patches`, with the same parameters. Weights start as LeCun's normal.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, features] in `dtype`, where
    `(nt, *ns) = spec.grid_shape((time, *space))`.

    Args:
        spec: The windows that are cut; a bare tuple means non-overlapping windows.
        in_features: Number of input channels.
        features: Width of a token.
        shape: `(time, *space)` of the inputs to come; needed if a window entry is None.

    Raises:
        InputError: If a window entry is None and `shape` is not given.

    References:
        Arnab et al. (2021), "ViViT: a video vision transformer", section 3.2.
    """

    def __init__(
        self,
        spec: WindowSpec | Sequence[int | None],
        in_features: int,
        features: int,
        *,
        shape: Shape = None,
        options: LayerOptions = FLOAT32,
        rngs: nnx.Rngs,
    ):
        self.spec = WindowSpec.of(spec)
        self.window = known_window(self.spec, shape)
        self.dtype = options.dtype
        self.values = math.prod(self.window) * in_features
        init = nnx.initializers.lecun_normal()
        matrix = init(rngs.params(), (self.values, features), jnp.dtype(options.param_dtype))
        self.kernel = options.kernel(matrix.reshape(*self.window, in_features, features))
        self.bias = options.bias(features)

    def patches(self, x: jax.Array) -> jax.Array:
        """Cuts [batch, time, *space, channel] to [batch, nt, *ns, prod(window) * channel].

        Raises:
            InputError: If a window does not fit, or is not the one that the kernel was made for.
        """
        patches = cut_patches(x.astype(self.dtype), self.spec, self.window)
        return patches.reshape(*patches.shape[: x.ndim - 1], self.values)

    def project(self, values: jax.Array) -> jax.Array:
        """Maps what is inside windows, [..., prod(window) * channel], to tokens [..., features]."""
        kernel = self.kernel[...].astype(self.dtype)
        return add_bias(values.astype(self.dtype) @ kernel.reshape(self.values, -1), self.bias)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, features]."""
        return self.project(self.patches(x))
