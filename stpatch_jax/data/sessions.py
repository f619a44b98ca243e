"""Rows of hours that come again: bars of an exchange, a market of five days, a shop."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

MOST_HOLIDAYS = 4
# A place of the day that fewer days have is none.
_LEAST_SHARE = 1 / 5
# A break of one row is one after fifteen days, one of five rows after three: chance makes none.
_LEAST_BREAK = 15
# Outages of fewer days may leave the same hours out.
_LEAST_DAYS = 5


@dataclass(frozen=True, eq=False)
class Sessions:
    """Rows at the same places of every working day, with a break of every night or week.

    Attributes:
        ticks: Times [row], whole numbers since a midnight of 1970.
        day: Ticks of a day.

    >>> hours = np.add.outer(np.array([0, 1, 4, 5, 6, 7]) * 24, [9, 10, 11]).ravel()
    >>> Sessions(hours, 24).ahead(17, 4).tolist()
    [201, 202, 203, 273]
    """

    ticks: np.ndarray
    day: int

    @cached_property
    def found(self) -> bool:
        """Whether that is what the rows are."""
        if len(self.days) < _LEAST_DAYS or not 1 < len(self.places) <= 2 * len(self.ticks) / 3:
            return False
        filled = np.count_nonzero(self.places[self.part] == self.ticks % self.day)
        alike = 3 * filled >= 2 * len(self.days) * len(self.places)
        alike = alike and 20 * filled >= 19 * len(self.ticks)
        off = np.count_nonzero(~self.week[(self.days + 3) % 7])
        breaks = self.night * len(self.days) >= _LEAST_BREAK or not self.week.all()
        return bool(alike and breaks and 20 * off <= len(self.days))

    @cached_property
    def length(self) -> int:
        """Ticks from most rows to the next one."""
        apart = np.sort(np.diff(self.ticks))
        return int(apart[(len(apart) - 1) // 2])

    @cached_property
    def days(self) -> np.ndarray:
        """Numbers of the days that have rows [day]."""
        return np.unique(self.ticks // self.day)

    @cached_property
    def places(self) -> np.ndarray:
        """Ticks since midnight of the rows of a day [place]."""
        places, held = np.unique(self.ticks % self.day, return_counts=True)
        return places[held >= _LEAST_SHARE * len(self.days)]

    @cached_property
    def night(self) -> float:
        """Rows for which the longest break of every day has room."""
        apart = np.diff(np.append(self.places, self.places[0] + self.day))
        return float(apart.max() / self.length - 1)

    @property
    def week_rows(self) -> int:
        """Rows of a week without holidays."""
        return int((self._last - self._first + 1)[self.week].sum())

    @cached_property
    def part(self) -> np.ndarray:
        """The place of each row [row], that before it for a row in between."""
        part = np.searchsorted(self.places, self.ticks % self.day, "right") - 1
        return np.maximum(part, 0)

    @cached_property
    def week(self) -> np.ndarray:
        """Whether the days from Monday to Sunday [7] are working days."""
        counts = np.bincount((self.days + 3) % 7, minlength=7)
        if self.days[-1] - self.days[0] > 14:
            span = np.arange(self.days[0], self.days[-1] + 1)
            share = counts / np.bincount((span + 3) % 7, minlength=7)
            return share * 2 >= share.max()
        if counts[5:].any() or self._whole_days:
            return np.ones(7, bool)
        return np.arange(7) < 5

    @cached_property
    def gaps(self) -> tuple[np.ndarray, int]:
        """How many steps the rows are apart [row - 1], and the working days that were holidays.

        A session may begin late or end early, and up to four working days may be left out.
        """
        days, part = self.ticks // self.day, self.part
        weekday = (days + 3) % 7
        between = self._working_days(days[:-1], days[1:])
        apart = np.where(days[1:] == days[:-1], np.diff(part), 2).astype(np.float64)
        # Whether a break follows the last place of each weekday, or lies before the first [7].
        closes, opens = (~np.roll(self.week, way) | (not self._whole_days) for way in (-1, 1))
        ends = closes[weekday[:-1]] | (part[:-1] >= self._last[weekday[:-1]])
        begins = opens[weekday[1:]] | (part[1:] <= self._first[weekday[1:]])
        short = (days[1:] > days[:-1]) & (between <= 1 + MOST_HOLIDAYS) & ends & begins
        apart[short] = 1
        for row in np.flatnonzero(apart > 1):
            apart[row] = 1 + len(self._inside(int(row)))
        return apart, int(np.maximum(between[short] - 1, 0).sum())

    @cached_property
    def short(self) -> np.ndarray:
        """Numbers of the days without a gap of fewer rows than those of their weekday around them.

        The first and the last day are none: files begin and end at any hour.
        """
        rows, weekday, found = self._held.sum(1), (self.days + 3) % 7, []
        at_gaps = np.flatnonzero(self.gaps[0] > 1)[:, None] + [0, 1]
        whole = ~np.isin(self.days, self.ticks[at_gaps] // self.day)
        whole[[0, -1]] = False
        for own in (np.flatnonzero(weekday == day) for day in range(7)):
            for at in np.flatnonzero(whole[own]):
                around = rows[np.concatenate([own[max(0, at - 3) : at], own[at + 1 : at + 4]])]
                if len(around) > 1 and rows[own[at]] < np.median(around):
                    found.append(self.days[own[at]])
        return np.sort(np.asarray(found, np.int64))

    def ahead(self, row: int, count: int) -> np.ndarray:
        """Ticks of so many rows behind one, at the places of the last weeks before it."""
        first, hold = self.ticks[row] // self.day, self._pattern(int(self.ticks[row] // self.day))
        least = hold.sum(1)[self.week].min()
        days = np.arange(first, first + 7 * (count // least + 3))
        found = self._grid(days, hold)
        return found[found > self.ticks[row]][:count]

    def _inside(self, row: int) -> np.ndarray:
        """Ticks of the rows that are left out behind a row."""
        start, stop = self.ticks[row], self.ticks[row + 1]
        days = np.arange(start // self.day, stop // self.day + 1)
        found = self._grid(days, self._pattern(int(days[0])))
        return found[(found > start) & (found < stop)]

    def _grid(self, days: np.ndarray, hold: np.ndarray) -> np.ndarray:
        """Ticks of the rows of days, where each weekday has some places [weekday, place]."""
        days = days[self.week[(days + 3) % 7]]
        return np.add.outer(days * self.day, self.places)[hold[(days + 3) % 7]]

    def _pattern(self, day: int) -> np.ndarray:
        """The places [weekday, place] of most of the last three such days before a day."""
        if day not in self._patterns:
            before = np.searchsorted(self.days, day)
            weekdays = (self.days[:before] + 3) % 7
            rows = [np.flatnonzero(weekdays == weekday)[-3:] for weekday in range(7)]
            at = np.arange(len(self.places))
            hold = (at >= self._first[:, None]) & (at <= self._last[:, None])
            lately = self._held[max(0, before - 10) : before]
            for weekday, last in enumerate(rows):
                recent = self._held[last] if len(last) > 1 else lately
                usual = hold[weekday] & (2 * recent.sum(0) > len(recent))
                hold[weekday] = usual if usual.any() else hold[weekday]
            self._patterns[day] = hold
        return self._patterns[day]

    @cached_property
    def _patterns(self) -> dict[int, np.ndarray]:
        return {}

    @cached_property
    def _held(self) -> np.ndarray:
        """Whether the days have rows at the places [day, place]."""
        held = np.zeros((len(self.days), len(self.places)), bool)
        held[np.searchsorted(self.days, self.ticks // self.day), self.part] = True
        return held

    @cached_property
    def _whole_days(self) -> bool:
        """Whether no break parts one day from the next."""
        return self.places[0] + self.day - self.places[-1] <= 1.5 * self.length

    @cached_property
    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        """The first and last place of each weekday [7]; weeks begin late and end early."""
        first, last = np.zeros(7, np.int64), np.full(7, len(self.places) - 1)
        weekday = (self.days + 3) % 7
        for day in np.flatnonzero(self.week):
            held = self._held[weekday == day]
            known = np.flatnonzero(held.sum(0) >= _LEAST_SHARE * len(held))
            if len(known) and not self.week[day - 1]:
                first[day] = known[0]
            if len(known) and not self.week[(day + 1) % 7]:
                last[day] = known[-1]
        return first, last

    @property
    def _first(self) -> np.ndarray:
        return self._edges[0]

    @property
    def _last(self) -> np.ndarray:
        return self._edges[1]

    def _working_days(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Working days from each day to another one."""
        week = "".join("01"[int(there)] for there in self.week)
        return np.busday_count(start.astype("M8[D]"), stop.astype("M8[D]"), week)
