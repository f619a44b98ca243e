"""Gridded files: netCDF, zarr and GRIB, read when they are used."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from stpatch_jax.data.libraries import require_library
from stpatch_jax.data.readers.axes import Axes
from stpatch_jax.data.readers.conventions import add_note
from stpatch_jax.data.readers.decoding import decode_values, zero_fills
from stpatch_jax.data.readers.folder import files_inside, follow
from stpatch_jax.data.readers.guard import DAMAGED, parsing
from stpatch_jax.data.readers.lengths import check_length
from stpatch_jax.data.readers.outside import check_alone, netcdf_alone
from stpatch_jax.data.readers.selecting import selected
from stpatch_jax.data.readers.stacking import (
    channel_variables,
    check_static,
    chunk_bytes,
    stack,
    without,
)
from stpatch_jax.data.readers.stores import open_store
from stpatch_jax.data.sizes import check_bytes
from stpatch_jax.errors import InputError, listed, require, spelt, warn

NETCDF_SUFFIXES = (".nc", ".nc4", ".netcdf", ".cdf", ".hdf5", ".h5", ".he5")
_LIBRARIES = {
    "netcdf": ("netCDF4", "stpatch_jax[netcdf]"),
    "zarr": ("zarr", "stpatch_jax[zarr]"),
    "grib": ("cfgrib", "cfgrib"),
}
_GRIB_ADVICE = (
    "copy the variables of one level out of it, as with grib_copy -w shortName=2t, or restore it "
    "if it is damaged"
)


def open_gridded(
    path: str | Path,
    *,
    kind: Literal["netcdf", "zarr", "grib"],
    variables: Sequence[str] | None = None,
    time: str | None = None,
    missing_values: Sequence[float] = (),
    select: Mapping[str, Any] | None = None,
    static: Sequence[str] = (),
    ignore: Sequence[str] = (),
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
        time: Name of the time dim, or of the variable that holds its times, where the file does not
            tell.
        missing_values: Values that stand for a missing one, in units of the values.
        select: The one position to read of an axis too many, by its coordinate, as {"level": 500};
            axes of one cell, but latitudes and longitudes, are dropped beside others.
        static: Variables over space alone, such as orography, which become coordinates.
        ignore: Variables that are not read.

    Returns:
        Field [time, *space, channel], with the coordinates of the file, the variable names as
        `channel` and their units as `units` (channel).

    Raises:
        InputError: If the file is missing or damaged, its library is not installed, a variable is
            unknown, variables differ in their dims, or times repeat or mix calendars.
    """
    if "://" in str(path):
        # The netCDF library would ask the server itself, for as long and as much as that likes.
        require(
            kind == "zarr",
            f"a URL must be that of a zarr store, got {path}, to be read as {kind}; download the "
            "file and give its path",
        )
        require_library("fsspec", purpose="reading from a URL", install="stpatch_jax[zarr]")
    elif not Path(path).exists():
        raise InputError(f"there must be a file at {path}, got none; give an existing file")
    library, install = _LIBRARIES[kind]
    require_library(library, purpose=f"reading {kind}", install=install)
    if kind == "netcdf" and Path(path).is_dir():
        options = {"variables": variables, "time": time, "select": select}
        options |= {"static": static, "ignore": ignore}
        return _open_folder(Path(path), kind=kind, missing_values=missing_values, **options)
    name = Path(str(path)).name
    data, told = _open(str(path), kind, missing_values)
    (time,) = spelt([time], [*data.dims, *data.variables]) if time else [None]
    data, chosen = selected(data, select or {}, name=name, time=time)
    data = without(data, static=static, ignore=ignore, name=name)
    names, notes = channel_variables(data, variables, time=time, name=name)
    names = names if variables is not None else sorted(names)  # A zarr store has no order.
    field = stack(data, names, Axes.of(data, names, time=time, name=name), name=name)
    check_static(field, static, name=name)
    field.attrs["source"] = str(path)
    notes += [note for each in names for note in told.get(each, ())]
    return add_note(field, *dict.fromkeys([*notes, *chosen]))


def _open_folder(folder: Path, **told: Any) -> xr.DataArray:
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
        warn(f"{folder}: {note}", stacklevel=4)
    return field.assign_attrs(source=str(folder))


def _open(
    file: str, kind: str, missing: Sequence[float] = ()
) -> tuple[xr.Dataset, dict[str, list[str]]]:
    """A file with values and times decoded, lazily, and sentences on its variables by name."""
    if kind != "zarr":
        check_length(file, kind)
    engine = {"netcdf": "netcdf4", "zarr": "zarr", "grib": "cfgrib"}[kind]
    # cfgrib would write an index file beside the data, and leave out what stands at other levels.
    own = {"indexpath": "", "errors": "raise"}
    extra: dict[str, Any] = {"backend_kwargs": own} if kind == "grib" else {}
    # An index reads its coordinate.
    how: Any = {"chunks": None, "cache": False, "decode_cf": False, "create_default_indexes": False}
    advice = _GRIB_ADVICE if kind == "grib" else DAMAGED
    with warnings.catch_warnings():
        # Dates outside of datetime64[ns] and stores without consolidated metadata are both fine.
        warnings.simplefilter("ignore", xr.SerializationWarning)
        warnings.filterwarnings("ignore", "(?s).*onsolidated", RuntimeWarning)
        warnings.filterwarnings("ignore", "Duplicate dimension", UserWarning)
        with parsing(file, f"{kind} file", advice=advice):
            if kind == "netcdf":
                check_alone(file)
            opened = open_store(file) if kind == "zarr" else file
            if kind == "zarr" and Path(file).is_dir():
                _zarr_group(opened)
            stored = xr.open_dataset(opened, engine=engine, **how, **extra)
            group = None if stored.variables or kind == "grib" else _lone_group(file, kind, opened)
            if group is not None:
                stored = xr.open_dataset(opened, group=group, engine=engine, **how)
            # What repeats a dim, as a covariance does, or has lists in its cells is left out.
            unfit = [at for at, of in stored.variables.items() if len({*of.dims}) < of.ndim]
            unfit += _of_lists(file, group) if kind == "netcdf" else []
            stored = stored.drop_vars(unfit, errors="ignore")
            # zarr allows names of other types.
            names = {dim: str(dim) for dim in stored.dims if not isinstance(dim, str)}
            stored = stored.rename(names)
            stored = _with_axes(stored, Path(file).name)
            plain, fills = _undeclared_fills(opened, group, stored) if kind == "zarr" else ({}, {})
        for name in plain:
            stored[name].attrs.pop("_FillValue", None)
        for name, fill in fills.items():
            stored[name].attrs["_FillValue"] = fill
        values, notes = decode_values(stored, default_fills=kind == "netcdf", missing=missing)
        with parsing(file, f"{kind} file"):
            data = xr.decode_cf(values, decode_times=False, decode_timedelta=False)
            data = data.assign_coords({n: data[n].load() for n in data.coords if n in data.dims})
    for name in data.data_vars if group else ():
        notes.setdefault(str(name), []).append(f"The group {group} of the file was read.")
    for name, fill in plain.items():
        notes.setdefault(name, []).append(
            f"A {fill} of {name} is a value, though the zarr library fills it in where nothing "
            f"was written; missing_values {fill} says otherwise."
        )
    return data, notes


def _with_axes(stored: xr.Dataset, name: str) -> xr.Dataset:
    """A data set with the coordinates of its axes in memory."""
    own = {dim: stored[dim].variable for dim in stored.dims if dim in stored.variables}
    chunks = sum(map(chunk_bytes, own.values()))
    check_bytes(8 * sum(stored.sizes.values()) + chunks, f"the axes of {name}")
    indexed = {dim: of.load() for dim, of in own.items() if of.dims == (dim,)}
    return stored.assign_coords(xr.Coordinates(indexed))


def _lone_group(file: str, kind: str, store: Any) -> str | None:
    """The one group of a file whose variables all lie in groups, as in satellite data."""
    if kind == "zarr":
        groups = sorted(name for name, _ in _zarr_group(store).groups())
    else:
        library = require_library("netCDF4", purpose="groups", install="netCDF4")
        with netcdf_alone(), library.Dataset(file) as data:
            groups = list(data.groups)
    if len(groups) > 1:
        raise InputError(
            f"{file} must hold its variables outside of groups or in one, got the groups "
            f"{listed(groups)}; copy one into a file of its own, for example with xarray"
        )
    return groups[0] if groups else None


def _of_lists(file: str, group: str | None) -> list[str]:
    """The variables of a netCDF file of types that it defines: lists and records of numbers.

    xarray tells the type of what is in a list for that of the list.
    """
    library = require_library("netCDF4", purpose="types", install="netCDF4")
    own = (library.VLType, library.CompoundType)
    with netcdf_alone(), library.Dataset(file) as data:
        variables = (data[group] if group else data).variables
        lists = {name: of for name, of in variables.items() if of.dtype is not str}
        return [name for name, of in lists.items() if isinstance(of.datatype, own)]


def _zarr_group(store: Any) -> Any:
    """A zarr store by the library itself."""
    zarr = require_library("zarr", purpose="reading zarr", install="stpatch_jax[zarr]")
    try:
        return zarr.open_group(store, mode="r")
    except Exception:
        shape: Any = None
        with suppress(Exception):
            shape = zarr.open_array(store, mode="r").shape
        if shape is None:
            raise
    raise InputError(
        f"{store} must be a zarr group, whose arrays have names, got one array {shape}; put it "
        "into a group, as to_zarr of xarray does, or save it as .npy"
    )


def _undeclared_fills(
    store: Any, inside: str | None, stored: xr.Dataset
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fill values by variable that stand for no missing value, and those that do; none declares it.

    In format 3 xarray goes by the attribute alone, but what was never written reads as the fill
    value. Somebody chose it where it is not 0: in floats as missing, in whole numbers who knows.
    """
    group = _zarr_group(store) if inside is None else _zarr_group(store)[inside]
    if group.metadata.zarr_format == 2:
        zeros = [at for at in zero_fills(stored) if "_FillValue" not in group[at].attrs]
        return dict.fromkeys(zeros, 0), {}
    plain: dict[str, Any] = {}
    missing: dict[str, Any] = {}
    for name, values in stored.data_vars.items():
        declared = {"_FillValue", "missing_value"} & {*values.attrs}
        if values.dtype.kind in "iuf" and not declared and (fill := group[name].fill_value):
            (missing if values.dtype.kind == "f" else plain)[str(name)] = fill
    return plain, missing
