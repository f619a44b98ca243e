"""DenseHead: values for every cell, from a feature map back to the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import check_choice, check_size, require
from stpatch_jax.nn.options import FLOAT32, LayerOptions
from stpatch_jax.patches.blends import BLEND_NAMES, BlendName
from stpatch_jax.patches.folding import cover_count, fold_patches
from stpatch_jax.patches.windows import WindowSpec


class DenseHead(nnx.Module):
    """Gives every cell of the field its values: from a feature map back to the grid.

    One dense layer maps each grid cell's features to the values of its whole window; the windows
    are folded back to the grid, averaged where they overlap. The weights start at zero, so an
    untrained head gives 0 everywhere.

    Maps [batch, *grid, features] to [batch, time, *space, channels] in float32.

    Args:
        spec: The backbone's `spec`; entries of None take the whole axis. Of padding modes "wrap" is
            kept, so windows over the seam reach round the ring; values that fall into other padding
            are dropped. A footprint does not restrict which cells get values.
        in_features: Number of channels of the feature map.
        shape: `(time, *space)` of the field to give.
        channels: Number of values per cell.
        bias: Whether a constant is added to each value; without, features of 0 give 0.
        blend: Weights of the average by name, see `fold_patches`: "uniform", or "linear", "hann",
            "gaussian", which weigh a window's centre more than its rim and so hide seams, or
            "crop", which takes no average.
        options: Those of the dense layer; the fold accumulates in float32.

    Raises:
        InputError: If `channels` is not positive, the blend is not known, the spec does not fit the
            shape, or the windows leave cells uncovered.
    """

    def __init__(
        self,
        spec: WindowSpec,
        in_features: int,
        *,
        shape: Sequence[int],
        channels: int,
        bias: bool = True,
        blend: BlendName = "uniform",
        options: LayerOptions = FLOAT32,
        rngs: nnx.Rngs,
    ):
        check_size("channels", channels)
        check_choice("blend", blend, BLEND_NAMES)
        self.in_features = in_features
        self.shape = tuple(shape)
        self.blend: BlendName = blend
        # What falls into padding is dropped, but for windows that reach round the ring.
        modes = ["wrap" if mode == "wrap" else "constant" for mode in spec.padding_mode]
        self.spec = spec.replace(padding_mode=modes, footprint=None)
        self.grid = self.spec.grid_shape(self.shape)
        self.patch_shape = (*self.spec.window_shape(self.shape), channels)
        zeros, values = nnx.initializers.zeros_init(), math.prod(self.patch_shape)
        init = {"use_bias": bias, "kernel_init": zeros}
        self.dense = options.linear(in_features, values, rngs=rngs, **init)
        uncovered = int((cover_count(self.spec, self.shape) == 0).sum())
        require(
            uncovered == 0,
            f"windows must cover the grid, got {spec.window} with stride {spec.stride} and padding "
            f"{spec.padding}, which leaves {uncovered} of {math.prod(self.shape)} cells without a "
            f"value; use padding={('COVER',) * spec.rank} or a stride of at most the window",
        )

    def patches(self, features: jax.Array) -> jax.Array:
        """Maps [batch, *grid, features] to [batch, *grid, window * channels], before the fold."""
        require(
            features.shape[1:] == (*self.grid, self.in_features),
            f"the feature map must be (batch, *{self.grid}, {self.in_features}), got shape "
            f"{features.shape}; build the head with the backbone's spec and out_features and the "
            "field's shape",
        )
        return self.dense(features).astype(jnp.float32)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps [batch, *grid, features] to [batch, time, *space, channels] in float32."""
        patches = self.patches(features)
        return fold_patches(patches, self.spec, self.shape, flat=True, blend=self.blend)
