"""UNet: shapes at odd lengths, gradients, what sees what, and settings that do not fit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import UNetConfig
from stpatch_jax.patches.windows import WindowSpec

CAUSAL = WindowSpec((2, 2, 2), stride=(1, 2, 2), padding=("CAUSAL", "VALID", "VALID"))


def build(spec, shape, **fields):
    settings: Any = {"features": (8, 16, 16)} | fields
    config = UNetConfig(spec, **settings)
    return config.build(2, shape=shape, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("spec", "shape", "grid"),
    [
        ((None, 4, 4), (3, 20, 28), (1, 5, 7)),
        (CAUSAL, (3, 8, 6), (3, 4, 3)),
        ((1, 2), (4, 10), (4, 5)),
        ((1, 1, 1, 1), (1, 3, 2, 5), (1, 3, 2, 5)),
    ],
)
def test_the_map_has_the_patch_grid_whatever_its_lengths(spec, shape, grid, dtype):
    model = nnx.eval_shape(lambda: build(spec, shape, dtype=dtype))
    x = jax.ShapeDtypeStruct((2, *shape, 2), jnp.float32)
    y = nnx.eval_shape(lambda model, x: model(x), model, x)
    assert y.shape == (2, *grid, 8)
    assert y.dtype == dtype
    assert model.grid_shape(shape) == grid
    assert model.out_features == 8


def test_a_cell_sees_the_whole_frame_but_no_later_time():
    shape = (3, 16, 16)
    # Built inside, so that it is one program.
    run = jax.jit(lambda x: build(CAUSAL, shape, features=(4, 4, 4))(x))
    x = np.random.default_rng(0).normal(size=(1, *shape, 2)).astype(np.float32)
    before = np.asarray(run(x))
    later, corner = x.copy(), x.copy()
    later[:, 2] += 1
    after = np.asarray(run(later))
    np.testing.assert_array_equal(after[:, :2], before[:, :2])
    assert (after[:, 2] != before[:, 2]).any()
    # Three scales of the 8 x 8 grid: from one corner to the other.
    corner[:, 2, 0, 0] += 10
    changed = np.asarray(run(corner)) != before
    assert changed[0, 2, -1, -1].any()


@pytest.mark.slow
def test_every_parameter_learns():
    shape = (2, 6, 6)
    x = np.random.default_rng(0).normal(size=(2, *shape, 2)).astype(np.float32)
    gradient = nnx.grad(lambda model: jnp.sum(jnp.square(model(x))))
    grads = nnx.jit(lambda: gradient(build((None, 2, 2), shape, features=(4, 8))))()
    for path, grad in nnx.to_flat_state(grads):
        assert np.abs(grad[...]).max() > 0, path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"spec": WindowSpec((4,))}, "window must have 1 to 3 space axes"),
        ({"features": ()}, "features must have at least 1 entries"),
        ({"features": (8, 0)}, r"features\[1\] must be a whole number >= 1"),
        ({"depth": 0}, "depth must be a whole number >= 1, got 0"),
        ({"kernel_size": 2}, "kernel_size must be odd, got 2"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    settings: Any = {"spec": WindowSpec((1, 2, 2))} | fields
    with pytest.raises(InputError, match=message):
        UNetConfig(**settings)


def test_presets_and_inputs_that_do_not_fit():
    assert UNetConfig.tiny((1, 2, 2)).features == (8, 16)
    assert UNetConfig.base((1, 2, 2)).depth == 2
    model = nnx.eval_shape(lambda: build((None, 2, 2), (2, 6, 6)))
    with pytest.raises(InputError, match="UNet must have 2 channels, got 3"):
        nnx.eval_shape(lambda model: model(jnp.zeros((1, 2, 6, 6, 3))), model)
    with pytest.raises(InputError, match="shape must be"):
        UNetConfig.tiny((None, 2, 2)).build(1, rngs=nnx.Rngs(0))
