"""PatchCNN: a convolutional network inside each patch, one feature vector per patch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import jax
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import Backbone, BackboneConfig, Convolution, is_size, known_window, pool
from stpatch_jax.patches.windows import WindowSpec

ConvolvedAxes = Literal["auto", "time", "space", "all"]
Pooling = Literal["max", "average"]


@dataclasses.dataclass(frozen=True)
class PatchCNNConfig(BackboneConfig):
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

    spec: WindowSpec
    axes: ConvolvedAxes = "auto"
    features: tuple[int, ...] = (64, 128, 256)
    kernel_size: int = 3
    pooling: Pooling = "max"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "spec", WindowSpec.of(self.spec))
        object.__setattr__(self, "features", tuple(self.features))
        require(
            len(self.features) > 0 and all(map(is_size, self.features)),
            f"PatchCNN needs features to be positive integers, one per stage, got {self.features}; "
            "use for example (64, 128, 256)",
        )
        require(
            self.kernel_size in (3, 5),
            f"PatchCNN needs a kernel_size of 3 or 5, got {self.kernel_size!r}",
        )
        require(
            self.pooling in ("max", "average"),
            f'PatchCNN needs pooling "max" or "average", got {self.pooling!r}',
        )
        require(
            self.axes in ("auto", "time", "space", "all"),
            f'PatchCNN needs axes "auto", "time", "space" or "all", got {self.axes!r}',
        )
        require(
            self.axes != "space" or self.spec.rank > 1,
            f'PatchCNN cannot convolve over "space": the window {self.spec.window} has none; '
            'use axes="time"',
        )

    @classmethod
    def tiny(cls, spec: WindowSpec | tuple[int | None, ...]) -> PatchCNNConfig:
        """Two narrow stages (8, 16), for tests and first trials."""
        return cls(WindowSpec.of(spec), features=(8, 16))

    @classmethod
    def base(cls, spec: WindowSpec | tuple[int | None, ...]) -> PatchCNNConfig:
        """The three stages 64-128-256 of 3 along each axis, max pooling."""
        return cls(WindowSpec.of(spec))

    @property
    def convolved(self) -> tuple[bool, ...]:
        """Per window axis, whether it is convolved over and pooled."""
        space_axes = self.spec.rank - 1
        by_rank = "time" if space_axes == 0 else "all" if space_axes == 1 else "space"
        axes = by_rank if self.axes == "auto" else self.axes
        return (axes != "space", *[axes != "time"] * space_axes)

    def build(
        self, in_features: int, *, shape: Sequence[int] | None = None, rngs: nnx.Rngs
    ) -> PatchCNN:
        """Builds the module; `shape` `(time, *space)` is needed if a window entry is None."""
        return PatchCNN(self, in_features, shape=shape, rngs=rngs)


class PatchCNN(Backbone):
    """Cuts patches and runs one small CNN inside each, the patch grid folded into the batch.

    Each stage convolves, applies ReLU and halves the convolved axes that are longer than 1. What is
    left of the window then becomes one feature vector: directly if it is one cell, through one
    dense layer over all remaining cells otherwise, so that their order still counts.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, features[-1]] in `dtype`, where
    `(nt, *ns) = spec.grid_shape((time, *space))`. A feature vector depends on its own window only:
    with windows that end at their own step, such as CAUSAL padding gives, it never sees the future.

    Args:
        config: Settings.
        in_features: Number of input channels.
        shape: `(time, *space)` of the inputs to come; see `PatchCNNConfig.build`.
        rngs: Streams `params` and `dropout`.

    Raises:
        InputError: If `shape` is too short, or a window entry is None and `shape` is not given.
    """

    def __init__(
        self,
        config: PatchCNNConfig,
        in_features: int,
        *,
        shape: Sequence[int] | None = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(config.spec, in_features, config.features[-1], shape=shape)
        self.config = config
        self.window = known_window("PatchCNN", config.spec, shape)
        cells, width, stages = self.window, in_features, []
        for features in config.features:
            extents = [
                min(config.kernel_size, 2 * n - 1) if convolved else 1
                for n, convolved in zip(cells, config.convolved, strict=True)
            ]
            stages.append(
                Convolution(
                    extents, width, features, shard=config.shard, rngs=rngs, **config.dtypes
                )
            )
            cells = tuple(
                -(-n // 2) if convolved else n
                for n, convolved in zip(cells, config.convolved, strict=True)
            )
            width = features
        self.stages = nnx.List(stages)
        rest = math.prod(cells)
        options = {**config.shard.linear(), **config.dtypes}
        self.readout = nnx.Linear(rest * width, width, rngs=rngs, **options) if rest > 1 else None
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, nt, *ns, features[-1]]."""
        patches = self.cut(x.astype(self.config.dtype), self.window)
        lead = patches.shape[: x.ndim - 1]
        y = patches.reshape(-1, *self.window, self.in_features)
        pooled = [axis + 1 for axis, convolved in enumerate(self.config.convolved) if convolved]
        for stage in self.stages:
            y = pool(jax.nn.relu(stage(y)), pooled, reduce=self.config.pooling)
        y = y.reshape(y.shape[0], -1)
        if self.readout is not None:
            y = self.readout(y)
        return self.dropout(y).reshape(*lead, self.out_features)
