"""Probabilities of events from past forecasts: isotonic as SciPy has it, and calibrated."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stpatch_jax.runs.judging.probabilities import PastForecasts

# Few distinct values, so that many are tied.
FORECASTS = hnp.arrays(float, (10, 3), elements=st.integers(-6, 6).map(float))
ERRORS = hnp.arrays(float, (10, 3), elements=st.floats(-3, 3))
EVENTS, BOUNDS = hnp.arrays(bool, (10, 3)), hnp.arrays(float, 3, elements=st.integers(-6, 6))


@given(hnp.arrays(float, 30, elements=st.integers(-6, 6).map(float)), hnp.arrays(bool, 30))
def test_it_is_isotonic_regression_of_like_forecasts(forecasts, events):
    errors = np.ones(30)
    errors[0] = np.nan
    past = PastForecasts.fit(forecasts, errors, events, np.asarray(1.0))
    known, came = forecasts[1:], events[1:]
    at = np.unique(known)
    weight = np.array([(known == x).sum() for x in at], float)
    total = np.array([came[known == x].sum() for x in at], float)
    for end, event in ((0, 1), (-1, 0)):
        weight[end] += 0.5
        total[end] += 0.5 * event
    expected = scipy.optimize.isotonic_regression(total / weight, weights=weight).x
    np.testing.assert_allclose(past.probability(at), expected, atol=1e-9)


@given(FORECASTS, ERRORS, EVENTS, BOUNDS)
def test_it_never_falls_as_the_forecast_grows_and_is_never_sure(forecasts, errors, events, bounds):
    errors[0] = np.nan
    past = PastForecasts.fit(forecasts, errors, events, bounds)
    found = past.probability(np.linspace(-12, 12, 200)[:, None] * np.ones(3))
    assert (np.diff(found, axis=0) >= 0).all()
    assert (found > 0).all()
    assert (found < 1).all()


@given(FORECASTS, ERRORS, EVENTS, st.integers(-6, 6))
def test_it_does_not_depend_on_the_unit(forecasts, errors, events, bound):
    bounds = np.full(3, float(bound))  # Equal margins of other thresholds may differ by rounding.
    found = PastForecasts.fit(forecasts, errors, events, bounds).probability(forecasts)
    other = [4 * forecasts + 8, 4 * errors, events, 4 * bounds + 8]
    again = PastForecasts.fit(*other).probability(other[0])
    # The size of an error is a line of the forecast, wherever its zero is.
    np.testing.assert_allclose(again, found, atol=1e-6)


def poisson(random, count):
    """Counts whose forecast is their true rate, as often in traffic and sales."""
    rate = random.uniform(0.02, 0.2, count)
    return rate, random.poisson(rate).astype(float), 0.0, 1 - np.exp(-rate)


def rain(random, count):
    """Zeros, else gamma amounts that grow with the forecast."""
    wet = random.beta(1, 3, count)
    scale = 1 + 4 * wet
    amounts = np.where(random.random(count) < wet, random.gamma(2, scale), 0.0)
    return wet * 2 * scale, amounts, 0.5, wet * scipy.stats.gamma.sf(0.5, 2, scale=scale)


def degrees(random, count):
    forecast = random.normal(10, 4, count)
    true = scipy.stats.norm.sf(14, forecast + 0.5, 2)
    return forecast, forecast + random.normal(0.5, 2, count), 14.0, true


@pytest.mark.parametrize("world", [poisson, rain, degrees])
def test_it_is_calibrated_and_beats_the_frequency(world):
    random = np.random.default_rng(0)
    forecast, came, bound, _ = world(random, 20_000)
    past = PastForecasts.fit(forecast, came - forecast, came > bound, np.asarray(bound))
    usual = (came > bound).mean()
    forecast, came, bound, true = world(random, 20_000)
    event, found = came > bound, past.probability(forecast)
    for part in np.array_split(np.argsort(found, kind="stable"), 10):
        # Sampling errors of both the fit and the test.
        expected = true[part].mean()
        allowed = 4 * np.sqrt(2 * expected * (1 - expected) / len(part))
        assert found[part].mean() == pytest.approx(expected, abs=allowed + 1e-3)
    brier, best, plain = (np.mean((p - event) ** 2) for p in (found, true, usual))
    assert brier < plain
    assert brier < 1.01 * best


def test_series_of_other_levels_and_errors_are_each_calibrated():
    """Busy places have larger errors than quiet ones; each has a threshold of its own."""
    random = np.random.default_rng(0)
    level = np.array([2.0, 10.0, 50.0])

    def world(count):
        forecast = level * random.uniform(0.5, 1.5, (count, 3))
        return forecast, forecast * (1 + 0.2 * random.normal(size=(count, 3)))

    forecast, came = world(20_000)
    bounds = 1.2 * level
    past = PastForecasts.fit(forecast, came - forecast, came > bounds, bounds)
    forecast, _ = world(20_000)
    true = scipy.stats.norm.sf(bounds, forecast, 0.2 * forecast)
    np.testing.assert_allclose(past.probability(forecast), true, atol=0.06)


def test_beyond_the_past_it_goes_on_by_the_errors_there():
    random = np.random.default_rng(0)
    forecast = random.uniform(2, 12, 5000)  # No frost in this past.
    came = forecast + random.normal(0, 1, 5000)
    past = PastForecasts.fit(-forecast, forecast - came, came < 0, np.asarray(0.0))
    found = past.probability(np.array([-2.0, 1.0, 4.0]))  # Forecasts of 2, -1 and -4 degrees.
    assert found[0] < 0.1
    assert found[1] == pytest.approx(scipy.stats.norm.cdf(1), abs=0.06)
    assert found[2] > 0.99


def test_without_a_past_nothing_is_known():
    past = PastForecasts.fit(np.zeros(3), np.full(3, np.nan), np.zeros(3, bool), np.asarray(0.0))
    assert past.probability(np.array([-9.0, 0.0, 9.0])).tolist() == [0.5, 0.5, 0.5]
