"""Conv3DBackbone: convolution over time and space at once, stages of convolution and pooling."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import Backbone, BackboneConfig, Convolution, is_size, pool
from stpatch_jax.windows import WindowSpec


@dataclasses.dataclass(frozen=True)
class Conv3DConfig(BackboneConfig):
    """Settings of `Conv3DBackbone`.

    Attributes:
        space_axes: Number of space axes; 2, as for video, makes it the 3-D convolution of the name.
        features: Width of each stage of convolution, ReLU and max-pooling by 2.
        kernel_size: Odd extent along time and each space axis.
    """

    space_axes: int = 2
    features: tuple[int, ...] = (64,)
    kernel_size: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "features", tuple(self.features))
        require(
            self.space_axes in (0, 1, 2, 3),
            f"Conv3DBackbone needs 0 to 3 space axes, got {self.space_axes!r}",
        )
        require(
            len(self.features) > 0 and all(map(is_size, self.features)),
            "Conv3DBackbone needs features to be positive integers, one per stage, "
            f"got {self.features}; use for example (64,)",
        )
        require(
            is_size(self.kernel_size) and self.kernel_size % 2 == 1,
            f"Conv3DBackbone needs an odd kernel_size >= 1, got {self.kernel_size!r}",
        )

    @classmethod
    def tiny(cls, space_axes: int) -> Conv3DConfig:
        """One stage of width 8, for tests and first trials."""
        return cls(space_axes, features=(8,))

    @classmethod
    def base(cls, space_axes: int) -> Conv3DConfig:
        """Two stages, 64 and 128."""
        return cls(space_axes, features=(64, 128))

    @classmethod
    def conv3d_64(cls) -> Conv3DConfig:
        """The published video network: 64 kernels of 3x3x3 and max-pooling by 2.

        Its classification head is `ClassificationHead` with flattening and 64 hidden features.
        """
        return cls()

    def build(
        self, in_features: int, *, shape: Sequence[int] | None = None, rngs: nnx.Rngs
    ) -> Conv3DBackbone:
        """Builds the module."""
        return Conv3DBackbone(self, in_features, shape=shape, rngs=rngs)


class Conv3DBackbone(Backbone):
    """Stages of 3x3x3 convolution (zeros outside), ReLU and max-pooling by 2 along every axis.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, features[-1]] in `dtype`. Each stage
    makes an axis of n cells `ceil(n / 2)` long, down to 1: with s stages a cell of the feature map
    stands for `2^s` cells of the input along each axis, which is its `spec`.

    Args:
        config: Settings.
        in_features: Number of input channels.
        shape: `(time, *space)` of the inputs to come, checked if given.
        rngs: Streams `params` and `dropout`.
    """

    def __init__(
        self,
        config: Conv3DConfig,
        in_features: int,
        *,
        shape: Sequence[int] | None = None,
        rngs: nnx.Rngs,
    ):
        rank = config.space_axes + 1
        spec = WindowSpec((2 ** len(config.features),) * rank, padding="COVER")
        super().__init__(spec, in_features, config.features[-1], shape=shape)
        self.config = config
        extents = (config.kernel_size,) * rank
        widths = (in_features, *config.features)
        self.stages = nnx.List(
            Convolution(extents, width, features, shard=config.shard, rngs=rngs, **config.dtypes)
            for width, features in zip(widths[:-1], config.features, strict=True)
        )
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, features[-1]]."""
        self.check_input(x)
        for stage in self.stages:
            x = pool(jax.nn.relu(stage(x)), range(1, x.ndim - 1), reduce="max")
        return self.dropout(x)
