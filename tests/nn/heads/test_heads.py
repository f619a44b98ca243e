"""ForecastHead: every kind of space window comes back to the grid."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import ForecastHead, LayerOptions
from stpatch_jax.patches.windows import WindowSpec

FEATURES = 6


def forecast_by_loops(head, features, starts, window, dilation, space):
    """Writes every window where it lies, one value at a time, and averages the overlaps."""
    horizon, channels = head.shape[0], head.patch_shape[-1]
    kernel, bias = (np.asarray(p[...]) for p in (head.dense.kernel, head.dense.bias))
    total = np.zeros((features.shape[0], horizon, *space, channels))
    hits = np.zeros(space)
    for cell in np.ndindex(*features.shape[2:-1]):
        values = features[:, -1][(slice(None), *cell)] @ kernel + bias
        values = values.reshape(-1, horizon, *window, channels)
        for offset in np.ndindex(*window):
            at = tuple(
                starts[a][c] + o * d
                for a, (c, o, d) in enumerate(zip(cell, offset, dilation, strict=True))
            )
            if all(0 <= i < n for i, n in zip(at, space, strict=True)):
                total[(slice(None), slice(None), *at)] += values[
                    (slice(None), slice(None), *offset)
                ]
                hits[at] += 1
    return total / hits[..., None]


@pytest.mark.parametrize(
    ("spec", "space"),
    [
        (WindowSpec((4,)), ()),
        (WindowSpec((4, 1)), (5,)),
        (WindowSpec((4, None)), (5,)),
        (WindowSpec((4, 2)), (6,)),
        (WindowSpec((4, 3), stride=(2, 1), padding=("CAUSAL", "SAME")), (5,)),
        (WindowSpec((4, 3), stride=(4, 2), padding=("VALID", "COVER")), (6,)),
        (WindowSpec((2, 2, 3), stride=(1, 1, 2), dilation=(1, 2, 1)), (4, 5)),
        (WindowSpec((1, 2, 2, 2), stride=(1, 2, 1, 1)), (2, 3, 3)),
    ],
)
def test_values_return_to_the_grid_by_averaging_windows(spec, space, normal):
    horizon, channels = 3, 2
    head = ForecastHead(
        spec, FEATURES, space=space, horizon=horizon, channels=channels, rngs=nnx.Rngs(0)
    )
    shape = (16, *space)
    grid, axes = spec.grid_shape(shape), spec.axes(shape)[1:]
    features = normal(0, 2, *grid, FEATURES)
    assert (head(features) == 0).all()
    head.dense.kernel[...] = normal(1, *head.dense.kernel.shape)
    assert head.dense.bias is not None
    head.dense.bias[...] = normal(2, *head.dense.bias.shape)
    y = head(features)
    assert y.shape == (2, horizon, *space, channels)
    expected = forecast_by_loops(
        head,
        np.asarray(features),
        [axis.starts for axis in axes],
        [axis.window for axis in axes],
        spec.dilation[1:],
        space,
    )
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_wrap_reaches_round_the_ring_and_edge_padding_adds_nothing():
    def forecast(mode):
        spec = WindowSpec((1, 3), stride=1, padding=("VALID", "SAME"), padding_mode=mode)
        head = ForecastHead(spec, 1, space=(4,), horizon=1, channels=1, rngs=nnx.Rngs(0))
        # A window forecasts its cell's feature at the cell before it, and nothing elsewhere.
        head.dense.kernel[...] = jnp.array([[3.0, 0.0, 0.0]])
        return head(jnp.array([1.0, 2.0, 4.0, 8.0]).reshape(1, 1, 4, 1)).ravel()

    np.testing.assert_allclose(forecast("wrap"), [2.0, 4.0, 8.0, 1.0], rtol=1e-6)
    # Cell 0 lies in two windows and cell 3 in two: their means are over two and not three.
    np.testing.assert_allclose(forecast("edge"), [3.0, 4.0, 8.0, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(forecast("edge"), forecast("constant"))


def test_bfloat16_features_give_float32_forecasts_from_float32_parameters():
    head = ForecastHead(
        WindowSpec((2, 1)),
        3,
        space=(2,),
        horizon=1,
        channels=1,
        options=LayerOptions(dtype="bfloat16"),
        rngs=nnx.Rngs(0),
    )
    assert head(jnp.ones((1, 1, 2, 3), jnp.bfloat16)).dtype == jnp.float32
    assert head.dense.kernel[...].dtype == jnp.float32


def test_windows_that_leave_cells_out_are_refused():
    with pytest.raises(InputError, match=r"leaves 2 of 10 cells without a value; .*COVER"):
        ForecastHead(
            WindowSpec((4, 2)), FEATURES, space=(5,), horizon=2, channels=1, rngs=nnx.Rngs(0)
        )


@pytest.mark.parametrize("name", ["horizon", "channels"])
def test_sizes_must_be_positive(name):
    sizes: dict[str, Any] = {"horizon": 1, "channels": 1, name: 0}
    with pytest.raises(InputError, match=f"{name} must be a whole number >= 1, got 0"):
        ForecastHead(WindowSpec((1,)), FEATURES, space=(), rngs=nnx.Rngs(0), **sizes)


def test_a_feature_map_of_another_grid_is_refused():
    head = ForecastHead(
        WindowSpec((4, 1)), FEATURES, space=(5,), horizon=2, channels=1, rngs=nnx.Rngs(0)
    )
    for shape in ((2, 3, 4, FEATURES), (2, 3, 5, 7), (2, 3, FEATURES)):
        message = f"the feature map must be (batch, time, *(5,), 6), got shape {shape}"
        with pytest.raises(InputError, match=re.escape(message)):
            head(jnp.zeros(shape))
