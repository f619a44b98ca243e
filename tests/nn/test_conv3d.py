"""Conv3DBackbone: the published network's sizes, what a feature cell stands for, bad settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import Conv3DConfig
from stpatch_jax.patches.extraction import extract_patches


def test_published_network_by_hand():
    model = nnx.eval_shape(lambda: Conv3DConfig.conv3d_64().build(3, rngs=nnx.Rngs(0)))
    assert sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param))) == 27 * 3 * 64 + 64
    assert model.grid_shape((16, 10, 10)) == (8, 5, 5)


def test_one_stage_of_identity_kernels_is_max_pooling(normal):
    model = Conv3DConfig(1, (1, 1)).build(1, rngs=nnx.Rngs(0))
    for stage in model.stages:
        stage.kernel[...] = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    x = jnp.abs(normal(0, 2, 7, 5, 1))
    y = model(x)
    assert y.shape[1:-1] == model.grid_shape((7, 5)) == (2, 2)
    patches = extract_patches(x, model.spec)
    np.testing.assert_array_equal(y, patches.max(axis=(3, 4)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (9, 8, 4)])
def test_grid_shape_is_that_of_the_output(shape):
    model = nnx.eval_shape(lambda: Conv3DConfig.base(2).build(1, rngs=nnx.Rngs(0)))
    y = nnx.eval_shape(lambda model, x: model(x), model, jnp.zeros((2, *shape, 1)))
    assert y.shape == (2, *model.grid_shape(shape), 128)


def test_cells_of_a_window_are_channels(normal):
    config = Conv3DConfig(1, (4,), window=(1, 2))
    model = config.build(3, shape=(2, 5), rngs=nnx.Rngs(0))
    plain = Conv3DConfig(1, (4,)).build(6, shape=(2, 3), rngs=nnx.Rngs(0))
    x = normal(0, 2, 2, 5, 3)
    # The fifth cell has nobody beside it: a zero fills its window.
    cut = jnp.pad(x, [(0, 0), (0, 0), (0, 1), (0, 0)]).reshape(2, 2, 3, 6)
    np.testing.assert_array_equal(model(x), plain(cut))
    assert model.grid_shape((2, 5)) == model(x).shape[1:-1] == (1, 2)
    assert model.spec.window == (2, 4)


def test_an_axis_of_one_cell_is_not_convolved():
    model = nnx.eval_shape(
        lambda: Conv3DConfig(3, (4, 8)).build(1, shape=(1, 4, 4, 2), rngs=nnx.Rngs(0))
    )
    assert [stage.kernel.shape for stage in model.stages] == [
        (1, 3, 3, 3, 1, 4),
        (1, 3, 3, 1, 4, 8),
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"space_axes": 5}, "space_axes must be 0, 1, 2 or 3, got 5"),
        ({"features": ()}, "features must have at least 1 entries"),
        ({"kernel_size": 2}, "kernel_size must be odd, got 2"),
        ({"window": (2, 2)}, r"the window must have 3 entries, time first, got \(2, 2\)"),
        ({"window": (1, 0, 2)}, r"window\[1\] must be a whole number >= 1, got 0"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Conv3DConfig(**fields)
