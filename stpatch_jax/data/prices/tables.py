"""Price tables on disk, read into one field of (time, company, channel)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from stpatch_jax.data.readers.cells import Cells
from stpatch_jax.data.readers.columns import Columns, find_columns
from stpatch_jax.data.readers.conventions import notes_of
from stpatch_jax.data.readers.tables import read_table
from stpatch_jax.errors import InputError

VOLUME = "volume"
LONG_CHANNELS = ("open", "high", "low", "close", "adjusted_close", VOLUME)
WIDE_CHANNEL = "price"

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
    path: str | Path | None,
    *,
    variables: Sequence[str] | None = None,
    time: str | None = None,
    series: str | Sequence[str] | None = None,
    encoding: str | None = None,
    missing_values: Sequence[float] = (),
    header: Sequence[str] | None = None,
) -> PriceTable:
    """Reads a table of prices from a text, Parquet or Arrow file, see `read_panel`.

    A *long* table has the columns date, ticker, open, high, low, close, adjusted close and volume
    in any order, one row per company and date; case, spaces and underscores in the header do not
    matter (`Adj Close` is `adjusted_close`), other columns are ignored. A *wide* table has no
    ticker column: one column is the date, found as `find_columns` does, and every other one is the
    price of one company. Lines that start with `#` above the header are comments.

    Rows are sorted by time. Rows without any value and repetitions of a row are dropped and
    counted. Dates have the year first (2012-09-04, 2012/9/4 16:00, 20120904) and UTC offsets are
    undone; `inf` is not a number. Companies are sorted by name in a long table and keep the order
    of the columns in a wide one; that order carries no meaning.

    Args:
        path: The file, or None for the monthly prices of ten names from 1990 to 2022 that
            matplotlib ships with its sample data.
        variables: Columns of the prices where they are called otherwise; they become the channels
            of a long table under their names.
        time: Column of the date where it is called otherwise.
        series: Column of the ticker where it is called otherwise.
        encoding: How the characters are stored, see `open_text`.
        missing_values: Numbers that stand for a missing value.
        header: Names of the columns of a table without a header.

    Returns:
        The field [time, company, channel] with the channels open, high, low, close,
        adjusted_close, volume (long) or price (wide), and the report.

    Raises:
        InputError: If the file is missing, unreadable or empty, lacks a column, holds a cell that
            is no number or no date, or has two different rows for one company and date.

    >>> read_price_table(None).field.dims
    ('time', 'company', 'channel')
    """
    file = _sample_file() if path is None else Path(path)
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
    )
    times = field.time.values
    ends = times[[0, -1]]
    told_times = list(map(str, ends.astype("datetime64[s]") if ends.dtype.kind == "M" else ends))
    report = {
        "source": "matplotlib sample data" if path is None else file.name,
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


def _role(name: str) -> str | None:
    """The role of a column in a long table, from its name; None for any other column."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return next((role for role, words in _ROLES.items() if plain in words), None)


def _find_columns(cells: Cells) -> Columns:
    """Tells a long table from a wide one and checks that its columns are complete."""
    header, name = cells.header, cells.name
    roles = [_role(column) for column in header]
    # A wide table may name a company OPEN or LOW, but three of these words are no coincidence.
    if "ticker" not in roles and len(set(LONG_CHANNELS) & set(roles[1:])) < 3:
        return find_columns(cells)
    if missing := [role for role in _ROLES if role not in roles]:
        raise InputError(
            f"the price table {name} must have the columns {', '.join(_ROLES)}, got none for "
            f"{', '.join(missing)}; name those it has with time=, series= and variables="
        )
    for role in _ROLES:
        names = [column for column, own in zip(header, roles, strict=True) if own == role]
        if len(names) > 1:
            raise InputError(
                f"the price table {name} must have one {role} column, got {' and '.join(names)}; "
                "rename or remove all but one"
            )
    return Columns(
        (roles.index("date"),),
        [(channel, roles.index(channel)) for channel in LONG_CHANNELS],
        (roles.index("ticker"),),
        ignored=[column for column, role in zip(header, roles, strict=True) if role is None],
    )
