"""Losses against scikit-learn and SciPy, and the masking laws."""

import doctest
import re

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from stpatch_jax import losses
from stpatch_jax.errors import InputError

LOSSES = {"mse": losses.mse, "mae": losses.mae, "huber": losses.huber}
# One fixed shape, so that hypothesis draws values and not compilations.
SHAPE = (2, 3, 4)
VALUES = hnp.arrays(np.float32, SHAPE, elements=st.floats(-100, 100, width=32))
MASKS = hnp.arrays(bool, SHAPE)


def reference(name, prediction, target, mask):
    if not mask.any():
        return 0.0
    real = prediction[mask].astype(np.float64), target[mask].astype(np.float64)
    return {
        "mse": lambda: sklearn.metrics.mean_squared_error(real[1], real[0]),
        "mae": lambda: sklearn.metrics.mean_absolute_error(real[1], real[0]),
        "huber": lambda: scipy.special.huber(1.0, real[0] - real[1]).mean(),
    }[name]()


@pytest.mark.parametrize("name", LOSSES)
@hypothesis.given(prediction=VALUES, target=VALUES, mask=MASKS)
@hypothesis.settings(max_examples=25, deadline=None)
def test_equals_the_reference_over_real_entries(name, prediction, target, mask):
    loss = LOSSES[name](jnp.asarray(prediction), jnp.asarray(target), mask=jnp.asarray(mask))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(
        loss, reference(name, prediction, target, mask), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", LOSSES)
def test_masked_nan_reaches_neither_loss_nor_gradient(name):
    mask = jnp.array([True, False, True])
    target = jnp.array([1.0, jnp.nan, 3.0])
    loss, gradient = jax.value_and_grad(LOSSES[name])(
        jnp.array([2.0, 7.0, -1.0]), target, mask=mask
    )
    filled, _ = jax.value_and_grad(LOSSES[name])(
        jnp.array([2.0, 7.0, -1.0]), jnp.array([1.0, 50.0, 3.0]), mask=mask
    )
    assert loss == filled
    assert gradient[1] == 0
    assert np.isfinite(gradient).all()
    assert (gradient != 0).sum() == 2


@pytest.mark.parametrize("name", LOSSES)
def test_no_real_entry_gives_zero_loss_and_gradient(name):
    nothing = jnp.zeros(3, bool)
    target = jnp.full(3, jnp.nan)
    loss, gradient = jax.value_and_grad(LOSSES[name])(jnp.arange(3.0), target, mask=nothing)
    assert loss == 0
    assert (gradient == 0).all()


def test_bfloat16_predictions_accumulate_in_float32():
    # 4096 + 1 is not a bfloat16: a sum kept in that dtype would stop growing.
    prediction = jnp.ones(5000, jnp.bfloat16)
    assert losses.mae(prediction, jnp.zeros(5000, jnp.bfloat16)) == 1.0
    assert losses.mse(prediction, jnp.zeros(5000)).dtype == jnp.float32


def test_huber_delta_divides_squares_from_absolute_values():
    error = np.linspace(-4, 4, 17, dtype=np.float32)
    for delta in (0.5, 2.0):
        loss = losses.huber(jnp.asarray(error), jnp.zeros(17), delta=delta)
        np.testing.assert_allclose(loss, scipy.special.huber(delta, error).mean(), rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_shapes_that_would_broadcast_are_refused(name):
    with pytest.raises(InputError, match=rf"{name} needs prediction and target of one shape"):
        LOSSES[name](jnp.zeros((2, 1)), jnp.zeros((2, 3)))
    with pytest.raises(InputError, match=re.escape("mask of the target's shape (2, 3), got (2,)")):
        LOSSES[name](jnp.zeros((2, 3)), jnp.zeros((2, 3)), mask=jnp.ones(2, bool))


def test_huber_refuses_a_delta_that_is_not_positive():
    with pytest.raises(InputError, match="huber needs a delta > 0, got 0"):
        losses.huber(jnp.zeros(1), jnp.zeros(1), delta=0)


def test_documented_examples_hold():
    assert doctest.testmod(losses).failed == 0
