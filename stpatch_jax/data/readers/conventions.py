"""What the CF conventions say about axes and times of gridded files."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.readers.dates import is_dated
from stpatch_jax.data.times import time_text
from stpatch_jax.errors import InputError, listed

_NAMES = {
    "T": ("time", "valid_time", "t"),
    "Z": (
        *("z", "lev", "level", "plev", "depth", "height", "altitude", "alt", "pressure_level"),
        *("isobaricinhpa", "heightaboveground", "hybrid", "model_level_number"),
    ),
    "Y": ("y", "lat", "latitude", "rlat", "nav_lat", "south_north", "northing"),
    "X": ("x", "lon", "longitude", "rlon", "nav_lon", "west_east", "easting"),
}
_STANDARD_NAMES = {
    "T": ("time",),
    "Z": ("air_pressure", "height", "altitude", "depth", "model_level_number"),
    "Y": ("latitude", "grid_latitude", "projection_y_coordinate"),
    "X": ("longitude", "grid_longitude", "projection_x_coordinate"),
}
_UNITS = {
    "Z": ("pa", "hpa", "mbar", "millibar", "level", "layer", "sigma_level"),
    "Y": ("degrees_north", "degree_north", "degrees_n", "degree_n"),
    "X": ("degrees_east", "degree_east", "degrees_e", "degree_e"),
}


def add_note(field: xr.DataArray, sentence: str) -> xr.DataArray:
    """The field with one more note under the attribute `notes`, a tuple of whole sentences.

    A note tells what was inferred, dropped, converted or filled when the field was read, without
    the name of the file.

    >>> add_note(xr.DataArray(0), "The axis level, of length 1, was dropped.").attrs["notes"]
    ('The axis level, of length 1, was dropped.',)
    """
    return field.assign_attrs(notes=(*notes_of(field), sentence))


def notes_of(field: xr.DataArray) -> tuple[str, ...]:
    """The notes of a field, see `add_note`; none where an attribute of that name is no tuple."""
    notes = field.attrs.get("notes", ())
    return tuple(map(str, notes)) if isinstance(notes, tuple | list) else ()


def channel_units(field: xr.DataArray) -> dict[str, str]:
    """The units of the channels that tell theirs, by name.

    They stand in the coordinate `units` along channel, or in the attribute `units`: a mapping from
    names, or one text for all channels.
    """
    names = [str(name) for name in field.channel.values]
    if "units" in field.coords and field.units.dims == ("channel",):
        told = zip(names, field.units.values, strict=True)
        return {name: str(unit) for name, unit in told if str(unit)}
    units = field.attrs.get("units", {})
    if isinstance(units, Mapping):
        return {name: str(units[name]) for name in names if name in units}
    return dict.fromkeys(names, str(units))


def axis_of(dataset: xr.Dataset, dim: Hashable) -> str | None:
    """The axis T, Z, Y or X that a dim runs along, None where nothing tells.

    The attributes `axis`, `standard_name`, `units` and `positive` of its coordinate decide, then
    its values, then its name.

    >>> axis_of(xr.Dataset(coords={"a": ("a", [1.0], {"units": "degrees_north"})}), "a")
    'Y'
    """
    name = str(dim).lower()
    by_name = next((axis for axis, names in _NAMES.items() if name in names), None)
    if dim not in dataset.coords:
        return by_name
    coord = dataset[dim]
    attrs = {key: str(value).lower() for key, value in coord.attrs.items()}
    if (axis := attrs.get("axis", "").upper()) in _NAMES:
        return axis
    for axis, words in _STANDARD_NAMES.items():
        if attrs.get("standard_name") in words:
            return axis
    for axis, words in _UNITS.items():
        if attrs.get("units") in words:
            return axis
    if attrs.get("positive") in ("up", "down"):
        return "Z"
    return "T" if is_dated(coord.variable, name=str(dim)) else by_name


def time_dim(dataset: xr.Dataset, dims: Sequence[Hashable], *, time: str | None = None) -> Hashable:
    """The dim of a variable, out of its dims, that is its time.

    Where nothing tells, `time` names it, or the variable that holds its times.

    Raises:
        InputError: If no dim, or more than one, is a time.
    """
    if time is not None:
        along = dataset[time].dims if time in dataset.variables else ()
        times = [dim for dim in dims if dim == time or along == (dim,)]
    else:
        times = [dim for dim in dims if axis_of(dataset, dim) == "T"]
        # Forecasts have a time and a lead time; the conventions' own name decides.
        times = [dim for dim in times if dim == "time"] or times
    if len(times) != 1:
        raise InputError(
            f"a field must have one time dim{f', {time}' if time else ''}, got "
            f"{len(times) or 'none'} among {listed(dims)}; name it with time="
            f"{', or choose one position of the other with select=' if len(times) > 1 else ''}"
        )
    return times[0]


def time_coord(
    dataset: xr.Dataset, dim: Hashable, *, time: str | None = None
) -> xr.DataArray | None:
    """What holds the times along a dim: what `time` names, its coordinate, or another of dates.

    Dates may stand beside a dim whose coordinate only counts, as in files of NEMO, or that has
    none, as in those of WRF. What is said to be another time than that of the values, as the start
    of a forecast, is not taken, nor what says nothing beside a coordinate.
    """
    if time is not None and time in dataset.variables:
        return dataset[time]
    own = dataset[dim] if dim in dataset.coords else None
    if own is not None and is_dated(own.variable, name=str(dim)):
        return own
    others = {
        name: variable.attrs.get("standard_name", "")
        for name, variable in dataset.variables.items()
        if variable.dims == (dim,) and name != dim and is_dated(variable, name=str(name))
    }
    named = [name for name, word in others.items() if word == "time"]
    silent = [name for name, word in others.items() if not word] if own is None else []
    return dataset[found] if (found := next(iter([*named, *silent]), None)) else own


def space_dims(dataset: xr.Dataset, dims: Sequence[Hashable]) -> list[Hashable]:
    """The dims but time in the order z, y, x; those of unknown axis come first, as in the file."""
    order = {None: 0, "T": 0, "Z": 1, "Y": 2, "X": 3}
    return sorted(dims, key=lambda dim: order[axis_of(dataset, dim)])


def sorted_by_time(field: xr.DataArray, *, name: str) -> xr.DataArray:
    """The field with its rows in order of time, and a note if they were not.

    Raises:
        InputError: If a time is missing or stands there twice.

    >>> field = xr.DataArray([7, 9], dims="time", coords={"time": [3, 1]})
    >>> sorted_by_time(field, name="steps").values.tolist()
    [9, 7]
    """
    times = field.time.values
    if (missing := pd.isna(times)).any():
        raise InputError(
            f"every time of {name} must be known, got none at number {int(missing.argmax()) + 1} "
            f"of {len(times)}; correct the time coordinate"
        )
    order = np.argsort(times, kind="stable")
    if (repeated := times[order][1:] == times[order][:-1]).any():
        raise InputError(
            f"{name} must have every time once, got {time_text(times[order][1:][repeated][0])} "
            "more than once; remove the repeated times"
        )
    if (order[1:] > order[:-1]).all():
        return field
    return add_note(field.isel(time=order), "The rows were put in order of time.")
