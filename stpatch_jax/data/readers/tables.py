"""Tables of one row a time (wide) or one row a time and series (long) as panels."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.readers.arrays import check_channels
from stpatch_jax.data.readers.cells import Cells, DateOrder, looks_like_date
from stpatch_jax.data.readers.columns import Columns, find_columns, names_series
from stpatch_jax.data.readers.conventions import add_note
from stpatch_jax.data.readers.delimited import TEXT_SUFFIXES, read_cells
from stpatch_jax.data.readers.labels import distinct
from stpatch_jax.data.readers.typed import (
    ARROW_SUFFIXES,
    PARQUET_SUFFIXES,
    frame_cells,
    read_typed_cells,
)
from stpatch_jax.data.sizes import check_bytes
from stpatch_jax.data.transforms.cleaning import forward_fill
from stpatch_jax.errors import (
    InputError,
    check_choice,
    listed,
    require,
    same_names,
    shortened,
    warn,
)
from stpatch_jax.files import has_suffix

# Numbers that files write where a value is missing.
_FAR_NUMBERS = (99, 999, 9999, 99999, 99.9, 999.9, 9999.9, 99.99, 999.99, 9999.99, 200, 888, 8888)
_FAR_NUMBERS += (32767, 32768, 1e20, 1e30, 1e36)
TABLE_SUFFIXES = (*TEXT_SUFFIXES, *PARQUET_SUFFIXES, *ARROW_SUFFIXES)


def read_panel(
    path: str | Path | pd.DataFrame,
    *,
    variables: Sequence[str] | None = None,
    time: str | None = None,
    series: str | Sequence[str] | None = None,
    columns: Literal["series", "channels"] = "series",
    encoding: str | None = None,
    missing_values: Sequence[float] = (),
    header: Sequence[str] | None = None,
    date_order: DateOrder | None = None,
    ignore: Sequence[str] = (),
    static: Sequence[str] = (),
) -> xr.DataArray:
    """Reads a table of text, Parquet or Arrow as a panel.

    A *long* table has columns that name the series, one row a time and series, and one column
    for each channel. A *wide* table has one row a time, and every other column is one series, or
    one channel of a single series. `find_columns` tells which is what by names and contents.
    Rows are sorted by time and repeated rows dropped; of rows without values the time stays, where
    it lies between others. Dates have the year first, or a day that can be told from the month; UTC
    offsets are undone. What was inferred and left out stands in the notes of the field.

    Args:
        path: A text table, see `read_cells`, a `.parquet` or `.feather` file, or a table of pandas,
            whose index is a column unless it counts the rows.
        variables: Columns of the channels of a long table, or the columns that are read of a wide
            one.
        time: Column of the time; "rows" where there is none, and rows are counted.
        series: Column that names the series, or several that name it together.
        columns: What the columns of a wide table are: "series" with the one channel "value", or
            "channels" of one series.
        encoding: How the characters are stored, see `open_text`.
        missing_values: Numbers that stand for a missing value.
        header: Names of the columns of a text table without a header.
        date_order: Whether day or month comes first where the year is last.
        ignore: Columns that are not read.
        static: Columns of a long table with one number for each series, such as its size.

    Returns:
        Field [time, series, channel], or [time, channel] where the columns are channels, float64,
        NaN where missing.

    Raises:
        InputError: If the file is missing, unreadable or empty, a column is unknown, it is not
            clear which one is the time or the series, a cell is no number or no date (its line is
            told), two different rows have one time and series, or a channel has no value at all.
    """
    file = path if isinstance(path, pd.DataFrame) else Path(path)
    check_choice("columns", columns, ("series", "channels"))
    field, roles, counts = read_table(
        file,
        lambda cells: find_columns(
            cells, time=time, series=series, variables=variables, ignore=ignore
        ),
        kind="table",
        noun="series",
        wide_channel="value",
        words=[*([time] if time else []), *([series] if isinstance(series, str) else series or ())],
        encoding=encoding,
        missing_values=missing_values,
        empty_rows="keep",
        header=header,
        date_order=date_order,
    )
    field.attrs["source"] = str(file) if isinstance(file, Path) else "DataFrame"
    field = _with_static(field, static, long=bool(roles.series), name=field.attrs["source"])
    if count := counts["empty_rows_dropped"]:
        field = add_note(field, f"{count} row{'s have' if count > 1 else ' has'} no values.")
    if count := counts["duplicate_rows_dropped"]:
        field = add_note(
            field, f"{count} duplicate row{'s were' if count > 1 else ' was'} dropped."
        )
    if not roles.series and columns == "channels":
        field = series_as_channels(field)
    check_channels(field)
    return field


def series_as_channels(field: xr.DataArray) -> xr.DataArray:
    """The columns of a wide table as the channels of one series."""
    names, units = field.series.values, field.coords.get("units")
    field = field.isel(channel=0, drop=True).rename(series="channel").assign_coords(channel=names)
    del field.attrs["wide"]  # A table made of this one has a column a channel, as any has.
    if units is not None and units.dims == ("channel",):
        field = field.assign_coords(units=("channel", [units.item()] * len(names)))
    return field


def _with_static(
    field: xr.DataArray, static: Sequence[str], *, long: bool, name: str
) -> xr.DataArray:
    """The panel with such channels as coordinates of the series in their place.

    Raises:
        InputError: The table is wide, or a channel changes with time.
    """
    require(
        long or not static,
        f"static= must name columns of a table with a column of series, got {listed(static)} for "
        f"{name}; leave them out there",
    )
    for each in same_names("static=", static, field.channel.values):
        values = field.sel(channel=each).values
        # Rows may be missing, and a series may have no number at all.
        one = forward_fill(values)[-1]
        changing = ((values != one) & ~np.isnan(values)).any(axis=0)
        require(
            not changing.any(),
            f"static= must name columns with one number for each series of {name}, got {each}, "
            f"which changes in {listed(field.series.values[changing])}; leave it out there, and it "
            "is read as past only",
        )
        field = field.sel(channel=field.channel != each).assign_coords({each: ("series", one)})
    return field


def read_table(
    file: Path | pd.DataFrame,
    find: Callable[[Cells], Columns],
    *,
    kind: str,
    noun: str,
    wide_channel: str,
    words: Sequence[str] = (),
    encoding: str | None = None,
    missing_values: Sequence[float] = (),
    empty_rows: Literal["drop", "keep"] = "drop",
    header: Sequence[str] | None = None,
    date_order: DateOrder | None = None,
) -> tuple[xr.DataArray, Columns, dict[str, int]]:
    """Reads a table as `read_panel` does; a function of the cells gives columns their roles.

    `kind` is what messages call the file, `noun` a series, after which its axis is named,
    `wide_channel` the one channel of a wide table, and `words` the names of columns that are read
    as text whatever they hold. Of rows that have a date and no value, between others, the times may
    be kept: values are missing there, which is no gap in time.

    Returns:
        Values [time, series, channel], float64, NaN where missing, with notes, the columns, and the
        counts of the rows read, kept and dropped. Series are sorted by name in a long table and
        keep the order of the columns in a wide one.

    Raises:
        InputError: If the file cannot be read, a column has no name of its own, a cell is no number
            or no date, no row has a value, or two different rows have the same time and series.
    """
    cells = any_cells(file, kind=kind, words=words, header=header, encoding=encoding)
    cells = replace(cells, date_order=date_order)
    columns = find(cells)
    _check_header(cells, columns)
    names = [name for name, _ in columns.values]
    rows, units, notes = _values(cells, columns, missing_values)
    keys, rows, counts = _tidy(cells, columns, rows, noun)
    zone = ""
    if columns.date:
        notes += cells.date_notes(columns.date[0], keys["time"])
        # Where clocks were changed, what follows keeps the last offset.
        zone = cells.zone(columns.date[0], keys["time"].idxmax())
    notes += _far_numbers(rows, names)
    times = np.unique(keys["time"].to_numpy())
    if empty_rows == "keep":
        times = np.union1d(times, _times_without_values(cells, columns, rows.index, times))
    at: tuple[np.ndarray, ...] = (np.searchsorted(times, keys["time"].to_numpy()),)
    series, channels, values = names, [wide_channel], rows.to_numpy()
    what = f"the table {cells.name} by time"
    if columns.series:
        series, series_at = distinct(keys["series"], name=cells.name)
        at, channels = (*at, series_at), names
        notes += _without_values(cells, columns, set(series), noun)
        what = f"the table of {len(times):,} times and {len(series):,} {noun} in {cells.name}"
    check_bytes(8 * len(times) * len(series) * len(channels), what)
    array = np.full((len(times), len(series), len(channels)), np.nan)
    array[at] = values if columns.series else values[..., None]
    coords = {"time": times, noun: np.asarray(series, str), "channel": channels}
    field = xr.DataArray(array, coords, dims=("time", noun, "channel"))
    field.attrs |= {"time_zone": zone} if zone else {}
    # What a table made of this one looks like.
    heads = [cells.header[at] for at in columns.series]
    field.attrs |= {"wide": noun} if not heads else {"long": (noun, "/".join(heads))}
    if any(units):
        units = units if columns.series or len(set(units)) > 1 else units[:1]
        along = "channel" if len(units) == len(channels) else noun
        field = field.assign_coords(units=(along, units))
    return add_note(field, *notes), columns, counts


def _values(
    cells: Cells, columns: Columns, missing_values: Sequence[float]
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The values by row, the units of their columns, and notes on all of it."""
    # Numbered until they are put into the field, because a series may be called "time".
    rows = pd.DataFrame({at: cells.numbers(own) for at, (_, own) in enumerate(columns.values)})
    notes, units = [*cells.notes, *columns.notes], [cells.unit(own) for _, own in columns.values]
    if any(units):
        told = (f"{name} in {of}" for (name, _), of in zip(columns.values, units, strict=True))
        notes.append(f"The line below the header was read as units: {listed(told)}.")
    if missing_values:
        missing = rows.isin([float(value) for value in missing_values])
        rows = rows.mask(missing)
        count = int(missing.to_numpy().sum())
        notes.append(f"{count} value{'s were' if count != 1 else ' was'} declared to be missing.")
    return rows, units, notes


def any_cells(file: Path | pd.DataFrame, *, kind: str, words: Sequence[str], **told: Any) -> Cells:
    """The cells of a table of pandas, of a typed file, or of a text, told as `read_cells` is."""
    if isinstance(file, pd.DataFrame):
        return frame_cells(file, kind=kind)
    if has_suffix(file, *PARQUET_SUFFIXES, *ARROW_SUFFIXES):
        return read_typed_cells(file, kind=kind)
    return read_cells(file, lambda head: text_columns(head, words), kind=kind, **told)


def _check_header(cells: Cells, columns: Columns) -> None:
    # A column of dates that a date names has lost its first row to the header.
    if any(looks_like_date(cells.header[at]) for at in columns.date):
        raise InputError(
            f"the {cells.kind} {cells.name} must have a header that names its columns, got "
            f"{listed(cells.header)}; put a line of names above it, or give them with header="
        )
    names = [name for name, _ in columns.values]
    for number, (name, at) in enumerate(columns.values):
        if not name or name in names[:number]:
            raise InputError(
                f"every column of {cells.name} must have a name of its own, got "
                f"{f'{name!r} twice' if name else f'none for column {at + 1}'}; correct the header"
            )


def _without_values(cells: Cells, columns: Columns, kept: set[str], noun: str) -> list[str]:
    named = np.logical_and.reduce([cells.present(at) for at in columns.series])
    lost = set(columns.names(cells, cells.frame.index[named], noun=noun)) - kept
    if not lost:
        return []
    note = f"{len(lost)} {noun} without any value left out: {listed(sorted(lost))}."
    warn(note, stacklevel=2)
    return [note]


def _times_without_values(
    cells: Cells, columns: Columns, filled: pd.Index, times: np.ndarray
) -> np.ndarray:
    """The times between others of rows that hold a date alone; what is no date is a remark."""
    empty = columns.dated(cells, cells.frame.index.difference(filled))
    if not len(empty):
        return times
    try:
        others = columns.times(cells, empty).to_numpy()
    except InputError:
        return times
    return others[(others > times[0]) & (others < times[-1])]


def _tidy(
    cells: Cells, columns: Columns, values: pd.DataFrame, noun: str
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Drops rows without values and repeated rows; two different rows with one key are an error."""
    filled = values[values.notna().any(axis=1)]
    if filled.empty:
        raise InputError(
            f"the {cells.kind} {cells.name} must have rows with values, got empty ones alone; "
            "give a table with numbers"
        )
    keys = pd.DataFrame(
        {
            "time": columns.times(cells, filled.index),
            "series": columns.names(cells, filled.index, noun=noun),
        }
    )
    keep = ~pd.concat([keys, filled], axis=1, ignore_index=True).duplicated()
    keys, rows = keys.loc[keep], filled.loc[keep]
    if (clash := keys.duplicated()).any():
        at = int(clash.to_numpy().argmax())
        row, first = keys.index[at], keys.index[(keys == keys.iloc[at]).all(axis=1)][0]
        time, name = (str(key) for key in keys.iloc[at])
        who = f"{name} on {time}" if name else time
        advice = "remove the wrong one"
        if not time.endswith("00:00:00"):
            advice += ", or write times in UTC if clocks were set back there"
        if (count := int(clash.sum())) > 1:
            advice = (
                f"there are {count} such rows: write times of day behind the dates, in UTC if "
                "clocks were set back, or name what tells series apart with series="
            )
        raise InputError(
            f"the {cells.kind} {cells.name} must have one row for "
            f"{who.removesuffix(' 00:00:00')}, got {cells.place}s {cells.line(first)} and "
            f"{cells.line(row)} that differ; {advice}"
        )
    counts = {
        "rows_read": len(values),
        "empty_rows_dropped": len(values) - len(filled),
        "duplicate_rows_dropped": len(filled) - len(rows),
        "rows": len(rows),
    }
    return keys, rows, counts


def _far_numbers(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Warns of numbers that often stand for a missing value and lie far from all other ones."""
    notes = []
    for at, name in enumerate(names):
        known = rows[at].to_numpy()
        known = known[np.isfinite(known)]
        for number in (known.min(initial=np.inf), known.max(initial=-np.inf)):
            others = known[known != number]
            far = len(others) > 1 and np.abs(others - number).min() > np.ptp(others) > 0
            if far and abs(number) in _FAR_NUMBERS and len(known) - len(others) > 1:
                notes.append(
                    f"{number:g} stands {len(known) - len(others)} times in {shortened(name)}, far "
                    f"from its other values: if it means missing, give it as data.missing_values."
                )
    if notes:
        warn(" ".join(notes[:3]), stacklevel=3)
    return notes


def text_columns(head: Cells, words: Sequence[str]) -> list[int]:
    """The columns that are read as text, by the first rows: names that are told or hold no numbers.

    A series may be called 007, so that columns called as series usually are stay text as well.
    """
    told = {part for word in words for part in (word, *word.split(","))}
    return [
        at
        for at, name in enumerate(head.header)
        if name in told or names_series(name) or head.content(at) not in ("number", "nothing")
    ]
