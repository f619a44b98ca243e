"""How rows are spaced: lengths, months, parts of months and years, working days."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np

from stpatch_jax.data.sessions import MOST_HOLIDAYS, Sessions

Unit = Literal[
    "nanosecond",
    "microsecond",
    "millisecond",
    "second",
    "minute",
    "hour",
    "day",
    "business day",
    "month",
    "year",
    "number",
]
_NANOSECONDS: dict[Unit, int] = {
    "day": 86_400_000_000_000,
    "hour": 3_600_000_000_000,
    "minute": 60_000_000_000,
    "second": 1_000_000_000,
    "millisecond": 1_000_000,
    "microsecond": 1_000,
    "nanosecond": 1,
}
_SECONDS = {"month": 30.436875 * 86400, "year": 365.2425 * 86400, "business day": 86400.0}
# A daylight saving hour of rows twice a day or rarer is no gap, neither is the jitter of a clock.
TOLERANCE = 1 / 12 + 1e-9
_DAY = np.timedelta64(1, "D")
_SAME_CALENDAR = {
    **dict.fromkeys(("gregorian", "proleptic_gregorian"), "standard"),
    "365_day": "noleap",
    "366_day": "all_leap",
}


@dataclass(frozen=True)
class Step:
    """The distance of the rows of a time axis.

    Attributes:
        count: How many units.
        unit: A length (`nanosecond` to `day`, the longest of which the step is a whole number), a
            part of a calendar (`business day`, `month`, `year`), or `number` for rows that are
            numbered or timed by a number.

    >>> str(Step(6, "hour")), str(Step(1, "month"))
    ('6 hours', '1 month')
    """

    count: float
    unit: Unit

    @property
    def seconds(self) -> float | None:
        """Its length in seconds, on average for parts of a calendar; None for numbers."""
        if self.unit == "number":
            return None
        one = _SECONDS.get(self.unit) or _NANOSECONDS[self.unit] / 1e9
        return self.count * one

    @property
    def length(self) -> np.timedelta64 | None:
        """Its exact length; None for parts of a calendar and for numbers."""
        if self.unit not in _NANOSECONDS:
            return None
        return np.timedelta64(int(self.count) * _NANOSECONDS[self.unit], "ns")

    def __str__(self) -> str:
        if self.unit == "number":
            return f"{self.count:g}"
        return f"{self.count:g} {self.unit}{'s' * (self.count != 1)}"


@dataclass(frozen=True)
class Rule:
    """A step, how many of it the rows are apart [time - 1], and the ticks so many behind a row."""

    step: Step
    apart: np.ndarray
    ticks: Callable[[int, np.ndarray], np.ndarray] | None
    holidays: int = 0
    sessions: Sessions | None = None


@dataclass(frozen=True, eq=False)
class Spacing:
    """The rules that the rows of a time axis may keep.

    Attributes:
        values: Times [time], ascending: datetime64, numbers, or dates of cftime.
        calendar: See `calendar_of`.

    >>> str(Spacing(np.arange(5).astype("M8[h]"), "standard").rule.step)
    '1 hour'
    """

    values: np.ndarray
    calendar: str | None

    @cached_property
    def rule(self) -> Rule | None:
        """What most rows keep, None for none."""
        if len(self.values) < 2:
            return None
        if self.calendar is None:
            return self._numbers()
        ways = (
            *(self._months, self._exact, self._working_days),
            *(self._sessions, self.some_day, self._lengths),
        )
        return next((rule for find in ways if (rule := find()) is not None), None)

    @cached_property
    def _ticks(self) -> np.ndarray:
        return self.values if self.calendar is None else ticks_of(self.values)

    def values_of(self, ticks: np.ndarray) -> np.ndarray:
        """The times of ticks of a rule."""
        return ticks if self.calendar is None else of_ticks(ticks, self.values)

    @property
    def _tick(self) -> str:
        return "ns" if self.values.dtype == np.dtype("M8[ns]") else "us"

    @property
    def _day(self) -> int:
        return _NANOSECONDS["day"] // (1 if self._tick == "ns" else 1000)

    def of_step(self, step: Step) -> Rule | None:
        """The rule of a step that is told, for what follows."""
        if step.unit in ("month", "year"):
            return self._months(int(step.count) * (12 if step.unit == "year" else 1))
        if step.unit == "business day":
            return Rule(step, np.ones(0), partial(self._working_day, week="1111100"))
        length = step.count
        if step.unit != "number":
            length = int(length) * (_NANOSECONDS[step.unit] * self._day // _NANOSECONDS["day"])
        return self._even(step, length, np.ones(0))

    def _numbers(self) -> Rule | None:
        values = self.values if self.values.dtype.kind == "f" else self.values.astype(np.int64)
        apart = np.diff(values)
        length = np.median(apart)
        # Whole numbers stay whole.
        length = (
            length.item()
            if values.dtype.kind == "f"
            else int(np.sort(apart)[(len(apart) - 1) // 2])
        )
        return self._even(Step(length, "number"), length, apart)

    def _exact(self) -> Rule | None:
        apart = np.diff(self._ticks)
        return self._of_length(int(apart[0])) if (apart == apart[0]).all() else None

    def _lengths(self) -> Rule | None:
        apart = np.diff(self._ticks)
        length = int(np.sort(apart)[(len(apart) - 1) // 2])
        if 2 * np.count_nonzero(apart == length) < len(apart):
            length = self._rounded(length)
        rule = self._of_length(length)
        if rule is None or not (np.abs(rule.apart - np.rint(rule.apart)) > TOLERANCE).any():
            return rule
        # Dekads, half months, and the eight days of satellites, which begin anew with the year.
        return self._parts("M", rule.step) or self._parts("Y", rule.step) or rule

    def _parts(self, period: Literal["M", "Y"], step: Step) -> Rule | None:
        """Rows at the same places of every month or year."""
        months = self._month_numbers
        size = 12 if period == "Y" else 1
        periods = months // size
        inside = self._ticks - self._month_starts(periods * size)
        places, part = np.unique(inside, return_inverse=True)
        count = len(places)
        if 2 * len(inside) < 3 * count:
            return None
        number = periods * count + part
        apart = np.diff(number).astype(np.float64)
        if 2 * np.count_nonzero(apart == 1) < len(apart):
            return None

        def ticks(row: int, steps: np.ndarray) -> np.ndarray:
            numbers = number[row] + steps
            return self._month_starts(numbers // count * size) + places[numbers % count]

        return Rule(step, apart, ticks)

    def _rounded(self, length: int) -> int:
        """A length between the ticks of a clock that jitters, in the unit it is meant in."""
        for nanoseconds in _NANOSECONDS.values():
            unit = nanoseconds * self._day // _NANOSECONDS["day"]
            if unit and abs((whole := round(length / unit) * unit) - length) * 1000 <= length:
                return whole
        return length

    def _of_length(self, length: int) -> Rule | None:
        nanoseconds = length * (_NANOSECONDS["day"] // self._day)
        units: list[Unit] = [unit for unit, size in _NANOSECONDS.items() if nanoseconds % size == 0]
        step = Step(nanoseconds // _NANOSECONDS[units[0]], units[0])
        return self._even(step, length, np.diff(self._ticks))

    def _even(self, step: Step, length: float, apart: np.ndarray) -> Rule | None:
        apart = apart / length
        if 2 * np.count_nonzero(np.abs(apart - 1) <= TOLERANCE) < len(apart):
            return None
        return Rule(step, apart, lambda row, steps: self._ticks[row] + length * steps)

    def _months(self, every: int | None = None) -> Rule | None:
        """Whole months, where each row has the same place in its month."""
        if (rule := self.some_day(every=every)) is None:
            return None
        months, apart = self._month_numbers, rule.apart
        every = int(rule.step.count) * (12 if rule.step.unit == "year" else 1)

        fits = (place for place in self._places() if np.array_equal(place(months), self._ticks))
        if (place := next(fits, None)) is None:
            return None
        return Rule(rule.step, apart, lambda row, steps: place(months[row] + every * steps))

    def some_day(self, *, every: int | None = None) -> Rule | None:
        """Whole months, on some day of each, which tells the step alone."""
        if every is None and np.median(np.diff(self._ticks)) < 27 * self._day:
            return None
        apart = np.diff(self._month_numbers)
        if every is None:
            every = int(np.sort(apart)[(len(apart) - 1) // 2])
        if every < 1 or (apart == 0).any() or 2 * np.count_nonzero(apart == every) < len(apart):
            return None
        step = Step(every // 12, "year") if every % 12 == 0 else Step(every, "month")
        return Rule(step, apart / every, None)

    def _places(self) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
        """Places in a month that the rows may have: functions from its number to ticks."""
        inside = self._ticks - self._month_starts(self._month_numbers)
        days, clock, one = inside // self._day, inside[-1] % self._day, self._day

        def by_day(months: np.ndarray, day: int = 31) -> np.ndarray:
            start = self._month_starts(months)
            length = (self._month_starts(months + 1) - start) // one
            return start + np.minimum(day, length - 1) * one + clock

        yield by_day
        yield lambda months: by_day(months, int(days.max()))

        def middle(months: np.ndarray) -> np.ndarray:
            return (self._month_starts(months) + self._month_starts(months + 1)) // 2

        # Some models write the middles a day early, others a day late.
        last, center = self._ticks[-1], middle(self._month_numbers[-1:])
        yield lambda months: middle(months) + (last - center)
        yield lambda months: (middle(months) // one + (last // one - center // one)) * one + clock
        if self.calendar != "standard" or self.values.dtype == object:
            return
        for roll, behind in (("forward", 0), ("backward", 1)):

            def by_weekday(
                months: np.ndarray, roll: Any = roll, behind: int = behind
            ) -> np.ndarray:
                start = (months + behind).astype("M8[M]").astype("M8[D]") - behind * _DAY
                found = np.busday_offset(start, 0, roll)
                return found.astype(f"M8[{self._tick}]").astype(np.int64) + clock

            yield by_weekday

    @cached_property
    def _month_numbers(self) -> np.ndarray:
        """Months since 1970 [time], int64."""
        if self.values.dtype == object:
            return np.array([(d.year - 1970) * 12 + d.month - 1 for d in self.values], np.int64)
        return self.values.astype("M8[M]").astype(np.int64)

    def _month_starts(self, months: np.ndarray) -> np.ndarray:
        """Ticks at which months begin, by their number since 1970."""
        if self.values.dtype != object:
            return months.astype("M8[M]").astype(f"M8[{self._tick}]").astype(np.int64)
        first, unique = self.values[0], np.unique(months)
        dates = [
            _cftime().datetime(
                1970 + int(month) // 12,
                int(month) % 12 + 1,
                1,
                calendar=first.calendar,
                has_year_zero=first.has_year_zero,
            )
            for month in unique
        ]
        starts = _cftime().date2num(
            dates, _EPOCH, first.calendar, has_year_zero=first.has_year_zero
        )
        return np.asarray(starts, np.int64)[np.searchsorted(unique, months)]

    def _working_days(self) -> Rule | None:
        """Days of most of the week, with a weekend inside."""
        if self.calendar != "standard" or self.values.dtype == object:
            return None
        clock = self._ticks % self._day
        if (clock != clock[0]).any() or np.median(np.diff(self._ticks)) != self._day:
            return None
        days = days_of(self.values)
        counts = np.bincount((days.astype(np.int64) + 3) % 7, minlength=7)
        mask = counts * 2 >= counts.max() if days[-1] - days[0] > 14 * _DAY else np.arange(7) < 5
        if mask.sum() not in (5, 6) or counts[~mask].sum() * 20 > len(days):
            return None
        week = "".join("01"[int(there)] for there in mask)
        apart = np.maximum(np.busday_count(days[:-1], days[1:], week), 1)
        if 2 * np.count_nonzero(apart == 1) < len(apart):
            return None
        short = apart <= 1 + MOST_HOLIDAYS
        return Rule(
            Step(1, "business day"),
            np.where(short, 1.0, apart),
            partial(self._working_day, week=week),
            holidays=int((apart[short] - 1).sum()),
        )

    def _sessions(self) -> Rule | None:
        if self.calendar != "standard" or self.values.dtype == object:
            return None
        sessions = Sessions(self._ticks, self._day)
        if not sessions.found or (rule := self._of_length(sessions.length)) is None:
            return None
        apart, holidays = sessions.gaps
        if 2 * np.count_nonzero(apart == 1) < len(apart):
            return None
        return Rule(
            rule.step,
            apart,
            lambda row, steps: sessions.ahead(row, int(steps.max(initial=0)))[steps - 1],
            holidays,
            sessions,
        )

    def _working_day(self, row: int, steps: np.ndarray, *, week: str) -> np.ndarray:
        """Ticks of working days behind a row."""
        day = days_of(self.values[row : row + 1])
        days = np.busday_offset(day, steps, "backward", weekmask=week)
        return days.astype(f"M8[{self._tick}]").astype(np.int64) + self._ticks[row] % self._day


_EPOCH = "microseconds since 1970-01-01"


def _cftime() -> Any:
    # Dates of other calendars come from it, so that it is there.
    import cftime

    return cftime


def days_of(values: np.ndarray) -> np.ndarray:
    """The days of dates [time], datetime64[D].

    >>> days_of(np.array(["2024-01-01T06"], "M8[h]")).tolist()
    [datetime.date(2024, 1, 1)]
    """
    return values.astype("M8[D]")


def ticks_of(dates: np.ndarray) -> np.ndarray:
    """Dates [time] as whole numbers since 1970: nanoseconds of datetime64[ns], else microseconds.

    >>> ticks_of(np.array(["1970-01-02"], "M8[D]")).tolist()
    [86400000000]
    """
    if dates.dtype == object and len(dates):
        own = {"calendar": dates[0].calendar, "has_year_zero": dates[0].has_year_zero}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Years that CF does not know are dates all the same.
            return np.asarray(_cftime().date2num(dates, _EPOCH, **own), np.int64)
    return dates.astype("M8[ns]" if dates.dtype == "M8[ns]" else "M8[us]").astype(np.int64)


def of_ticks(ticks: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Undoes `ticks_of`; the dates are of the kind of others.

    >>> of_ticks(np.array([86400000000]), np.array(["2024-01-01"], "M8[D]")).tolist()
    [datetime.date(1970, 1, 2)]
    """
    if like.dtype == object:
        own = {"calendar": like[0].calendar, "has_year_zero": like[0].has_year_zero}
        found = _cftime().num2date(ticks, _EPOCH, only_use_cftime_datetimes=True, **own)
        return np.asarray(found, object)
    return ticks.astype("M8[ns]" if like.dtype == "M8[ns]" else "M8[us]").astype(like.dtype)


def calendar_of(values: np.ndarray) -> str | None:
    """The calendar of times as CF names it, None where they are no dates.

    >>> calendar_of(np.array(["2024-01-01"], "M8[D]"))
    'standard'
    """
    if values.dtype.kind == "M":
        return "standard"
    if values.dtype != object or not values.size:
        return None
    own = getattr(values.flat[0], "calendar", None)
    return None if own is None else _SAME_CALENDAR.get(own, own)
