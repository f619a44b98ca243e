"""Losses against scikit-learn and SciPy, and the masking laws."""

import re

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
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
    with pytest.raises(InputError, match=rf"{name} must have one shape, got \(2, 1\), \(2, 3\)"):
        LOSSES[name](jnp.zeros((2, 1)), jnp.zeros((2, 3)))
    with pytest.raises(InputError, match=re.escape("one shape, got (2, 3), (2, 3), (2,)")):
        LOSSES[name](jnp.zeros((2, 3)), jnp.zeros((2, 3)), mask=jnp.ones(2, bool))


def test_huber_refuses_a_delta_that_is_not_positive():
    with pytest.raises(InputError, match="delta must be above 0, got 0"):
        losses.huber(jnp.zeros(1), jnp.zeros(1), delta=0)


LOGITS = hnp.arrays(np.float32, (6, 3), elements=st.floats(-10, 10, width=32))
LABELS = hnp.arrays(np.int32, 6, elements=st.integers(0, 2))
WEIGHTS = (0.5, 1.0, 3.0)


@hypothesis.given(logits=LOGITS, label=LABELS, mask=hnp.arrays(bool, 6))
def test_cross_entropy_equals_scikit_learn_with_class_weights(logits, label, mask):
    loss = losses.cross_entropy(
        jnp.asarray(logits),
        jnp.where(mask, label, -1),
        mask=jnp.asarray(mask),
        class_weights=WEIGHTS,
    )
    assert loss.dtype == jnp.float32
    if not mask.any():
        assert loss == 0
        return
    probability = scipy.special.softmax(logits.astype(np.float64), axis=1)
    expected = sklearn.metrics.log_loss(
        label[mask],
        probability[mask],
        sample_weight=np.take(WEIGHTS, label[mask]),
        labels=[0, 1, 2],
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-6)


def test_label_smoothing_equals_optax():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 5, 4)), jnp.float32)
    label = jnp.asarray(rng.integers(0, 4, (2, 5)))
    smooth = optax.smooth_labels(jax.nn.one_hot(label, 4), 0.2)
    expected = optax.softmax_cross_entropy(logits, smooth).mean()
    loss = losses.cross_entropy(logits, label, label_smoothing=0.2)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_masked_labels_and_logits_stay_out_of_the_gradient():
    logits = jnp.array([[1.0, 2.0], [jnp.nan, 0.0]])
    mask = jnp.array([True, False])
    gradient = jax.grad(losses.cross_entropy)(logits, jnp.array([0, 7]), mask=mask)
    assert (gradient[0] != 0).all()
    assert (gradient[1] == 0).all()


@pytest.mark.parametrize("label", [-1, 3])
def test_a_real_label_that_is_no_class_makes_the_loss_nan(label):
    assert np.isnan(losses.cross_entropy(jnp.zeros((2, 3)), jnp.array([0, label])))


def test_cross_entropy_refuses_what_does_not_fit():
    logits = jnp.zeros((2, 3))
    with pytest.raises(InputError, match=re.escape("got (2, 3) for targets (3,)")):
        losses.cross_entropy(logits, jnp.zeros(3, int))
    with pytest.raises(InputError, match=re.escape("got (2,), (1,)")):
        losses.cross_entropy(logits, jnp.zeros(2, int), mask=jnp.ones(1, bool))
    with pytest.raises(InputError, match=r"label_smoothing must be in \[0, 1\), got 1"):
        losses.cross_entropy(logits, jnp.zeros(2, int), label_smoothing=1)
    with pytest.raises(InputError, match="must be one for each of 3 classes, got 2"):
        losses.cross_entropy(logits, jnp.zeros(2, int), class_weights=(1.0, 2.0))
