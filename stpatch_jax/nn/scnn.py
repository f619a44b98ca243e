"""SCNN: space-time convolution over a patch grid, time and space in turn."""

from __future__ import annotations

import dataclasses
import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.nn.layers import Backbone, BackboneConfig, Convolution, Dropout, Fields, Shape
from stpatch_jax.patches.windows import WindowSpec


class SCNN(Backbone):
    """Convolves over time (3x1x1) and space (1x3x3) in turn and joins the result to its input.

    Each convolution is followed by ReLU and keeps the grid (zeros outside). Without a space axis
    only the temporal ones remain. The output is the input with the last convolution's features
    behind it, `concatenate([x, y], -1)`, so nothing the input says is lost.

    Maps [batch, time, *space, channel] to [batch, time, *space, channel + features] in `dtype`.
    With `causal`, changing the input at a step changes no output at an earlier one.
    """

    def __init__(self, config: SCNNConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs):
        spec = WindowSpec((1,) * (config.space_axes + 1))
        super().__init__(spec, in_features, in_features + config.features, shape=shape)
        self.config = config
        temporal = (config.temporal_kernel_size, *[1] * config.space_axes)
        spatial = (1, *[config.spatial_kernel_size] * config.space_axes)
        layers = ([temporal, spatial] if config.space_axes else [temporal]) * config.depth
        widths = itertools.pairwise([in_features, *[config.features] * len(layers)])
        self.layers = nnx.List(
            Convolution(extents, *width, causal=config.causal, options=config, rngs=rngs)
            for extents, width in zip(layers, widths, strict=True)
        )
        self.dropout = Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, time, *space, channel + features]."""
        self.check_input(x)
        x = x.astype(self.config.dtype)
        y = x
        for layer in self.layers:
            y = jax.nn.relu(layer(y))
        return jnp.concatenate([x, self.dropout(y)], axis=-1)


@dataclasses.dataclass(frozen=True)
class SCNNConfig(BackboneConfig[SCNN]):
    """Settings of `SCNN`.

    Attributes:
        space_axes: Number of space axes, 0 to 3.
        features: Width of every convolution.
        depth: Number of pairs of a temporal and a spatial convolution.
        temporal_kernel_size: Odd extent along time.
        spatial_kernel_size: Odd extent along each space axis. The order of companies in a panel is
            arbitrary: with 1 the cells do not look at their neighbours there.
        causal: Whether the temporal convolutions look back only.
    """

    tiny_fields: ClassVar[Fields] = {"features": 8, "depth": 1}
    large_fields: ClassVar[Fields] = {"features": 256, "depth": 4}
    space_axes: int
    features: int = 64
    depth: int = 2
    temporal_kernel_size: int = 3
    spatial_kernel_size: int = 3
    causal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(sizes=("features", "depth"), odd=("temporal_kernel_size", "spatial_kernel_size"))
