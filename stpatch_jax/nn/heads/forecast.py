"""ForecastHead: all lead times at once, back on the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.folding import cover_count, fold_patches
from stpatch_jax.nn.layers import DTypeName, is_size, require
from stpatch_jax.windows import WindowSpec


class ForecastHead(nnx.Module):
    """Forecasts all lead times at once from the last step of a feature map.

    One dense layer maps each grid cell's features to `horizon` values for every cell and channel of
    its space window; `fold_patches` puts the windows back on the grid and averages where they
    overlap. Its weights start at zero, so an untrained head forecasts 0 everywhere: the baseline,
    where the forecast is a residual to one.

    Maps [batch, nt, *ns, features] to [batch, horizon, *space, channels] in float32.

    Args:
        spec: The backbone's `spec`. Only its space part counts: window, stride, dilation and
            padding. Of padding modes "wrap" is kept, so windows over the seam reach round the ring;
            values that fall into other padding are dropped. A footprint does not restrict which
            cells are forecast.
        in_features: Number of channels of the feature map.
        space: Lengths of the space axes to forecast.
        horizon: Number of time steps to forecast.
        channels: Number of values per time step and grid cell.
        dtype: Name of the dtype of the dense layer; the fold accumulates in float32.
        param_dtype: Name of the dtype that stores.
        rngs: Stream `params`.

    Raises:
        InputError: If a size is not positive, or the windows leave cells of the grid uncovered.
    """

    def __init__(
        self,
        spec: WindowSpec,
        in_features: int,
        *,
        space: Sequence[int],
        horizon: int,
        channels: int,
        dtype: DTypeName = "float32",
        param_dtype: DTypeName = "float32",
        rngs: nnx.Rngs,
    ):
        for name, size in (("horizon", horizon), ("channels", channels)):
            require(is_size(size), f"ForecastHead needs {name} >= 1, got {size!r}")
        self.in_features = in_features
        self.shape = (horizon, *space)
        self.spec = _forecast_spec(spec, horizon)
        uncovered = int((cover_count(self.spec, self.shape) == 0).sum()) // horizon
        require(
            uncovered == 0,
            f"ForecastHead needs windows that cover the grid, but {spec.window} with stride "
            f"{spec.stride} and padding {spec.padding} leaves {uncovered} of "
            f'{math.prod(space)} cells without a forecast; use padding "COVER" or a stride of at '
            "most the window",
        )
        self.patch_shape = (*self.spec.window_shape(self.shape), channels)
        self.dense = nnx.Linear(
            in_features,
            math.prod(self.patch_shape),
            kernel_init=nnx.initializers.zeros_init(),
            dtype=jnp.dtype(dtype),
            param_dtype=jnp.dtype(param_dtype),
            rngs=rngs,
        )

    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps [batch, nt, *ns, features] to [batch, horizon, *space, channels] in float32."""
        grid = self.spec.grid_shape(self.shape)
        require(
            features.shape[2:] == (*grid[1:], self.in_features),
            f"ForecastHead needs a feature map (batch, time, *{grid[1:]}, {self.in_features}), "
            f"got shape {features.shape}; build the head with the backbone's spec, out_features "
            "and the field's space lengths",
        )
        values = self.dense(features[:, -1]).astype(jnp.float32)
        patches = values.reshape(values.shape[0], *grid, *self.patch_shape)
        return fold_patches(patches, self.spec, self.shape, reduce="mean")


def _forecast_spec(spec: WindowSpec, horizon: int) -> WindowSpec:
    """Replaces the time part of a spec by one window as long as the horizon."""
    modes = ["wrap" if mode == "wrap" else "constant" for mode in spec.padding_mode[1:]]
    return WindowSpec(
        (horizon, *spec.window[1:]),
        stride=(horizon, *spec.stride[1:]),
        dilation=(1, *spec.dilation[1:]),
        padding=("VALID", *spec.padding[1:]),
        padding_mode=("constant", *modes),
    )
