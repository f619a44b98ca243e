"""The one model of time: calendars, steps, gaps, what follows, and phases of day, week and year."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from stpatch_jax.errors import InputError, require

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
_TOLERANCE = 1 / 12 + 1e-9
_MOST_HOLIDAYS = 4
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
class Gap:
    """Rows that a file leaves out between two of its rows.

    Attributes:
        row: Number of the first row behind the gap.
        after: Time of the row before the gap.
        before: Time of the row behind it.
        missing: How many rows are left out; 0 where a row stands in between two others, less than
            half a step from one.
    """

    row: int
    after: Any
    before: Any
    missing: int

    def __str__(self) -> str:
        rows = f"{self.missing} row{'s' * (self.missing != 1)} missing"
        if not self.missing:
            rows = "less than a step"
        return f"{rows} between {time_text(self.after)} and {time_text(self.before)}"


@dataclass(frozen=True, eq=False)
class TimeAxis:
    """The times of the rows of a field or table: their calendar, step and gaps.

    The step is a part of the calendar where the rows are months, quarters or years (at the same day
    of the month, at its end, its middle, its first or last weekday) or working days; else a length.
    It is the one that most rows keep, up to a twelfth more or less: the jitter of a clock, or a
    daylight saving hour. Where rows are left out, or one is too many, there is a gap: neighbours
    there are no neighbours in time. Up to four working days in a row that are left out are
    holidays and no gap.

    Attributes:
        values: Times [time], ascending: datetime64, numbers, or dates of cftime.
        calendar: Its name as in CF, `standard` for datetime64; None for numbers.
        name: What messages call the times.

    >>> axis = TimeAxis.of(np.array(["2021-01-31", "2021-02-28", "2021-04-30"], "M8[ns]"))
    >>> str(axis.step), [gap.missing for gap in axis.gaps], axis.segments
    ('1 month', [1], (range(0, 2), range(2, 3)))
    >>> axis.ahead(2).astype("M8[D]").tolist()
    [datetime.date(2021, 5, 31), datetime.date(2021, 6, 30)]
    """

    values: np.ndarray
    calendar: str | None
    name: str = "the times"

    @classmethod
    def of(cls, values: Any, *, name: str = "the times") -> "TimeAxis":
        """Takes times as they stand in a coordinate.

        Raises:
            InputError: If they are neither dates nor numbers, one is missing, or they do not
                ascend.
        """
        values = np.asarray(values)
        calendar = calendar_of(values)
        require(
            values.ndim == 1 and (calendar is not None or values.dtype.kind in "iuf"),
            f"{name} must be dates or numbers [time], got {values.dtype} of shape "
            f"{values.shape}; convert them to datetime64",
        )
        if (missing := pd.isna(values)).any():
            raise InputError(
                f"{name} must all be known, got none at row {int(missing.argmax())}; correct the "
                "time coordinate"
            )
        if (wrong := ~(values[1:] > values[:-1]).astype(bool)).any():
            row = int(wrong.argmax())
            raise InputError(
                f"{name} must ascend, each once, got {time_text(values[row + 1])} after "
                f"{time_text(values[row])}; sort the rows by time and keep each time once"
            )
        return cls(values, calendar, name)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def step(self) -> Step | None:
        """The step of most rows; None where most keep none, or there are fewer than two."""
        return self._rule.step if self._rule else None

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """All gaps, in order of time; none where there is no step."""
        if self._rule is None:
            return ()
        apart = self._rule.apart
        rows = np.flatnonzero(np.rint(apart) != 1) + 1
        return tuple(
            Gap(
                int(row),
                self.values[row - 1],
                self.values[row],
                max(int(np.rint(apart[row - 1])) - 1, 0),
            )
            for row in rows
        )

    @property
    def segments(self) -> tuple[range, ...]:
        """The rows between gaps, in order of time."""
        edges = [0, *(gap.row for gap in self.gaps), len(self)]
        return tuple(range(a, b) for a, b in itertools.pairwise(edges))

    @cached_property
    def uneven(self) -> tuple[int, ...]:
        """Rows that are another distance than a step from the row before, but no gap."""
        apart = self._rule.apart if self._rule else np.ones(0)
        off = (np.abs(apart - 1) > _TOLERANCE) & (np.rint(apart) == 1)
        return tuple((np.flatnonzero(off) + 1).tolist())

    @property
    def goes_on(self) -> bool:
        """Whether the step tells the times that follow, see `ahead`."""
        return self._rule is not None and self._rule.ticks is not None and not self.uneven

    @property
    def holidays(self) -> int:
        """Working days that are left out, but no gap."""
        return self._rule.holidays if self._rule else 0

    def fits(self, step: Step) -> bool:
        """Whether the rows may be of a step: it is theirs, or they are too few to tell.

        >>> week = np.arange("2024-01-01", "2024-01-06", dtype="M8[D]")
        >>> TimeAxis.of(week).fits(Step(1, "business day"))
        True
        """
        if len(self) < 2 or self.step == step:
            return True
        if step.unit in ("month", "year") and self.calendar is not None:
            return self._some_day(int(step.count) * (12 if step.unit == "year" else 1)) is not None
        working = step == Step(1, "business day") and self.step == Step(1, "day")
        standard = self.calendar == "standard"
        return working and standard and bool(np.is_busday(_days(self.values)).all())

    def ahead(self, count: int, *, row: int = -1, step: Step | None = None) -> np.ndarray:
        """The times of as many rows behind one of them, of the kind of `values`.

        Args:
            count: How many.
            row: Number of the row before them, by default the last one.
            step: The step to take where the rows are too few to tell theirs.

        Raises:
            InputError: If no step tells them.
        """
        rule = self._rule
        if step is not None and (rule is None or rule.step != step) and self.fits(step):
            rule = self._rule_of(step)
        if rule is None or self.uneven or rule.ticks is None:
            got = f"{len(self)} row" if len(self) < 2 else "rows at uneven times"
            got += f", first at {time_text(self.values[self.uneven[0]])}" if self.uneven else ""
            raise InputError(
                f"{self.name} must be at least two rows of one step to date what follows, got "
                f"{got}; give rows of one step, with missing values where nothing is known"
            )
        return self._values(rule.ticks(row % len(self), np.arange(1, count + 1)))

    def targets(self, index: np.ndarray, horizon: int, *, step: Step | None = None) -> np.ndarray:
        """The times of the rows that are, or would be, the targets of forecasts.

        Those of the axis where it goes on without a gap, else what follows by its step.

        Args:
            index: Row of the first target of each forecast [forecast], from 1; the number of rows
                stands for what follows the last one.
            horizon: Targets of each.
            step: As in `ahead`.

        Returns:
            Times [forecast, horizon].

        Raises:
            InputError: If a target lies behind a gap or the end, and no step tells its time.

        >>> axis = TimeAxis.of(np.array([0, 1, 2, 5, 6]))
        >>> axis.targets(np.array([2, 5]), 2).tolist()
        [[2, 3], [7, 8]]
        """
        ends = np.array([segment.stop for segment in self.segments])
        stops = ends[np.searchsorted(ends, index)]
        found = np.empty((len(index), horizon), self.values.dtype)
        for end in np.unique(stops):
            rows = (index[:, None] + np.arange(horizon))[stops == end]
            first, behind = int(rows.min()), max(int(rows.max()) + 1 - int(end), 0)
            known = self.values[first:end]
            coming = self.ahead(behind, row=int(end) - 1, step=step) if behind else known[:0]
            found[stops == end] = np.concatenate([known, coming])[rows - first]
        return found

    @cached_property
    def _rule(self) -> "_Rule | None":
        """What most rows keep, None for none."""
        if len(self) < 2:
            return None
        if self.calendar is None:
            return self._numbers()
        ways = (self._months, self._exact, self._working_days, self._some_day, self._lengths)
        return next((rule for find in ways if (rule := find()) is not None), None)

    @cached_property
    def _ticks(self) -> np.ndarray:
        """The times as numbers, see `ticks_of`."""
        return self.values if self.calendar is None else ticks_of(self.values)

    def _values(self, ticks: np.ndarray) -> np.ndarray:
        """Undoes `_ticks`."""
        return ticks if self.calendar is None else of_ticks(ticks, self.values)

    @property
    def _tick(self) -> str:
        return "ns" if self.values.dtype == np.dtype("M8[ns]") else "us"

    @property
    def _day(self) -> int:
        """Ticks of a day."""
        return _NANOSECONDS["day"] // (1 if self._tick == "ns" else 1000)

    def _rule_of(self, step: Step) -> "_Rule | None":
        """The rule of a step that is told, for what follows."""
        if step.unit in ("month", "year"):
            return self._months(int(step.count) * (12 if step.unit == "year" else 1))
        if step.unit == "business day":
            return _Rule(step, np.ones(0), partial(self._working_day, week="1111100"))
        length = step.count
        if step.unit != "number":
            length = int(length) * (_NANOSECONDS[step.unit] * self._day // _NANOSECONDS["day"])
        return self._even(step, length, np.ones(0))

    def _numbers(self) -> "_Rule | None":
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

    def _exact(self) -> "_Rule | None":
        apart = np.diff(self._ticks)
        return self._of_length(int(apart[0])) if (apart == apart[0]).all() else None

    def _lengths(self) -> "_Rule | None":
        apart = np.diff(self._ticks)
        length = int(np.sort(apart)[(len(apart) - 1) // 2])
        if 2 * np.count_nonzero(apart == length) < len(apart):
            length = self._rounded(length)
        rule = self._of_length(length)
        if rule is None or not (np.abs(rule.apart - np.rint(rule.apart)) > _TOLERANCE).any():
            return rule
        # Dekads, half months, and the eight days of satellites, which begin anew with the year.
        return self._parts("M", rule.step) or self._parts("Y", rule.step) or rule

    def _parts(self, period: Literal["M", "Y"], step: Step) -> "_Rule | None":
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

        return _Rule(step, apart, ticks)

    def _rounded(self, length: int) -> int:
        """A length between the ticks of a clock that jitters, in the unit it is meant in."""
        for nanoseconds in _NANOSECONDS.values():
            unit = nanoseconds * self._day // _NANOSECONDS["day"]
            if unit and abs((whole := round(length / unit) * unit) - length) * 1000 <= length:
                return whole
        return length

    def _of_length(self, length: int) -> "_Rule | None":
        nanoseconds = length * (_NANOSECONDS["day"] // self._day)
        units: list[Unit] = [unit for unit, size in _NANOSECONDS.items() if nanoseconds % size == 0]
        step = Step(nanoseconds // _NANOSECONDS[units[0]], units[0])
        return self._even(step, length, np.diff(self._ticks))

    def _even(self, step: Step, length: float, apart: np.ndarray) -> "_Rule | None":
        apart = apart / length
        if 2 * np.count_nonzero(np.abs(apart - 1) <= _TOLERANCE) < len(apart):
            return None
        return _Rule(step, apart, lambda row, steps: self._ticks[row] + length * steps)

    def _months(self, every: int | None = None) -> "_Rule | None":
        """Whole months, where each row has the same place in its month."""
        if (rule := self._some_day(every)) is None:
            return None
        months, apart = self._month_numbers, rule.apart
        every = int(rule.step.count) * (12 if rule.step.unit == "year" else 1)

        fits = (place for place in self._places() if np.array_equal(place(months), self._ticks))
        if (place := next(fits, None)) is None:
            return None
        return _Rule(rule.step, apart, lambda row, steps: place(months[row] + every * steps))

    def _some_day(self, every: int | None = None) -> "_Rule | None":
        """Whole months, on some day of each, which tells the step alone."""
        if every is None and np.median(np.diff(self._ticks)) < 27 * self._day:
            return None
        apart = np.diff(self._month_numbers)
        if every is None:
            every = int(np.sort(apart)[(len(apart) - 1) // 2])
        if every < 1 or (apart == 0).any() or 2 * np.count_nonzero(apart == every) < len(apart):
            return None
        step = Step(every // 12, "year") if every % 12 == 0 else Step(every, "month")
        return _Rule(step, apart / every, None)

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

        yield middle
        yield lambda months: middle(months) // one * one + clock
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

    def _working_days(self) -> "_Rule | None":
        """Days of most of the week, with a weekend inside."""
        if self.calendar != "standard" or self.values.dtype == object:
            return None
        clock = self._ticks % self._day
        if (clock != clock[0]).any() or np.median(np.diff(self._ticks)) != self._day:
            return None
        days = _days(self.values)
        counts = np.bincount((days.astype(np.int64) + 3) % 7, minlength=7)
        mask = counts * 2 >= counts.max() if days[-1] - days[0] > 14 * _DAY else np.arange(7) < 5
        if mask.sum() not in (5, 6) or counts[~mask].sum() * 20 > len(days):
            return None
        week = "".join("01"[int(there)] for there in mask)
        apart = np.maximum(np.busday_count(days[:-1], days[1:], week), 1)
        if 2 * np.count_nonzero(apart == 1) < len(apart):
            return None
        short = apart <= 1 + _MOST_HOLIDAYS
        return _Rule(
            Step(1, "business day"),
            np.where(short, 1.0, apart),
            partial(self._working_day, week=week),
            holidays=int((apart[short] - 1).sum()),
        )

    def _working_day(self, row: int, steps: np.ndarray, *, week: str) -> np.ndarray:
        """Ticks of working days behind a row."""
        day = _days(self.values[row : row + 1])
        days = np.busday_offset(day, steps, "backward", weekmask=week)
        return days.astype(f"M8[{self._tick}]").astype(np.int64) + self._ticks[row] % self._day


@dataclass(frozen=True)
class _Rule:
    """A step, how many of it the rows are apart [time - 1], and the ticks so many behind a row."""

    step: Step
    apart: np.ndarray
    ticks: Callable[[int, np.ndarray], np.ndarray] | None
    holidays: int = 0


_EPOCH = "microseconds since 1970-01-01"


def _cftime() -> Any:
    # Dates of other calendars come from it, so that it is there.
    import cftime

    return cftime


def _days(values: np.ndarray) -> np.ndarray:
    return values.astype("M8[D]")


def months_after(date: Any, months: np.ndarray) -> np.ndarray:
    """The same day of other months [time], of the last day of a month the last ones.

    Args:
        date: One date, datetime64 or of cftime.
        months: How many months later, whole numbers [time].

    >>> months_after(np.datetime64("2000-01-31"), np.array([0, 1, 12])).tolist()
    [datetime.date(2000, 1, 31), datetime.date(2000, 2, 29), datetime.date(2001, 1, 31)]
    """
    axis = TimeAxis.of(np.array([date]))
    rule = axis._rule_of(Step(1, "month"))
    return (
        np.array([]) if rule is None or rule.ticks is None else axis._values(rule.ticks(0, months))
    )


def ticks_of(dates: np.ndarray) -> np.ndarray:
    """Dates [time] as whole numbers since 1970: nanoseconds of datetime64[ns], else microseconds.

    >>> ticks_of(np.array(["1970-01-02"], "M8[D]")).tolist()
    [86400000000]
    """
    if dates.dtype == object and len(dates):
        own = {"calendar": dates[0].calendar, "has_year_zero": dates[0].has_year_zero}
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


def time_text(value: Any) -> str:
    """A time for people: to the second where that says all, without a clock at midnight.

    >>> time_text(np.datetime64("2024-05-01T06:00", "ns")), time_text(3)
    ('2024-05-01T06:00', '3')
    """
    if isinstance(value, np.datetime64):
        text = np.datetime_as_string(value, unit="ns").rstrip("0").removesuffix(".")
        text = text if "." in text else np.datetime_as_string(value, unit="s")
    elif hasattr(value, "isoformat"):
        text = value.isoformat()
    else:
        return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
    return text.removesuffix(":00").removesuffix("T00:00")
