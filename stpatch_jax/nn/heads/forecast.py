"""ForecastHead: all lead times at once, back on the grid, as values or as quantiles."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import check_choice, check_size, require
from stpatch_jax.nn.heads.dense import DenseHead
from stpatch_jax.nn.options import FLOAT32, LayerOptions
from stpatch_jax.patches.windows import WindowSpec

ForecastTime = Literal["last", "flatten"]


class ForecastHead(DenseHead):
    """Forecasts all lead times at once from a feature map.

    One dense layer maps each grid cell's features to `horizon` values for every cell and channel of
    its space window; `fold_patches` puts the windows back on the grid and averages where they
    overlap. Its weights start at zero, so an untrained head forecasts 0 everywhere: the baseline,
    where the forecast is a residual to one.

    With quantiles, the value of the central one (nearest to 0.5) is the layer's; each one above
    adds the softplus of a value to the one before it, each one below takes it off. So they never
    cross, whatever the weights. Untrained they lie `softplus(0) = log 2` apart, the central at 0.

    Maps [batch, nt, *ns, features] to [batch, horizon, *space, channels] in float32, or with
    quantiles to [batch, horizon, *space, channels, quantile].

    Args:
        spec: The backbone's `spec`, as in `DenseHead`. Only its space part counts: window, stride,
            dilation and padding.
        in_features: Number of channels of the feature map.
        space: Lengths of the space axes to forecast.
        horizon: Number of time steps to forecast.
        channels: Number of values per time step and grid cell.
        quantiles: Probabilities in (0, 1), increasing; empty for one value.
        time: "last" takes the feature vector of the last grid time, which suits backbones that
            carry the past along; "flatten" lines up those of all grid times (as PatchTST does),
            which needs more weights and inputs of one length.
        grid_time: `nt` of the feature map, needed to flatten.
        bias: Whether a constant is added at each lead time, cell of the window and channel.
        options: As in `DenseHead`.

    Raises:
        InputError: If a size is not positive, the quantiles do not increase in (0, 1), or the
            windows leave cells of the grid uncovered.

    References:
        Nie et al., "A time series is worth 64 words", ICLR 2023 (PatchTST's flatten head).
        Quantiles without crossing: Cannon, Stochastic Environmental Research and Risk Assessment
        32 (2018).
    """

    def __init__(
        self,
        spec: WindowSpec,
        in_features: int,
        *,
        space: Sequence[int],
        horizon: int,
        channels: int,
        quantiles: Sequence[float] = (),
        time: ForecastTime = "last",
        grid_time: int | None = None,
        bias: bool = True,
        options: LayerOptions = FLOAT32,
        rngs: nnx.Rngs,
    ):
        check_size("horizon", horizon)
        check_size("channels", channels)
        check_choice("time", time, get_args(ForecastTime))
        if time == "flatten":
            check_size("grid_time", grid_time)
        self.features = in_features
        self.time, self.grid_time = time, grid_time
        self.quantiles = tuple(quantiles)
        self.central = central_quantile(self.quantiles) if self.quantiles else None
        super().__init__(
            _forecast_spec(spec, horizon),
            in_features * grid_time if time == "flatten" and grid_time else in_features,
            shape=(horizon, *space),
            channels=channels * max(len(self.quantiles), 1),
            bias=bias,
            options=options,
            rngs=rngs,
        )

    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps [batch, nt, *ns, features] to [batch, horizon, *space, channels(, quantile)]."""
        time = "time" if self.time == "last" else self.grid_time
        require(
            features.shape[2:] == (*self.grid[1:], self.features)
            and (self.time == "last" or features.shape[1] == self.grid_time),
            f"the feature map must be (batch, {time}, *{self.grid[1:]}, {self.features}), got "
            f"shape {features.shape}; build the head with the backbone's spec, out_features and "
            "the field's space lengths",
        )
        if self.time == "last":
            features = features[:, -1:]
        else:
            shape = (len(features), 1, *self.grid[1:], self.in_features)
            features = jnp.moveaxis(features, 1, -2).reshape(shape)
        values = super().__call__(features)
        return values if self.central is None else self._quantiles(values, self.central)

    def _quantiles(self, spread: jax.Array, central: int) -> jax.Array:
        """Spreads raw values [..., channels * quantile] out from the central quantile."""
        count = len(self.quantiles)
        raw = spread.reshape(*spread.shape[:-1], spread.shape[-1] // count, count)
        gaps = jax.nn.softplus(raw)
        # Added one by one: rounding then cannot make them cross either.
        values = {central: raw[..., central]}
        for at in range(central + 1, count):
            values[at] = values[at - 1] + gaps[..., at]
        for at in reversed(range(central)):
            values[at] = values[at + 1] - gaps[..., at]
        return jnp.stack([values[at] for at in range(count)], axis=-1)


def central_quantile(quantiles: Sequence[float]) -> int:
    """Returns the index of the quantile nearest to 0.5, the lower one if two are.

    Raises:
        InputError: If the quantiles do not increase strictly within (0, 1).

    >>> central_quantile((0.1, 0.5, 0.9))
    1
    """
    require(
        len(quantiles) > 0
        and all(0 < q < 1 for q in quantiles)
        and all(a < b for a, b in itertools.pairwise(quantiles)),
        f"quantiles must increase strictly between 0 and 1, got {tuple(quantiles)}; give for "
        "example (0.1, 0.5, 0.9)",
    )
    return min(range(len(quantiles)), key=lambda at: abs(quantiles[at] - 0.5))


def _forecast_spec(spec: WindowSpec, horizon: int) -> WindowSpec:
    """Replaces the time part of a spec by one window as long as the horizon."""
    return WindowSpec(
        (horizon, *spec.window[1:]),
        stride=(horizon, *spec.stride[1:]),
        dilation=(1, *spec.dilation[1:]),
        padding=("VALID", *spec.padding[1:]),
        padding_mode=("constant", *spec.padding_mode[1:]),
    )
