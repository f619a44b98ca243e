"""Tables of one row a time (wide) or one row a time and series (long) as panels."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.libraries import require_library
from stpatch_jax.data.readers.arrays import check_channels
from stpatch_jax.data.readers.cells import Cells, read_cells
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.errors import InputError, check_choice

CSV_SUFFIXES = (".csv", ".csv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
# Header words without case, spaces and punctuation.
_TIME_WORDS = ("date", "datetime", "time", "timestamp", "ds")
_SERIES_WORDS = ("series", "seriesid", "uniqueid", "item", "itemid", "ticker", "symbol", "company")
_SERIES_WORDS += ("station", "stationid", "sensor", "sensorid", "store", "storeid")


def read_panel(
    path: str | Path,
    *,
    variables: Sequence[str] | None = None,
    time: str | None = None,
    series: str | None = None,
    columns: Literal["series", "channels"] = "series",
) -> xr.DataArray:
    """Reads a CSV or Parquet table as a panel.

    A *long* table has a column that names the series, one row a time and series, and one column
    for each channel. A *wide* table has one row a time, and every other column is one series, or
    one channel of a single series. Rows are sorted by time, rows without values and repeated rows
    are dropped. Dates have the year first; UTC offsets are undone.

    Args:
        path: A `.csv` or `.csv.gz` file with commas and a header, or a `.parquet` file.
        variables: Columns of the channels of a long table, or the columns that are read of a wide
            one; all but time and series by default.
        time: Column of the time; by default the first one called date, datetime, time, timestamp
            or ds, else the first column.
        series: Column that names the series; by default one called series, unique_id, item,
            ticker, symbol, company, station, sensor, store or the like. Without one the table is
            wide.
        columns: What the columns of a wide table are: "series" with the one channel "value", or
            "channels" of one series.

    Returns:
        Field [time, series, channel], or [time, channel] where the columns are channels, float64,
        NaN where missing.

    Raises:
        InputError: If the file is missing, unreadable or empty, a column is unknown, a cell is no
            number or no date (its line is told), two different rows have one time and series, or
            a channel has no value at all.
    """
    file = Path(path)
    check_choice("columns", columns, ("series", "channels"))
    field, roles, _ = read_table(
        file,
        lambda header: _find(header, file.name, time, series, variables),
        kind="table",
        noun="series",
        wide_channel="value",
    )
    field.attrs = {"source": str(path)}
    if roles.series is None and columns == "channels":
        names = field.series.values
        field = field.isel(channel=0, drop=True).rename(series="channel")
        field = field.assign_coords(channel=names)
    check_channels(field)
    return field


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are, by their numbers.

    Attributes:
        time: Column of the time.
        series: Column that names the series of a row; None in a wide table.
        values: Names and numbers of the columns of values: channels, or series of a wide table.
        ignored: Names of the other columns.
    """

    time: int
    series: int | None
    values: Sequence[tuple[str, int]]
    ignored: Sequence[str] = ()


def read_table(
    file: Path, find: Callable[[Sequence[str]], Columns], *, kind: str, noun: str, wide_channel: str
) -> tuple[xr.DataArray, Columns, dict[str, int]]:
    """Reads a table as `read_panel` does; a function of the header gives columns their roles.

    `kind` is what messages call the file, `noun` a series, after which its axis is named, and
    `wide_channel` the one channel of a wide table.

    Returns:
        Values [time, series, channel], float64, NaN where missing, the columns, and the counts of
        the rows read, kept and dropped. Series are sorted by name in a long table and keep the
        order of the columns in a wide one.

    Raises:
        InputError: If the file cannot be read, a column has no name of its own, a cell is no number
            or no date, no row has a value, or two different rows have the same time and series.
    """

    def words(header: list[str]) -> list[int]:
        read = {at for _, at in find(header).values}
        return [at for at in range(len(header)) if at not in read]

    if file.name.lower().endswith(PARQUET_SUFFIXES):
        cells = _parquet_cells(file, kind)
    else:
        cells = read_cells(file, words, kind=kind, suffixes=(*CSV_SUFFIXES, *PARQUET_SUFFIXES))
    columns = find(cells.header)
    names = [name for name, _ in columns.values]
    for number, (name, at) in enumerate(columns.values):
        if not name or name in names[:number]:
            raise InputError(
                f"every column of {cells.name} must have a name of its own, got "
                f"{f'{name!r} twice' if name else f'none for column {at + 1}'}; correct the header"
            )
    # Numbered until they are put into the field, because a series may be called "time".
    rows = pd.DataFrame(
        {at: cells.numbers(column) for at, (_, column) in enumerate(columns.values)}
    )
    keys, rows, counts = _tidy(cells, columns, rows, noun)
    times, time_at = np.unique(keys["time"].to_numpy(), return_inverse=True)
    if columns.series is None:
        series, channels = names, [wide_channel]
        array = rows.to_numpy()[np.argsort(time_at), :, None]
    else:
        channels = names
        series, series_at = np.unique(keys["series"].to_numpy(str), return_inverse=True)
        array = np.full((len(times), len(series), len(channels)), np.nan)
        array[time_at, series_at] = rows.to_numpy()
    coords = {"time": times, noun: np.asarray(series, str), "channel": channels}
    return xr.DataArray(array, coords, dims=("time", noun, "channel")), columns, counts


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
    keys = pd.DataFrame({"time": cells.dates(columns.time, filled.index), "series": ""})
    if columns.series is not None:
        keys["series"] = cells.names(columns.series, filled.index, noun=noun)
    keep = ~pd.concat([keys, filled], axis=1, ignore_index=True).duplicated()
    keys, rows = keys.loc[keep], filled.loc[keep]
    if (clash := keys.duplicated()).any():
        at = int(clash.to_numpy().argmax())
        row, first = keys.index[at], keys.index[(keys == keys.iloc[at]).all(axis=1)][0]
        time, name = (str(key) for key in keys.iloc[at])
        who = f"{name} on {time}" if name else time
        raise InputError(
            f"the {cells.kind} {cells.name} must have one row for "
            f"{who.removesuffix(' 00:00:00')}, got lines {cells.line(first)} and "
            f"{cells.line(row)} that differ; remove the wrong one"
        )
    counts = {
        "rows_read": len(values),
        "empty_rows_dropped": len(values) - len(filled),
        "duplicate_rows_dropped": len(filled) - len(rows),
        "rows": len(rows),
    }
    return keys, rows, counts


def _find(
    header: Sequence[str],
    name: str,
    time: str | None,
    series: str | None,
    variables: Sequence[str] | None,
) -> Columns:
    """The columns by name."""
    asked = [variables] if isinstance(variables, str) else variables
    given = [column for column in (time, series, *(asked or ())) if column is not None]
    if unknown := [column for column in given if column not in header]:
        raise InputError(
            f"the columns must be among those of {name} ({', '.join(header)}), got "
            f"{', '.join(unknown)}; choose from these"
        )
    date = header.index(time) if time else _first(header, _TIME_WORDS, 0)
    series_at = header.index(series) if series else _first(header, _SERIES_WORDS, None)
    others = [at for at in range(len(header)) if at not in (date, series_at)]
    read = others if asked is None else [header.index(column) for column in asked]
    if not read or not set(read) <= set(others):
        raise InputError(
            f"the table {name} must have a column of values beside time and series, got columns "
            f"{', '.join(header)}; correct variables="
        )
    values = [(header[at], at) for at in read]
    return Columns(date or 0, series_at, values, [header[at] for at in others if at not in read])


def _first(header: Sequence[str], words: Sequence[str], otherwise: int | None) -> int | None:
    plain = [re.sub(r"[^a-z0-9]", "", column.lower()) for column in header]
    return next((at for at, column in enumerate(plain) if column in words), otherwise)


def _parquet_cells(file: Path, kind: str) -> Cells:
    """The columns of a Parquet file as cells; its line numbers count the rows from 1."""
    require_library("pyarrow", purpose="reading Parquet", install="pyarrow")
    with parsing(file, "Parquet table"):
        frame = pd.read_parquet(file)
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    header = [str(column) for column in frame.columns]
    if len(header) < 2 or frame.empty:
        raise InputError(
            f"the table {file.name} must have rows and at least two columns, got {frame.shape}; "
            "give another file"
        )
    frame.columns = range(len(header))
    for at in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[at]):
            frame[at] = frame[at].astype(str).where(frame[at].notna())
    return Cells(file.name, header, frame, 1, kind)
