"""Rows of the hours of working days: bars of exchanges and currencies, against pandas."""

import datetime as dt
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data.fields.problem import FieldConfig
from stpatch_jax.data.sampling.spacing import gaps_report, season_note, with_missing_rows
from stpatch_jax.data.times import TimeAxis, time_text

starts = st.dates(dt.date(1990, 1, 1), dt.date(2040, 1, 1))


def at_hours(days, first: str, count: int, minutes: int) -> pd.DatetimeIndex:
    """As many rows of every day, from a time of day on."""
    clock = pd.timedelta_range(f"{first}:00", periods=count, freq=f"{minutes}min")
    return pd.DatetimeIndex(np.add.outer(days.values, clock.values).ravel())


def hourly(keep) -> pd.DatetimeIndex:
    """The hours of twelve weeks from a Monday on that are kept, by weekday and hour."""
    hours = pd.date_range("2021-01-04", periods=24 * 84, freq="h")
    return hours[keep(np.arange(len(hours)) // 24 % 7, np.arange(len(hours)) % 24)]


MARKETS = {
    "new-york": at_hours(pd.bdate_range("2021-01-04", periods=60), "09:30", 7, 60),
    "five-minutes": at_hours(pd.bdate_range("2021-01-04", periods=12), "09:30", 78, 5),
    "riyadh": at_hours(
        pd.bdate_range("2021-01-03", periods=60, freq="C", weekmask="Sun Mon Tue Wed Thu"),
        "10:00",
        5,
        60,
    ),
    "lunch": hourly(lambda day, hour: (day < 5) & np.isin(hour, [9, 10, 11, 13, 14, 15])),
    "days-of-24-hours": hourly(lambda day, hour: day < 5),
    "currencies": hourly(
        lambda day, hour: (day < 4) | ((day == 4) & (hour < 22)) | ((day == 6) & (hour >= 22))
    ),
    "futures": hourly(
        lambda day, hour: (
            ((day < 4) & (hour != 17)) | ((day == 4) & (hour < 17)) | ((day == 6) & (hour >= 18))
        )
    ),
    "shop": at_hours(pd.date_range("2021-01-04", periods=30), "08:00", 13, 60),
}
markets = pytest.mark.parametrize("market", sorted(MARKETS))


@given(
    starts,
    st.integers(5, 40),
    st.integers(2, 8),
    st.sampled_from([5, 30, 60]),
    st.sampled_from(["09:00", "09:30", "14:30"]),
    st.integers(1, 60),
)
def test_bars_go_on_at_the_hours_of_the_next_working_day(start, days, count, minutes, first, more):
    working = pd.bdate_range(start, periods=days + more)
    whole = at_hours(working, first, count, minutes)
    rows = days * count
    axis = TimeAxis.of(whole[:rows].values)
    assert (axis.gaps, axis.uneven, axis.holidays) == ((), (), 0)
    assert axis.step is not None
    assert axis.step.seconds == 60 * minutes
    np.testing.assert_array_equal(axis.ahead(more), whole[rows : rows + more])


@markets
@given(data=st.data())
def test_markets_go_on_from_every_row_of_the_last_weeks(market, data):
    whole = MARKETS[market]
    rows = data.draw(st.integers(2 * len(whole) // 3, len(whole) - 20))
    axis = TimeAxis.of(whole[:rows].values)
    assert axis.gaps == ()
    np.testing.assert_array_equal(axis.ahead(20), whole[rows : rows + 20])


@markets
@given(data=st.data())
def test_rows_left_out_inside_a_session_are_a_gap_and_put_in_again(market, data):
    whole = MARKETS[market]
    near = np.diff(whole.values) == np.median(np.diff(whole.values))
    inside = np.flatnonzero(near[1:] & near[:-1]) + 1
    row = data.draw(st.sampled_from(inside[len(inside) // 2 :].tolist()))
    left = whole.delete(row)
    axis = TimeAxis.of(left.values)
    assert [(gap.row, gap.missing) for gap in axis.gaps] == [(row, 1)]
    field = xr.DataArray(
        np.ones((len(left), 1)), {"time": left.values, "channel": ["a"]}, ("time", "channel")
    )
    np.testing.assert_array_equal(with_missing_rows(field, axis).time.values, whole.values)


def test_holidays_and_half_sessions_are_no_gap_and_closed_weeks_are():
    days = pd.bdate_range("2021-01-04", periods=60)
    whole = at_hours(days, "09:30", 7, 60)
    late_early = [*range(70, 73), *range(101, 105)]
    axis = TimeAxis.of(whole.delete([*range(35, 49), *late_early]).values)
    assert (axis.gaps, axis.holidays) == ((), 2)
    closed = TimeAxis.of(whole.delete(list(range(140, 210))).values)
    assert [gap.missing for gap in closed.gaps] == [70]
    christmas = TimeAxis.of(MARKETS["days-of-24-hours"].delete(list(range(240, 264))).values)
    assert (christmas.gaps, christmas.holidays) == ((), 1)
    outage = TimeAxis.of(MARKETS["days-of-24-hours"].delete(list(range(211, 221))).values)
    assert [gap.missing for gap in outage.gaps] == [10]


def test_hours_of_a_zone_with_summer_time_are_no_gaps_in_utc():
    days = pd.bdate_range("2021-01-04", periods=250).tz_localize("America/New_York")
    local = [day + pd.Timedelta(minutes=570 + 60 * bar) for day in days for bar in range(7)]
    whole = pd.DatetimeIndex(local).tz_convert("UTC").tz_localize(None)
    axis = TimeAxis.of(whole[:1000].values)
    assert axis.gaps == ()
    np.testing.assert_array_equal(axis.ahead(100), whole[1000:1100])


@pytest.mark.parametrize("rows", [24 * 12, 24 * 15 + 5, 24 * 60])
def test_a_weekend_that_a_sensor_of_all_days_leaves_out_is_a_gap(rows):
    hours = pd.date_range("2021-01-04", periods=rows, freq="h")
    out = (hours >= "2021-01-09") & (hours < "2021-01-11")
    axis = TimeAxis.of(hours[~out].values)
    assert (str(axis.step), axis.session_rows) == ("1 hour", None)
    assert [gap.missing for gap in axis.gaps] == [48]
    assert axis.ahead(1)[0] == hours[-1] + pd.Timedelta("1h")


@given(st.integers(60, 600), st.floats(0, 0.25), st.integers(0, 2**32 - 1))
def test_hours_left_out_at_random_are_gaps_of_all_the_day(rows, share, seed):
    hours = pd.date_range("2021-01-04", periods=rows, freq="h")
    kept = np.random.default_rng(seed).random(rows) >= share
    kept[[0, -1]] = True
    axis = TimeAxis.of(hours[kept].values)
    assert sum(gap.missing for gap in axis.gaps) == np.count_nonzero(~kept)


def test_a_row_between_two_bars_is_a_gap():
    whole = MARKETS["new-york"]
    between = whole.values[99] + np.timedelta64(5, "m")
    axis = TimeAxis.of(np.insert(whole.values, 100, between))
    assert [(gap.row, gap.missing) for gap in axis.gaps] == [(100, 0)]


def test_windows_of_bars_cross_nights_without_a_warning():
    times = MARKETS["new-york"].values
    values = np.random.default_rng(0).normal(size=(len(times), 1))
    field = xr.DataArray(values, {"time": times, "channel": ["close"]}, ("time", "channel"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = FieldConfig(path="bars.csv", context=24, horizon=7, season=7).of(field)
    assert (data.report["gaps"], data.report["step"]) == ([], "1 hour")
    assert sum(split["windows"] for split in data.report["splits"].values()) > 300


def test_seasons_of_bars_count_the_rows_of_a_session():
    axis = TimeAxis.of(MARKETS["new-york"].values)
    assert axis.session_rows == (7, 35)
    assert season_note(axis, 7) is None
    assert season_note(axis, 35) is None
    assert "rows are 7 a day, 35 a week, 1826 a year" in str(season_note(axis, 24))
    assert time_text(axis.ahead(1)[0]).endswith("T09:30")


HALF = ["2021-07-02", "2021-11-26", "2021-12-24", "2021-12-31"]


@pytest.mark.parametrize("zone", ["America/New_York", "UTC"])
@pytest.mark.parametrize("half", [[], HALF[:1], HALF])
@pytest.mark.parametrize("late", [False, True])
def test_half_sessions_are_told_and_no_gaps(zone, half, late):
    """Of an exchange of New York, also in UTC, where its hours move with daylight saving."""
    holidays = ["2021-01-18", "2021-07-05", "2021-11-25"]
    days = pd.bdate_range("2021-01-04", "2022-02-18", freq="C", holidays=holidays)
    bars = at_hours(days, "09:30", 7, 60).tz_localize("America/New_York")
    short = bars.strftime("%Y-%m-%d").isin(half)
    bars = bars[~short | ((bars.hour >= 12) if late else (bars.hour < 13))]
    axis = TimeAxis.of(bars.tz_convert(zone).tz_localize(None).values)
    assert (axis.gaps, axis.holidays) == ((), 3)
    assert axis.short_sessions == tuple(half)
    report = gaps_report(axis)
    assert report["short_sessions"] == half


@markets
def test_markets_of_unlike_days_have_no_half_sessions(market):
    assert TimeAxis.of(MARKETS[market].values).short_sessions == ()


def test_a_day_with_a_gap_inside_is_no_half_session():
    bars = at_hours(pd.bdate_range("2021-01-04", periods=60), "09:30", 7, 60)
    axis = TimeAxis.of(bars.delete([72, 73]).values)
    assert [gap.missing for gap in axis.gaps] == [2]
    assert axis.short_sessions == ()
    # Neither is a file that begins or ends within a day.
    assert TimeAxis.of(bars[3:-3].values).short_sessions == ()
