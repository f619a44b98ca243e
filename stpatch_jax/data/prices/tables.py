"""Price tables on disk, read into one field of (time, company, channel)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.readers.cells import Cells, DateOrder
from stpatch_jax.data.readers.columns import Columns, find_columns, plain_name
from stpatch_jax.data.readers.conventions import add_note, notes_of
from stpatch_jax.data.readers.tables import read_table
from stpatch_jax.errors import InputError, warn

VOLUME = "volume"
LONG_CHANNELS = ("open", "high", "low", "close", "adjusted_close", VOLUME)
WIDE_CHANNEL = "price"
# Rows so close together are of trading days; a day that moves a price so many times as far as most
# do, to nearly a whole multiple, is one of a split.
_DAILY, _FAR, _NEAR_WHOLE, _FEW = np.timedelta64(4, "D"), 10, 0.04, 6

_UNADJUSTED = (
    "There is no adjusted close; close stands for it, in which splits and dividends are moves."
)

# Header words without case, spaces and punctuation, under the role of their column.
_ROLES = {
    "date": ("date", "datetime", "time", "timestamp"),
    "ticker": ("ticker", "symbol"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close",),
    "adjusted_close": ("adjustedclose", "adjclose"),
    VOLUME: ("volume",),
}


@dataclass(frozen=True, eq=False)
class PriceTable:
    """Prices of several companies over time, and what was found while reading them.

    Attributes:
        field: Values [time, company, channel], float64, NaN where missing, with coordinates
            `time` (datetime64, ascending, each once), `company` and `channel` (str).
        report: Counts and names that go to JSON: source, layout, rows read, kept and dropped.
    """

    field: xr.DataArray
    report: dict[str, Any]


def read_price_table(
    path: str | Path | pd.DataFrame | None,
    *,
    variables: Sequence[str] | None = None,
    time: str | None = None,
    series: str | Sequence[str] | None = None,
    encoding: str | None = None,
    missing_values: Sequence[float] = (),
    header: Sequence[str] | None = None,
    date_order: DateOrder | None = None,
) -> PriceTable:
    """Reads a table of prices from a text, Parquet or Arrow file, see `read_panel`.

    A *long* table has the columns date, ticker, open, high, low, close, adjusted close and volume
    in any order, one row per company and date; case, spaces and underscores in the header do not
    matter (`Adj Close` is `adjusted_close`, for which close stands where there is none), other
    columns are ignored. A *wide* table has no
    ticker column: one column is the date, found as `find_columns` does, and every other one is the
    price of one company. Lines that start with `#` above the header are comments.

    Rows are sorted by time. Rows without any value and repetitions of a row are dropped and
    counted. Dates have the year first (2012-09-04, 2012/9/4 16:00, 20120904) and UTC offsets are
    undone; `inf` is not a number. Companies are sorted by name in a long table and keep the order
    of the columns in a wide one; that order carries no meaning.

    Args:
        path: The file, a table of pandas, or None for the monthly prices of ten names from 1990 to
            2022 that matplotlib ships with its sample data.
        variables: Columns of the prices where they are called otherwise; they become the channels
            of a long table under their names.
        time: Column of the date where it is called otherwise.
        series: Column of the ticker where it is called otherwise.
        encoding: How the characters are stored, see `open_text`.
        missing_values: Numbers that stand for a missing value.
        header: Names of the columns of a table without a header.
        date_order: Whether day or month comes first where the year is last.

    Returns:
        The field [time, company, channel] with the channels open, high, low, close,
        adjusted_close, volume (long) or price (wide), and the report.

    Raises:
        InputError: If the file is missing, unreadable or empty, lacks a column, holds a cell that
            is no number or no date, or has two different rows for one company and date.

    >>> read_price_table(None).field.dims
    ('time', 'company', 'channel')
    """
    file = _sample_file() if path is None else path
    file = file if isinstance(file, pd.DataFrame) else Path(file)
    told = {"time": time, "series": series, "variables": variables}
    named = [*([time] if time else []), *([series] if isinstance(series, str) else series or ())]
    field, columns, counts = read_table(
        file,
        (lambda cells: find_columns(cells, **told)) if any(told.values()) else _find_columns,
        kind="price table",
        noun="company",
        wide_channel=WIDE_CHANNEL,
        words=[*_ROLES["ticker"], *named],
        encoding=encoding,
        missing_values=missing_values,
        header=header,
        date_order=date_order,
    )
    field = _with_doubts(field)
    times = field.time.values
    ends = times[[0, -1]]
    told_times = list(map(str, ends.astype("datetime64[s]") if ends.dtype.kind == "M" else ends))
    source = file.name if isinstance(file, Path) else "DataFrame"
    report = {
        "source": "matplotlib sample data" if path is None else source,
        "layout": "long" if columns.series else "wide",
        **counts,
        "times": len(times),
        "companies": field.sizes["company"],
        "channels": field.channel.values.tolist(),
        "first_time": told_times[0],
        "last_time": told_times[1],
        "ignored_columns": list(columns.ignored),
        "notes": list(notes_of(field)),
    }
    return PriceTable(field, report)


def _with_doubts(field: xr.DataArray) -> xr.DataArray:
    """Tells, by notes and a warning, daily prices of before a split, and filled-in weekends."""
    times, names = field.time.values, [str(name) for name in field.channel.values]
    if times.dtype.kind != "M" or len(times) < 20 or np.median(np.diff(times)) > _DAILY:
        return field
    channel = next((name for name in ("adjusted_close", WIDE_CHANNEL) if name in names), names[0])
    prices = field.sel(channel=channel).values
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of companies without a price.
        ratios = prices[1:] / prices[:-1]
        moves = np.abs(np.log(ratios))
        parts = np.exp(moves)
        whole = np.rint(parts)
        jumps = moves > _FAR * np.nanmedian(moves, axis=0)
        split = jumps & (whole >= 2) & (whole <= 50) & (np.abs(parts / whole - 1) < _NEAR_WHOLE)
    split[1:] &= ~jumps[:-1]  # A slip of one day comes back on the next one.
    split[:-1] &= ~jumps[1:]
    doubts = [
        f"{field.company.values[at]} is worth {ratios[row, at]:.3g} times as much on "
        f"{str(times[row + 1])[:10]} as before: if shares were split, give adjusted prices."
        for row, at in np.argwhere(split)[:3]
    ]
    closed = (times[1:].astype("M8[D]").astype(int) + 3) % 7 > 4
    still = ratios[closed][np.isfinite(ratios[closed])] == 1
    if len(still) >= _FEW and still.mean() > 0.9:
        doubts.append(
            "Prices of Saturdays and Sundays repeat those before: if nothing was traded, leave "
            "these rows out, as every forecast of them looks right."
        )
    field = add_note(field, *doubts)
    if doubts:
        warn(" ".join(doubts), stacklevel=3)
    return field


def _sample_file() -> Path:
    """The price table of matplotlib's sample data; its file name has changed case over time."""
    # Imported here: a table of one's own needs no matplotlib.
    import matplotlib as mpl

    folder = Path(mpl.get_data_path(), "sample_data")
    for name in ("Stocks.csv", "stocks.csv"):
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        "the default price table must come with matplotlib, got an installation without sample "
        "data; name a table by data.path"
    )


def _find_columns(cells: Cells) -> Columns:
    header, name = cells.header, cells.name
    known = {word: role for role, words in _ROLES.items() for word in words}
    roles = [known.get(plain_name(column)) for column in header]
    # A wide table may name a company OPEN or LOW, but three of these words are no coincidence.
    if "ticker" not in roles and len(set(LONG_CHANNELS) & set(roles[1:])) < 3:
        return find_columns(cells)
    missing, notes = [role for role in _ROLES if role not in roles], ()
    own = {channel: channel for channel in LONG_CHANNELS}
    if missing == ["adjusted_close"]:
        own["adjusted_close"], missing = "close", []
        notes = (_UNADJUSTED,)
        warn(f"{name}: {_UNADJUSTED}", stacklevel=3)
    if missing:
        raise InputError(
            f"the price table {name} must have the columns {', '.join(_ROLES)}, got none for "
            f"{', '.join(missing)}; name those it has with time=, series= and variables="
        )
    for role in set(roles) - {None}:
        names = [column for column, own in zip(header, roles, strict=True) if own == role]
        if len(names) > 1:
            raise InputError(
                f"the price table {name} must have one {role} column, got {' and '.join(names)}; "
                "rename or remove all but one"
            )
    return Columns(
        (roles.index("date"),),
        [(channel, roles.index(own[channel])) for channel in LONG_CHANNELS],
        (roles.index("ticker"),),
        ignored=[column for column, role in zip(header, roles, strict=True) if role is None],
        notes=notes,
    )
