"""Interpolation, climatology, the Hampel filter and calendar features against pandas."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stpatch_jax.data.fields.cleaning import hampel_filter
from stpatch_jax.data.fields.climatology import Climatology, Phases, interpolate, phase_numbers
from stpatch_jax.data.fields.forcings import calendar_features
from stpatch_jax.errors import InputError

gappy = hnp.arrays(
    np.float64, (10, 2), elements=st.one_of(st.just(np.nan), st.integers(-99, 99).map(float))
)


@given(gappy)
def test_interpolation_is_that_of_pandas(values):
    frame = pd.DataFrame(values).interpolate(limit_area="inside").ffill()
    np.testing.assert_allclose(interpolate(values), frame.to_numpy(), atol=1e-9)


@given(gappy, st.lists(st.integers(1, 9), min_size=10, max_size=10))
def test_interpolation_follows_uneven_times(values, steps):
    times = np.datetime64("2024-01-01", "ns") + np.cumsum(steps) * np.timedelta64(1, "h")
    frame = pd.DataFrame(values, index=times).interpolate("time", limit_area="inside").ffill()
    np.testing.assert_allclose(interpolate(values, times=times), frame.to_numpy(), atol=1e-9)


def reference_hampel(values, window, threshold):
    def deviation(part):
        return np.nanmedian(np.abs(part - np.nanmedian(part)))

    rolling = pd.DataFrame(values).rolling(window, min_periods=1)
    median = rolling.median().to_numpy()
    bound = threshold * 1.4826 * rolling.apply(deviation, raw=True).to_numpy()
    return np.where((bound > 0) & (np.abs(values - median) > bound), median, values)


@given(gappy, st.integers(3, 6))
def test_the_hampel_filter_is_that_of_rolling_medians(values, window):
    expected = reference_hampel(values, window, 1.0)
    np.testing.assert_allclose(hampel_filter(values, window=window, threshold=1.0), expected)


@given(gappy, st.integers(0, 10))
def test_the_hampel_filter_sees_no_later_row_and_keeps_gaps(values, row):
    filtered = hampel_filter(values, window=4, threshold=0.5)
    np.testing.assert_array_equal(np.isnan(filtered), np.isnan(values))
    changed = values.copy()
    changed[row:] = 1e6
    again = hampel_filter(changed, window=4, threshold=0.5)
    np.testing.assert_array_equal(again[:row], filtered[:row])


def test_a_spike_becomes_the_median_and_float32_stays():
    values = np.array([1.0, 2.0, 1.5, 900.0, 1.0], np.float32)
    filtered = hampel_filter(values, window=4)
    np.testing.assert_array_equal(filtered, np.array([1, 2, 1.5, 1.75, 1], np.float32))
    assert filtered.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [({"window": 2}, r"window must .*, got 2"), ({"window": 3, "threshold": 0}, "above 0")],
)
def test_hampel_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        hampel_filter(np.zeros(4), **options)


def year_of_data():
    times = pd.date_range("2023-01-01", "2024-12-31T23", freq="5h")
    values = np.random.default_rng(0).normal(size=(len(times), 2))
    values[::7, 1] = np.nan
    return times, values


@pytest.mark.parametrize("phase", ["hour", "weekday_hour"])
def test_a_climatology_is_the_mean_of_each_group(phase):
    times, values = year_of_data()
    groups = {"hour": [times.hour], "weekday_hour": [times.day_of_week, times.hour]}[phase]
    expected = pd.DataFrame(values).groupby(groups).transform("mean")
    expected = expected.fillna(pd.DataFrame(values).mean())  # phases without a value
    climatology = Climatology.fit(values, times.to_numpy(), phase=phase)
    np.testing.assert_allclose(climatology.at(times.to_numpy()), expected, atol=1e-12)
    halves = [(values[:900], times[:900].to_numpy()), (values[900:], times[900:].to_numpy())]
    merged = Climatology.fit_chunks(halves, phase=phase)
    np.testing.assert_allclose(merged.mean, climatology.mean, atol=1e-12)
    again = Climatology.from_dict(merged.to_dict())
    np.testing.assert_array_equal(again.mean, merged.mean)


def test_a_day_of_the_year_is_the_mean_of_the_days_around_it():
    times, values = year_of_data()
    climatology = Climatology.fit(values, times.to_numpy(), phase="day_of_year")
    days = phase_numbers(times.to_numpy(), phase="day_of_year")
    for day in (0, 5, 59, 200, 365):
        apart = np.abs(days - day)
        near = values[np.minimum(apart, 366 - apart) <= 10]
        np.testing.assert_allclose(climatology.mean[day], np.nanmean(near, axis=0), atol=1e-12)
    halves = [(values[:900], times[:900].to_numpy()), (values[900:], times[900:].to_numpy())]
    merged = Climatology.fit_chunks(halves, phase="day_of_year")
    np.testing.assert_allclose(merged.mean, climatology.mean, atol=1e-12)
    # Rolling origins and the rule take the same means.
    means = Phases("day_of_year", days).means(values)
    np.testing.assert_allclose(means, climatology.mean, atol=1e-12)
    # The first rows tell the mean of their own days and of those up to ten around them.
    met = Phases("day_of_year", days).met(100)
    apart = np.abs(days[:, None] - days[:100])
    near = (np.minimum(apart, 366 - apart) <= 10).any(axis=1)
    np.testing.assert_array_equal(met, near)
    assert not near.all()


def test_months_are_means_of_their_own():
    times = pd.date_range("2000-01-01", periods=48, freq="MS").to_numpy()
    values = np.random.default_rng(1).normal(size=(48, 1))
    climatology = Climatology.fit(values, times, phase="day_of_year")
    means = values.reshape(4, 12, 1).mean(axis=0)
    np.testing.assert_allclose(climatology.at(times[:12]), means, atol=1e-12)
    phases = Phases("day_of_year", phase_numbers(times, phase="day_of_year"))
    np.testing.assert_allclose(phases.means(values)[phases.numbers[:12]], means, atol=1e-12)


@pytest.mark.parametrize(
    ("step", "rows", "phase", "cycles"),
    [
        ("h", 24 * 30, "hour", 30),
        ("h", 24 * 7 * 10, "workday_hour", 35),  # Fifty of a workday, twenty of a weekend.
        ("MS", 12 * 8, "day_of_year", 8),
        ("D", 1461, "day_of_year", 12),  # Four years, of each three weeks that tell a mean.
        ("7D", 208, "day_of_year", 12),
        ("6h", 4 * 1461, "day_of_year", 12),
    ],
)
def test_how_many_values_of_their_own_tell_a_mean(step, rows, phase, cycles):
    times = pd.date_range("2001-01-01", periods=rows, freq=step).to_numpy()
    phases = Phases(phase, phase_numbers(times, phase=phase))
    assert phases.cycles == pytest.approx(cycles, rel=0.05)


def test_no_rows_have_no_cycles():
    assert Phases("hour", np.zeros(0, int)).cycles == 0


def test_phases_and_series_without_values():
    times = np.array(["2023-05-01T00", "2023-05-01T01"], "datetime64[ns]")
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    climatology = Climatology.fit(values, times, phase="hour")
    np.testing.assert_array_equal(climatology.mean[:3], [[1, np.nan], [3, np.nan], [2, np.nan]])
    again = Climatology.from_dict(climatology.to_dict())
    np.testing.assert_array_equal(again.mean, climatology.mean)


def test_days_after_february_have_one_number_in_all_years():
    times = np.array(["2023-03-01", "2024-03-01", "2023-12-31", "2024-12-31"], "datetime64[ns]")
    assert phase_numbers(times, phase="day_of_year").tolist() == [60, 60, 365, 365]


@pytest.mark.parametrize("calendar", ["standard", "360_day"])
def test_seconds_before_an_hour_are_of_that_hour(calendar):
    times = xr.date_range("2023-03-01", periods=24, freq="h", calendar=calendar).to_numpy()
    off = np.random.default_rng(0).integers(-29, 30, 24)
    late = pd.to_timedelta(off, "s")
    late = late.to_numpy() if times.dtype.kind == "M" else late.to_pytimedelta()
    assert phase_numbers(times + late, phase="hour").tolist() == [*range(24)]


def test_calendar_features_are_points_on_circles_with_the_right_period():
    times = pd.date_range("2024-01-01", periods=24 * 20, freq="h").to_numpy()
    features = calendar_features(times, features=("hour", "weekday", "day_of_year"))
    assert features.shape == (480, 6)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[:, ::2] ** 2 + features[:, 1::2] ** 2, 1, atol=1e-6)
    np.testing.assert_allclose(features[24:, :2], features[:-24, :2], atol=1e-6)
    np.testing.assert_allclose(features[168:, 2:4], features[:-168, 2:4], atol=1e-6)
    assert len(np.unique(features[:168, 2:4].round(4), axis=0)) == 168


@pytest.mark.parametrize("year", [2023, 2024])
def test_a_year_has_one_turn(year):
    borders = np.array([f"{year}-01-01", f"{year}-12-31T23:59:59.999"], "datetime64[ns]")
    first, last = calendar_features(borders, features=("day_of_year",))
    np.testing.assert_allclose(first, last, atol=1e-6)


def wrong(name: str) -> Any:
    """A list of a name that is none, as a user might give it."""
    return [name]


def test_a_calendar_needs_dates_and_known_names():
    with pytest.raises(InputError, match="got int64"):
        calendar_features(np.arange(3), features=("hour",))
    with pytest.raises(InputError, match=r"calendar feature must .*, got 'moon'"):
        calendar_features(np.zeros(2, "datetime64[ns]"), features=wrong("moon"))
    with pytest.raises(InputError, match=r"climatology must be .*, got 'y'"):
        phase_numbers(np.zeros(2, "datetime64[ns]"), phase=wrong("y")[0])
