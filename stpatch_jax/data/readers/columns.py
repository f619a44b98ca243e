"""What the columns of a table are: its time, its series, its values, and what is none of these."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from stpatch_jax.data.readers.cells import Cells, looks_like_date
from stpatch_jax.errors import (
    InputError,
    listed,
    near,
    require,
    respelt,
    same_names,
    shortened,
    spelt,
)

ROWS = "rows"
"""The name of a time that is no column: rows are counted."""

# Words of headers without case, spaces and punctuation.
_TIME_WORDS = ("date", "datetime", "time", "timestamp", "ds")
_SERIES_WORDS = ("series", "seriesid", "uniqueid", "item", "itemid", "ticker", "symbol", "company")
_SERIES_WORDS += ("station", "stationid", "sensor", "sensorid", "store", "storeid")
_ROW_WORDS = ("index", "level0", "id", "row", "rowid", "rownames", "rownumber", "no")
_PLACE_WORDS = ("latitude", "lat", "longitude", "lon", "lng", "elevation", "elev", "altitude")
# Parts of a time by their name in pandas.
_PARTS = {
    "year": ("year", "yr", "yyyy"),
    "month": ("month", "mnth", "mo"),
    "day": ("day", "dayofmonth", "dy"),
    "hour": ("hour", "hr", "hours", "hourofday"),
    "minute": ("minute", "minutes", "mi", "mn"),
    "second": ("second", "seconds", "sec"),
    "day_of_week": ("weekday", "dayofweek", "dow", "weekend", "isweekend"),
    "day_of_year": ("dayofyear", "doy", "yday", "jday"),
    "quarter": ("quarter",),
}
_IDENTITY = re.compile(r"(^|[_\-. ])(id|ID|Id)$|[a-z0-9](Id|ID)$")
# Names of columns that are times: dates, years, and the months of a year.
_DATE_NAME = re.compile(r"(1[6-9]|2[0-2])\d\d|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}")
_MONTH_NAME = re.compile("(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*|[1-9]|1[0-2]")
# Seconds, milli-, micro- and nanoseconds since 1970; clocks are up to so many seconds off UTC.
_TICKS, _MOST_OFFSET = (1, 10**3, 10**6, 10**9), 14 * 3600
_UNNAMED = re.compile(r"(Unnamed: \d+)?")


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are, by their numbers.

    Attributes:
        date: The column of dates, or those of year, month and day, of which the last may lack; none
            where the rows are counted.
        values: Names and numbers of the columns of values: channels, or series of a wide table.
        series: Columns that together name the series of a row; none in a wide table.
        clock: What dates do not tell: `day_of_year`, `hour`, `minute`, `second`, or `clock` for
            times of day, and the number of the column.
        ignored: Names of the other columns.
        notes: What was inferred.
    """

    date: tuple[int, ...]
    values: Sequence[tuple[str, int]] = ()
    series: tuple[int, ...] = ()
    clock: tuple[tuple[str, int], ...] = ()
    ignored: Sequence[str] = ()
    notes: tuple[str, ...] = ()

    def dated(self, cells: Cells, rows: pd.Index) -> pd.Index:
        """Those of some rows of the table whose date is filled in; a remark is none."""
        if not self.date:
            return rows[:0]
        dates = cells.frame[list(self.date)].loc[rows].astype(str)
        return rows[
            dates.apply(lambda texts: texts.str.fullmatch(r"\s*\d[\dT :/.+-]*Z?\s*")).all(axis=1)
        ]

    def times(self, cells: Cells, rows: pd.Index) -> pd.Series:
        """The times of some rows of the table, datetime64[ns]; numbers of rows without a date."""
        if not self.date:
            counted = self.names(cells, rows, noun="series")
            return counted.groupby(counted).cumcount() if self.series else rows.to_series()
        if len(self.date) == 1 and not _holds_years(cells, self.date[0]):
            times = cells.dates(self.date[0], rows)
        else:
            texts, *others = (cells.names(at, rows, noun="date") for at in self.date)
            for part in [*others, *["1"] * (2 - len(others))]:
                texts = texts + "-" + part
            times = cells.parsed_dates(self.date[0], texts)
        for unit, at in self.clock:
            times = times + cells.clocks(at, rows, unit=unit)
        return times

    def names(self, cells: Cells, rows: pd.Index, *, noun: str) -> pd.Series:
        """The series that some rows of the table belong to, as text; empty in a wide table.

        Raises:
            InputError: A row names none.
        """
        if not self.series:
            return pd.Series("", index=rows)
        names, *others = (cells.names(at, rows, noun=noun) for at in self.series)
        for other in others:
            names = names + "/" + other
        return names


def names_series(name: str) -> bool:
    """Whether a column of this name usually tells which series a row belongs to.

    >>> [names_series(name) for name in ("Store ID", "item", "humid")]
    [True, True, False]
    """
    return plain_name(name) in _SERIES_WORDS or _IDENTITY.search(name) is not None


def plain_name(name: str) -> str:
    """A name of a header without case, spaces and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find_columns(
    cells: Cells,
    *,
    time: str | None = None,
    series: str | Sequence[str] | None = None,
    variables: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
) -> Columns:
    """Tells by names and contents what the columns of a table are.

    The time is the column that holds dates; of several the one called date, datetime, time,
    timestamp or ds; where none does, columns of year, month and day make it. Where dates repeat,
    columns called hour, minute and second complete them, and times of day such as 18:30 always do.
    The series are named by columns called series, unique_id, item, ticker, station, store or the
    like; else, where times repeat, by the one column of text that tells rows apart. All other
    columns of numbers are values, but row numbers, identities, what repeats a part of the time
    (weekday, month) and the coordinates of a place that does not move. The rows of a table of one
    column are counted. Notes tell what was left out.

    Args:
        cells: The table.
        time: Name of the column of the time; `ROWS` counts the rows of a table, or of each series.
        series: Name of the column of the series, or of several that name it together, also as one
            text with commas between.
        variables: Names of the columns of values.
        ignore: Names of columns that are none of these, whatever they hold.

    Raises:
        InputError: A column is unknown, it is not clear which is the time or the series, or none
            holds values.
    """
    header = cells.header
    asked = [variables] if isinstance(variables, str) else variables
    if isinstance(series, str):
        series = [series] if spelt([series], header)[0] in header else series.split(",")
    counted = time == ROWS and ROWS not in header
    named = [*([] if counted or not time else [time]), *(series or ()), *(asked or ())]
    notes = respelt(named, spelt(named, header))
    told = spelt(series or (), header)
    asked = asked if asked is None else spelt(asked, header)
    (time,) = spelt([time], header) if time else [None]
    given = [*([] if counted or not time else [time]), *told, *(asked or ())]
    if unknown := [name for name in given if name not in header]:
        raise InputError(
            f"the columns must be among those of {cells.name} ({listed(header)}), got "
            f"{listed(unknown)}; {near(unknown, header)}"
        )
    wanted = None if asked is None else [header.index(name) for name in asked]
    finder = _Finder(cells, frozenset(map(header.index, given)), notes=notes)
    ignored = same_names("ignore=", ignore, header)
    finder.free = [at for at in finder.free if header[at] not in ignored]
    finder.leave_row_numbers()
    if counted:
        finder.notes.append("Rows are counted as time steps, whatever dates there may be.")
        finder.leave_times()
    elif len(header) == 1:
        finder.notes.append("Rows are counted as time steps, as the table has one column alone.")
    else:
        finder.find_time(header.index(time) if time else None)
    finder.find_series([header.index(name) for name in told], wanted)
    values = finder.values() if wanted is None else wanted
    taken = {*finder.date, *finder.series}
    if not values and wanted is None:
        raise finder.no_values()
    if not values or taken & set(values):
        raise InputError(
            f"the table {cells.name} must have a column of values beside time and series, got "
            f"columns {listed(header)}; correct variables="
        )
    used = {*taken, *values, *(at for _, at in finder.clock)}
    return Columns(
        finder.date,
        [(header[at], at) for at in values],
        finder.series,
        finder.clock,
        [header[at] for at in range(len(header)) if at not in used],
        tuple(finder.notes),
    )


@dataclass
class _Finder:
    """Finds the time of a table, then its series, then its values; tells what it leaves out.

    Attributes:
        given: Columns that were named by the user, which are never left out.
        free: Columns of which it is not known yet what they are.
    """

    cells: Cells
    given: frozenset[int]
    date: tuple[int, ...] = ()
    clock: tuple[tuple[str, int], ...] = ()
    series: tuple[int, ...] = ()
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free = list(range(len(self.cells.header)))

    def leave_row_numbers(self) -> None:
        """Leaves out row numbers, and what has neither name nor cells."""
        self._leave(self._counts_rows, "row numbers")
        self._leave(lambda at: not self._named(at) and self._content(at) == "nothing", "nothing")

    def leave_times(self) -> None:
        self._leave(lambda at: self._plain(at) in _TIME_WORDS, "times")

    def no_values(self) -> InputError:
        header, texts = self.cells.header, range(len(self.cells.header))
        texts = [at for at in texts if self._content(at) == "text" and at not in self.date]
        told = (self.cells.texts(at)[self.cells.present(at)].iloc[0] for at in texts[-1:])
        cell = next(
            (f", as {shortened(text, most=40)!r} in {header[texts[-1]]}" for text in told), ""
        )
        return InputError(
            f"the table {self.cells.name} must have a column of numbers beside time and series, "
            f"got none among {listed(header)}{cell}; write one number in each cell"
        )

    def find_time(self, told: int | None) -> None:
        dates = [at for at in self.free if self._holds_dates(at)]
        if told is None and len(dates) > 1:
            named = [at for at in dates if self._plain(at) in _TIME_WORDS]
            dates = named if len(named) == 1 else dates
            require(
                len(dates) == 1,
                f"it must be clear which column of {self.cells.name} is the time, got dates in "
                f"{self._listed(dates)}; name it with time=",
            )
        if told is not None or dates:
            self.date = (dates[0] if told is None else told,)
        elif parts := self._parts_of_date():
            self.date = parts
        else:
            named = [at for at in self.free if self._plain(at) in _TIME_WORDS]
            self._check_across([] if named else self.cells.header)
            require(
                bool(named),
                f"a column of {self.cells.name} must hold dates like 2012-09-04, got none among "
                f"{self._listed(self.free)}; name the time with time=, and write dates with the "
                f'year first, or count the rows with time="{ROWS}"',
            )
            self.date = (named[0],)
        self._take(self.date)
        self._find_clock()
        parts = [*self.date, *(at for _, at in self.clock)]
        if len(parts) > 1:
            self.notes.append(f"The time was made of the columns {self._listed(parts)}.")

    def _check_across(self, names: Sequence[str]) -> None:
        dates = [name for name in names if _DATE_NAME.fullmatch(name) or looks_like_date(name)]
        require(
            len(dates) < 2,
            f"the dates of {self.cells.name} must stand one below the other in a column, got them "
            f"side by side in the header ({listed(dates)}); turn the table round, for example with "
            "pandas.melt",
        )

    def _find_clock(self) -> None:
        if (self._dates.dt.normalize() != self._dates).any():
            return
        year_alone = len(self.date) == 1 and _holds_years(self.cells, self.date[0])
        day = self._called("day_of_year") if year_alone else None
        clocks = [at for at in self.free if self._content(at) == "clock"]
        if len(clocks) == 1:
            self.clock = (("clock", clocks[0]),)
        elif self._dates.duplicated().any():
            require(
                not clocks,
                f"the time of {self.cells.name} must stand in one column, got times of day in "
                f"{self._listed(clocks)}; write the right one behind the date",
            )
            found = [(unit, self._called(unit)) for unit in ("hour", "minute", "second")]
            whole = [(unit, at) for unit, at in found if at is not None and self._is_whole(at)]
            whole = whole if whole and whole[0][0] == "hour" else []
            if year_alone or len(self.date) == 2:  # Without a day, an hour is of none.
                told = day is not None and self._is_whole(day)
                whole = [("day_of_year", day), *whole] if told else []
            self.clock = tuple(whole)
        self._take(at for _, at in self.clock)

    def find_series(self, told: Sequence[int], wanted: Sequence[int] | None) -> None:
        free = [at for at in self.free if wanted is None or at not in wanted]
        named = [at for at in free if self._plain(at) in _SERIES_WORDS]
        if told:
            self.series = tuple(told)
        elif named:
            several = len(named) > 1 and not self._tell_apart(named[:1])
            self.series = tuple(named) if several and self._tell_apart(named) else (named[0],)
        elif self._is_long():
            texts = [at for at in free if self._content(at) == "text" or self._is_identity(at)]
            texts = [at for at in texts if self._recurs(at)]
            found = [at for at in free if self._recurs(at) and self._tell_apart([at])]
            if len(texts) != 1 or texts[0] not in found:
                self._ask_for_series(found or texts)
                return
            self.series = (texts[0],)
        self._take(self.series)
        if self.series and not told and (len(self.series) > 1 or not named):
            self.notes.append(f"Series are named by {self._listed(self.series)}.")

    def _is_long(self) -> bool:
        """Whether most times have several rows that differ; a few such rows are wrong ones."""
        again = self._times.duplicated(keep=False)
        return 2 * int(again.sum()) > len(again) and not self._tell_apart([])

    def _ask_for_series(self, columns: Sequence[int]) -> None:
        if not columns:
            return
        again = self._times.duplicated()
        row = again.index[int(again.to_numpy().argmax())]
        first = again.index[int((self._times == self._times[row]).to_numpy().argmax())]
        raise InputError(
            f"the rows of {self.cells.name} must be told apart by their time and series, got "
            f"{self.cells.where(first)} and {self.cells.where(row)} of one time; name what tells "
            f"the series apart with series=, one of {self._listed(columns)}, or several of them "
            "with commas between"
        )

    def values(self) -> list[int]:
        self._leave(lambda at: self._content(at) in ("text", "date", "clock"), "no numbers")
        self._leave(
            lambda at: self._is_identity(at) or self._plain(at) in _SERIES_WORDS,
            "what tells rows apart",
        )
        self._leave(self._repeats_time, "a part of the time")
        self._leave(self._counts_seconds, "the time since 1970")
        self._check_months()
        self._leave(self._is_place, "a place")
        if flags := [at for at in self.free if self._content(at) == "flag"]:
            self.notes.append(f"True and false of {self._listed(flags)} were read as 1 and 0.")
        return list(self.free)

    def _take(self, columns: Iterable[int]) -> None:
        taken = set(columns)
        self.free = [at for at in self.free if at not in taken]

    def _leave(self, which: Callable[[int], bool], what: str) -> None:
        left = [at for at in self.free if at not in self.given and which(at)]
        self._take(left)
        if left and what != "nothing":
            one = len(left) == 1
            self.notes.append(
                f"The column{'' if one else 's'} {self._listed(left)} {'holds' if one else 'hold'} "
                f"{what} and {'was' if one else 'were'} left out."
            )

    def _listed(self, columns: Iterable[int]) -> str:
        return listed(self.cells.header[at] or f"number {at + 1} without a name" for at in columns)

    def _plain(self, at: int) -> str:
        return plain_name(self.cells.header[at])

    def _named(self, at: int) -> bool:
        return not _UNNAMED.fullmatch(self.cells.header[at])

    def _called(self, unit: str) -> int | None:
        return next((at for at in self.free if self._plain(at) in _PARTS[unit]), None)

    def _content(self, at: int) -> str:
        return self._contents[at]

    @cached_property
    def _contents(self) -> list[str]:
        return [self.cells.content(at) for at in range(len(self.cells.header))]

    def _is_whole(self, at: int) -> bool:
        return self._content(at) == "number" and self.cells.whole(at) is not None

    def _counts_rows(self, at: int) -> bool:
        if self._named(at) and self._plain(at) not in _ROW_WORDS:
            return False
        if self._content(at) != "number" or (numbers := self.cells.whole(at)) is None:
            return False
        # Tables that were put together count their rows from the same number anew.
        steps = (np.diff(numbers) == 1) | (numbers[1:] == numbers[0])
        return not self._named(at) or (numbers[0] in (0, 1) and bool(steps.all()))

    def _holds_dates(self, at: int) -> bool:
        if self._content(at) != "number":
            return self._content(at) == "date"
        if (days := self.cells.whole(at)) is None:
            return False
        # Hours, minutes and seconds may follow on the day.
        behind = 10 ** max(0, len(str(days[0])) - 8)
        hour, days = days * 100 // behind % 100 if behind > 1 else 0 * days, days // behind
        month, day = days // 100 % 100, days % 100
        known = (
            (days > 16780101) & (days < 22620101) & (hour < 25) & (behind in (1, 100, 10**4, 10**6))
        )
        return bool((known & (month > 0) & (month < 13) & (day > 0) & (day < 32)).all())

    def _parts_of_date(self) -> tuple[int, ...]:
        found = [self._called(unit) for unit in ("year", "month", "day")]
        parts = tuple(at for at in found if at is not None and self._is_whole(at))
        if not parts or parts[0] != found[0] or not _holds_years(self.cells, parts[0]):
            return ()
        return parts[:1] if found[1] not in parts else parts

    @cached_property
    def _rows(self) -> pd.Index:
        """The rows that have a value."""
        numbers = [at for at in self.free if self._content(at) in ("number", "flag")]
        present = [self.cells.present(at) for at in numbers] or [~self.cells.blank_rows]
        return self.cells.frame.index[np.any(present, axis=0)]

    @cached_property
    def _dates(self) -> pd.Series:
        return Columns(self.date).times(self.cells, self._rows)

    @cached_property
    def _times(self) -> pd.Series:
        times = self._dates
        for unit, at in self.clock:
            times = times + self.cells.clocks(at, self._rows, unit=unit)
        return times

    def _tell_apart(self, columns: Sequence[int]) -> bool:
        """Whether rows of one time that are not equal differ in some of these columns."""
        cells = self.cells.frame.loc[self._rows]
        keys = pd.concat([self._times, cells[list(columns)]], axis=1)
        again = keys.duplicated(keep=False)
        return not keys.loc[cells[again].drop_duplicates().index].duplicated().to_numpy().any()

    def _recurs(self, at: int) -> bool:
        """Whether a column of text or whole numbers holds each of few ones again and again."""
        names = self._content(at) == "text" or self._is_whole(at)
        return names and 2 * len(self.cells.frame[at].unique()) <= len(self._rows)

    def _is_identity(self, at: int) -> bool:
        named = _IDENTITY.search(self.cells.header[at]) is not None
        return named and (self._content(at) == "text" or self._is_whole(at))

    def _repeats_time(self, at: int) -> bool:
        unit = next((unit for unit, words in _PARTS.items() if self._plain(at) in words), None)
        if unit is None or self._content(at) == "nothing" or not self.date:
            return False
        part = getattr(self._times.dt, unit)
        return self._constant_by(at, part)

    def _counts_seconds(self, at: int) -> bool:
        """Whether a column counts from 1970 to the time of each row, maybe of another zone."""
        if self._content(at) != "number" or not self.date:
            return False
        numbers = self.cells.numbers(at)[self.cells.frame.index.get_indexer(self._rows)]
        seconds = self._times.to_numpy("datetime64[ms]").astype(np.int64) / 1000
        apart = (numbers / tick - seconds for tick in _TICKS)
        return any(np.ptp(one) < 1e-3 and abs(one[0]) <= _MOST_OFFSET for one in apart)

    def _check_months(self) -> None:
        if len(self.date) != 1 or not _holds_years(self.cells, self.date[0]):
            return
        names = [self._plain(at) for at in self.free if _MONTH_NAME.fullmatch(self._plain(at))]
        require(
            len({name[:3] for name in names}) < 12,
            f"the rows of {self.cells.name} must be one time each, got a column for each month of "
            "a year; turn the table round, for example with pandas.melt, or take every month as a "
            "series of years by naming them with variables=",
        )

    def _is_place(self, at: int) -> bool:
        if self._plain(at) not in _PLACE_WORDS:
            return False
        series = Columns(self.date, series=self.series).names(self.cells, self._rows, noun="series")
        return self._constant_by(at, series)

    def _constant_by(self, at: int, groups: pd.Series) -> bool:
        counts = self.cells.frame[at].loc[self._rows].groupby(groups).nunique()
        return bool((counts.to_numpy() <= 1).all())


def _holds_years(cells: Cells, at: int) -> bool:
    years = cells.whole(at) if cells.content(at) == "number" else None
    return years is not None and bool(((years >= 1678) & (years <= 2261)).all())
