"""Events of many customers as a panel of counts and sums."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.readers.cells import Cells, DateOrder
from stpatch_jax.data.readers.columns import plain_name
from stpatch_jax.data.readers.conventions import add_note
from stpatch_jax.data.readers.delimited import read_cells
from stpatch_jax.data.readers.labels import distinct
from stpatch_jax.data.sizes import check_bytes
from stpatch_jax.errors import InputError, listed, spelt

# The columns of the published CDNOW files are found without being named.
_WORDS = {
    "customer": ("customer", "customerid", "user", "userid", "client", "clientid"),
    "date": ("date", "datetime", "time", "timestamp", "day"),
    "amount": ("amount", "dollarvalue", "dollars", "value", "price", "sales", "spend"),
}
# A date so far from all others is no pause, where there are so many.
_APART, _MANY = pd.Timedelta("90D"), 20
_NOBODY = ("", "nan", "NaN", "NULL", "null", "None", "<NA>", "N/A", "#N/A")
# Money as headers spell it, beside the codes.
_MONEY = {
    **dict.fromkeys(("euro", "euros", "\u20ac"), "EUR"),
    **dict.fromkeys(("dollar", "dollars", "$"), "USD"),
    **dict.fromkeys(("pound", "pounds", "sterling", "\u00a3"), "GBP"),
    **dict.fromkeys(("yen", "\u00a5"), "JPY"),
    **dict.fromkeys(("cent", "cents", "pence", "pennies"), "cent"),
}
_CODES = (
    "EUR USD GBP JPY CHF CNY INR KRW SEK NOK DKK PLN CZK HUF TRY BRL MXN ZAR CAD AUD NZD HKD SGD "
    "RUB THB IDR AED SAR ILS"
)
_MONEY |= {code.lower(): code for code in _CODES.split()}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[$\u20ac\u00a3\u00a5]|\d+")
_ARGUMENTS = {"customer": "series", "date": "time", "amount": "variables"}


def read_events(
    path: str | Path,
    *,
    period: str,
    header: Sequence[str] | None = None,
    series: str | None = None,
    time: str | None = None,
    variables: Sequence[str] | None = None,
    start: str | None = None,
    allow_missing_amounts: bool = False,
    missing_values: Sequence[float] = (),
    encoding: str | None = None,
    date_order: DateOrder | None = None,
) -> xr.DataArray:
    """Reads a table of events (customer, date, amount) as counts and sums for each period.

    A period holds its first moment and not its last one. Every row is one event, equal rows too;
    empty rows and those without a customer are none, and neither are those of an amount below 0,
    which are refunds. The last period may have begun only. Columns without a name given are found
    by words such as customer, user_id; date, time, day; amount, dollar_value, price. Notes tell
    what was left out.

    Args:
        path: A text table, see `read_cells`.
        period: Length of a period: fixed as "7D" or "12h", counted from `start`, or of the
            calendar as "W" (Monday to Sunday), "M" or "Q".
        header: Names of the columns, for a file without a header.
        series: Column of the customer.
        time: Column of the date, year first.
        variables: The one column of the amount.
        start: First day of the first period; by default the day of the first event.
        allow_missing_amounts: Whether an event may lack its amount; the sum of its period is NaN.
        missing_values: Numbers that stand for an amount that is missing.
        encoding: How the characters are stored, see `open_text`.
        date_order: Whether day or month comes first where the year is last.

    Returns:
        Field [time, customer, channel] of the channels count and amount, and refund (what was paid
        back, above 0) where there are any, float64, with the first moment of each period as `time`
        and the date of each customer's first event as `first_event` (customer). Customers are
        sorted by name. The money that the column of the amount names stands in `units` (channel).

    Raises:
        InputError: If the file is missing or unreadable, a column is missing, a row has an empty
            or wrong cell (its line is told), a few dates lie far from all others, the period is
            unknown, or an event lies before `start`.
    """
    amount = [variables] if isinstance(variables, str) else list(variables or [])
    if len(amount) > 1:
        raise InputError(
            f"variables must name the one column of the amount, got {listed(amount)}; name one"
        )
    given = {"customer": series, "date": time, "amount": amount[0] if amount else None}

    def words(head: Cells) -> list[int]:
        amount_at = _columns(head.header, given, head.name)["amount"]
        return [at for at in range(len(head.header)) if at != amount_at]

    cells = read_cells(Path(path), words, kind="event table", header=header, encoding=encoding)
    cells = replace(cells, date_order=date_order)
    at = _columns(cells.header, given, cells.name)
    rows, notes = _rows(cells, at, missing_values)
    missing = rows.amount.isna()
    if missing.any() and not allow_missing_amounts:
        raise InputError(
            f"every event of {cells.name} must have an amount, got none in line "
            f"{cells.line(missing.idxmax())}; fill it in or remove the line"
        )
    _check_dates(rows.date, cells)
    field = _counted(rows, *_periods(rows.date, period, start), name=cells.name)
    unit = _money(cells, at["amount"], rows.index)
    units = [unit * (name != "count") for name in field.channel.values]
    field = field.assign_coords(units=("channel", units))
    field = field.assign_attrs(source=str(path), period=period)
    return add_note(field, *notes)


def currency(name: str) -> str:
    """The money that the name of a column tells, empty for none.

    >>> [currency(name) for name in ("amount_eur", "Price ($)", "Dollar Value", "amount")]
    ['EUR', 'USD', 'USD', '']
    """
    found = {_MONEY.get(word.lower(), "") for word in _WORD.findall(name)} - {""}
    return " ".join(sorted(found))


def _money(cells: Cells, amount: int, rows: pd.Index) -> str:
    """The money of the amounts: what their column is called, or a column of currencies says."""
    found = {currency(cells.header[amount]), currency(cells.unit(amount))}
    for at, name in enumerate(cells.header):
        if at != amount and _names(name) & {"currency", "currencycode"}:
            found |= set(cells.texts(at)[rows])
    found -= {""}
    if len(found) > 1:
        raise InputError(
            f"the amounts of {cells.name} must be of one currency, got {listed(sorted(found))}; "
            "convert them, or keep the rows of one"
        )
    return "".join(found)


def _rows(
    cells: Cells, at: dict[str, int], missing_values: Sequence[float]
) -> tuple[pd.DataFrame, list[str]]:
    """The columns customer, date and amount of the rows that are events or refunds, and notes."""
    amounts = cells.numbers(at["amount"])
    amounts = np.where(np.isin(amounts, missing_values), np.nan, amounts)
    empty = np.isnan(amounts) & ~cells.present(at["customer"]) & ~cells.present(at["date"])
    nobody = cells.texts(at["customer"]).isin(_NOBODY).to_numpy() & ~empty
    filled = cells.frame.index[~empty & ~nobody]
    if not len(filled):
        raise InputError(
            f"the event table {cells.name} must have events of customers, got none; give another "
            "file, or name the column of the customer with series="
        )
    customers = cells.names(at["customer"], filled, noun="customer")
    dates = cells.dates(at["date"], filled)
    rows = pd.DataFrame({"customer": customers, "date": dates, "amount": amounts[filled]})
    counts = {
        "rows without a customer were left out.": int(nobody.sum()),
        "rows are the same as another one; each of them counts.": int(rows.duplicated().sum()),
        "amounts are below 0: these are refunds, and no events.": int((rows.amount < 0).sum()),
    }
    return rows, [f"{count:,} {told}" for told, count in counts.items() if count]


def _counted(
    rows: pd.DataFrame, starts: np.ndarray, where: np.ndarray, *, name: str
) -> xr.DataArray:
    """Counts and sums of events [row] that lie in the periods `where` [row] of those `starts`."""
    customers, customer_at = distinct(rows.customer, name=name)
    shape = (len(starts), len(customers))
    cell, paid = np.ravel_multi_index((where, customer_at), shape), rows.amount.to_numpy()
    back = paid < 0
    sums = {"count": (~back, None), "amount": (~back, paid), "refund": (back, -paid)}
    channels = list(sums) if back.any() else ["count", "amount"]
    check_bytes(
        8 * shape[0] * shape[1] * (len(channels) + 1),
        f"the counts of {name} in {shape[0]:,} periods of {shape[1]:,} customers",
    )
    values = np.empty((*shape, len(channels)))
    for number, (chosen, by) in enumerate(sums[name] for name in channels):
        weights = None if by is None else by[chosen]
        counts = np.bincount(cell[chosen], weights, shape[0] * shape[1])
        values[..., number] = counts.reshape(shape)
    firsts: Any = pd.Series(rows.date.to_numpy()[~back]).groupby(customer_at[~back]).min()
    first = firsts.reindex(range(shape[1])).to_numpy("datetime64[ns]")
    coords = {
        "time": starts,
        "customer": customers,
        "channel": channels,
        "first_event": ("customer", first),
    }
    return xr.DataArray(values, dims=("time", "customer", "channel"), coords=coords)


def _check_dates(dates: pd.Series, cells: Cells) -> None:
    """Refuses a date that lies further from all others than most of these from each other."""
    order = dates.sort_values()
    low, high = order.iloc[[len(order) // 20, -1 - len(order) // 20]]
    lonely = order.diff() > max(high - low, _APART)
    stray: Any = order[
        (lonely & (order > high)) | (lonely.shift(-1, fill_value=False) & (order < low))
    ]
    if len(order) >= _MANY and len(stray):
        raise InputError(
            f"the dates of {cells.name} must lie together, got {order.iloc[0]:%Y-%m-%d} to "
            f"{order.iloc[-1]:%Y-%m-%d}, of which {stray.iloc[0]:%Y-%m-%d} in line "
            f"{cells.line(stray.index[0])} is far from all others; correct it or remove the line"
        )


def _columns(header: Sequence[str], given: dict[str, str | None], name: str) -> dict[str, int]:
    columns: dict[str, int] = {}
    for role, column in given.items():
        match = [at for at, word in enumerate(header) if _names(word) & set(_WORDS[role])]
        if column is not None:
            match = [at for at, word in enumerate(header) if [word] == spelt([column], header)]
        if not match:
            raise InputError(
                f"the event table {name} must have a column of the {role}, got {column or 'none'} "
                f"and the columns {listed(header)}; name it with {_ARGUMENTS[role]}="
            )
        columns[role] = match[0]
    return columns


def _names(column: str) -> set[str]:
    """A name of the header without case and punctuation, as it is and without its money."""
    words = [word for word in _WORD.findall(column) if word.lower() not in _MONEY]
    return {plain_name(column), "".join(words).lower()}


def _periods(dates: pd.Series, period: str, start: str | None) -> tuple[np.ndarray, np.ndarray]:
    """First moment of every period from the first one on, and the period of each date."""
    begin: Any = None
    with suppress(ValueError):
        begin = dates.min().normalize() if start is None else pd.Timestamp(start)
    if not isinstance(begin, pd.Timestamp):
        raise InputError(f"start must be a date like 1997-01-01, got {start!r}; correct it")
    try:
        length = pd.Timedelta(period)
    except ValueError:
        return _calendar_periods(dates, period, begin)
    if length <= pd.Timedelta(0):
        raise InputError(f'period must be longer than nothing, got {period!r}; give one like "7D"')
    where = ((dates - begin) // length).to_numpy(np.int64)
    _check_start(where, begin)
    check_bytes(8 * (int(where.max()) + 1), f"the periods of {period} from {begin}")
    starts = pd.date_range(begin, periods=int(where.max()) + 1, freq=length)
    return starts.to_numpy("datetime64[ns]"), where


def _calendar_periods(
    dates: pd.Series, period: str, begin: pd.Timestamp
) -> tuple[np.ndarray, np.ndarray]:
    try:
        held = dates.dt.to_period(period)
        every = pd.period_range(begin, dates.max(), freq=period)
    except ValueError as error:
        raise InputError(
            f'period must be a length like "7D" or a part of the calendar like "W" or "M", got '
            f"{period!r}; give one of these"
        ) from error
    where = every.get_indexer(pd.PeriodIndex(held))
    _check_start(where, begin)
    return every.start_time.to_numpy("datetime64[ns]"), where


def _check_start(where: np.ndarray, begin: pd.Timestamp) -> None:
    if (where < 0).any():
        raise InputError(
            f"every event must lie at start or later, got {int((where < 0).sum())} before "
            f"{begin}; give an earlier start"
        )
