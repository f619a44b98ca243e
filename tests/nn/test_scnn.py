"""SCNN: what it joins, how far it sees, hand-counted parameters."""

import jax
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import SCNNConfig


def test_output_is_the_input_joined_with_features(normal):
    model = SCNNConfig.tiny(1).build(3, rngs=nnx.Rngs(0))
    x = normal(0, 2, 5, 4, 3)
    y = model(x)
    assert y.shape == (2, 5, 4, 3 + 8)
    assert model.out_features == 11
    np.testing.assert_array_equal(y[..., :3], x)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("spatial_kernel_size", [1, 3])
def test_receptive_field(causal, spatial_kernel_size, normal):
    config = SCNNConfig(1, 8, 2, spatial_kernel_size=spatial_kernel_size, causal=causal)
    model = config.build(2, rngs=nnx.Rngs(0))
    x = normal(0, 1, 11, 9, 2)
    difference = np.abs(model(x.at[0, 5, 4].add(2.0)) - model(x)).max(axis=(0, 3))
    seen_time, seen_space = np.flatnonzero(difference.any(1)), np.flatnonzero(difference.any(0))
    # Two pairs: each temporal one reaches 1 to both sides, or 2 back when causal.
    assert (seen_time.min(), seen_time.max()) == ((5, 9) if causal else (3, 7))
    assert (seen_space.min(), seen_space.max()) == ((4, 4) if spatial_kernel_size == 1 else (2, 6))


def test_parameter_count_by_hand():
    def count(model):
        return sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param)))

    video = SCNNConfig.base(2).build(256, rngs=nnx.Rngs(0))
    temporal = (3 * 256 * 64 + 64) + (3 * 64 * 64 + 64)
    assert count(video) == temporal + 2 * (9 * 64 * 64 + 64)
    series = SCNNConfig.base(0).build(256, rngs=nnx.Rngs(0))
    assert count(series) == temporal


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"space_axes": -1}, "space_axes must be 0, 1, 2 or 3, got -1"),
        ({"depth": 0}, "depth must be a whole number >= 1, got 0"),
        ({"spatial_kernel_size": 2}, "spatial_kernel_size must be odd, got 2"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        SCNNConfig(**{"space_axes": 1, **fields})
