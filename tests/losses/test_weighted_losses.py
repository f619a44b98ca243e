"""Weights of cells in the losses, and the pinball loss, against scikit-learn."""

import functools
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

SHAPE = (2, 3, 4)
LEVELS = (0.1, 0.5, 0.7)
VALUES = hnp.arrays(np.float32, SHAPE, elements=st.floats(-100, 100, width=32))
FORECASTS = hnp.arrays(np.float32, (*SHAPE, 3), elements=st.floats(-100, 100, width=32))
MASKS = hnp.arrays(bool, SHAPE)
# One weight a row of the middle axis; a whole row may weigh nothing.
WEIGHTS = hnp.arrays(np.float32, (1, 3, 1), elements=st.sampled_from([0.0, 0.25, 1.0, 3.0]))
POINT = {"mse": losses.mse, "mae": losses.mae, "huber": losses.huber}


@functools.cache
def program():
    def all_losses(forecasts, target, mask, weights):
        options = {"mask": mask, "weights": weights}
        found = {name: f(forecasts[..., 1], target, **options) for name, f in POINT.items()}
        found["pinball"] = losses.pinball(forecasts, target, quantiles=LEVELS, **options)
        return found

    return jax.jit(all_losses)


def references(forecasts, target, real, weight):
    """What scikit-learn and SciPy give for the real entries."""
    weight, truth, point = weight[real], target[real], forecasts[..., 1][real]
    pinballs = [
        sklearn.metrics.mean_pinball_loss(
            truth, forecasts[..., at][real], sample_weight=weight, alpha=level
        )
        for at, level in enumerate(LEVELS)
    ]
    return {
        "mse": sklearn.metrics.mean_squared_error(truth, point, sample_weight=weight),
        "mae": sklearn.metrics.mean_absolute_error(truth, point, sample_weight=weight),
        "huber": np.average(scipy.special.huber(1.0, truth - point), weights=weight),
        "pinball": np.mean(pinballs),
    }


@hypothesis.given(forecasts=FORECASTS, target=VALUES, mask=MASKS, weights=WEIGHTS)
def test_weighted_means_equal_scikit_learn_over_real_entries(forecasts, target, mask, weights):
    found = program()(forecasts, np.where(mask, target, np.nan), mask, weights)
    wide = np.broadcast_to(weights, SHAPE).astype(np.float64)
    if not (wide * mask).any():
        assert all(loss == 0 for loss in found.values())
        return
    expected = references(forecasts.astype(np.float64), target.astype(np.float64), mask, wide)
    for name, loss in found.items():
        assert loss.dtype == jnp.float32
        np.testing.assert_allclose(loss, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_equal_weights_change_nothing_and_weightless_or_masked_nan_stays_out_of_the_gradient():
    rng = np.random.default_rng(0)
    forecasts = rng.normal(size=(*SHAPE, 3)).astype(np.float32)
    target, mask = rng.normal(size=SHAPE).astype(np.float32), rng.random(SHAPE) < 0.7
    equal = program()(forecasts, target, mask, np.full((1, 3, 1), 2.5))
    for name, loss in program()(forecasts, target, mask, None).items():
        np.testing.assert_allclose(loss, equal[name], rtol=1e-6)

    @jax.jit
    @jax.grad
    def gradient(forecasts, target, weights):
        return sum(program()(forecasts, target, mask, weights).values())

    weights = np.array([1.0, 0.0, 1.0], np.float32).reshape(1, 3, 1)
    slope = gradient(forecasts, np.where(mask, target, np.nan), weights)
    counts = np.broadcast_to(mask & (weights > 0), SHAPE)
    np.testing.assert_array_equal(np.asarray(slope != 0).any(axis=-1), counts)
    assert np.isfinite(slope).all()


def test_the_constant_of_least_pinball_loss_is_the_empirical_quantile():
    sample = np.random.default_rng(1).normal(size=101).astype(np.float32)
    ordered = np.sort(sample)

    @jax.jit
    def loss(constant):
        forecasts = jnp.broadcast_to(constant, (101, 1))
        return losses.pinball(forecasts, jnp.asarray(sample), quantiles=(0.3,))

    found = ordered[np.argmin([loss(value) for value in ordered])]
    assert found == np.quantile(sample, 0.3, method="inverted_cdf")


@pytest.mark.parametrize("weights", [(4,), (3, 4), (2, 3, 4, 1), (1, 2, 1), (2, 3, 3)])
def test_weights_that_would_have_to_guess_their_axis_are_refused(weights):
    field, given = jnp.zeros(SHAPE), np.ones(weights)
    text = f"rank, each axis as long as in {SHAPE} or 1, got {weights}; reshape them"
    with pytest.raises(
        InputError, match=re.escape(f"weights of mse must have the target's {text}")
    ):
        losses.mse(field, field, weights=given)
    with pytest.raises(InputError, match=re.escape(f"of pinball must have the target's {text}")):
        losses.pinball(field[..., None], field, quantiles=(0.5,), weights=given)


def test_pinball_refuses_what_does_not_fit():
    field = jnp.zeros((2, 3))
    for levels in ((), (0.0, 0.5), (0.5, 1.0), (0.9, 0.1), (0.5, 0.5), (float("nan"),)):
        with pytest.raises(InputError, match="quantiles of pinball must increase between 0 and 1"):
            losses.pinball(field, field, quantiles=levels)
    with pytest.raises(InputError, match=re.escape("each of 2 quantiles, got shape (2, 3)")):
        losses.pinball(field, field[:, 0], quantiles=(0.1, 0.9))
    with pytest.raises(InputError, match=re.escape("got (2, 3) for targets (2, 3)")):
        losses.pinball(field, field, quantiles=(0.1, 0.5, 0.9))
    with pytest.raises(InputError, match="target and mask of pinball must have one shape"):
        losses.pinball(field[..., None], field, quantiles=(0.5,), mask=jnp.ones(3, bool))


def test_latitude_weights_average_over_the_sphere():
    latitude = np.linspace(-89.5, 89.5, 180)
    weights = losses.latitude_weights(latitude)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-6)
    np.testing.assert_allclose(weights, weights[::-1], rtol=1e-6)
    # Over a sphere the square of the sine of latitude averages to one third.
    squared = np.sin(np.deg2rad(latitude)) ** 2
    np.testing.assert_allclose(np.mean(weights * squared), 1 / 3, rtol=1e-4)
    assert losses.latitude_weights(jnp.array([-90.0, 0.0, 90.0]))[0] < 1e-6


@pytest.mark.parametrize(
    ("latitude", "message"),
    [
        ([0.0, 90.5], "must be in [-90, 90], got 90.5"),
        ([float("nan")], "must be in [-90, 90], got nan"),
        ([[0.0]], "the shape (lat,), got (1, 1)"),
        ([], "the shape (lat,), got (0,)"),
    ],
)
def test_latitudes_that_are_none_are_refused(latitude, message):
    with pytest.raises(InputError, match=re.escape(message)):
        losses.latitude_weights(np.array(latitude))
