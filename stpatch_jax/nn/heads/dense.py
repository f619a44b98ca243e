"""ReconstructionHead and DenseHead: values for every sample of every window, and for every cell."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import DTypeName, is_size
from stpatch_jax.patches.folding import BLEND_NAMES, Blend, cover_count, fold_patches
from stpatch_jax.patches.windows import WindowSpec


class ReconstructionHead(nnx.Module):
    """Gives every sample of every window its values: patches out of a feature map.

    One dense layer maps each grid cell's features to the values of its whole window. Its weights
    start at zero, so an untrained head gives 0 everywhere.

    Maps [batch, *grid, features] to [batch, *grid, *window, channels] in float32.

    Args:
        spec: The backbone's `spec`; entries of None take the whole axis. A footprint does not
            restrict which samples get values.
        in_features: Number of channels of the feature map.
        shape: `(time, *space)` of the field that the windows lie on.
        channels: Number of values per sample.
        bias: Whether a constant is added to each value; without, features of 0 give 0.
        dtype: Name of the dtype of the dense layer.
        param_dtype: Name of the dtype that stores.
        rngs: Stream `params`.

    Raises:
        InputError: If `channels` is not positive or the spec does not fit the shape.
    """

    def __init__(
        self,
        spec: WindowSpec,
        in_features: int,
        *,
        shape: Sequence[int],
        channels: int,
        bias: bool = True,
        dtype: DTypeName = "float32",
        param_dtype: DTypeName = "float32",
        rngs: nnx.Rngs,
    ):
        name = type(self).__name__
        require(is_size(channels), f"{name} needs channels >= 1, got {channels!r}")
        self.in_features = in_features
        self.shape = tuple(shape)
        # What falls into padding is dropped, but for windows that reach round the ring.
        modes = ["wrap" if mode == "wrap" else "constant" for mode in spec.padding_mode]
        self.spec = spec.replace(padding_mode=modes, footprint=None)
        self.grid = self.spec.grid_shape(self.shape)
        self.patch_shape = (*self.spec.window_shape(self.shape), channels)
        self.dense = nnx.Linear(
            in_features,
            math.prod(self.patch_shape),
            use_bias=bias,
            kernel_init=nnx.initializers.zeros_init(),
            dtype=jnp.dtype(dtype),
            param_dtype=jnp.dtype(param_dtype),
            rngs=rngs,
        )

    def patches(self, features: jax.Array) -> jax.Array:
        """Maps [batch, *grid, features] to [batch, *grid, *window, channels] in float32."""
        name = type(self).__name__
        require(
            features.shape[1:] == (*self.grid, self.in_features),
            f"{name} needs a feature map (batch, *{self.grid}, {self.in_features}), got shape "
            f"{features.shape}; build the head with the backbone's spec and out_features and the "
            "field's shape",
        )
        values = self.dense(features).astype(jnp.float32)
        return values.reshape(*features.shape[:-1], *self.patch_shape)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps [batch, *grid, features] to [batch, *grid, *window, channels] in float32."""
        return self.patches(features)


class DenseHead(ReconstructionHead):
    """Gives every cell of the field its values: from a feature map back to the grid.

    The patches of `ReconstructionHead` are folded back to the grid, averaged where they overlap.
    An untrained head gives 0 everywhere.

    Maps [batch, *grid, features] to [batch, time, *space, channels] in float32.

    Args:
        spec: The backbone's `spec`. Of padding modes "wrap" is kept, so windows over the seam reach
            round the ring; values that fall into other padding are dropped. A footprint does not
            restrict which cells get values.
        in_features: Number of channels of the feature map.
        shape: `(time, *space)` of the field to give.
        channels: Number of values per cell.
        bias: Whether a constant is added to each value, see `ReconstructionHead`.
        blend: Taper of the average, see `fold_patches`: "uniform", or "linear", "hann", "gaussian",
            which weigh a window's centre more than its rim and so hide seams.
        dtype: Name of the dtype of the dense layer; the fold accumulates in float32.
        param_dtype: Name of the dtype that stores.
        rngs: Stream `params`.

    Raises:
        InputError: If `channels` is not positive, the blend is not known, or the windows leave
            cells uncovered.
    """

    def __init__(
        self,
        spec: WindowSpec,
        in_features: int,
        *,
        shape: Sequence[int],
        channels: int,
        bias: bool = True,
        blend: Blend = "uniform",
        dtype: DTypeName = "float32",
        param_dtype: DTypeName = "float32",
        rngs: nnx.Rngs,
    ):
        require(
            blend in BLEND_NAMES,
            f"{type(self).__name__} needs blend to be one of {', '.join(BLEND_NAMES)}, "
            f"got {blend!r}",
        )
        super().__init__(
            spec,
            in_features,
            shape=shape,
            channels=channels,
            bias=bias,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.blend: Blend = blend
        uncovered = int((cover_count(self.spec, self.shape) == 0).sum())
        require(
            uncovered == 0,
            f"{type(self).__name__} needs windows that cover the grid, but {spec.window} with "
            f"stride {spec.stride} and padding {spec.padding} leaves {uncovered} of "
            f'{math.prod(self.shape)} cells without a value; use padding "COVER" or a stride of '
            "at most the window",
        )

    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps [batch, *grid, features] to [batch, time, *space, channels] in float32."""
        patches = self.patches(features)
        return fold_patches(patches, self.spec, self.shape, reduce="mean", blend=self.blend)
