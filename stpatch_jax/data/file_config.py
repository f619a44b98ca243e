"""What a reader is told of a file that does not say it itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import xarray as xr

from stpatch_jax.data.readers import open_field
from stpatch_jax.data.readers.cells import DateOrder
from stpatch_jax.data.sampling.spacing import GapRule, gap_rule, spaced
from stpatch_jax.data.sizes import SizeConfig, limiting
from stpatch_jax.data.times import TimeAxis


@dataclass(frozen=True)
class TableConfig(SizeConfig):
    """How a table is read, where it does not say so itself; the arguments of its reader.

    A setting that the reader does not know is refused.

    Attributes:
        variables: Names of the variables, arrays or columns to read; everything that fits by
            default.
        time: Name of the time dim of a gridded file or of the time column of a table; rows where a
            table has none, and its rows are counted.
        series: Names of the columns of a table that name the series of a row.
        encoding: How the characters of a text are stored, e.g. latin-1; UTF-8 by default.
        missing_values: Numbers that stand for a missing value, e.g. -999.
        header: Names of the columns of a table without a header; empty for one with it.
        date_order: Whether day or month comes first in dates of a table such as 03/04/2012, where
            they do not tell.
    """

    variables: tuple[str, ...] | None = None
    time: str | None = None
    series: tuple[str, ...] = ()
    encoding: str | None = None
    missing_values: tuple[float, ...] = ()
    header: tuple[str, ...] = ()
    date_order: DateOrder | None = field(default=None, kw_only=True, metadata={"added": True})

    reading: ClassVar[tuple[str, ...]] = (
        *("variables", "time", "series", "encoding", "missing_values", "header", "date_order"),
        "most_bytes",
    )

    def told(self) -> dict[str, Any]:
        """The settings that are given, by name: the arguments of the reader."""
        settings = {name: getattr(self, name) for name in self.reading if name != "most_bytes"}
        if len(self.series) == 1:  # Some readers know one column alone.
            settings["series"] = self.series[0]
        return {name: value for name, value in settings.items() if value}


@dataclass(frozen=True)
class FileConfig(TableConfig):
    """How a file is read, where it does not say so itself; the arguments of `open_field`.

    Attributes:
        format: One of netcdf, zarr, grib, arrays, table, events and video, where the name of the
            file does not tell.
        dims: Names of the axes of a .npy or .npz file that does not tell them, e.g. time z y x.
        coords: Arrays of an .npz file that are the coordinates of a dim, e.g. time=dates.
        select: The one position to read of each axis too many, by its coordinate, e.g. level=500.
        columns: What the columns of a wide table are: series of one channel, or the channels of
            one series.
        period: Length of the periods in which events are counted, e.g. 7D.
        gaps: What becomes of rows that a file leaves out: no window crosses them (split), or they
            are put in as missing values (insert), which suits many short outages; "auto" puts them
            in where there are at most a quarter as many as rows.
    """

    format: str | None = None
    dims: tuple[str, ...] = ()
    coords: Mapping[str, str] = field(default_factory=dict)
    select: Mapping[str, float | str] = field(default_factory=dict)
    columns: Literal["series", "channels"] | None = None
    period: str | None = None
    gaps: GapRule = "split"

    reading: ClassVar[tuple[str, ...]] = (
        *TableConfig.reading,
        *("format", "dims", "coords", "select", "columns", "period", "gaps"),
    )

    @limiting
    def open(self, path: str | Path) -> xr.DataArray:
        """Opens a file as `open_field` does, told what is set here.

        Raises:
            InputError: See `open_field`.
        """
        settings = self.told()
        rule: GapRule = settings.pop("gaps")
        field = open_field(path, **settings)
        inserted = rule != "split" and gap_rule(TimeAxis.of(field.time.values), rule) == "insert"
        return spaced(field, "insert", name=str(path)) if inserted else field
