"""What a reader is told of a file that does not say it itself."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from stpatch_jax.data.readers import open_field


@dataclass(frozen=True)
class FileConfig:
    """How a file is read, where it does not say so itself; the arguments of `open_field`.

    A setting that the reader of the file's format does not know is refused.

    Attributes:
        variables: Names of the variables, arrays or columns to read; everything that fits by
            default.
        format: One of netcdf, zarr, grib, arrays, table, events and video, where the name of the
            file does not tell.
        time: Name of the time dim of a gridded file or of the time column of a table.
        series: Name of the column of a table that names the series of a row.
        dims: Names of the axes of a .npy or .npz file that does not tell them, e.g. time z y x.
        encoding: How the characters of a text are stored, e.g. latin-1.
        missing_values: Numbers that stand for a missing value, e.g. -999.
        select: The one position to read of each axis too many, by its coordinate, e.g. level=500.
    """

    variables: tuple[str, ...] | None = None
    format: str | None = None
    time: str | None = None
    series: str | None = None
    dims: tuple[str, ...] = ()
    encoding: str | None = None
    missing_values: tuple[float, ...] = ()
    select: Mapping[str, float | str] = field(default_factory=dict)

    def open(self, path: str | Path) -> xr.DataArray:
        """Opens a file as `open_field` does, told what is set here.

        Raises:
            InputError: See `open_field`.
        """
        return open_field(path, **self.told())

    def told(self) -> dict[str, Any]:
        """The settings that are given, by name: the arguments of `open_field`."""
        settings = {each.name: getattr(self, each.name) for each in dataclasses.fields(FileConfig)}
        return {name: value for name, value in settings.items() if value}
