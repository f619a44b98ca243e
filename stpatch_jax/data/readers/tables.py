"""Tables of one row a time (wide) or one row a time and series (long) as panels."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
import xarray as xr

from stpatch_jax.data.libraries import one_line, require_library
from stpatch_jax.data.readers.arrays import check_channels
from stpatch_jax.data.readers.cells import Cells, read_cells
from stpatch_jax.data.readers.panel_rows import PanelColumns, panel_field, wide_columns
from stpatch_jax.errors import InputError

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
    suffixes = (*CSV_SUFFIXES, *PARQUET_SUFFIXES)

    def words(header: list[str]) -> list[int]:
        found = _find(header, file.name, time, series, variables)
        read = found.values.values()
        return [at for at in range(len(header)) if at not in read]

    if file.name.lower().endswith(PARQUET_SUFFIXES):
        cells = _parquet_cells(file)
    else:
        cells = read_cells(file, words, kind="table", suffixes=suffixes)
    found = _find(cells.header, file.name, time, series, variables)
    if found.series is None:
        if columns not in ("series", "channels"):
            raise InputError(f'columns must be "series" or "channels", got {columns!r}; choose one')
        found = wide_columns(cells, found.date, list(found.values.values()), noun="series")
    field, _ = panel_field(cells, found, wide_channel="value")
    field.attrs = {"source": str(path)}
    if found.series is None and columns == "channels":
        names = field.series.values
        field = field.isel(channel=0, drop=True).rename(series="channel")
        field = field.assign_coords(channel=names)
    check_channels(field)
    return field


def _find(
    header: Sequence[str],
    name: str,
    time: str | None,
    series: str | None,
    variables: Sequence[str] | None,
) -> PanelColumns:
    """The columns by name; of a wide table with names that repeat, the values are told later."""
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
    # Numbered names: those of a wide table are checked when its layout is known.
    long = series_at is not None
    values = {(header[at] if long else str(at)): at for at in read}
    if len(values) < len(read):
        raise InputError(
            f"every column of {name} must have a name of its own, got {', '.join(header)}; rename "
            "those that repeat"
        )
    ignored = [header[at] for at in others if at not in read]
    return PanelColumns(date or 0, series_at, values, ignored, noun="series")


def _first(header: Sequence[str], words: Sequence[str], otherwise: int | None) -> int | None:
    plain = [re.sub(r"[^a-z0-9]", "", column.lower()) for column in header]
    return next((at for at, column in enumerate(plain) if column in words), otherwise)


def _parquet_cells(file: Path) -> Cells:
    """The columns of a Parquet file as cells; its line numbers count the rows from 1."""
    require_library("pyarrow", purpose="reading Parquet", install="pyarrow")
    try:
        frame = pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} must be a readable Parquet table, got {one_line(error)}; restore the file"
        ) from error
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
    return Cells(file.name, header, frame, 1, "table")
