"""What training rows tell of open settings: seasons are found where they are, and only there."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax import InputError
from stpatch_jax.data import FieldConfig
from stpatch_jax.data.fields.choosing import found_seasons

ROWS = 1200
HOURS = np.datetime64("2024-01-01", "h") + np.arange(ROWS)
COUNTS = np.arange(ROWS)
OPEN = FieldConfig(
    season="auto", climatology="auto", calendar="auto", context="auto", horizon="auto"
)


def wave(period: float, rows: int = ROWS) -> np.ndarray:
    return np.sin(2 * np.pi * np.arange(rows) / period)


def noise(seed: int, rows: int = ROWS, series: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, series))


def field_of(values: np.ndarray, times: np.ndarray) -> xr.DataArray:
    dims = ("time", "cell", "channel")
    return xr.DataArray(values[..., None], {"time": times, "channel": ["load"]}, dims)


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.5]), st.floats(-2, 2))
def test_a_day_is_found_with_and_without_dates_and_trend(seed, size, trend):
    values = wave(24)[:, None] + size * noise(seed) + trend * np.linspace(0, 1, ROWS)[:, None]
    values[5:40, 0] = np.nan
    assert [*found_seasons(values, HOURS)] == [24]
    # Nothing but the errors tells 24 apart from its neighbours.
    assert [abs(season - 24) <= 1 for season in found_seasons(values, COUNTS)] == [True]


@given(st.integers(0, 2**32), st.floats(0.4, 1.2))
def test_a_week_is_found_beside_the_day_that_it_repeats(seed, size):
    values = wave(24)[:, None] + size * wave(168)[:, None] + 0.3 * noise(seed)
    shares = found_seasons(values, HOURS)
    assert [*shares] == [24, 168]
    assert 0 < shares[168] < shares[24] < 1


@given(st.integers(0, 2**32), st.sampled_from([60, 300, ROWS]))
def test_random_walks_and_noise_have_none(seed, rows):
    for values in (noise(seed, rows), noise(seed, rows).cumsum(axis=0)):
        assert not found_seasons(values, HOURS[:rows])


def test_a_season_is_one_in_time_where_rows_are_left_out():
    kept = np.delete(COUNTS, np.r_[200:205, 700:711])
    values = wave(24)[kept, None]
    # Counted in rows the two parts would be out of step.
    assert found_seasons(values, HOURS[kept])[24] < 1e-6


def test_months_of_twelve_years_have_a_year():
    months = np.arange("2000-01", "2012-01", dtype="M8[M]")
    values = wave(12, len(months))[:, None] + 0.2 * noise(0, len(months))
    assert [*found_seasons(values, months)] == [12]


def test_a_plain_year_of_two_is_a_climatology_and_no_season():
    days = np.arange("2020-01-01", "2023-01-01", dtype="M8[D]").astype("M8[ns]")
    size = len(days)
    plain = OPEN.of(field_of(wave(365.25, size)[:, None] + 0.3 * noise(0, size), days)).config
    assert (plain.season, plain.climatology) == ((), "day_of_year")
    walk = OPEN.of(field_of(noise(1, size).cumsum(axis=0), days)).config
    assert walk.climatology is None


@pytest.mark.parametrize(("series", "context"), [(7, 42), (8, 120)])
def test_of_many_series_ten_seasons_are_seen(series, context):
    months = np.arange("1900-01", "2000-01", dtype="M8[M]").astype("M8[ns]")
    values = wave(12, 1200)[:, None] + 0.3 * noise(0, 1200, series)
    assert OPEN.of(field_of(values, months)).config.context == context


def test_open_settings_are_chosen_and_told():
    config = OPEN
    values = wave(24)[:, None] + wave(168)[:, None] + 0.3 * noise(0)
    data = config.of(field_of(values, HOURS))
    expected = FieldConfig(
        season=(24, 168),
        climatology="weekday_hour",
        calendar=("hour", "weekday"),
        context=48,
        horizon=24,
    )
    settled, chosen = config.settled(data)
    assert settled == data.config == expected
    names = ["season", "climatology", "calendar", "context", "horizon"]
    assert set(chosen) == {f"data.{name}" for name in names}
    assert chosen["data.horizon"] == "24: the shortest season"
    assert expected.settled(expected.of(field_of(values, HOURS))) == (expected, {})
    rules = {"season_24", "season_168", "climatology", "drift"}
    assert rules <= data.source("test")[0].keys()


@pytest.mark.parametrize(
    ("rows", "series", "context"),
    [(700, 1, 48), (2000, 1, 70), (6000, 1, 192), (6000, 500, 131)],
)
def test_many_rows_of_not_too_many_series_are_seen_far_back(rows, series, context):
    times = np.datetime64("2024-01-01", "h") + np.arange(rows)
    values = np.tile(wave(24, rows)[:, None] + 0.3 * noise(0, rows)[:, :1], series)
    data = OPEN.of(field_of(values, times))
    assert data.config.context == context
    assert (data.chosen or {})["data.context"].startswith(f"{context}: ")


@given(st.integers(0, 2**32))
def test_only_training_rows_choose(seed):
    values = wave(24)[:, None] + 0.3 * noise(0)
    chosen = OPEN.of(field_of(values, HOURS)).chosen
    values[round(0.7 * ROWS) :] = noise(seed)[round(0.7 * ROWS) :].cumsum(axis=0)
    assert OPEN.of(field_of(values, HOURS)).chosen == chosen


@given(st.integers(40, 400), st.booleans())
def test_a_window_always_fits_the_rows(rows, dated):
    data = OPEN.of(field_of(noise(rows, rows), HOURS[:rows] if dated else COUNTS[:rows]))
    assert data.config.season == ()
    assert data.config.climatology is None
    assert all(len(data.source(split)) for split in ("train", "validation", "test"))


@pytest.mark.parametrize(
    ("shape", "told"),
    [((1, 2), "train split must hold rows, got 0 of 1; use"), ((9, 0, 3, 1), "got none along y;")],
)
def test_a_field_of_nothing_is_refused(shape, told):
    with pytest.raises(InputError, match=told):
        FieldConfig(context="auto").of(np.ones(shape))


def test_a_season_is_a_number_or_auto():
    with pytest.raises(InputError, match=r"data\.season must be .*, got 'day'; give a number"):
        FieldConfig(season="day")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"data\.season must be .*, got 0"):
        FieldConfig(season=(24, 0))
