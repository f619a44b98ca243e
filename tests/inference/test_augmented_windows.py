"""A function that sees windows mirrored and turned: its mean, and the same bits where all agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax import InputError, WindowSpec
from stpatch_jax.inference import flips, rotations, shifts, sliding_window_apply

X = np.random.default_rng(0).normal(size=(3, 8, 10, 2)).astype(np.float32)
SPEC = WindowSpec((2, 4, 4), stride=(1, 2, 3), padding="COVER")
SIDES = flips(0, 1, 2) + rotations(1, 2) + shifts(2, -1, 1)


def test_what_is_the_same_from_all_sides_comes_back_bit_for_bit():
    x = X.copy()
    x[0, 0, 0] = np.inf, np.nan
    found = sliding_window_apply(lambda w: 2 * w, x, SPEC, augment=SIDES)
    np.testing.assert_array_equal(found, 2 * x)


def test_it_is_the_mean_of_all_sides():
    def one_sided(windows):
        coarse = windows[:, :, ::2, ::2]
        return {"sum": jnp.cumsum(windows, 2) * jnp.cumsum(windows, 3), "first": coarse}

    def all_sides(windows):
        views = [one_sided(windows), *(back(one_sided(there(windows))) for there, back in sides)]
        return jax.tree.map(lambda *y: sum(y) / len(y), *views)

    sides, spec = flips(1, 2) + rotations(1, 2) + shifts(2, 2), SPEC.replace(stride=(1, 2, 2))
    scale = {"sum": 1, "first": (1, 0.5, 0.5)}
    found = sliding_window_apply(one_sided, X, spec, scale=scale, augment=sides)
    expected = sliding_window_apply(all_sides, X, spec, scale=scale)
    for name in scale:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)


def test_a_pair_of_ones_own_may_turn_channels_round():
    signs = jnp.array([-1.0, 1]).reshape(1, 1, 1, 1, 2)

    def mirror(windows):
        return jnp.flip(windows, 3) * signs

    # East winds of a mirrored map are west winds: a bias towards the east goes.
    found = sliding_window_apply(lambda w: w + 1, X, SPEC, augment=[(mirror, mirror)])
    np.testing.assert_allclose(found, X + np.array([0, 1]), atol=1e-6)


def test_small_floats_are_averaged_in_wide_ones():
    x = jnp.ones((4, 1), jnp.bfloat16)
    pairs = [(lambda w: 256 * w, lambda y: y), *[(lambda w: w, lambda y: y)] * 14]
    found = sliding_window_apply(lambda w: w, x, (4,), augment=pairs)
    assert found.dtype == jnp.bfloat16
    # 16.94, rounded once; a sum in bfloat16 would give 16.
    np.testing.assert_array_equal(np.asarray(found, np.float32), 17)


def test_weights_have_gradients_and_one_program_serves_them_all(caplog):
    layer = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    model = nnx.Sequential(layer, nnx.relu)

    def loss(model):
        return sliding_window_apply(model, X, SPEC, augment=flips(1)).sum()

    found = nnx.grad(loss)(model)
    expected = nnx.grad(lambda m: m(X).sum())(model)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), found, expected)
    loss(model)
    layer.kernel.set_value(2 * layer.kernel)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        loss(model)
    assert not [r for r in caplog.records if "Compiling" in r.message and "run" in r.message]


BAD = {
    "no pairs": (["flip"], "augment must be pairs of functions, there and back, got"),
    "one function": (jnp.flip, "augment must be pairs of functions"),
    "a turn of unequal axes": (rotations(0, 1), r"augment must keep the shape.* turn only axes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_pairs_are_one_sentence(name):
    augment, message = BAD[name]
    with pytest.raises(InputError, match=message):
        sliding_window_apply(jnp.sin, X, SPEC, augment=augment)
