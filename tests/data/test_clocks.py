"""What calendars tell of times, against pandas and cftime."""

import datetime as dt

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data.clocks import Clock
from stpatch_jax.errors import InputError

starts = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)).map(
    lambda date: pd.Timestamp(date).floor("s")
)


@given(starts, st.integers(1, 40))
def test_the_clock_of_standard_dates_is_that_of_pandas(start, days):
    at = pd.date_range(start, periods=40, freq=f"{days}D")
    own = Clock.of(at.to_numpy())
    seconds = at.values.astype("M8[s]").astype(np.int64)
    other = Clock.of(cftime.num2date(seconds, "seconds since 1970-01-01", "standard"))
    for name in ("hour", "day_share", "weekday", "day_of_year", "days_in_year"):
        np.testing.assert_allclose(getattr(own, name), getattr(other, name), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(own.weekday, at.day_of_week)
    np.testing.assert_array_equal(own.day_of_year, at.day_of_year - 1)


@pytest.mark.parametrize(
    ("calendar", "days"), [("noleap", 365), ("all_leap", 366), ("360_day", 360), ("julian", 366)]
)
def test_years_have_the_days_of_their_calendar(calendar, days):
    # The year 1900 is a leap year of the Julian calendar alone.
    dates = xr.date_range("1900-01-01", periods=days, freq="D", calendar=calendar, use_cftime=True)
    clock = Clock.of(np.asarray(dates))
    assert set(clock.days_in_year) == {days}
    assert clock.day_of_year.tolist() == list(range(days))


def test_numbers_have_no_clock():
    with pytest.raises(InputError, match="must be dates, got int64"):
        Clock.of(np.arange(3))
