"""Gridded files: netCDF, zarr and GRIB, read when they are used."""

import warnings
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from stpatch_jax.data.libraries import require_library
from stpatch_jax.data.readers.conventions import (
    add_note,
    sorted_by_time,
    space_dims,
    time_coord,
    time_dim,
)
from stpatch_jax.data.readers.dates import is_dated, read_times
from stpatch_jax.data.readers.decoding import decode_values, zero_fills
from stpatch_jax.data.readers.folder import files_inside, follow
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.data.readers.lazy import StackedVariables
from stpatch_jax.data.readers.lengths import check_length
from stpatch_jax.data.readers.selecting import check_space, selected, without_lone_cells
from stpatch_jax.errors import InputError, listed

NETCDF_SUFFIXES = (".nc", ".nc4", ".netcdf", ".cdf")
_LIBRARIES = {
    "netcdf": ("netCDF4", "stpatch_jax[netcdf]"),
    "zarr": ("zarr", "stpatch_jax[zarr]"),
    "grib": ("cfgrib", "cfgrib"),
}
# Coordinates that a field has of its own.
_TAKEN = ("time", "channel", "units")


def open_gridded(
    path: str | Path,
    *,
    kind: Literal["netcdf", "zarr", "grib"],
    variables: Sequence[str] | None = None,
    time: str | None = None,
    missing_values: Sequence[float] = (),
    select: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Opens a gridded file as a field that is read where it is used.

    Packed values are scaled and missing values become NaN as the file says, see `decode_values`;
    a fill value 0 of zarr format 2 counts where attributes or xarray wrote it. Space is
    ordered z, y, x by the CF conventions (attributes `axis`, `standard_name`, `units`, then the
    names of the dims). Times are read by `read_times`, and rows sorted by them.

    Args:
        path: A netCDF or GRIB file, a zarr folder or URL (`https://`, `s3://`, `memory://`), or
            a folder of netCDF files that follow each other in time.
        kind: Format of the file.
        variables: Variables that become the channels, in this order; by default, all numeric
            ones with a time, sorted by name.
        time: Name of the time dim, where the file does not tell.
        missing_values: Values that stand for a missing one, in units of the values.
        select: The one position to read of an axis too many, by its coordinate, as {"level": 500};
            axes of one cell, but latitudes and longitudes, are dropped beside others.

    Returns:
        Field [time, *space, channel], with the coordinates of the file, the variable names as
        `channel` and their units as `units` (channel).

    Raises:
        InputError: If the file is missing or damaged, its library is not installed, a variable is
            unknown, variables differ in their dims, or times repeat or mix calendars.
    """
    files = _files(path)
    library, install = _LIBRARIES[kind]
    require_library(library, purpose=f"reading {kind}", install=install)
    if kind == "netcdf" and Path(path).is_dir():
        told = {"variables": variables, "time": time, "select": select}
        return _open_folder(Path(path), kind=kind, missing_values=missing_values, **told)
    name = Path(str(path)).name
    opened = [_open(file, kind, missing_values) for file in files]
    chosen = [selected(data, select or {}, name=name, time=time) for data, _ in opened]
    names = _choose(chosen[0][0], variables, name)
    kept = [without_lone_cells(data, names, time=time) for data, _ in chosen]
    datasets = [data for data, _ in kept]
    dims = _shared_dims(datasets[0], names, name)
    check_space(datasets[0], dims, name=name)
    time_name = time_dim(datasets[0], dims, time=time)
    space = space_dims(datasets[0], [dim for dim in dims if dim != time_name])
    _check_alike(datasets, files, names, [time_name, *space])
    times, told = _times(datasets, time_name, time, name)
    pieces = [[data[variable].variable for variable in names] for data in datasets]
    coords = _coords(datasets[0], [time_name, *space], time_name)
    units = [str(datasets[0][variable].attrs.get("units", "")) for variable in names]
    coords |= {"time": times, "channel": list(names), "units": ("channel", units)}
    stack = StackedVariables(pieces, [time_name, *space], name)
    field = stack.field(["time", *map(str, space), "channel"], coords)
    chunks = pieces[0][0].encoding.get("preferred_chunks", {})
    field.encoding["preferred_chunks"] = {
        **{("time" if dim == time_name else dim): size for dim, size in chunks.items()},
        "channel": 1,
    }
    field.attrs = {"source": str(path)}
    own = [note for _, notes in opened for at in names for note in notes.get(at, ())]
    for note in dict.fromkeys([*told, *own, *chosen[0][1], *kept[0][1]]):
        field = add_note(field, note)
    return sorted_by_time(field, name=name)


def _times(
    datasets: Sequence[xr.Dataset], dim: Hashable, time: str | None, name: str
) -> tuple[xr.Variable, tuple[str, ...]]:
    """The times of files one after the other, and notes on them; rows are numbered without any."""
    coords = [time_coord(data, dim, time=time) for data in datasets]
    known = [coord for coord in coords if coord is not None]
    if len(known) == len(coords):
        return read_times(known, name=name)
    numbers = np.arange(sum(data.sizes[dim] for data in datasets))
    return xr.Variable("time", numbers), (f"The rows are numbered, as {dim} has no coordinate.",)


def _files(path: str | Path) -> list[str]:
    """The path, which must exist."""
    if "://" in str(path):
        require_library("fsspec", purpose="reading from a URL", install="stpatch_jax[zarr]")
        return [str(path)]
    if not Path(path).exists():
        raise InputError(f"there must be a file at {path}, got none; give an existing file")
    return [str(path)]


def _open_folder(folder: Path, **told: Any) -> xr.DataArray:
    """The netCDF files of a folder, which follow each other in time."""
    files, others = files_inside(folder, NETCDF_SUFFIXES)
    if not files:
        raise InputError(
            f"{folder} must hold netCDF files, whose names end with {', '.join(NETCDF_SUFFIXES)}, "
            f"got {listed(others)}; give another folder"
        )
    field = follow({file.name: open_gridded(file, **told) for file in files})
    if others:
        note = f"Not read, as no netCDF files: {listed(others)}."
        field = add_note(field, note)
        warnings.warn(f"{folder}: {note}", stacklevel=4)
    return field.assign_attrs(source=str(folder))


def _open(
    file: str, kind: str, missing: Sequence[float] = ()
) -> tuple[xr.Dataset, dict[str, list[str]]]:
    """A file with values and times decoded, lazily, and sentences on its variables by name."""
    if kind != "zarr":
        check_length(file, kind)
    engine = {"netcdf": "netcdf4", "zarr": "zarr", "grib": "cfgrib"}[kind]
    # cfgrib would write an index file beside the data.
    extra: dict[str, Any] = {"backend_kwargs": {"indexpath": ""}} if kind == "grib" else {}
    with warnings.catch_warnings():
        # Dates outside of datetime64[ns] and stores without consolidated metadata are both fine.
        warnings.simplefilter("ignore", xr.SerializationWarning)
        warnings.filterwarnings("ignore", "(?s).*onsolidated", RuntimeWarning)
        with parsing(file, f"{kind} file"):
            stored = xr.open_dataset(
                file, engine=engine, chunks=None, cache=False, decode_cf=False, **extra
            )
            for name in stored.variables:
                if name in stored.dims:  # Coordinates of one axis are small and needed at once.
                    stored[name].load()
            zeros = _undeclared_zeros(file, stored) if kind == "zarr" else []
        for name in zeros:
            del stored[name].attrs["_FillValue"]
        values, notes = decode_values(stored, default_fills=kind == "netcdf", missing=missing)
        with parsing(file, f"{kind} file"):
            data = xr.decode_cf(values, decode_times=False, decode_timedelta=False)
            data = data.assign_coords({n: data[n].load() for n in data.coords if n in data.dims})
    for name in zeros:
        notes.setdefault(name, []).append(
            f"A 0 of {name} is a value, as 0 is what the zarr library itself fills in; "
            "missing_values 0 says otherwise."
        )
    return data, notes


def _undeclared_zeros(file: str, stored: xr.Dataset) -> list[str]:
    """The variables of a zarr store whose fill value 0 stands for no missing value."""
    if not (suspects := zero_fills(stored)):
        return []
    group = require_library("zarr", purpose="reading zarr", install="stpatch_jax[zarr]").open_group(
        file, mode="r"
    )
    if group.metadata.zarr_format != 2:  # An attribute declares missing values there.
        return []
    return [name for name in suspects if "_FillValue" not in group[name].attrs]


def _choose(data: xr.Dataset, variables: Sequence[str] | None, name: str) -> list[str]:
    """The variables asked for, or all numeric ones that have a time; bounds of cells are none."""
    if variables is not None:
        asked = [variables] if isinstance(variables, str) else list(variables)
        if unknown := [variable for variable in asked if variable not in data.data_vars]:
            raise InputError(
                f"the variables must be among those of {name} ({_listed(data)}), got "
                f"{listed(unknown)}; choose from these"
            )
        if not asked or len(set(asked)) < len(asked):
            raise InputError(
                f"at least one variable must be chosen, each once, got {asked}; choose from those "
                f"of {name}: {_listed(data)}"
            )
        return asked
    bounds = {coord.attrs.get("bounds") for coord in data.coords.values()}
    bounds |= {coord.encoding.get("bounds") for coord in data.coords.values()}
    numeric = [
        str(variable)
        for variable, values in data.data_vars.items()
        if values.ndim
        and values.dtype.kind in "biuf"
        and variable not in bounds
        and not is_dated(values.variable, name=str(variable))
    ]
    # Static fields such as a land mask stand beside those over time.
    over_time = [variable for variable in numeric if _has_time(data, variable)]
    if not numeric:
        raise InputError(
            f"{name} must hold a variable of numbers, got {_listed(data)}; give another file"
        )
    # Sorted, as a zarr store lists its arrays in no order of its own.
    return sorted(over_time or numeric)


def _has_time(data: xr.Dataset, variable: str) -> bool:
    try:
        time_dim(data, data[variable].dims)
    except InputError:
        return False
    return True


def _listed(data: xr.Dataset) -> str:
    return listed(sorted(map(str, data.data_vars)))


def _shared_dims(data: xr.Dataset, names: Sequence[str], name: str) -> tuple[Hashable, ...]:
    """The dims of all variables, which may be in any order."""
    dims = data[names[0]].dims
    for variable in names[1:]:
        if set(data[variable].dims) != set(dims):
            raise InputError(
                "variables that become channels of one field must have the same dims, got "
                f"{names[0]} over {_joined(dims)} and {variable} over "
                f"{_joined(data[variable].dims)} in {name}; choose with variables="
            )
    return dims


def _joined(dims: Sequence[Hashable]) -> str:
    return f"({', '.join(map(str, dims))})"


def _check_alike(
    datasets: Sequence[xr.Dataset], files: Sequence[str], names: Sequence[str], dims: list[Hashable]
) -> None:
    """Files that follow each other in time must have the same variables on the same grid."""
    first = datasets[0]
    for data, file in zip(datasets[1:], files[1:], strict=True):
        if not all(name in data and set(data[name].dims) == set(dims) for name in names):
            what = f"has not the variables {', '.join(names)} over {_joined(dims)}"
        elif not all(data[dim].equals(first[dim]) for dim in dims[1:]):
            what = "lies on another grid"
        else:
            continue
        raise InputError(
            f"all files of a folder must continue {Path(files[0]).name} in time, got "
            f"{Path(file).name}, which {what}; remove it or read it alone"
        )


def _coords(data: xr.Dataset, dims: Sequence[Hashable], time: Hashable) -> dict[Hashable, Any]:
    """Coordinates of space; those over time may change from file to file and stay behind."""
    coords: dict[Hashable, Any] = {dim: np.arange(data.sizes[dim]) for dim in dims if dim != time}
    for name, coord in data.coords.items():
        if time not in coord.dims and set(coord.dims) <= set(dims) and name not in _TAKEN:
            coords[name] = coord.variable
    return coords
