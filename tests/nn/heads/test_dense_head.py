"""DenseHead: values come back to the cells that their windows read."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax import blend_weights
from stpatch_jax.errors import InputError
from stpatch_jax.nn import DenseHead, LayerOptions
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.testing import reference_fold_patches

FEATURES = 5


def randomise(head: Any, normal) -> Any:
    head.dense.kernel[...] = normal(1, *head.dense.kernel.shape)
    head.dense.bias[...] = normal(2, *head.dense.bias.shape)
    return head


@pytest.mark.parametrize(
    ("spec", "shape", "grid", "blend"),
    [
        (WindowSpec((4,), stride=2), (8,), (3,), "hann"),
        (WindowSpec((2, None, None)), (4, 3, 2), (2, 1, 1), "uniform"),
        (
            WindowSpec((3, 2), stride=1, padding=("CAUSAL", "SAME"), padding_mode="wrap"),
            (5, 4),
            (5, 4),
            "linear",
        ),
        (
            WindowSpec((1, 2, 3), stride=(1, 2, 2), padding="COVER", footprint="ball"),
            (2, 3, 6),
            (2, 2, 3),
            "uniform",
        ),
    ],
)
def test_values_are_averaged_over_the_windows_of_a_cell(spec, shape, grid, blend, normal):
    channels = 2
    sizes = {"shape": shape, "channels": channels, "rngs": nnx.Rngs(0)}
    dense: Any = DenseHead(spec, FEATURES, blend=blend, **sizes)
    features = normal(0, 2, *grid, FEATURES)
    assert (dense(features) == 0).all()
    y = randomise(dense, normal)(features)
    values = np.asarray(dense.patches(features))
    window = spec.window_shape(shape)
    expected = np.asarray(features) @ np.asarray(dense.dense.kernel[...])
    expected += np.asarray(dense.dense.bias[...])
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
    # A prediction is made for every sample of a window, whatever its footprint.
    whole = spec.replace(footprint=None)
    weights = blend_weights(whole, shape, blend=blend)[..., None]
    values = values.reshape(2, *grid, *window, channels)
    expected = reference_fold_patches(values * weights, whole, shape)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    assert y.shape == (2, *shape, channels)


def test_bfloat16_features_give_float32_values():
    head = DenseHead(
        WindowSpec((2,)),
        3,
        shape=(4,),
        channels=1,
        options=LayerOptions(dtype="bfloat16"),
        rngs=nnx.Rngs(0),
    )
    assert head(jnp.ones((1, 2, 3), jnp.bfloat16)).dtype == jnp.float32
    assert head.dense.kernel[...].dtype == jnp.float32


def test_what_does_not_fit_is_refused():
    def build(spec, **sizes: Any):
        sizes = {"shape": (5, 4), "channels": 1, **sizes}
        return DenseHead(spec, FEATURES, rngs=nnx.Rngs(0), **sizes)

    with pytest.raises(InputError, match=r"leaves 4 of 20 cells without a value; .*COVER"):
        build(WindowSpec((2, 2)))
    with pytest.raises(InputError, match="channels must be a whole number >= 1, got 0"):
        build(WindowSpec((1, 1)), channels=0)
    with pytest.raises(InputError, match=r"blend must be 'uniform', .* got 'cosine'"):
        build(WindowSpec((1, 1)), blend="cosine")
    head = build(WindowSpec((5, 2)))
    message = "the feature map must be (batch, *(1, 2), 5), got shape (2, 1, 3, 5)"
    with pytest.raises(InputError, match=re.escape(message)):
        head(jnp.zeros((2, 1, 3, FEATURES)))
