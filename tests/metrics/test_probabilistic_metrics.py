"""CRPS, coverage and events against SciPy, scikit-learn and closed forms."""

import re
from typing import Any

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import xarray as xr
from scores.continuous import quantile_score

from stpatch_jax import metrics
from stpatch_jax.errors import InputError
from stpatch_jax.metrics import EventCounts, Mean

LEVELS = (0.1, 0.25, 0.5, 0.9)
NUMBERS = st.floats(-50, 50).map(lambda x: round(x, 3))
FORECASTS = hnp.arrays(np.float64, (5, 4), elements=NUMBERS)
TARGETS = hnp.arrays(np.float64, 5, elements=NUMBERS)


def normal_crps(target):
    """CRPS of the standard normal distribution (Gneiting and Raftery 2007, section 4.2)."""
    normal = scipy.stats.norm
    return target * (2 * normal.cdf(target) - 1) + 2 * normal.pdf(target) - 1 / np.sqrt(np.pi)


@hypothesis.given(forecast=FORECASTS, target=TARGETS)
def test_crps_equals_scipy_and_scikit_learn(forecast, target):
    rows = zip(forecast, target, strict=True)
    energy = [scipy.stats.energy_distance(x, [y]) ** 2 / 2 for x, y in rows]
    scores = metrics.crps_from_ensemble(forecast, target)
    np.testing.assert_allclose(scores, energy, atol=1e-9)
    pairs = np.abs(forecast[:, :, None] - forecast[:, None]).sum(axis=(1, 2))
    fair = np.abs(forecast - target[:, None]).mean(axis=1) - pairs / (2 * 4 * 3)
    found = metrics.crps_from_ensemble(forecast, target, fair=True)
    np.testing.assert_allclose(found, fair, atol=1e-9)
    pinball = [
        sklearn.metrics.mean_pinball_loss(target, forecast[:, at], alpha=level)
        for at, level in enumerate(LEVELS)
    ]
    scores = metrics.crps_from_quantiles(forecast, target, quantiles=LEVELS)
    np.testing.assert_allclose(Mean.of(scores).value(), 2 * np.mean(pinball), atol=1e-9)


def test_quantile_errors_are_those_of_scikit_learn_scores_and_the_interval():
    rng, levels = np.random.default_rng(0), (0.1, 0.3, 0.5, 0.9)
    forecast, target = np.sort(rng.normal(size=(6, 2, 3, 1, 4))), rng.normal(size=(6, 2, 3, 1))
    mask = rng.random(target.shape) < 0.8
    target[~mask] = np.nan
    found = metrics.QuantileErrors.of(forecast, target, quantiles=levels, mask=mask)
    for lead in range(2):
        of, real = forecast[:, lead][mask[:, lead]], target[:, lead][mask[:, lead]]
        pinball = [
            sklearn.metrics.mean_pinball_loss(real, of[:, at], alpha=level)
            for at, level in enumerate(levels)
        ]
        np.testing.assert_allclose(found.loss()[lead], pinball)
        for at, level in enumerate(levels):
            arrays = (xr.DataArray(values, dims="x") for values in (of[:, at], real))
            score: Any = quantile_score(*arrays, alpha=level)
            assert float(score) == pytest.approx(pinball[at])
        crps = metrics.crps_from_quantiles(of, real, quantiles=levels)
        np.testing.assert_allclose(found.crps()[lead], crps.mean())
        np.testing.assert_allclose(found.wql()[lead], crps.sum() / np.abs(real).sum())
        ends = ((of[:, 0], of[:, 3]), (of[:, 1], of[:, 2]))
        inside = [metrics.covered(*pair, real).mean() for pair in ends]
        np.testing.assert_allclose(found.coverage()[lead], inside)
        np.testing.assert_allclose(found.share_below()[lead], (real[:, None] <= of).mean(0))
    assert found.pooled().crps().shape == (1,)
    with pytest.raises(InputError, match=r"targets of QuantileErrors must have the axes"):
        metrics.QuantileErrors.of(np.zeros((3, 1)), np.zeros(3), quantiles=(0.5,))


def test_crps_comes_near_the_closed_form_of_the_normal_distribution():
    target = np.linspace(-3, 3, 7)
    levels = (np.arange(400) + 0.5) / 400
    values = np.broadcast_to(scipy.stats.norm.ppf(levels), (7, 400))
    for scores in (
        metrics.crps_from_quantiles(values, target, quantiles=tuple(levels)),
        metrics.crps_from_ensemble(values, target),
    ):
        np.testing.assert_allclose(scores, normal_crps(target), atol=2e-3)
    # Few members: the fair score is right on average, the other is too high by s / (2 m).
    rng = np.random.default_rng(0)
    draws, zeros = rng.normal(size=(100_000, 3)), np.zeros(100_000)
    fair = metrics.crps_from_ensemble(draws, zeros, fair=True).mean()
    np.testing.assert_allclose(fair, normal_crps(0.0), atol=0.01)
    plain = metrics.crps_from_ensemble(draws, zeros).mean()
    np.testing.assert_allclose(plain - fair, 2 / np.sqrt(np.pi) / 2 / 3, atol=0.01)


def test_one_member_is_the_absolute_error_and_nan_shows():
    target = np.array([1.0, np.nan, 3.0])
    members = np.array([[2.0], [1.0], [np.nan]])
    np.testing.assert_array_equal(
        metrics.crps_from_ensemble(members, target), [1.0, np.nan, np.nan]
    )
    np.testing.assert_array_equal(
        metrics.crps_from_quantiles(members, target, quantiles=(0.5,)), [1.0, np.nan, np.nan]
    )


def test_coverage_of_the_central_interval_of_a_calibrated_forecast():
    target = np.random.default_rng(0).normal(size=4000)
    low, high = (np.full(4000, scipy.stats.norm.ppf(q)) for q in (0.1, 0.9))
    np.testing.assert_allclose(Mean.of(metrics.covered(low, high, target)).value(), 0.8, atol=0.02)
    # Both ends belong to it.
    ends = metrics.covered(np.zeros(2), np.ones(2), np.array([0.0, 1.0]))
    assert ends.tolist() == [1.0, 1.0]


@hypothesis.given(
    # Different values, so that the quantile function has an inverse.
    values=st.lists(st.integers(-20, 20), min_size=4, max_size=4, unique=True),
    threshold=st.floats(-25, 25),
)
def test_exceedance_probability_inverts_the_interpolated_quantiles(values, threshold):
    values = np.array(values, np.float64)
    found = metrics.exceedance_probability(values, threshold, quantiles=LEVELS)
    np.testing.assert_allclose(found, 1 - np.interp(threshold, np.sort(values), LEVELS), atol=1e-12)
    # Any threshold inside the quantiles is met again at that level.
    assert 1 - LEVELS[-1] <= found + 1e-12 <= 1 - LEVELS[0] + 2e-12


def test_exceedance_probability_of_equal_quantiles_jumps():
    forecast = np.array([0.0, 1.0, 1.0, 1.0])
    found = [
        float(metrics.exceedance_probability(forecast, t, quantiles=LEVELS))
        for t in (-1.0, 0.0, 0.5, np.nextafter(1.0, 0.0), 1.0, 2.0)
    ]
    np.testing.assert_allclose(found, [0.9, 0.9, 0.825, 0.75, 0.1, 0.1])
    same = metrics.exceedance_probability(np.ones(4), 0.0, quantiles=LEVELS)
    np.testing.assert_allclose(same, 0.9)
    missing = np.array([[np.nan, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]])
    threshold = np.array([0.0, np.nan])
    found = metrics.exceedance_probability(missing, threshold, quantiles=LEVELS)
    assert np.isnan(found).all()


@hypothesis.given(forecast=FORECASTS, target=TARGETS)
def test_events_equal_scikit_learn(forecast, target):
    probability = metrics.exceedance_probability(forecast, 1.0, quantiles=LEVELS)
    event, foretold = target > 1.0, probability > 0.5
    brier = metrics.brier_score(probability, event)
    if 0 < event.sum() < 5:
        expected = sklearn.metrics.brier_score_loss(event, probability)
        np.testing.assert_allclose(Mean.of(brier).value(), expected, atol=1e-12)
    counts = EventCounts.of(foretold, event)
    table = sklearn.metrics.confusion_matrix(event, foretold, labels=[False, True])
    assert table.ravel().tolist() == [
        counts.correct_negatives,
        counts.false_alarms,
        counts.misses,
        counts.hits,
    ]
    scores = (
        counts.critical_success_index(),
        counts.probability_of_detection(),
        1 - counts.false_alarm_ratio(),
    )
    references = (
        sklearn.metrics.jaccard_score,
        sklearn.metrics.recall_score,
        sklearn.metrics.precision_score,
    )
    for score, reference in zip(scores, references, strict=True):
        if not np.isnan(score):
            np.testing.assert_allclose(score, reference(event, foretold))
    if event.any():
        assert counts.frequency_bias() == foretold.sum() / event.sum()


def test_scores_in_jit_equal_those_on_the_host():
    rng = np.random.default_rng(0)
    forecast, target = rng.normal(size=(6, 2, 4)), rng.normal(size=(6, 2))
    # Far from 0, where float32 has few digits.
    forecast, target = forecast.astype(np.float32) + 300, target.astype(np.float32) + 300

    def scores(forecast, target):
        probability = metrics.exceedance_probability(forecast, target, quantiles=LEVELS)
        return (
            metrics.crps_from_quantiles(forecast, target, quantiles=LEVELS),
            metrics.crps_from_ensemble(forecast, target, fair=True),
            metrics.covered(forecast[..., 0], forecast[..., 1], target),
            probability,
            metrics.brier_score(probability, target > 300),
        )

    host = scores(forecast, target)
    device = jax.jit(scores)(forecast, target)
    for found, expected in zip(device, host, strict=True):
        assert found.dtype == jnp.float32
        assert expected.dtype == np.float64
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_does_not_fit_is_refused():
    forecast, target = np.zeros((3, 2)), np.zeros(3)
    with pytest.raises(InputError, match="quantiles of crps_from_quantiles must increase"):
        metrics.crps_from_quantiles(forecast, target, quantiles=(0.9, 0.1))
    with pytest.raises(
        InputError, match=re.escape("got (3, 2) for targets (2,); put one value for each member")
    ):
        metrics.crps_from_ensemble(forecast, np.zeros(2))
    with pytest.raises(InputError, match=re.escape("at least 2 members (fair=True), got 1")):
        metrics.crps_from_ensemble(forecast[:, :1], target, fair=True)
    with pytest.raises(InputError, match="lower, upper and target of covered must have one"):
        metrics.covered(target, target, forecast)
    with pytest.raises(InputError, match=re.escape("got (3,), (1,); reshape")):
        metrics.brier_score(target, np.ones(1))
    with pytest.raises(InputError, match=re.escape("got 2 quantiles and a threshold (2,)")):
        metrics.exceedance_probability(forecast, np.zeros(2), quantiles=(0.1, 0.9))
    with pytest.raises(InputError, match=re.escape("got 1 quantiles and a threshold ()")):
        metrics.exceedance_probability(forecast[:, :1], 0.0, quantiles=(0.5,))
    with pytest.raises(InputError, match="must be bool, got float64; compare"):
        EventCounts.of(target, target)
    with pytest.raises(
        InputError, match="foretold, happened and mask of EventCounts must have one"
    ):
        EventCounts.of(target > 0, target > 0, mask=np.ones(1, bool))
    with pytest.raises(InputError, match="weights of Mean must have the target's rank"):
        Mean.of(forecast, weights=np.ones(2))
    with pytest.raises(InputError, match="values and mask of Mean must have one shape"):
        Mean.of(forecast, mask=np.ones(3, bool))
