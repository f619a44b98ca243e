"""The chain PatchCNN -> SCNN -> SpaceTimeRNN as one backbone."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
from flax import nnx

from stpatch_jax.nn.layers import Backbone, BackboneConfig, Fields, Shape
from stpatch_jax.nn.patch_cnn import ConvolvedAxes, PatchCNNConfig
from stpatch_jax.nn.pooling import Pooling
from stpatch_jax.nn.recurrent import Cell, SpaceTimeRNNConfig
from stpatch_jax.nn.scnn import SCNNConfig
from stpatch_jax.patches.windows import OPEN, WindowSpec


class ConvRecurrentBackbone(Backbone):
    """A CNN inside each patch, space-time convolution over the patch grid, recurrence over time.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, recurrent_features] in `dtype`, where
    `(nt, *ns) = spec.grid_shape((time, *space))`. With `causal` and windows that end at their own
    step (CAUSAL padding in time), the output at a step never sees a later one.
    """

    def __init__(
        self, config: ConvRecurrentConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs
    ):
        super().__init__(config.spec, in_features, config.recurrent_features, shape=shape)
        self.config = config
        patch, grid, recurrent = config.parts()
        self.patch_cnn = patch.build(in_features, shape=shape, rngs=rngs)
        self.scnn = grid.build(self.patch_cnn.out_features, rngs=rngs)
        self.rnn = recurrent.build(self.scnn.out_features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, recurrent_features]."""
        self.check_input(x)
        return self.rnn(self.scnn(self.patch_cnn(x)))


@dataclasses.dataclass(frozen=True)
class ConvRecurrentConfig(BackboneConfig[ConvRecurrentBackbone]):
    """Settings of `ConvRecurrentBackbone`, flat; `dropout` and dtypes hold for all three parts.

    Attributes:
        spec: The windows that are cut; a bare tuple means non-overlapping windows.
        axes: Which axes the CNN inside a patch convolves over, see `PatchCNNConfig.axes`.
        patch_features: Width of each of its stages.
        patch_kernel_size: 3 or 5.
        pooling: "max" or "average".
        grid_features: Width of the space-time convolutions over the patch grid.
        grid_depth: Number of pairs of a temporal and a spatial convolution.
        temporal_kernel_size: Odd extent of the temporal ones, in grid cells.
        spatial_kernel_size: Odd extent of the spatial ones; 1 where the order along space is
            arbitrary, as for the companies of a panel.
        causal: Whether the temporal convolutions look back only.
        cell: "lstm" or "gru".
        recurrent_features: Width of the recurrent layers, and of the feature map.
        recurrent_depth: Number of stacked recurrent layers.
        recurrent_kernel_size: Odd extent along space of what a recurrent step looks at; above 1 it
            is a ConvLSTM or ConvGRU, see `SpaceTimeRNNConfig.spatial_kernel_size`.
    """

    tiny_fields: ClassVar[Fields] = {
        "patch_features": (8, 16),
        "grid_features": 8,
        "grid_depth": 1,
        "recurrent_features": 16,
    }
    large_fields: ClassVar[Fields] = {
        "patch_features": (64, 128, 256, 512),
        "grid_features": 256,
        "grid_depth": 4,
        "recurrent_features": 512,
        "recurrent_depth": 2,
    }
    looks_along_time: ClassVar[bool] = True
    spec: WindowSpec = OPEN
    axes: ConvolvedAxes = "auto"
    patch_features: tuple[int, ...] = (64, 128, 256)
    patch_kernel_size: int = 3
    pooling: Pooling = "max"
    grid_features: int = 64
    grid_depth: int = 2
    temporal_kernel_size: int = 3
    spatial_kernel_size: int = 3
    causal: bool = False
    cell: Cell = "lstm"
    recurrent_features: int = 128
    recurrent_depth: int = 1
    recurrent_kernel_size: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        # The parts check their own fields, at once and not only when the network is built; windows
        # that are left to the data change nothing in that.
        known = self.spec.window
        (self if known else dataclasses.replace(self, spec=WindowSpec((1, 1, 1)))).parts()

    def parts(self) -> tuple[PatchCNNConfig, SCNNConfig, SpaceTimeRNNConfig]:
        """Returns the configs of the three parts, in the order of the chain."""
        space_axes = self.spec.rank - 1
        patch = PatchCNNConfig(
            self.spec,
            axes=self.axes,
            features=self.patch_features,
            kernel_size=self.patch_kernel_size,
            pooling=self.pooling,
            **self.common,
        )
        grid = SCNNConfig(
            space_axes,
            features=self.grid_features,
            depth=self.grid_depth,
            temporal_kernel_size=self.temporal_kernel_size,
            spatial_kernel_size=self.spatial_kernel_size,
            causal=self.causal,
            **self.common,
        )
        recurrent = SpaceTimeRNNConfig(
            space_axes,
            cell=self.cell,
            features=self.recurrent_features,
            depth=self.recurrent_depth,
            spatial_kernel_size=self.recurrent_kernel_size,
            **self.common,
        )
        return patch, grid, recurrent
