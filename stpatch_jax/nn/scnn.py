"""SCNN: space-time convolution over a patch grid, time and space in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import Backbone, BackboneConfig, Convolution, is_size
from stpatch_jax.patches.windows import WindowSpec


@dataclasses.dataclass(frozen=True)
class SCNNConfig(BackboneConfig):
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

    space_axes: int
    features: int = 64
    depth: int = 2
    temporal_kernel_size: int = 3
    spatial_kernel_size: int = 3
    causal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.space_axes in (0, 1, 2, 3),
            f"SCNN needs 0 to 3 space axes, got {self.space_axes!r}",
        )
        for field in ("features", "depth", "temporal_kernel_size", "spatial_kernel_size"):
            require(
                is_size(getattr(self, field)),
                f"SCNN needs {field} to be a positive integer, got {getattr(self, field)!r}",
            )
        for field in ("temporal_kernel_size", "spatial_kernel_size"):
            require(
                getattr(self, field) % 2 == 1,
                f"SCNN needs an odd {field}, which has a centre, got {getattr(self, field)}",
            )

    @classmethod
    def tiny(cls, space_axes: int) -> SCNNConfig:
        """One pair of width 8, for tests and first trials."""
        return cls(space_axes, features=8, depth=1)

    @classmethod
    def base(cls, space_axes: int) -> SCNNConfig:
        """Two pairs of width 64."""
        return cls(space_axes)

    def build(
        self, in_features: int, *, shape: Sequence[int] | None = None, rngs: nnx.Rngs
    ) -> SCNN:
        """Builds the module."""
        return SCNN(self, in_features, shape=shape, rngs=rngs)


class SCNN(Backbone):
    """Convolves over time (3x1x1) and space (1x3x3) in turn and joins the result to its input.

    Each convolution is followed by ReLU and keeps the grid (zeros outside). Without a space axis
    only the temporal ones remain. The output is the input with the last convolution's features
    behind it, `concatenate([x, y], -1)`, so nothing the input says is lost.

    Maps [batch, time, *space, channel] to [batch, time, *space, channel + features] in `dtype`.
    With `causal`, changing the input at a step changes no output at an earlier one.

    Args:
        config: Settings.
        in_features: Number of input channels.
        shape: `(time, *space)` of the inputs to come, checked if given.
        rngs: Streams `params` and `dropout`.
    """

    def __init__(
        self,
        config: SCNNConfig,
        in_features: int,
        *,
        shape: Sequence[int] | None = None,
        rngs: nnx.Rngs,
    ):
        spec = WindowSpec.of((1,) * (config.space_axes + 1))
        super().__init__(spec, in_features, in_features + config.features, shape=shape)
        self.config = config
        temporal = (config.temporal_kernel_size, *[1] * config.space_axes)
        spatial = (1, *[config.spatial_kernel_size] * config.space_axes)
        pair = [temporal, spatial] if config.space_axes else [temporal]
        layers, width = [], in_features
        for extents in pair * config.depth:
            layers.append(
                Convolution(
                    extents,
                    width,
                    config.features,
                    causal=config.causal,
                    shard=config.shard,
                    rngs=rngs,
                    **config.dtypes,
                )
            )
            width = config.features
        self.layers = nnx.List(layers)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, time, *space, channel + features]."""
        self.check_input(x)
        x = x.astype(self.config.dtype)
        y = x
        for layer in self.layers:
            y = jax.nn.relu(layer(y))
        return jnp.concatenate([x, self.dropout(y)], axis=-1)
