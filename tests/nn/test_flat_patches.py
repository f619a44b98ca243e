"""Patches without weights: features are the patches, and a linear head is least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax import extract_patches
from stpatch_jax.errors import InputError
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches.windows import WindowSpec


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((2, 12, 3), WindowSpec((4,), stride=(2,))),
        ((2, 12, 5, 1), WindowSpec((None, 1))),
        ((1, 4, 6, 6, 2), WindowSpec((2, 3, 3), stride=(1, 2, 3), padding="SAME")),
    ],
)
def test_features_are_the_patches(shape, spec):
    x = jax.random.normal(jax.random.key(0), shape)
    model = FlatPatchesConfig(spec).build(shape[-1], shape=shape[1:-1], rngs=nnx.Rngs(0))
    patches = extract_patches(x, spec)
    features = nnx.jit(nnx.view(model, deterministic=True))(x)
    grid = model.grid_shape(shape[1:-1])
    np.testing.assert_array_equal(features, patches.reshape(shape[0], *grid, -1))
    assert features.shape[-1] == model.out_features
    assert not jax.tree.leaves(nnx.state(model, nnx.Param))


def test_the_dtype_computes():
    config = FlatPatchesConfig(WindowSpec((2,)), dtype="bfloat16")
    model = config.build(1, shape=(4,), rngs=nnx.Rngs(0))
    assert model(jnp.ones((1, 4, 1))).dtype == jnp.bfloat16


def test_a_context_of_another_length_is_told():
    model = FlatPatchesConfig(WindowSpec((None,))).build(1, shape=(6,), rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=r"built for, \(6,\), got \(7,\)"):
        model(jnp.ones((1, 7, 1)))
    with pytest.raises(InputError, match="shape must be"):
        FlatPatchesConfig(WindowSpec((None,))).build(1, rngs=nnx.Rngs(0))
