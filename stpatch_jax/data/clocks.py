"""What calendars tell of times: phases of day, week and year."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stpatch_jax.data.times import calendar_of
from stpatch_jax.errors import require


@dataclass(frozen=True, eq=False)
class Clock:
    """What calendars tell of times [time].

    Attributes:
        hour: Hour of the day, int64.
        day_share: The share of the day that has passed, float64 in [0, 1).
        weekday: Days since Monday, int64; of a model's calendar, its days by sevens.
        day_of_year: Days since the first of January, int64.
        days_in_year: Days of the year, int64: 360 to 366 by calendar.
    """

    hour: np.ndarray
    day_share: np.ndarray
    weekday: np.ndarray
    day_of_year: np.ndarray
    days_in_year: np.ndarray

    @classmethod
    def of(cls, times: np.ndarray) -> "Clock":
        """Reads dates [time] of any calendar.

        Raises:
            InputError: If they are no dates, but numbers of steps, for example.

        >>> Clock.of(np.array(["2024-03-01T06"], "M8[ns]")).day_of_year
        array([60])
        """
        times = np.asarray(times)
        calendar = calendar_of(times)
        require(
            calendar is not None or not times.size,
            f"the times of a calendar must be dates, got {times.dtype}; give the field a time "
            "coordinate of dates or leave the calendar out",
        )
        if times.dtype.kind == "M" or not times.size:
            at = pd.DatetimeIndex(times)
            days = np.where(at.is_leap_year, 366, 365)
            share = ((at - at.normalize()) / pd.Timedelta(1, "D")).to_numpy(np.float64)
            found = (at.hour, at.day_of_week, at.day_of_year - 1, days)
            hour, *others = (np.asarray(x, np.int64) for x in found)
            return cls(hour, share, *others)
        rows = [
            (
                d.hour,
                (d.hour * 3600 + d.minute * 60 + d.second + d.microsecond / 1e6) / 86400,
                d.dayofwk,
                d.dayofyr - 1,
            )
            for d in times
        ]
        hour, share, weekday, day = map(np.asarray, zip(*rows, strict=True))
        leap = {date.year: _days_in_year(date) for date in times}
        return cls(hour, share, weekday, day, np.array([leap[date.year] for date in times]))


def standard_dates(times: np.ndarray) -> np.ndarray:
    """Dates of any calendar as datetime64 at the same share of their year, for an axis of a plot.

    Those of the standard calendar, and numbers, are given back.
    """
    if times.dtype != object or not times.size:
        return times
    clock, flat = Clock.of(times.ravel()), times.ravel()
    years = np.array([date.year - 1970 for date in flat]).astype("M8[Y]")
    begin, end = (
        at.astype("M8[us]").astype(np.int64) for at in (years, years + np.timedelta64(1, "Y"))
    )
    share = (clock.day_of_year + clock.day_share) / clock.days_in_year
    return (begin + share * (end - begin)).astype("M8[us]").reshape(times.shape)


def _days_in_year(date: Any) -> int:
    """Days of the year of a date of cftime."""
    return int(date.replace(month=12, day=30 if date.calendar == "360_day" else 31).dayofyr)
