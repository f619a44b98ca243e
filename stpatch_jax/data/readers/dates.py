"""Dates out of what files store for them: numbers since a date, digits of dates, texts."""

import itertools
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.libraries import one_line, require_library
from stpatch_jax.data.steps import Step, Unit, calendar_of, of_ticks, ticks_of
from stpatch_jax.data.times import months_after
from stpatch_jax.errors import InputError, listed, shortened

_SINCE = re.compile(r"\s*([a-z_ ]+?)\s+since\s+(\S.*?)\s*", re.IGNORECASE)
_MONTHS = {
    **dict.fromkeys(("month", "months", "mon", "mons", "calendar_month", "calendar_months"), 1),
    **dict.fromkeys(("year", "years", "yr", "yrs", "calendar_year", "calendar_years"), 12),
}
_CALENDARS = {
    **dict.fromkeys(("", "gregorian"), "standard"),
    **dict.fromkeys(("365", "365_days", "no_leap"), "noleap"),
    **dict.fromkeys(("366", "366_days"), "all_leap"),
    **dict.fromkeys(("360", "360_days"), "360_day"),
}
_UNITS: tuple[tuple[Unit, int], ...] = (("day", 86400), ("hour", 3600), ("minute", 60))
_STANDARD = ("standard", "proleptic_gregorian")
# Digits of dates as attributes tell them, the longest first, and the unit of their last part.
_DIGITS = {
    **dict.fromkeys(("yyyymmddhh", "%y%m%d%h"), "YMDh"),
    **dict.fromkeys(("yyyymmdd", "ccyymmdd", "%y%m%d"), "YMD"),
    **dict.fromkeys(("yyyymm", "%y%m"), "YM"),
    **dict.fromkeys(("yyyy", "%y"), "Y"),
}
# What rows are usually apart, in seconds; times are sharpened to multiples of it.
_GRIDS = [
    *(86400, 43200, 21600, 10800, 3600, 1800, 1200, 900, 600, 300, 120, 60, 30, 20, 15, 10, 5, 1),
    *(0.1, 0.01, 1e-3, 1e-6),
]


@dataclass(frozen=True)
class _Read:
    """Times of one file, and by how many nanoseconds each may be off, as its type tells no more."""

    values: np.ndarray
    blur: float = 0.0
    dtype: str = ""
    encoding: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def is_dated(variable: xr.Variable, *, name: str = "") -> bool:
    """Whether a variable holds dates, by its type or by what its attributes say of its numbers.

    >>> is_dated(xr.Variable("t", [1.0], {"units": "months since 2000-01-01"}))
    True
    """
    if variable.dtype.kind in "iuf":
        units = str(variable.attrs.get("units", ""))
        return bool(_SINCE.fullmatch(units)) or _digits(variable, name, hints=True) is not None
    texts = variable.ndim == 1 and variable.dtype.kind in "SUOT"
    return variable.dtype.kind == "M" or (texts and _text_times(variable) is not None)


def read_times(coords: Sequence[xr.DataArray], *, name: str) -> tuple[xr.Variable, tuple[str, ...]]:
    """The times of one or more files, one after the other, along `time`, and notes on them.

    Read are numbers of any unit since a date, whole months and years of the calendar too; digits of
    dates such as `day as %Y%m%d.%f` or `yyyymm`; and ISO texts. Dates of the standard calendar are
    datetime64, those of others stay as cftime has them; numbers stay where a file tells no dates.
    Numbers that cannot tell their times finely enough, such as days of float32, are rounded to the
    coarsest grid of usual times they agree with.

    Returns:
        Times [time], whose encoding tells units and calendar of the file, and whole sentences.

    Raises:
        InputError: If a time is missing, its unit or calendar cannot be read, the calendars differ,
            or numbers do not tell their times apart.
    """
    parts = [_read(coord, name) for coord in coords]
    calendars = sorted({calendar_of(part.values) or "none" for part in parts})
    if len(calendars) > 1:
        raise InputError(
            f"all times of {name} must be of one calendar, got {' and '.join(calendars)}; convert "
            "them to one calendar"
        )
    arrays = [part.values for part in parts]
    if any(array.dtype == np.dtype("M8[us]") for array in arrays):
        arrays = [array.astype("M8[us]") for array in arrays]
    values, sharpened = np.concatenate(arrays), ""
    if any(part.blur for part in parts):
        blur = np.concatenate([np.full(len(part.values), part.blur) for part in parts])
        values, sharpened = _sharpened(values, blur, parts[0].dtype, name)
    notes = tuple(dict.fromkeys([*(part.note for part in parts), sharpened]))
    alike = all(part.encoding == parts[0].encoding for part in parts)
    encoding = time_encoding(values, parts[0].encoding if alike else {})
    return xr.Variable("time", values, encoding=encoding), tuple(filter(None, notes))


def time_encoding(times: np.ndarray, told: Mapping[str, Any]) -> dict[str, Any]:
    """The encoding by which xarray writes times [time] in units and calendar that are told.

    Whole numbers if they hold the times, else float64 if that holds them exactly, else none: xarray
    chooses units of its own.

    >>> times = np.array(["2000-01-03", "2000-01-04T12"], "M8[ns]")
    >>> str(time_encoding(times, {"units": "days since 2000-01-01"})["dtype"])
    'float64'
    """
    own = {key: told[key] for key in ("units", "calendar") if key in told}
    if "units" not in own or calendar_of(times) is None:
        return {}
    coder = xr.coders.CFDatetimeCoder(time_unit="ns" if times.dtype == "M8[ns]" else "us")
    for dtype in (np.dtype(np.int64), np.dtype(np.float64)):
        encoding = {**own, "dtype": dtype}
        # xarray raises many things for units that only cftime knows, or warns and takes others.
        with warnings.catch_warnings(), suppress(Exception):
            warnings.simplefilter("ignore")
            written = coder.encode(xr.Variable("time", times, encoding=dict(encoding)))
            back = coder.decode(written).to_numpy().astype(times.dtype)
            same = _unit(written.attrs["units"]) == _unit(own["units"])
            if same and np.array_equal(back, times):
                return encoding
    return {}


def _unit(units: str) -> str:
    return units.split()[0].lower().rstrip("s")


def _read(coord: xr.DataArray, name: str) -> _Read:
    values, attrs = coord.to_numpy(), coord.attrs
    if calendar_of(values) is not None:
        own = {key: coord.encoding.get(key) for key in ("units", "calendar")}
        return _Read(_plain(values), encoding={key: str(own[key]) for key in own if own[key]})
    if values.dtype.kind not in "iuf":
        return _Read(_texts(coord, name))
    missing = np.isnan(values) if values.dtype.kind == "f" else values == np.iinfo(np.int64).min
    if missing.any():
        raise InputError(
            f"every time of {name} must be known, got none at number {int(missing.argmax()) + 1} "
            f"of {len(values)}; correct the time coordinate"
        )
    units = str(attrs.get("units", ""))
    calendar = str(attrs.get("calendar", "")).strip().lower()
    calendar = _CALENDARS.get(calendar, calendar)
    if calendar == "none":
        return _Read(values, note="The times are numbers, as their calendar is none.")
    if match := _SINCE.fullmatch(units):
        return _since(coord, match[1].lower(), match[2], calendar, name)
    if (digits := _digits(coord.variable, str(coord.name))) is not None:
        return _from_digits(coord, digits, calendar, name)
    unit = f" of {shortened(units, most=40)!r}" if units else ""
    return _Read(values, note=f"The times are numbers{unit}, as the file tells no date of them.")


def _since(coord: xr.DataArray, unit: str, start: str, calendar: str, name: str) -> _Read:
    values, units = coord.to_numpy(), str(coord.attrs["units"])
    start = "1970-01-01" if start.lower() == "epoch" else start
    numbers = values.astype(np.float64) if values.dtype.kind == "f" else values
    encoding = {"units": units, "calendar": calendar}
    ends = (values.min(), values.max()) if len(values) else (0, 0)

    def decoded(numbers: np.ndarray, unit: str) -> np.ndarray:
        told = {"units": f"{unit} since {start}", "calendar": calendar}
        try:
            with warnings.catch_warnings():
                # Dates beyond nanoseconds, and years of few digits, are both fine.
                warnings.simplefilter("ignore")
                coder = xr.coders.CFDatetimeCoder()
                return _plain(coder.decode(xr.Variable("time", numbers, told), "time").to_numpy())
        except Exception as error:  # xarray, pandas and cftime each raise their own.
            require_library("cftime", purpose="dates as of this file", install="cftime")
            raise InputError(
                f"the time unit of {name} must be one since a date of a calendar, such as 'days "
                f"since 2000-01-01', got {shortened(units, most=60)!r} of the calendar "
                f"{shortened(calendar, most=30)} for numbers from {ends[0]:g} to {ends[1]:g}; "
                f"correct the attributes units and calendar of {coord.name}, for example with "
                "ncatted or xarray"
            ) from error

    if unit in ("week", "weeks"):
        numbers, unit, encoding = numbers * 7, "days", {"calendar": calendar}
    if unit not in _MONTHS:
        first = decoded(np.array([0, 1]), unit)
        length = float(np.diff(ticks_of(first))[0]) * 1e9 / _per_second(first)
        return _Read(decoded(numbers, unit), *_blur(values, length), encoding)
    months = numbers * _MONTHS[unit]
    encoding = {"calendar": calendar}
    if calendar == "360_day":  # Months of thirty days have halves.
        return _Read(decoded(months, "months"), encoding=encoding)
    if (wrong := months != np.rint(months)).any():
        raise InputError(
            f"times of {name} in {unit} since a date must be whole numbers, as {unit} have no "
            f"one length, got {numbers[wrong][0]:g}; store them as days since a date, for example "
            "with xarray"
        )
    if not len(months):
        return _Read(decoded(months, "days"), encoding=encoding)
    found = months_after(decoded(np.zeros(1, np.int64), "days")[0], months.astype(np.int64))
    note = f"The times, {shortened(units, most=60)}, were read as {unit} of the calendar."
    return _Read(found, encoding=encoding, note=note)


def _digits(variable: xr.Variable, name: str, *, hints: bool = False) -> str | None:
    """Which parts of a date the digits of numbers are: by attributes, a name, or all by looks."""
    attrs = {key: str(value).lower() for key, value in variable.attrs.items()}
    words = " ".join(attrs.get(key, "") for key in ("units", "long_name", "description", "format"))
    plain = re.sub(r"[-_/:]", "", words)
    alone = "(?<![a-z%]){}(?![a-z%])"
    told = (parts for word, parts in _DIGITS.items() if re.search(alone.format(word), plain))
    found = next(told, None)
    values = variable.to_numpy() if variable.ndim == 1 else np.zeros(0)
    if found is None and "year" in (name.lower().rstrip("s"), attrs.get("units", "").rstrip("s")):
        # Years of a model may begin with 1 and are no dates then.
        found = "Y" if len(values) and values.min() >= 1500 and values.max() <= 2500 else None
    if found is None and not hints and len(values) > 1 and "units" not in attrs:
        # Eight digits that all are dates stand for nothing else.
        whole = (values == np.rint(values)).all() and values.min() >= 1e7 and values.max() < 1e8
        found = "YMD" if whole else None
    if found is None or not len(values):
        return found
    return found if not _wrong_digits(values, found).any() or plain.strip() else None


def _split(values: np.ndarray, parts: str) -> dict[str, np.ndarray]:
    rest, found = np.floor(values.astype(np.float64)).astype(np.int64), {}
    for part in reversed(parts[1:]):
        rest, found[part] = np.divmod(rest, 100)
    return {"Y": rest, **dict(reversed(found.items()))}


def _wrong_digits(values: np.ndarray, parts: str) -> np.ndarray:
    split = _split(values, parts)
    wrong = (split["Y"] < 1) | (split["Y"] > 9999)
    for part, low, high in (("M", 1, 12), ("D", 1, 31), ("h", 0, 23)):
        if part in split:
            wrong |= (split[part] < low) | (split[part] > high)
    return wrong


def _from_digits(coord: xr.DataArray, parts: str, calendar: str, name: str) -> _Read:
    """Dates whose digits are numbers; a fraction is one of their last part."""
    values = coord.to_numpy()
    _, dtype = blurred = _blur(values, 1.0)
    if blurred[0] > 0.1:
        raise _too_coarse(dtype, f"{2 * blurred[0]:g} dates", name)
    split = _split(values, parts)
    ones = np.ones(len(values), np.int64)
    columns = [split.get(part, ones if part in "MD" else 0 * ones) for part in "YMDh"]
    try:
        dates = _dates(columns, calendar)
    except ValueError as error:
        raise InputError(
            f"the times of {name} must be dates as the digits of {coord.name} tell them "
            f"({'year, month, day, hour'[: (4, 11, 16, 22)[len(parts) - 1]]}), got "
            f"{shortened(one_line(error), most=60)} among {values[0]:.10g} to {values[-1]:.10g}; "
            f"correct them, or the attributes units and long_name of {coord.name}"
        ) from error
    share, length = values.astype(np.float64) % 1, 86400e9
    if share.any():
        after = [columns[0] + (parts == "Y"), columns[1] + (parts == "YM"), columns[2], columns[3]]
        after[0], after[1] = after[0] + (after[1] > 12), (after[1] - 1) % 12 + 1
        lengths = ticks_of(_dates(after, calendar)) - ticks_of(dates)
        unit = _per_second(dates)
        lengths = {"D": ones * 86400 * unit, "h": ones * 3600 * unit}.get(parts[-1], lengths)
        dates = of_ticks(ticks_of(dates) + np.rint(share * lengths).astype(np.int64), dates)
        length = float(lengths.max()) * 1e9 / unit
    blur = _blur(values, length) if share.any() else (0.0, "")
    note = f"The times were read from the digits of {coord.name} as dates."
    return _Read(dates, *blur, {"calendar": calendar}, note)


def _dates(columns: Sequence[np.ndarray], calendar: str) -> np.ndarray:
    """Dates out of years, months, days and hours; ValueError where one does not exist."""
    rows = np.stack(columns, axis=1).tolist()
    if calendar in _STANDARD:
        texts = ["{:04d}-{:02d}-{:02d}T{:02d}".format(*row) for row in rows]
        return np.array(texts, "M8[us]")
    cftime = require_library("cftime", purpose=f"the calendar {calendar}", install="cftime")
    return np.array([cftime.datetime(*row, calendar=calendar) for row in rows], object)


def _text_times(variable: xr.Variable) -> np.ndarray | None:
    """Texts such as 2000-01-24_12:00:00 as datetime64, None where one is no date."""
    texts = np.char.strip(np.asarray(variable.to_numpy(), str))
    if variable.dtype.kind == "S":
        texts = np.char.strip(np.char.decode(variable.to_numpy(), "utf-8", "replace"))
    if not texts.size or not all(re.match(r"\d{4}-\d\d?(-|$)|\d{8}($|T)", text) for text in texts):
        return None
    texts = [text.replace("_", "T").removesuffix(" UTC") for text in texts]
    found = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce").tz_localize(None)
    return None if found.hasnans else found.to_numpy()


def _texts(coord: xr.DataArray, name: str) -> np.ndarray:
    if (found := _text_times(coord.variable)) is None:
        raise InputError(
            f"the times of {name} must be dates or numbers, got the texts "
            f"{listed(coord.to_numpy()[:2])} in {coord.name}; write them like 2012-09-04T06:00"
        )
    return _plain(found)


def _plain(values: np.ndarray) -> np.ndarray:
    """Dates of the standard calendar as datetime64 where all are of it."""
    if values.dtype.kind == "M":
        ends = values.astype("M8[Y]").astype(np.int64) + 1970
        inside = not len(ends) or (ends.min() > 1677 and ends.max() < 2262)
        return values.astype("M8[ns]" if inside else "M8[us]")
    if values.dtype != object or calendar_of(values) != "standard":
        return values
    # Before October 1582 the mixed calendar has other days; nothing is shifted.
    first = min(values)
    mixed = first.calendar != "proleptic_gregorian"
    if (first.year, first.month, first.day) < ((1582, 10, 15) if mixed else (1, 1, 1)):
        return values
    return np.asarray([date.isoformat() for date in values], "M8[us]")


def _per_second(dates: np.ndarray) -> float:
    return 1e9 if dates.dtype == np.dtype("M8[ns]") else 1e6


def _blur(values: np.ndarray, length: float) -> tuple[float, str]:
    """Half of what the type of numbers of some nanoseconds tells apart, and the type."""
    if values.dtype.kind != "f" or not len(values):
        return 0.0, ""
    # Numbers of float32 may have passed through float64.
    narrow = values.astype(np.float32)
    kept = narrow if np.array_equal(narrow, values) else values
    apart = [float(np.spacing(np.abs(numbers).max())) for numbers in (kept, values.astype(float))]
    # Half a digit of the number, and what multiplying it costs.
    return (apart[0] / 2 + apart[1]) * length, str(kept.dtype)


def _sharpened(
    values: np.ndarray, blur: np.ndarray, dtype: str, name: str
) -> tuple[np.ndarray, str]:
    """Times rounded to the coarsest grid that all of them agree with, and a note if that matters.

    By chance `n` times agree with a grid of width `w` with the probability `(2 blur / w) ** n`.
    """
    unit = _per_second(values)
    ticks, reach = ticks_of(values), blur * unit / 1e9 + 1
    # Whole hours, say, before hours behind the first time, which is as uncertain as the others.
    for base, seconds in itertools.product((0, ticks[0]), _GRIDS):
        if (width := int(seconds * unit)) < 1:
            continue
        near = base + (ticks - base + width // 2) // width * width
        off, allowed = np.abs(near - ticks), reach * (1 + (base != 0))
        chance = min(2 * allowed.max() / width, 1) ** (len(ticks) - (base != 0))
        if (off <= allowed).all() and chance < 0.1:
            note = f"The times, numbers of {dtype}, were rounded to a grid of {_told(seconds)}."
            return of_ticks(near, values), note if off.max() >= unit else ""
    apart = np.abs(np.diff(ticks))
    if len(apart) and 2 * reach.max() > np.median(apart) / 12:
        raise _too_coarse(dtype, _told(2 * float(blur.max()) / 1e9), name)
    return values, ""


def _told(seconds: float) -> str:
    lengths = [Step(round(seconds / size, 2), unit) for unit, size in _UNITS if seconds >= size]
    return str(lengths[0] if lengths else Step(seconds, "second"))


def _too_coarse(dtype: str, apart: str, name: str) -> InputError:
    return InputError(
        f"the times of {name} must be told as finely as its rows lie, got numbers of {dtype}, of "
        f"which the next one is {apart} later; store them as float64 or as whole numbers"
    )
