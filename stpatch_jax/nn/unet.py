"""UNet: convolutions over space at several scales, from the patch grid down and up again."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar

import jax
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import (
    Backbone,
    BackboneConfig,
    Convolution,
    Dropout,
    Fields,
    LayerOptions,
    TubeletEmbedding,
)
from stpatch_jax.nn.windows import Shape, told
from stpatch_jax.patches.folding import fold_patches
from stpatch_jax.patches.windows import OPEN, WindowSpec


class UNet(Backbone):
    """Embeds windows, convolves over space at ever coarser scales, and comes back to the grid.

    A scale is `depth` residual blocks. To the next coarser one, 2 x 2 neighbours become one cell by
    a dense layer; on the way up, a dense layer makes 2 x 2 cells out of one, which are added to
    what the scale held on the way down. So a cell sees far at little cost, and loses no detail. The
    times of the patch grid share all weights and do not see each other.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, features[0]] in `dtype`, where
    `(nt, *ns) = spec.grid_shape((time, *space))`.

    References:
        Ronneberger, Fischer and Brox, "U-Net", MICCAI 2015, with the residual blocks of He et al.,
        "Identity mappings in deep residual networks", ECCV 2016. A context stacked in channels:
        Gao et al., "SimVP: simpler yet better video prediction", CVPR 2022.
    """

    def __init__(self, config: UNetConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs):
        super().__init__(config.spec, in_features, config.features[0], shape=shape)
        self.config = config
        axes = config.spec.rank - 1
        self.embedding = TubeletEmbedding(
            config.spec, in_features, config.features[0], shape=shape, options=config, rngs=rngs
        )
        self.halving = WindowSpec((1, *[2] * axes), padding="COVER")
        pairs = list(itertools.pairwise(config.features))
        self.down = nnx.List(
            TubeletEmbedding(self.halving, *pair, options=config, rngs=rngs) for pair in pairs
        )
        self.up = nnx.List(
            config.linear(coarse, 2**axes * fine, rngs=rngs) for fine, coarse in pairs
        )
        extents = (1, *[config.kernel_size] * axes)
        widths = (*config.features, *config.features[-2::-1])
        blocks = [
            [ResidualBlock(extents, width, options=config, rngs=rngs) for _ in range(config.depth)]
            for width in widths
        ]
        self.scales = nnx.List(map(nnx.List, blocks))
        self.norm = nnx.LayerNorm(config.features[0], rngs=rngs, **config.dtypes)
        self.dropout = Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, features[0]]."""
        self.check_input(x)
        x = self.embedding(x)
        levels, fine = len(self.down), []
        for level in range(levels):
            x = self._blocks(level, x)
            fine.append(x)
            x = self.down[level](x)
        x = self._blocks(levels, x)
        for level in reversed(range(levels)):
            x = fine[level] + self._doubled(self.up[level](x), fine[level].shape)
            x = self._blocks(2 * levels - level, x)
        return self.dropout(jax.nn.relu(self.norm(x)))

    def _blocks(self, number: int, x: jax.Array) -> jax.Array:
        for block in self.scales[number]:
            x = block(x)
        return x

    def _doubled(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Spreads the channels of [batch, nt, *coarse, cells * width] over the finer cells."""
        y = fold_patches(x, self.halving, shape[1:-1], flat=True, reduce="sum")
        return y.astype(x.dtype)


class ResidualBlock(nnx.Module):
    """Adds to its input two convolutions of it, each behind a layer normalisation and ReLU.

    Maps [batch, *axes, width] to the same shape in `dtype`.
    """

    def __init__(
        self, extents: Sequence[int], width: int, *, options: LayerOptions, rngs: nnx.Rngs
    ):
        self.norms = nnx.List(nnx.LayerNorm(width, rngs=rngs, **options.dtypes) for _ in range(2))
        self.layers = nnx.List(
            Convolution(extents, width, width, options=options, rngs=rngs) for _ in range(2)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, *axes, width] to the same shape."""
        y = x
        for norm, layer in zip(self.norms, self.layers, strict=True):
            y = layer(jax.nn.relu(norm(y)))
        return x + y


@dataclasses.dataclass(frozen=True)
class UNetConfig(BackboneConfig[UNet]):
    """Settings of `UNet`.

    Attributes:
        spec: The windows that are cut, with 1 to 3 space axes; a bare tuple means non-overlapping
            windows. What a window spans in time is mixed by its embedding: with None the whole
            context.
        side: Cells of a window along each space axis where it is open; None leaves that, too. Few
            suit a class for each cell, as in `Segment`.
        features: Width at each scale, the patch grid's first; each next one has half the cells
            along each space axis.
        depth: Number of residual blocks at each scale, on the way down and on the way up.
        kernel_size: Odd extent of the convolutions along each space axis.
    """

    tiny_fields: ClassVar[Fields] = {"features": (8, 16)}
    base_fields: ClassVar[Fields] = {"features": (64, 128, 256), "depth": 2}
    large_fields: ClassVar[Fields] = {"features": (64, 128, 256, 512, 1024), "depth": 2}
    spec: WindowSpec = OPEN
    side: int | None = None
    features: tuple[int, ...] = (32, 64, 128)
    depth: int = 1
    kernel_size: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.spec.rank != 1,
            f"the window must have 1 to 3 space axes, got {self.spec.window}; use "
            "ConvRecurrentBackbone for series",
        )
        self.check(sizes=("features", "depth"), odd=("kernel_size",))
        if self.side is not None:
            self.check(sizes=("side",))

    def settled(self, shape: Sequence[int], channels: int) -> tuple[UNetConfig, dict[str, str]]:
        """Open windows are those of a `side`, where it is given; else as in `BackboneConfig`."""
        if self.spec != OPEN or self.side is None or len(shape) == 1:
            return super().settled(shape, channels)
        axes = len(shape) - 1
        padding = [(0, 0), *["COVER"] * axes]
        spec = WindowSpec((None, *[self.side] * axes), padding=padding, padding_mode="edge")
        return dataclasses.replace(self, spec=spec), {"model.spec.window": told(spec, shape)}
