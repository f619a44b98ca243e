"""Inception: convolutions of several lengths beside each other along the time of a patch."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import Backbone, BackboneConfig, Convolution, Dropout, Fields
from stpatch_jax.nn.windows import Shape, cut_patches, known_window
from stpatch_jax.patches.windows import OPEN, WindowSpec

_POOLED, _RESIDUAL_EVERY = 3, 3


class Inception(Backbone):
    """Blocks of convolutions of several lengths along the time of each patch, and their mean.

    A block sees its input through a bottleneck of one time, convolves that by kernels of each
    length and, beside them, the maximum over three times by one of length 1; what comes out is
    joined, normalised over its channels and rectified. Every third block adds what went into the
    first of the three. The cells that a window has in space are channels of its input.

    Published with batch normalisation; that over channels depends on no other example.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, features] in `dtype`, where
    `(nt, *ns) = spec.grid_shape((time, *space))`.

    References:
        Ismail Fawaz et al., "InceptionTime: finding AlexNet for time series classification", Data
        Mining and Knowledge Discovery 34 (2020).
    """

    def __init__(self, config: InceptionConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs):
        self.window = known_window(config.spec, shape)
        width = (len(config.kernel_sizes) + 1) * config.features
        super().__init__(config.spec, in_features, width, shape=shape)
        self.config = config
        channels, blocks, shortcuts = math.prod(self.window[1:]) * in_features, [], []
        for at in range(config.depth):
            into = width if at else channels
            blocks.append(_Block(config, self.window[0], into, width, rngs=rngs))
            if at % _RESIDUAL_EVERY == _RESIDUAL_EVERY - 1:
                into = width if at >= _RESIDUAL_EVERY else channels
                shortcuts.append(Convolution((1,), into, width, options=config, rngs=rngs))
        self.blocks, self.shortcuts = nnx.List(blocks), nnx.List(shortcuts)
        self.dropout = Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, features]."""
        self.check_input(x)
        patches = cut_patches(x.astype(self.config.dtype), self.spec, self.window)
        y = before = patches.reshape(-1, self.window[0], math.prod(patches.shape[x.ndim :]))
        for at, block in enumerate(self.blocks):
            y = block(y)
            if at % _RESIDUAL_EVERY == _RESIDUAL_EVERY - 1:
                y = before = jax.nn.relu(y + self.shortcuts[at // _RESIDUAL_EVERY](before))
        y = y.mean(axis=1).reshape(*patches.shape[: x.ndim - 1], self.out_features)
        return self.dropout(y)


class _Block(nnx.Module):
    """Maps [patch, time, in] to [patch, time, out], see `Inception`."""

    def __init__(
        self, config: InceptionConfig, length: int, into: int, out: int, *, rngs: nnx.Rngs
    ):
        def convolution(extent: int, into: int) -> Convolution:
            # Longer ones would have weights that see zeros alone.
            extent = min(extent, 2 * length - 1)
            return Convolution((extent,), into, config.features, options=config, rngs=rngs)

        self.bottleneck = convolution(1, into) if into > 1 else None
        seen = config.features if into > 1 else into
        self.kernels = nnx.List(convolution(size, seen) for size in config.kernel_sizes)
        self.of_maximum = convolution(1, into)
        self.norm = nnx.LayerNorm(out, rngs=rngs, **config.dtypes)

    def __call__(self, x: jax.Array) -> jax.Array:
        seen = x if self.bottleneck is None else self.bottleneck(x)
        window, sides = (1, _POOLED, 1), [(0, 0), (_POOLED // 2, _POOLED // 2), (0, 0)]
        most = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, (1, 1, 1), sides)
        parts = [*(kernel(seen) for kernel in self.kernels), self.of_maximum(most)]
        return jax.nn.relu(self.norm(jnp.concatenate(parts, axis=-1)))


@dataclasses.dataclass(frozen=True)
class InceptionConfig(BackboneConfig[Inception]):
    """Settings of `Inception`; its feature map has `features` for each kernel size and once more.

    Attributes:
        spec: The windows that are cut; a bare tuple means non-overlapping windows.
        features: Number of features of each kernel size, of the maximum and of the bottleneck.
        kernel_sizes: The lengths of the kernels, odd, in time steps.
        depth: Number of blocks.
    """

    tiny_fields: ClassVar[Fields] = {"features": 4, "kernel_sizes": (5, 3), "depth": 3}
    large_fields: ClassVar[Fields] = {"features": 64, "depth": 9}
    spec: WindowSpec = OPEN
    features: int = 32
    kernel_sizes: tuple[int, ...] = (39, 19, 9)
    depth: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(sizes=("features", "kernel_sizes", "depth"))
        require(
            all(size % 2 for size in self.kernel_sizes),
            f"{self.name_of('kernel_sizes')} must be odd, got {self.kernel_sizes}; use such "
            "numbers, which have a centre",
        )
