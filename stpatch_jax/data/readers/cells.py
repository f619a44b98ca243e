"""The cells of a table by column, with the line numbers that messages to the user need."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from stpatch_jax.errors import InputError, require, shortened

Content = Literal["number", "flag", "date", "clock", "text", "nothing"]

MISSING = (
    *("", "-", "--", "?", "*", "..", "...", ".", "NA", "N/A", "n/a", "N.A.", "<NA>", "NaN", "nan"),
    *("-NaN", "-nan", "NaT", "NULL", "null", "Null", "None", "none", "M", "#N/A", "#N/A N/A"),
    *("na", "N.A", "n.a.", "n.d.", ":", "#DIV/0!", "#REF!", "#VALUE!", "#NUM!", "#NULL!", "#NAME?"),
    *("#NA", "1.#QNAN", "1.#IND", "-1.#IND", "-1.#QNAN", "**", "***", "****", "---", "----"),
)
_FLAGS = {"true": 1.0, "false": 0.0}
# How many cells tell what a column holds; a few wrong ones are to be told by their line.
_SAMPLE = 200
# A number, or what only a sign, a unit or the commas of thousands keep from being one.
_NUMBER = re.compile(
    r"[<>~\u2264\u2265\u2248]?\s*[-+(\u2212\u2013]?\s*[$\u20ac\u00a3\u00a5]?\s*[-+\u2212\u2013]?"
    r"(\d[\d.,'\u2019\u00a0\u202f _]*|\.\d+)([eEdD][-+]?\d+)?"
    r"\s*[%$\u20ac\u00a3\u00a5)KMBk*\u2212-]?|[-+]?inf(inity)?",
    re.IGNORECASE,
)
_CLOCK = re.compile(r"(\d{1,2})(?::(\d\d)(?::(\d\d(?:\.\d+)?))?|\.(\d\d)\.(\d\d))")
_DATE = re.compile(
    r"(\d{4})(?:([-/.])(\d{1,2})\2(\d{1,2})|[-/](\d{1,2})|(\d\d)(\d\d))"
    r"(?:[ T]\s*(\d{1,2})(?::?(\d\d.*))?)?"
)
# Least and largest number of parts of a time, and the length of one in seconds.
_PARTS = {
    "day_of_year": (1, 366, 86400),
    "hour": (0, 24, 3600),
    "minute": (0, 59, 60),
    "second": (0, 59, 1),
}
_OFFSET = r"\d[ T]\s*\d.*[-+](?!00:?(?:00)?$)\d\d(?::?\d\d)?$"
_ZONE = re.compile(r"\d[ T]\s*\d[\d:.]*\s*([-+]\d\d(?::?\d\d)?|Z|UTC|GMT)$")
_IN_UTC = "The times were turned to UTC by their offsets."
# Dates and hours as one number, English months, and hours of half a day.
_PACKED = re.compile(r"(\d{8})([01]\d|2[0-4])(?:([0-5]\d)([0-5]\d)?)?")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED = f"((?:{'|'.join(_MONTHS)})[a-z]*)"
_NAMED_MONTH = re.compile(
    rf"(?:(\d{{1,2}})[- ]{_NAMED}\.?,?[- ]|{_NAMED}\.? (\d{{1,2}}),? )(\d{{4}})(?=[ T]|$)",
    re.IGNORECASE,
)
_HALF_DAY = re.compile(r"(.*[ T])(0?\d|1[0-2])(:\S+)? ?([AaPp])\.?[Mm]\.?")
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})(?=[ T]|$)")


def looks_like_date(text: str) -> bool:
    """Whether a text is a date by its form; eight digits must be a month and a day too."""
    match = _DATE.fullmatch(text)
    if match and match[6]:
        return (
            "1678" <= match[1] <= "2261" and "01" <= match[6] <= "12" and "01" <= match[7] <= "31"
        )
    return bool(match or _YEAR_LAST.match(text) or _NAMED_MONTH.match(text))


def is_number(text: str) -> bool:
    """Whether a text is a number by its form, maybe with a sign, a unit or commas of thousands."""
    return _NUMBER.fullmatch(text) is not None


DateOrder = Literal["day", "month"]


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a table.

    Attributes:
        name: Name of the file, for messages.
        header: Names of the columns as they stand in the file, without outer spaces.
        frame: One row per line of the file, blank lines too; columns are numbered, so that names
            may repeat. A column is text, or typed by a file that has types.
        first_line: Number of the line in the file, counted from 1, that is row 0.
        kind: What the file is, for messages.
        place: What a row is called.
        decimal: The sign before the decimals of numbers in text.
        notes: What was found out about the file while reading it.
        units: What a line below the header tells of each column, empty for nothing.
        date_order: Whether day or month comes first where the year is last; None where dates tell.
    """

    name: str
    header: list[str]
    frame: pd.DataFrame
    first_line: int
    kind: str = "table"
    place: str = "line"
    decimal: str = "."
    notes: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    date_order: DateOrder | None = None

    @cached_property
    def lines(self) -> np.ndarray:
        """Number of the line in the file where each row of the frame begins [row]."""
        lines = self.first_line + np.arange(len(self.frame))
        if self.place == "line":  # A quoted cell may go on over several ones.
            for at in self.frame:
                column = self._column(at)
                if not pd.api.types.is_numeric_dtype(column):
                    breaks = column.astype(str).str.count(r"\r\n|\r|\n").fillna(0)
                    lines[1:] += np.cumsum(breaks.to_numpy(int))[:-1]
        return lines

    def line(self, row: Any) -> int:
        """Number of the line in the file that holds a row of the frame."""
        return int(self.lines[int(row)])

    def where(self, row: Any) -> str:
        """A row of the frame, as messages call it."""
        return f"{self.place} {self.line(row)}"

    def content(self, at: int) -> Content:
        """What most of the first cells of column `at` hold that are not missing."""
        column = self._column(at)
        if pd.api.types.is_bool_dtype(column):
            return "flag"
        if pd.api.types.is_datetime64_any_dtype(column):
            return "date"
        if pd.api.types.is_numeric_dtype(column):
            return "number" if column.notna().any() else "nothing"
        if pd.api.types.is_timedelta64_dtype(column):
            return "text"
        texts = self.texts(at)
        texts = texts[~texts.isin(MISSING)][:_SAMPLE]
        if texts.empty:
            return "nothing"
        if 2 * np.isfinite(_parsed_numbers(texts)).sum() >= len(texts):
            return "number"
        kinds: list[tuple[Content, Any]] = [
            ("date", looks_like_date),
            ("clock", _CLOCK.fullmatch),
            ("flag", lambda text: text.lower() in _FLAGS),
            ("number", is_number),
        ]
        counts = texts.value_counts()
        for kind, matches in kinds:
            held = sum(count for text, count in counts.items() if matches(str(text)))
            if 2 * held >= len(texts):
                return kind
        return "text"

    def numbers(self, at: int) -> np.ndarray:
        """Column `at` as float64 [row], NaN where the cell is empty or says that it is missing.

        Cells that are true or false are 1 or 0 where all of a column are.

        Raises:
            InputError: If a cell holds anything else than a finite number.
        """
        column = self._column(at)
        if pd.api.types.is_numeric_dtype(column):
            numbers = column.to_numpy(np.float64, na_value=np.nan)
            texts, told = column, self.present(at)
        else:
            texts = self.texts(at)
            told = self.present(at)
            if self.content(at) == "flag":
                numbers = texts.str.lower().map(_FLAGS).to_numpy(np.float64)
            else:
                plain = texts.str.replace(self.decimal, ".") if self.decimal != "." else texts
                numbers = _parsed_numbers(plain.where(told))
        wrong = np.isinf(numbers) | (np.isnan(numbers) & told)
        if wrong.any():
            self._refuse_number(at, str(texts.iloc[wrong.argmax()]), int(wrong.argmax()))
        return numbers

    def _refuse_number(self, at: int, text: str, row: int) -> None:
        advice = "correct that cell or leave it empty"
        if self.content(at) in ("text", "date", "clock"):
            advice = "choose other columns with variables="
        elif is_number(text) and "inf" not in text.lower():
            advice = (
                "write numbers without percent, currency or other signs and commas of thousands"
            )
        elif row == 0 and not re.search(r"\d|inf", text):
            advice = "correct that cell, or take the line out if it is a second header"
        raise InputError(
            f"column {shortened(self.header[at])!r} of {self.name} must be numeric, got "
            f"{shortened(text)!r} in {self.where(row)}; {advice}"
        )

    def dates(self, at: int, rows: pd.Index) -> pd.Series:
        """Column `at` at the given rows as datetime64[ns], in UTC where offsets are given.

        Raises:
            InputError: If a cell holds no date, its day cannot be told from its month, or some
                dates have an offset and others none.
        """
        column = self._column(at).loc[rows]
        if pd.api.types.is_datetime64_any_dtype(column):
            utc = column if column.dt.tz is None else column.dt.tz_convert(None)
            seconds = utc.to_numpy("datetime64[s]")
            return self._checked_dates(at, seconds, utc, lambda: utc.to_numpy("datetime64[ns]"))
        return self.parsed_dates(at, self.texts(at).loc[rows])

    def parsed_dates(self, at: int, texts: pd.Series) -> pd.Series:
        """Texts [row] of column `at` as dates, see `dates`."""
        codes, unique = pd.factorize(texts)
        year_last = [bool(_YEAR_LAST.match(text)) for text in unique]
        ordered = (
            self._year_first(at, list(unique), texts.index[0]) if all(year_last) else list(unique)
        )
        parts = [_iso_date(text) for text in ordered]
        offsets = np.array([offset for *_, offset in parts], bool)
        parsed = pd.to_datetime(
            [iso for iso, *_ in parts], format="ISO8601", utc=True, errors="coerce"
        ).tz_localize(None)
        parsed += pd.to_timedelta([int(after) for _, after, _ in parts], "D")
        seconds = parsed.to_numpy("datetime64[s]")[codes]
        dates = self._checked_dates(
            at, seconds, texts, lambda: parsed.to_numpy("datetime64[ns]")[codes]
        )
        if offsets.any() and not offsets.all():
            row = texts.index[int((~offsets[codes]).argmax())]
            raise InputError(
                f"column {self.header[at]!r} of {self.name} must tell the UTC offset of every "
                f"time or of none, got {texts[row]!r} in {self.where(row)} among others with one; "
                "write them all alike"
            )
        return dates

    def date_notes(self, at: int, dates: Any) -> list[str]:
        """Tells how the dates of column `at` were understood: turned round, or turned to UTC."""
        if pd.api.types.is_datetime64_any_dtype(self._column(at)):
            zone = getattr(self._column(at).dtype, "tz", None)
            return [] if str(zone) in ("None", "UTC") else [_IN_UTC]
        texts = self.texts(at).loc[dates.index]
        for text, date in zip(texts, dates, strict=True):
            if not (turned := _YEAR_LAST.match(text)):
                break
            if turned[1] != turned[3]:
                order = "day" if int(turned[1]) == date.day else "month"
                return [f"Dates such as {text} were read with the {order} first."]
        return [_IN_UTC] if texts.str.contains(_OFFSET).any() else []

    def zone(self, at: int, row: Any) -> str:
        """The time zone of column `at`, or the offset of one row, as +02:00; empty for none."""
        column = self._column(at)
        if pd.api.types.is_datetime64_any_dtype(column):
            return str(getattr(column.dtype, "tz", None) or "")
        if not (found := _ZONE.search(str(self.texts(at).loc[row]))):
            return ""
        digits = re.sub("[^-+0-9]", "", found[1]) or "+00"
        return f"{digits[:3]}:{digits[3:] or '00'}"

    def _checked_dates(self, at: int, seconds: np.ndarray, told: Any, dates: Any) -> pd.Series:
        # Nanoseconds reach from 1678 to 2261; newer pandas reads dates beyond in coarser units.
        low, high = np.datetime64("1678"), np.datetime64("2262")
        wrong = ~((seconds >= low) & (seconds < high))
        if wrong.any():
            row = told.index[int(wrong.argmax())]
            text = "" if pd.isna(told[row]) else str(told[row])
            raise InputError(
                f"column {shortened(self.header[at])!r} of {self.name} must hold dates like "
                f"2012-09-04, got {shortened(text)!r} in {self.where(row)}; "
                f"{_date_advice(text, first=row == self.frame.index[0])}"
            )
        return pd.Series(dates(), index=told.index)

    def _year_first(self, at: int, texts: Sequence[str], row: Any) -> list[str]:
        """Dates with the year last turned round, where some day or dots tell which is the day."""
        parts = [match.groups() for text in texts if (match := _YEAR_LAST.match(text))]
        first, second = (max(int(part[at]) for part in parts) for at in (0, 2))
        day_first = first > 12 or all(part[1] == "." for part in parts)
        if self.date_order:
            day_first, second = self.date_order == "day", 13 * (self.date_order == "month")
        require(
            day_first != (second > 12),
            f"column {shortened(self.header[at])!r} of {self.name} must hold dates whose day can "
            f"be told from the month, got {shortened(texts[0])!r} in {self.where(row)} and others "
            "like it; say which comes first with date_order=, or write dates with the year first",
        )
        order = r"\4-\3-\1" if day_first else r"\4-\1-\3"
        return [_YEAR_LAST.sub(order, text) for text in texts]

    def clocks(self, at: int, rows: pd.Index, *, unit: str) -> pd.Series:
        """Column `at` at the given rows as the time since midnight, timedelta64.

        `unit` is `day_of_year`, `hour`, `minute` or `second` of a column of whole numbers, or
        `clock` of one of times of day such as 18:30.
        """
        texts = self.texts(at).loc[rows]
        if unit == "clock":
            found = [_CLOCK.fullmatch(text) for text in texts]
            parts = [
                (int(m[1]), int(m[2] or m[4]), float(m[3] or m[5] or 0)) if m else (99, 0, 0)
                for m in found
            ]
            hours, minutes, seconds = np.array(parts, float).reshape(-1, 3).T
            wrong = (hours > 24) | (minutes > 59) | (seconds >= 60)
            length = hours * 3600 + minutes * 60 + seconds
        else:
            numbers = self.numbers(at)[self.frame.index.get_indexer(rows)]
            low, high, one = _PARTS[unit]
            wrong = ~((numbers >= low) & (numbers <= high)) | (numbers != np.floor(numbers))
            length = (numbers - low) * one
        if wrong.any():
            row = rows[int(wrong.argmax())]
            raise InputError(
                f"column {shortened(self.header[at])!r} of {self.name} must hold the "
                f"{unit.replace('_', ' ')} of every row, got {shortened(texts[row])!r} in "
                f"{self.where(row)}; correct it, or name a column of whole dates with time="
            )
        milliseconds = np.round(1000 * length).astype("timedelta64[ms]")
        return pd.Series(milliseconds.astype("timedelta64[ns]"), index=rows)

    def names(self, at: int, rows: pd.Index, *, noun: str) -> pd.Series:
        """Column `at` at the given rows as text; each names what `noun` says.

        Raises:
            InputError: If a cell is empty.
        """
        names = self.texts(at).loc[rows]
        if (names == "").any():
            row = names.index[names == ""][0]
            raise InputError(
                f"column {shortened(self.header[at])!r} of {self.name} must name a {noun} in every "
                f"row, got none in {self.where(row)}; fill it in or remove the line"
            )
        return names

    def whole(self, at: int) -> np.ndarray | None:
        """Column `at` as integers, None where a row lacks one or holds something else."""
        column = self._column(at)[~self.blank_rows]
        if pd.api.types.is_numeric_dtype(column):
            numbers = column.to_numpy(np.float64, na_value=np.nan)
        else:
            numbers = _parsed_numbers(self.texts(at)[column.index])
        if not (np.abs(numbers) < 2.0**63).all() or (numbers != np.floor(numbers)).any():
            return None
        return numbers.astype(np.int64)

    def present(self, at: int) -> np.ndarray:
        """Whether each cell of column `at` holds something, bool [row]."""
        column = self._column(at)
        if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
            return column.notna().to_numpy()
        return ~self.texts(at).isin(MISSING).to_numpy()

    @cached_property
    def blank_rows(self) -> np.ndarray:
        """Whether each row is a blank line, bool [row]."""
        blank = np.ones(len(self.frame), bool)
        for at in self.frame:
            if not blank.any():
                break
            blank &= ~self.present(at)
        return blank

    def unit(self, at: int) -> str:
        """The unit of column `at`, empty where none is told."""
        unit = self.units[at] if at < len(self.units) else ""
        return "" if unit in MISSING else unit.strip("[]() ")

    def _column(self, at: int) -> Any:
        """Column `at` as it was read [row], for which pandas has types of many kinds."""
        return self.frame[at]

    def texts(self, at: int) -> Any:
        """Column `at` as text without outer spaces, empty where nothing stands there."""
        column = self._column(at)
        if pd.api.types.is_float_dtype(column):
            # Whole numbers that had to become floats, as others of the column are missing.
            held = column.dropna()
            if len(held) and (held == np.floor(held)).all() and held.abs().max() < 2**53:
                column = column.astype("Int64")
        return column.astype(object).where(column.notna(), "").astype(str).str.strip()


def _parsed_numbers(texts: Any) -> np.ndarray:
    """Texts [row] as float64, NaN for what is no number."""
    plain = texts.str.replace("\u2212", "-")  # The minus of typesetters.
    return np.asarray(pd.to_numeric(plain, errors="coerce"), np.float64)


def _date_advice(text: str, *, first: bool) -> str:
    """What the owner of a cell that is no date can do; a long number counts from 1970."""
    if not re.search(r"\d", text):
        what = "a second header" if first else "a header, a sum or a remark"
        return f"take that line out if it is {what}, else write dates with the year first"
    if re.search(r"\d ?(?![AP]M$)[A-Z]{2,5}$|\]$", text):
        return "write the offset from UTC, such as +01:00, in place of the name of a zone"
    # So many digits that begin so are seconds, and no hour of a day of such a year.
    if not re.fullmatch(r"1[0-7]\d{8}(\.0)?", text):
        if impossible := _impossible(text):
            return f"correct that cell, as there is no {impossible}"
        if (date := _iso_date(text)[0]) and not "1678" <= date[:4] <= "2261":
            return 'give dates of the years 1678 to 2261, or count the rows with time="rows"'
    other = "or name another column with time="
    if not re.fullmatch(r"\d{9,19}(\.0)?", text):
        return f'write dates with the year first, {other}, or count the rows with time="rows"'
    unit = ("s", "ms", "us", "ns")[max(0, (len(text.removesuffix(".0")) - 10) // 3)]
    return f'turn it into dates, with pandas.to_datetime(column, unit="{unit}"), {other}'


def _impossible(text: str) -> str:
    """What no calendar or clock has of a text that is a date by its form, empty for others."""
    texts = [_YEAR_LAST.sub(order, text) for order in (r"\4-\3-\1", r"\4-\1-\3")]
    days = [iso[:10] for iso, *_ in map(_iso_date, texts) if iso]
    known = [pd.notna(pd.to_datetime(day, format="ISO8601", errors="coerce")) for day in days]
    if not days or not "1678" <= days[0] <= "2262":
        return ""
    if not any(known):
        return f"day {days[0]}"
    clock = _iso_date(text)[0][11:]
    return f"time of day {clock}" if clock else ""


def _iso_date(text: str) -> tuple[str, bool, bool]:
    """A date with the year first as ISO 8601, whether 24:00 means the day after, and an offset.

    The text is empty for others, as 3/4/2012 is two days.
    """
    text = re.sub(r" ?(UTC|GMT)$", "Z", text)
    if named := _NAMED_MONTH.match(text):
        month = _MONTHS.index((named[2] or named[3]).lower()[:3]) + 1
        text = f"{named[5]}-{month}-{named[1] or named[4]}{text[named.end() :]}"
    if packed := _PACKED.fullmatch(text):
        text = f"{packed[1]} {packed[2]}:{packed[3] or '00'}:{packed[4] or '00'}"
    if half := _HALF_DAY.fullmatch(text):
        hour = int(half[2]) % 12 + 12 * (half[4] in "Pp")
        text = f"{half[1]}{hour:02}{half[3] or ''}"
    if not (match := _DATE.fullmatch(text)):
        return "", False, False
    year, _, month, day, month_alone, packed_month, packed_day, hour, rest = match.groups()
    date = f"{year}-{month or month_alone or packed_month:0>2}-{day or packed_day or 1:0>2}"
    if hour is None:
        return date, False, False
    rest = re.sub(r"^(\d\d)(?=\d\d)", r"\1:", rest or "00")
    after = hour == "24" and not re.search("[1-9]", re.split("[-+Z]", rest)[0])
    iso = f"{date}T{'00' if after else f'{hour:0>2}'}:{rest}"
    return iso, after, re.search("[-+Z]", rest) is not None
