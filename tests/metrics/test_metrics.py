"""Metrics against scikit-learn, and that batches add up."""

import re

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from stpatch_jax import metrics
from stpatch_jax.errors import InputError
from stpatch_jax.metrics import Confusion, LeadTimeErrors

SHAPE = (4, 3, 2, 2)
VALUES = hnp.arrays(np.float64, SHAPE, elements=st.floats(-100, 100))


def by_lead(values):
    return np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])


@hypothesis.given(prediction=VALUES, target=VALUES)
def test_per_lead_errors_equal_scikit_learn(prediction, target):
    errors = LeadTimeErrors.of(prediction, target)
    expected = by_lead(target), by_lead(prediction)
    np.testing.assert_allclose(
        errors.mae(), sklearn.metrics.mean_absolute_error(*expected, multioutput="raw_values")
    )
    np.testing.assert_allclose(
        errors.rmse(), sklearn.metrics.root_mean_squared_error(*expected, multioutput="raw_values")
    )
    np.testing.assert_allclose(
        errors.pooled().rmse(),
        [sklearn.metrics.root_mean_squared_error(target.ravel(), prediction.ravel())],
    )


@hypothesis.given(
    prediction=VALUES, target=VALUES, mask=hnp.arrays(bool, SHAPE), cut=st.integers(0, SHAPE[0])
)
def test_batches_add_up_whatever_the_cut_and_the_mask(prediction, target, mask, cut):
    target = np.where(mask, target, np.nan)
    whole = LeadTimeErrors.of(prediction, target, mask=mask)
    first = LeadTimeErrors.of(prediction[:cut], target[:cut], mask=mask[:cut])
    second = LeadTimeErrors.of(prediction[cut:], target[cut:], mask=mask[cut:])
    for part, expected in zip(jax.tree.leaves(first + second), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-12)
    for lead in range(SHAPE[1]):
        real = mask[:, lead]
        if real.any():
            error = np.abs(prediction[:, lead][real] - target[:, lead][real])
            np.testing.assert_allclose(whole.mae()[lead], error.mean(), rtol=1e-12)
        else:
            assert np.isnan(whole.mae()[lead])
            assert np.isnan(whole.rmse()[lead])


def test_device_and_host_agree_and_go_through_jit():
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(size=(2, *SHAPE))
    mask = rng.random(SHAPE) < 0.7
    host = LeadTimeErrors.of(prediction, target, mask=mask)
    device = jax.jit(lambda p, t, m: LeadTimeErrors.of(p, t, mask=m))(
        *(
            jnp.asarray(a, a.dtype if a.dtype == bool else jnp.float32)
            for a in (prediction, target, mask)
        )
    )
    assert host.absolute.dtype == np.float64
    assert device.absolute.dtype == jnp.float32
    fetched = device.to_host()
    assert fetched.absolute.dtype == np.float64
    assert isinstance(fetched.count, np.ndarray)
    np.testing.assert_array_equal(fetched.count, host.count)
    np.testing.assert_allclose(fetched.rmse(), host.rmse(), rtol=1e-6)
    np.testing.assert_allclose(device.mae(), host.mae(), rtol=1e-6)


def test_host_sums_keep_what_float32_would_lose():
    big = LeadTimeErrors(np.array([2.0**24]), np.array([2.0**24]), np.array([2**24]))
    one = LeadTimeErrors.of(jnp.ones((1, 1)), jnp.zeros((1, 1))).to_host()
    assert (big + one).absolute[0] == 2**24 + 1


def test_skill_is_one_minus_the_ratio_and_nan_without_a_baseline_error():
    error, naive = np.array([0.0, 1.0, 3.0, 1.0]), np.array([2.0, 2.0, 2.0, 0.0])
    np.testing.assert_array_equal(metrics.skill(error, naive), [1.0, 0.5, -0.5, np.nan])
    np.testing.assert_array_equal(
        metrics.skill(jnp.asarray(error), jnp.asarray(naive)), [1.0, 0.5, -0.5, np.nan]
    )


@hypothesis.given(
    label=hnp.arrays(np.int32, 12, elements=st.integers(0, 2)),
    predicted=hnp.arrays(np.int32, 12, elements=st.integers(0, 2)),
    mask=hnp.arrays(bool, 12),
)
def test_confusion_equals_scikit_learn_and_adds_up(label, predicted, mask):
    parts = [
        Confusion.of(predicted[cut], np.where(mask, label, -5)[cut], classes=3, mask=mask[cut])
        for cut in (slice(0, 6), slice(6, 12))
    ]
    whole = parts[0] + parts[1]
    if not mask.any():
        assert np.isnan(whole.accuracy())
        return
    real = label[mask], predicted[mask]
    np.testing.assert_array_equal(
        whole.counts, sklearn.metrics.confusion_matrix(*real, labels=[0, 1, 2])
    )
    np.testing.assert_allclose(whole.accuracy(), sklearn.metrics.accuracy_score(*real), rtol=1e-6)
    expected = sklearn.metrics.precision_recall_fscore_support(
        *real,
        labels=[0, 1, 2],
        zero_division=np.nan,  # pyright: ignore[reportArgumentType]
    )
    for got, reference in zip(
        (whole.precision(), whole.recall(), whole.f1()), expected[:3], strict=True
    ):
        np.testing.assert_allclose(got, reference, rtol=1e-6)


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(InputError, match=re.escape("one shape, got (2, 3, 1), (2, 1, 1)")):
        LeadTimeErrors.of(np.zeros((2, 3, 1)), np.zeros((2, 1, 1)))
    with pytest.raises(
        InputError, match=re.escape("(batch, horizon, *space, channel), got shape (3,)")
    ):
        LeadTimeErrors.of(np.zeros(3), np.zeros(3))
    with pytest.raises(InputError, match=re.escape("one shape, got (2, 3), (2,)")):
        Confusion.of(np.zeros((2, 3), int), np.zeros(2, int), classes=3)
    with pytest.raises(InputError, match=re.escape("one shape, got (2,), (3,)")):
        metrics.skill(np.zeros(2), np.zeros(3))
