"""The one model of time: steps, gaps and what follows, against pandas and cftime."""

import datetime as dt
import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data.times import Step, TimeAxis, months_after, time_text
from stpatch_jax.errors import InputError

CALENDARS = ("noleap", "all_leap", "360_day", "julian", "standard")
STEPS = {
    "MS": "1 month",
    "ME": "1 month",
    "BMS": "1 month",
    "BME": "1 month",
    "QS": "3 months",
    "QE": "3 months",
    "YS": "1 year",
    "YE": "1 year",
    "2YS": "2 years",
    "B": "1 business day",
    "D": "1 day",
    "W": "7 days",
    "6h": "6 hours",
    "h": "1 hour",
    "30min": "30 minutes",
    "7s": "7 seconds",
    "20ms": "20 milliseconds",
}
starts = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)).map(
    lambda date: pd.Timestamp(date).floor("s")
)


@given(starts, st.sampled_from(sorted(STEPS)), st.integers(10, 60), st.integers(1, 20))
def test_rows_go_on_as_a_date_range_does(start, freq, rows, count):
    if freq in ("QS", "QE", "MS", "ME", "YS", "YE", "2YS", "BMS", "BME", "B"):
        start = start.normalize()
    whole = pd.date_range(start, periods=rows + count, freq=freq).values
    axis = TimeAxis.of(whole[:rows])
    assert (str(axis.step), axis.gaps, axis.uneven) == (STEPS[freq], (), ())
    np.testing.assert_array_equal(axis.ahead(count), whole[rows:])


@given(
    st.sampled_from(CALENDARS),
    st.sampled_from(["MS", "ME", "QS", "YS", "D", "6h", "h"]),
    st.integers(2, 1800),
    st.integers(1, 12),
    st.integers(12, 40),
)
def test_rows_of_every_calendar_go_on_in_their_own(calendar, freq, year, month, rows):
    start = xr.date_range(
        f"{year:04d}-{month:02d}-01", periods=1, calendar=calendar, use_cftime=True
    )
    whole = xr.date_range(
        start[0], periods=rows + 5, freq=freq, calendar=calendar, use_cftime=True
    ).values
    axis = TimeAxis.of(whole[:rows])
    assert (axis.calendar, str(axis.step)) == (calendar, STEPS[freq])
    assert axis.ahead(5).tolist() == whole[rows:].tolist()
    assert type(axis.ahead(1)[0]) is type(whole[0])


@given(
    starts,
    st.sampled_from(["MS", "D", "h", "B"]),
    st.sets(st.integers(1, 58), min_size=1, max_size=12),
)
def test_gaps_count_the_rows_left_out(start, freq, dropped):
    whole = pd.date_range(start.normalize(), periods=60, freq=freq)
    axis = TimeAxis.of(whole.delete(sorted(dropped)).values)
    told = sum(gap.missing for gap in axis.gaps) + axis.holidays
    assert (str(axis.step), told) == (STEPS[freq], len(dropped))
    for gap in axis.gaps:
        assert axis.values[gap.row - 1] == gap.after < gap.before == axis.values[gap.row]
        hidden = whole[(whole > gap.after) & (whole < gap.before)]
        assert len(hidden) == gap.missing
    rows = [row for segment in axis.segments for row in segment]
    assert rows == list(range(len(axis)))
    assert len(axis.segments) == len(axis.gaps) + 1


def test_thirteen_hours_are_one_gap():
    hours = pd.date_range("2021-01-01", periods=240, freq="h")
    axis = TimeAxis.of(hours.delete(list(range(198, 211))).values)
    assert list(map(str, axis.gaps)) == [
        "13 rows missing between 2021-01-09T05:00 and 2021-01-09T19:00"
    ]
    assert axis.segments == (range(198), range(198, 227))


def test_a_row_in_between_is_a_gap_too():
    times = np.array(["00:00", "01:00", "01:20", "02:00", "03:00", "04:00", "05:00"])
    axis = TimeAxis.of(np.char.add("2024-01-01T", times).astype("M8[ns]"))
    assert [(gap.row, gap.missing) for gap in axis.gaps] == [(2, 0)]


def test_holidays_are_no_gap_of_working_days():
    days = pd.bdate_range("2020-01-01", periods=100).drop(["2020-01-20", "2020-02-17"])
    axis = TimeAxis.of(days.values)
    assert (str(axis.step), axis.holidays, axis.gaps) == ("1 business day", 2, ())
    closed = TimeAxis.of(days.delete(list(range(50, 60))).values)
    assert [gap.missing for gap in closed.gaps] == [10]


def test_a_week_that_ends_on_thursday_has_its_own_working_days():
    days = pd.bdate_range("2023-01-01", periods=60, freq="C", weekmask="Sun Mon Tue Wed Thu")
    axis = TimeAxis.of(days[:50].values)
    assert (str(axis.step), axis.gaps) == ("1 business day", ())
    np.testing.assert_array_equal(axis.ahead(10), days[50:].values)


def test_five_days_of_a_week_take_the_step_they_are_told():
    days = pd.bdate_range("2024-01-01", periods=8).values
    axis = TimeAxis.of(days[:5])
    assert axis.fits(Step(1, "business day"))
    assert not axis.fits(Step(1, "hour"))
    np.testing.assert_array_equal(axis.ahead(3, step=Step(1, "business day")), days[5:])
    one = TimeAxis.of(np.array(["2024-01-31"], "M8[s]"))
    told = one.ahead(2, step=Step(1, "month"))
    assert list(map(time_text, told)) == ["2024-02-29", "2024-03-31"]
    assert time_text(one.ahead(1, step=Step(6, "hour"))[0]) == "2024-01-31T06:00"
    assert TimeAxis.of(np.array([3])).ahead(2, step=Step(2, "number")).tolist() == [5, 7]


@pytest.mark.parametrize("late", [-1, 0, 1])
@pytest.mark.parametrize("clock", [False, True], ids=["by-day", "exact"])
@pytest.mark.parametrize("calendar", CALENDARS)
def test_middles_of_months_stay_in_the_middle(calendar, clock, late):
    """Also those that models write a day early or late."""
    starts = xr.date_range("1999-01-01", periods=41, freq="MS", calendar=calendar, use_cftime=True)
    middles = np.array([a + (b - a) / 2 for a, b in itertools.pairwise(starts)])
    middles = middles + dt.timedelta(days=late)
    if not clock:
        middles = np.array([date.replace(hour=0) for date in middles])
    axis = TimeAxis.of(middles[:30])
    assert (str(axis.step), axis.gaps) == ("1 month", ())
    assert axis.ahead(10).tolist() == middles[30:].tolist()


def test_dekads_and_the_eight_days_of_satellites_begin_anew():
    months = pd.date_range("2001-01-01", periods=24, freq="MS")
    dekads = np.array([m + pd.Timedelta(d, "D") for m in months for d in (0, 10, 20)], "M8[ns]")
    years = pd.date_range("2001-01-01", periods=4, freq="YS")
    eights = np.array([y + pd.Timedelta(8 * d, "D") for y in years for d in range(46)], "M8[ns]")
    for whole, step in ((dekads, "10 days"), (eights, "8 days")):
        axis = TimeAxis.of(whole[:-10])
        assert (str(axis.step), axis.gaps, axis.uneven) == (step, (), ())
        np.testing.assert_array_equal(axis.ahead(10), whole[-10:])


def test_daylight_saving_and_a_jittering_clock_are_no_gaps():
    days = pd.date_range("2021-03-01", periods=300, freq="D", tz="Europe/Berlin").tz_convert(None)
    axis = TimeAxis.of(days.values)
    assert (str(axis.step), axis.gaps, axis.uneven) == ("1 day", (), ())
    off = np.random.default_rng(0).integers(-4, 5, 50)
    axis = TimeAxis.of((np.arange(50) * 600 + off).astype("M8[s]"))
    assert (str(axis.step), axis.gaps, axis.uneven) == ("10 minutes", (), ())


@pytest.mark.parametrize(
    "values",
    [
        pd.date_range("2010-01-01", periods=40, freq="WOM-1FRI").values,
        np.sort(np.random.default_rng(0).integers(0, 10**6, 50)).astype("M8[s]"),
        np.array([3]),
        np.array(["2020-01-01"], "M8[D]"),
    ],
    ids=["first-fridays", "any-time", "one-number", "one-date"],
)
def test_rows_without_a_rule_are_not_dated_on(values):
    with pytest.raises(InputError, match="must be at least two rows of one step to date"):
        TimeAxis.of(values).ahead(1)


def test_dates_that_nanoseconds_do_not_hold_are_not_wrapped():
    years = (np.datetime64("2255", "Y") + np.arange(6)).astype("M8[ns]")
    assert str(TimeAxis.of(years).ahead(1)[0])[:4] == "2261"
    with pytest.raises(
        InputError, match=r"that datetime64\[ns\] holds, got 2260-01-01 as the last"
    ):
        TimeAxis.of(years).ahead(3)


def test_numbers_go_on_as_numbers():
    steps = TimeAxis.of(np.array([1, 2, 3, 6, 7]))
    assert (steps.calendar, str(steps.step), steps.gaps[0].missing) == (None, "1", 2)
    assert steps.ahead(2).tolist() == [8, 9]
    assert steps.ahead(2).dtype == np.int64
    seconds = TimeAxis.of(np.arange(10) / 25)
    np.testing.assert_allclose(seconds.ahead(2), [0.4, 0.44])


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (["2020-01-02", "2020-01-01"], "must ascend, each once, got 2020-01-01 after 2020-01-02"),
        (["2020-01-01", "2020-01-01"], "must ascend"),
        (["2020-01-01", "NaT"], "must all be known, got none at row 1"),
    ],
)
def test_times_that_are_no_axis_are_refused(values, what):
    with pytest.raises(InputError, match=what):
        TimeAxis.of(np.array(values, "M8[s]"))


def test_words_are_no_times():
    with pytest.raises(InputError, match="must be dates or numbers"):
        TimeAxis.of(np.array(["January", "February"]))


def test_targets_lie_in_the_rows_or_follow_them_by_their_step():
    hours = pd.date_range("2021-01-01", periods=12, freq="h").values
    axis = TimeAxis.of(np.delete(hours, [5, 6]))
    at = axis.targets(np.array([1, 4, 5, 10]), 3)
    np.testing.assert_array_equal(at[:3], [hours[1:4], hours[4:7], hours[5:8]])
    assert list(map(time_text, at[3])) == [
        "2021-01-01T12:00",
        "2021-01-01T13:00",
        "2021-01-01T14:00",
    ]


@pytest.mark.parametrize("calendar", CALENDARS)
def test_months_after_a_date_are_those_of_its_calendar(calendar):
    whole = xr.date_range("1999-01-15", periods=30, freq="MS", calendar=calendar, use_cftime=True)
    found = months_after(whole[10], np.arange(-10, 20))
    assert found.tolist() == whole.tolist()


def test_texts_of_times_say_no_more_than_there_is():
    for text in ("2024-05-01", "2024-05-01T06:00", "2024-05-01T06:00:07", "2024-05-01T06:00:00.5"):
        assert time_text(np.datetime64(text, "ns")) == text
    assert time_text(0.25) == "0.25"


def test_three_rows_of_months_may_be_as_far_apart():
    rows = np.array(["2001-01-17T12", "2001-02-16T00", "2001-03-17T12"], "M8[h]")
    axis = TimeAxis.of(rows)
    assert axis.step == Step(1, "month")  # A day behind the middles, and also 708 hours apart.
    assert time_text(axis.ahead(1)[0]) == "2001-04-17"
    assert axis.fits(Step(1, "month"))
    assert not axis.fits(Step(1, "year"))
    assert not TimeAxis.of(rows[0] + np.arange(40)).fits(Step(1, "month"))
