"""Conv3DBackbone: convolution over time and space at once, stages of convolution and pooling."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Self

import jax
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import (
    Backbone,
    BackboneConfig,
    Convolution,
    Dropout,
    Fields,
    Shape,
    check_sizes,
)
from stpatch_jax.patches.extraction import extract_patches
from stpatch_jax.patches.windows import WindowSpec


class Conv3DBackbone(Backbone):
    """Stages of 3x3x3 convolution (zeros outside), ReLU and max-pooling by 2 along every axis.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, features[-1]] in `dtype`. Each stage
    makes an axis of n cells `ceil(n / 2)` long, down to 1: with s stages a cell of the feature map
    stands for `2^s` cells of the input, or windows of `config.window`, along each axis, which is
    its `spec`.
    """

    def __init__(self, config: Conv3DConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs):
        edge = 2 ** len(config.features)
        spec = WindowSpec(tuple(edge * n for n in config.cut), padding="COVER")
        super().__init__(spec, in_features, config.features[-1], shape=shape)
        self.config = config
        self.windows = WindowSpec(config.cut, padding="COVER")
        rank = config.space_axes + 1
        cells = self.windows.grid_shape(tuple(shape)) if shape else (edge,) * rank
        stages, width = [], in_features * math.prod(config.cut)
        for features in config.features:
            extents = [config.kernel_size if n > 1 else 1 for n in cells]
            stages.append(Convolution(extents, width, features, options=config, rngs=rngs))
            cells, width = tuple(-(-n // 2) for n in cells), features
        self.stages = nnx.List(stages)
        self.dropout = Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, features[-1]]."""
        self.check_input(x)
        x = extract_patches(x, self.windows, flat=True)
        for stage in self.stages:
            x = stage.pooled(x, range(1, x.ndim - 1), reduce="max")
        return self.dropout(x)


@dataclasses.dataclass(frozen=True)
class Conv3DConfig(BackboneConfig[Conv3DBackbone]):
    """Settings of `Conv3DBackbone`.

    Attributes:
        space_axes: Number of space axes; 2, as for video, makes it the 3-D convolution of the name.
        features: Width of each stage of convolution, ReLU and max-pooling by 2.
        kernel_size: Odd extent along time and each space axis. With a shape given to `build`, a
            stage whose input has one cell along an axis has extent 1 there, as further weights
            would see only padding: a volume of one time is convolved over space alone.
        window: Non-overlapping windows `(time, *space)` whose cells become the channels of one cell
            before the first stage, for a fraction of the cost; None leaves the input as it is.
    """

    tiny_fields: ClassVar[Fields] = {"features": (8,)}
    base_fields: ClassVar[Fields] = {"features": (64, 128)}
    # C3D.
    large_fields: ClassVar[Fields] = {"features": (64, 128, 256, 512, 512)}
    space_axes: int = 2
    features: tuple[int, ...] = (64,)
    kernel_size: int = 3
    window: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(sizes=("features",), odd=("kernel_size",))
        check_sizes(self.name_of("window"), self.cut)
        require(
            len(self.cut) == self.space_axes + 1,
            f"the window must have {self.space_axes + 1} entries, time first, got {self.window}; "
            f"use for example {(1,) + (2,) * self.space_axes}",
        )

    @property
    def cut(self) -> tuple[int, ...]:
        """The windows whose cells become channels, ones where there are none."""
        return self.window or (1,) * (self.space_axes + 1)

    @classmethod
    def conv3d_64(cls) -> Self:
        """The published video network: 64 kernels of 3x3x3 and max-pooling by 2.

        Its classification head is `ClassificationHead` with flattening and 64 hidden features.
        """
        return cls()
