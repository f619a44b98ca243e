"""NeighborhoodOperator: the formula, strict causality, and coefficients it recovers."""

import re

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import NeighborhoodConfig


def test_linear_operator_is_the_formula(normal):
    config = NeighborhoodConfig(((0, 0), (1, 0), (0, -2)), lags=3, features=2)
    model = config.build(2, rngs=nnx.Rngs(0))
    x = normal(0, 2, 5, 3, 4, 2)
    weights, padded = (
        np.asarray(model.coefficients()),
        np.pad(x, [(0, 0)] * 2 + [(2, 2)] * 2 + [(0, 0)]),
    )
    y = np.asarray(model(x))
    assert y.shape == (2, 3, 3, 4, 2)
    for i, j, k in np.ndindex(3, 3, 4):
        expected = sum(
            padded[:, i + 3 - lag, 2 + j + dj, 2 + k + dk] @ weights[lag - 1, offset]
            for lag in (1, 2, 3)
            for offset, (dj, dk) in enumerate(config.offsets)
        )
        np.testing.assert_allclose(y[:, i, j, k], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hidden", [(), (8,)])
def test_output_sees_neither_its_own_step_nor_other_neighbours(hidden, normal):
    config = NeighborhoodConfig(((0,), (1,)), lags=2, features=3, hidden=hidden)
    model = config.build(1, rngs=nnx.Rngs(0))
    x = normal(0, 1, 6, 4, 1)
    changed = np.abs(model(x.at[0, 3, 2].add(5.0)) - model(x)).max(axis=(0, 3)) > 0
    # Output g is X at step g + 2: step 3 is the past of X at steps 4 and 5, for cells 1 and 2.
    steps, cells = np.nonzero(changed)
    assert set(steps + 2) == {4, 5}
    assert set(cells) == {1, 2}


def test_linear_operator_recovers_a_simulated_process():
    rng = np.random.default_rng(0)
    truth = np.array([[[0.5], [0.3]], [[-0.2], [0.1]]])[..., None]
    x = np.zeros((400, 16))
    for i in range(2, 400):
        past = [(x[i - lag], np.roll(x[i - lag], -1)) for lag in (1, 2)]
        drift = sum(truth[a, b, 0, 0] * past[a][b] for a in range(2) for b in range(2))
        x[i] = drift + 0.1 * rng.normal(size=16)
    field = jnp.asarray(x[None, ..., None], jnp.float32)
    config = NeighborhoodConfig(((0,), (1,)), lags=2, padding_mode="wrap")
    model = config.build(1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(0.02), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer):
        def loss_fn(model):
            # The last output is the step after the field ends; it has no target.
            return jnp.square(model(field)[:, :-1] - field[:, 2:]).mean()

        loss, gradient = nnx.value_and_grad(loss_fn)(model)
        optimizer.update(model, gradient)
        return loss

    losses = [train_step(model, optimizer) for _ in range(400)]
    # 6368 samples of noise 0.1 fix each coefficient to about 0.01.
    np.testing.assert_allclose(model.coefficients(), truth, atol=0.04)
    np.testing.assert_allclose(losses[-1], 0.01, rtol=0.05)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("constant", [2, 3, 0]), ("edge", [2, 3, 3]), ("reflect", [2, 3, 2]), ("wrap", [2, 3, 1])],
)
def test_neighbours_outside_the_grid(mode, expected):
    config = NeighborhoodConfig(((1,),), lags=1, padding_mode=mode)
    model = config.build(1, rngs=nnx.Rngs(0))
    model.layers[0].kernel[...] = jnp.ones((1, 1))
    y = model(jnp.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1))
    np.testing.assert_array_equal(y.ravel(), expected)


def test_forward_neighbours_by_axes():
    assert NeighborhoodConfig.forward(0).offsets == ((),)
    assert NeighborhoodConfig.forward(2, axes=()).offsets == ((0, 0),)
    assert NeighborhoodConfig.forward(2, axes=(1,)).offsets == ((0, 0), (0, 1))
    assert NeighborhoodConfig.forward(2).offsets == ((0, 0), (1, 0), (0, 1))
    with pytest.raises(InputError, match="space axes from 0 to 1, got"):
        NeighborhoodConfig.forward(2, axes=(2,))


def test_a_context_shorter_than_the_lags_is_refused():
    config = NeighborhoodConfig.tiny(1)
    message = re.escape("window must be no longer than the input (1, 3)")
    with pytest.raises(InputError, match=message):
        config.build(1, shape=(1, 3), rngs=nnx.Rngs(0))


def test_only_a_linear_operator_has_coefficients():
    model = NeighborhoodConfig.base(1).build(1, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=r"must be linear .*, got hidden layers \(64,\)"):
        model.coefficients()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"offsets": ()}, "offsets must be distinct"),
        ({"offsets": ((0,), (0, 1))}, "with one whole number of cells per space axis"),
        ({"offsets": ((0,), (0,))}, "offsets must be distinct"),
        ({"offsets": ((0.5,),)}, "with one whole number of cells per space axis"),
        ({"lags": 0}, "lags must be a whole number >= 1, got 0"),
        ({"hidden": (0,)}, r"hidden\[0\] must be a whole number >= 1"),
        (
            {"padding_mode": "zeros"},
            "padding_mode must be 'constant', 'edge', 'reflect' or 'wrap', got 'zeros'",
        ),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        NeighborhoodConfig(**{"offsets": ((0,),), **fields})
