"""The one model of time: calendars, steps, gaps, and what follows."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from stpatch_jax.data.steps import TOLERANCE, Rule, Spacing, Step, calendar_of, days_of
from stpatch_jax.errors import InputError, require


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
    holidays and no gap. Neither are the nights and weekends of rows at the same hours of
    every working day, nor a day of them that begins late or ends early.

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
        off = (np.abs(apart - 1) > TOLERANCE) & (np.rint(apart) == 1)
        return tuple((np.flatnonzero(off) + 1).tolist())

    @property
    def goes_on(self) -> bool:
        """Whether the step tells the times that follow, see `ahead`."""
        return self._rule is not None and self._rule.ticks is not None and not self.uneven

    @property
    def holidays(self) -> int:
        """Working days that are left out, but no gap."""
        return self._rule.holidays if self._rule else 0

    @property
    def session_rows(self) -> tuple[int, int] | None:
        """Rows of a working day and of a week, where they have the same hours of each, else None.

        >>> days = np.arange("2024-01-01", "2024-01-06", dtype="M8[D]").astype("M8[h]")
        >>> TimeAxis.of(np.add.outer(days, np.arange(9, 16)).ravel()).session_rows
        (7, 35)
        """
        sessions = self._rule and self._rule.sessions
        return (len(sessions.places), sessions.week_rows) if sessions else None

    @property
    def short_sessions(self) -> tuple[str, ...]:
        """The days of rows at the same hours of every day that have fewer than usual, but no gap.

        >>> hours = np.arange("2024-01-01", "2024-01-31", dtype="M8[h]")
        >>> of_day = (hours - hours.astype("M8[D]")).astype(int)
        >>> early = hours.astype("M8[D]") == np.datetime64("2024-01-12")
        >>> open_ = (of_day >= 9) & (of_day < np.where(early, 12, 17)) & np.is_busday(
        ...     hours.astype("M8[D]"))
        >>> TimeAxis.of(hours[open_]).short_sessions
        ('2024-01-12',)
        """
        sessions = self._rule and self._rule.sessions
        return tuple(sessions.short.astype("M8[D]").astype(str).tolist()) if sessions else ()

    def fits(self, step: Step) -> bool:
        """Whether the rows may be of a step: it is theirs, or they are too few to tell.

        >>> week = np.arange("2024-01-01", "2024-01-06", dtype="M8[D]")
        >>> TimeAxis.of(week).fits(Step(1, "business day"))
        True
        """
        if len(self) < 2 or self.step == step:
            return True
        if step.unit in ("month", "year") and self.calendar is not None:
            months = int(step.count) * (12 if step.unit == "year" else 1)
            return self._spacing.some_day(every=months) is not None
        working = step == Step(1, "business day") and self.step == Step(1, "day")
        standard = self.calendar == "standard"
        return working and standard and bool(np.is_busday(days_of(self.values)).all())

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
            rule = self._spacing.of_step(step)
        if rule is None or self.uneven or rule.ticks is None:
            got = f"{len(self)} row" if len(self) < 2 else "rows at uneven times"
            got += f", first at {time_text(self.values[self.uneven[0]])}" if self.uneven else ""
            raise InputError(
                f"{self.name} must be at least two rows of one step to date what follows, got "
                f"{got}; give rows of one step, with missing values where nothing is known"
            )
        found = self._spacing.values_of(rule.ticks(row % len(self), np.arange(1, count + 1)))
        if found.dtype.kind == "M" and (found <= self.values[row]).any():
            raise InputError(
                f"{self.name} must be followed by dates that {found.dtype} holds, got "
                f"{time_text(self.values[row])} as the last one; count the rows instead"
            )
        return found

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
    def _spacing(self) -> Spacing:
        return Spacing(self.values, self.calendar)

    @property
    def _rule(self) -> Rule | None:
        return self._spacing.rule


def months_after(date: Any, months: np.ndarray) -> np.ndarray:
    """The same day so many `months` [time] later, of the last day of a month the last ones.

    >>> months_after(np.datetime64("2000-01-31"), np.array([0, 1, 12])).tolist()
    [datetime.date(2000, 1, 31), datetime.date(2000, 2, 29), datetime.date(2001, 1, 31)]
    """
    spacing = Spacing(TimeAxis.of(np.array([date])).values, calendar_of(np.array([date])))
    rule = spacing.of_step(Step(1, "month"))
    if rule is None or rule.ticks is None:
        return np.array([])
    return spacing.values_of(rule.ticks(0, months))


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
