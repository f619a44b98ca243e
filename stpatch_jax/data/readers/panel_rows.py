"""Rows of a table with a time column, tidied and put into one field."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.readers.cells import Cells
from stpatch_jax.errors import InputError


@dataclass(frozen=True)
class PanelColumns:
    """What the columns of a table are, by their numbers.

    Attributes:
        date: Column of the time.
        series: Column that names the series of a row; None in a wide table.
        values: Columns of the values by name.
        ignored: Names of the other columns.
        noun: What a series is, for messages and as the name of its axis.
    """

    date: int
    series: int | None
    values: dict[str, int]
    ignored: list[str] = field(default_factory=list)
    noun: str = "company"


def wide_columns(cells: Cells, date: int, among: Sequence[int], *, noun: str) -> PanelColumns:
    """The columns of a wide table, where every column is one series.

    Args:
        cells: The table.
        date: Column of the time.
        among: Columns of the series.
        noun: What a series is, for messages.

    Raises:
        InputError: If a column has no name or the name of another one.
    """
    values: dict[str, int] = {}
    for at in among:
        name = cells.header[at]
        if not name or name in values:
            what = f"the name {name!r} stands there twice" if name else f"column {at + 1} has none"
            raise InputError(
                f"every {noun} column of {cells.name} must have a name of its own, got {what}; "
                "correct the header"
            )
        values[name] = at
    return PanelColumns(date=date, series=None, values=values, noun=noun)


def panel_field(
    cells: Cells, columns: PanelColumns, *, wide_channel: str
) -> tuple[xr.DataArray, dict[str, int]]:
    """Puts the rows of a table into one field, sorted by time.

    Rows without any value and repetitions of a row are dropped and counted.

    Args:
        cells: The table.
        columns: What its columns are.
        wide_channel: Name of the one channel of a wide table.

    Returns:
        Values [time, series, channel], float64, NaN where missing, and the counts of the rows
        read, kept and dropped. Series are sorted by name in a long table and keep the order of
        the columns in a wide one.

    Raises:
        InputError: If a cell is no number or no date, no row has a value, or two different rows
            have the same time and series.
    """
    numbers = {name: cells.numbers(at) for name, at in columns.values.items()}
    keys, rows, counts = _tidy(cells, columns, pd.DataFrame(numbers))
    times, time_at = np.unique(keys["date"].to_numpy(), return_inverse=True)
    if columns.series is None:
        series, channels = list(rows.columns), [wide_channel]
        array = rows.to_numpy()[np.argsort(time_at), :, None]
    else:
        channels = list(columns.values)
        series, series_at = np.unique(keys["series"].to_numpy(str), return_inverse=True)
        array = np.full((len(times), len(series), len(channels)), np.nan)
        array[time_at, series_at] = rows.to_numpy()
    coords = {"time": times, columns.noun: np.asarray(series, str), "channel": channels}
    return xr.DataArray(array, dims=("time", columns.noun, "channel"), coords=coords), counts


def _tidy(
    cells: Cells, columns: PanelColumns, values: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Drops rows without values and repeated rows; two different rows with one key are an error.

    Returns:
        Date and series of the rows that stay (the series is empty in a wide table), their values,
        and the counts for the report.
    """
    filled = values[values.notna().any(axis=1)]
    if filled.empty:
        raise InputError(
            f"the {cells.kind} {cells.name} must have rows with values, got empty ones alone; "
            "give a table with numbers"
        )
    keys = pd.DataFrame({"date": cells.dates(columns.date, filled.index), "series": ""})
    if columns.series is not None:
        keys["series"] = cells.names(columns.series, filled.index, noun=columns.noun)
    # The columns are numbered because a series of a wide table may be called "date".
    keep = ~pd.concat([keys, filled], axis=1, ignore_index=True).duplicated()
    keys, rows = keys.loc[keep], filled.loc[keep]
    if (clash := keys.duplicated()).any():
        at = int(clash.to_numpy().argmax())
        row, first = keys.index[at], keys.index[(keys == keys.iloc[at]).all(axis=1)][0]
        date, company = (str(key) for key in keys.iloc[at])
        who = f"{company} on {date}" if company else date
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
