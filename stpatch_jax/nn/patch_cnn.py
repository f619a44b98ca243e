"""PatchCNN: a convolutional network inside each patch, one feature vector per patch."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal, get_args

import jax
from flax import nnx

from stpatch_jax.errors import check_choice, require
from stpatch_jax.nn.layers import (
    Backbone,
    BackboneConfig,
    Convolution,
    Dropout,
    Fields,
)
from stpatch_jax.nn.pooling import Pooling
from stpatch_jax.nn.windows import Shape, cut_patches, known_window
from stpatch_jax.patches.windows import OPEN, WindowSpec

ConvolvedAxes = Literal["auto", "time", "space", "all"]


class PatchCNN(Backbone):
    """Cuts patches and runs one small CNN inside each, the patch grid folded into the batch.

    Each stage convolves, applies ReLU and halves the convolved axes that are longer than 1. What is
    left of the window then becomes one feature vector: directly if it is one cell, through one
    dense layer over all remaining cells otherwise, so that their order still counts.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, features[-1]] in `dtype`, where
    `(nt, *ns) = spec.grid_shape((time, *space))`. A feature vector depends on its own window only:
    with windows that end at their own step, such as CAUSAL padding gives, it never sees the future.
    """

    def __init__(self, config: PatchCNNConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs):
        super().__init__(config.spec, in_features, config.features[-1], shape=shape)
        self.config = config
        self.window = known_window(config.spec, shape)
        cells, width, stages = list(self.window), in_features, []
        for features in config.features:
            extents = [1] * len(cells)
            for axis, n in enumerate(cells):
                if config.convolved[axis]:
                    extents[axis], cells[axis] = min(config.kernel_size, 2 * n - 1), -(-n // 2)
            stages.append(Convolution(extents, width, features, options=config, rngs=rngs))
            width = features
        self.stages = nnx.List(stages)
        rest = math.prod(cells)
        self.readout = config.linear(rest * width, width, rngs=rngs) if rest > 1 else None
        self.dropout = Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, features[-1]]."""
        self.check_input(x)
        patches = cut_patches(x.astype(self.config.dtype), self.spec, self.window)
        y = patches.reshape(-1, *self.window, self.in_features)
        pooled = [axis + 1 for axis, convolved in enumerate(self.config.convolved) if convolved]
        for stage in self.stages:
            y = stage.pooled(y, pooled, reduce=self.config.pooling)
        y = y.reshape(y.shape[0], -1)
        if self.readout is not None:
            y = self.readout(y)
        return self.dropout(y).reshape(*patches.shape[: x.ndim - 1], self.out_features)


@dataclasses.dataclass(frozen=True)
class PatchCNNConfig(BackboneConfig[PatchCNN]):
    """Settings of `PatchCNN`.

    Attributes:
        spec: The windows that are cut; a bare tuple means non-overlapping windows.
        axes: Axes of the window that are convolved over and pooled. "auto" takes time for series
            (no space axis), time and space for panels (one), space for video and maps (two, frame
            by frame) and for volumes (three). The order of companies in a panel is arbitrary: where
            neighbours along that axis should not count, use a window of 1 there, or "time".
        features: Width of each stage of convolution, ReLU and pooling by 2.
        kernel_size: 3 or 5, along each convolved axis. A stage whose input has n cells along an
            axis uses at most `2 n - 1` there, so that no weight ever sees only padding.
        pooling: "max" or "average"; an axis of one cell is not pooled further.
    """

    tiny_fields: ClassVar[Fields] = {"features": (8, 16)}
    large_fields: ClassVar[Fields] = {"features": (64, 128, 256, 512)}
    spec: WindowSpec = OPEN
    axes: ConvolvedAxes = "auto"
    features: tuple[int, ...] = (64, 128, 256)
    kernel_size: int = 3
    pooling: Pooling = "max"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(sizes=("features",))
        check_choice(self.name_of("kernel_size"), self.kernel_size, (3, 5))
        check_choice(self.name_of("pooling"), self.pooling, get_args(Pooling))
        check_choice(self.name_of("axes"), self.axes, get_args(ConvolvedAxes))
        require(
            self.axes != "space" or self.spec.rank != 1,
            f'the window must have a space axis for axes="space", got {self.spec.window}; use '
            'axes="time"',
        )

    @property
    def convolved(self) -> tuple[bool, ...]:
        """Per window axis, whether it is convolved over and pooled."""
        space_axes = self.spec.rank - 1
        by_rank = "time" if space_axes == 0 else "all" if space_axes == 1 else "space"
        axes = by_rank if self.axes == "auto" else self.axes
        return (axes != "space", *[axes != "time"] * space_axes)
