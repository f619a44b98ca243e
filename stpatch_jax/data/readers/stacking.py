"""Variables of a data set as one field."""

import math
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.projections import projection
from stpatch_jax.data.readers.axes import Axes, axis_of, channel_dim, check_time, field_dim
from stpatch_jax.data.readers.conventions import add_note, named_attributes, sorted_by_time
from stpatch_jax.data.readers.dates import is_dated, read_times
from stpatch_jax.data.readers.lazy import StackedVariables
from stpatch_jax.data.sizes import check_bytes
from stpatch_jax.errors import InputError, listed, near, require, respelt, same_names, spelt

# Coordinates that a field has of its own.
_TAKEN = ("time", "channel", "units")
# Dims of the corners of cells, which some files have without saying so.
_CORNERS = ("bnds", "bounds", "nv", "nbnd", "nbnds", "nvertex", "vertices", "axis_nbounds")


def channel_variables(
    data: xr.Dataset, variables: Sequence[str] | None, *, time: str | None = None, name: str
) -> tuple[list[str], list[str]]:
    """The variables that become channels, and notes on those left out.

    By default these are all of numbers over time and space; without one of space, all over time;
    without one of time, all with a dim. Bounds of cells, variables that describe others, and flags
    are none.
    """
    if variables is not None:
        asked = [variables] if isinstance(variables, str) else list(variables)
        found = spelt(asked, data.data_vars)
        return _asked(data, found, name), respelt(asked, found)
    numeric = [
        str(variable)
        for variable, values in data.data_vars.items()
        if values.ndim
        and values.dtype.kind in "biuf"
        and str(values.dims[-1]).lower() not in _CORNERS
        and not is_dated(values.variable, name=str(variable))
    ]
    if not numeric:
        raise InputError(
            f"{name} must hold a variable of numbers, got {listed(data.data_vars)}; give another "
            "file"
        )
    described, notes = _described(data), []
    kept = numeric
    # Static fields such as a land mask stand beside those over time, which stand beside series.
    for fits, why in (
        (lambda at: at not in described, "describe others"),
        (lambda at: not {"flag_values", "flag_masks"} & {*data[at].attrs}, "hold flags"),
        (partial(_has_time, data, time), "have no time"),
        (partial(_has_space, data), "have no axis of space"),
    ):
        if fitting := [each for each in kept if fits(each)]:
            out = [each for each in kept if each not in fitting]
            notes += [f"Left out, as they {why}: {listed(out)}."] if out else []
            kept = fitting
    if truths := [each for each in kept if data[each].dtype.kind == "b"]:
        notes.append(f"True and false of {listed(truths)} were read as 1 and 0.")
    if time is None:
        check_time(data, dict.fromkeys(dim for at in kept for dim in data[at].dims), name=name)
    return kept, notes


def _asked(data: xr.Dataset, asked: list[str], name: str) -> list[str]:
    there = listed(sorted(data.data_vars))
    if unknown := [variable for variable in asked if variable not in data.data_vars]:
        raise InputError(
            f"the variables must be among those of {name} ({there}), got {listed(unknown)}; "
            f"{near(unknown, data.data_vars)}"
        )
    if texts := [variable for variable in asked if data[variable].dtype.kind not in "biuf"]:
        raise InputError(
            f"the variables of {name} must hold numbers, got texts or objects in {listed(texts)}; "
            "choose others"
        )
    if not asked or len(set(asked)) < len(asked):
        raise InputError(
            f"at least one variable must be chosen, each once, got {listed(asked)}; choose from "
            f"those of {name}: {there}"
        )
    return asked


def stack(data: xr.Dataset, names: Sequence[str], axes: Axes, *, name: str) -> xr.DataArray:
    """Variables of a data set as one lazy field, its rows in order of time.

    Raises:
        InputError: If times cannot be read, or one is missing or repeats.
    """
    data = axes.cut(data)
    along = "time" if axes.time is None else axes.time
    variables = [data[variable].variable for variable in names]
    for each, variable in zip(names, variables, strict=True):
        check_bytes(chunk_bytes(variable), f"a chunk of {each} in {name}")
    stacked = StackedVariables(variables, [along, *axes.space], name, channel=axes.channel)
    times, notes = xr.Variable("time", np.arange(stacked.shape[0])), ()
    if (given := axes.coordinate(data, name=name)) is not None:
        times, notes = read_times([given], name=name)
    channels, units = _channels(data, names, axes.channel)
    coords = {**_space(data, axes, name), "time": times, "channel": channels}
    coords["units"] = ("channel", units)
    field = stacked.field(["time", *map(field_dim, axes.space), "channel"], coords)
    chunks = {along: 1, axes.channel: 1, **variables[0].encoding.get("preferred_chunks", {})}
    own = {"time": along, **{field_dim(dim): dim for dim in axes.space}}
    field.encoding["preferred_chunks"] = {
        **{name: chunks[dim] for name, dim in own.items() if dim in chunks},
        "channel": chunks[axes.channel] if len(names) == 1 else 1,
    }
    if axes.channel is None and (told := named_attributes({n: data[n].attrs for n in names})):
        field.attrs["channels"] = told
    if mapping := next(filter(None, (_mapping(data, each) for each in names)), None):
        name_of_mapping, attrs = mapping
        field.attrs["grid_mapping"] = projection(attrs)
        field.attrs["crs"] = {name_of_mapping: attrs}
    field = add_note(field, *axes.notes, *notes)
    return sorted_by_time(field, name=name)


def chunk_bytes(variable: xr.Variable) -> int:
    """Bytes of a chunk of a stored variable, all of which is unpacked for any value; 0 without."""
    chunks = variable.encoding.get("preferred_chunks")
    return math.prod(chunks.values()) * variable.dtype.itemsize if chunks else 0


def without(
    data: xr.Dataset, *, static: Sequence[str], ignore: Sequence[str], name: str
) -> xr.Dataset:
    """A data set without variables that are ignored, with static ones as coordinates.

    Raises:
        InputError: One is not there, or a static one has a time.
    """
    data = data.drop_vars(same_names(f"ignore= for {name}", ignore, data.variables))
    static = same_names(f"static= for {name}", static, data.variables)
    for each in static:
        timed = [dim for dim in data[each].dims if axis_of(data, dim) in ("T", "lead")]
        require(
            not timed and data[each].ndim > 0 and data[each].dtype.kind in "biuf",
            f"static= must name fields of numbers over space alone, got {each} over "
            f"({listed(data[each].dims)}) in {name}; leave it out there: what changes with time is "
            "read as past only",
        )
    return data.set_coords(static)


def check_static(field: xr.DataArray, static: Sequence[str], *, name: str) -> None:
    """Refuses static fields that do not lie on the cells of a field."""
    lost = [
        each for each in static if each.casefold() not in {str(n).casefold() for n in field.coords}
    ]
    require(
        not lost,
        f"static= must name fields on the cells of the others in {name}, over "
        f"({listed(field.dims[1:-1])}), got {listed(lost)} on other ones; interpolate them",
    )


def dataset_field(
    data: xr.Dataset, *, static: Sequence[str] = (), ignore: Sequence[str] = ()
) -> xr.DataArray:
    """The variables of a data set in memory that are channels, in its order, as a field."""
    name = "the data set"
    data = without(data, static=static, ignore=ignore, name=name)
    names, notes = channel_variables(data, None, name=name)
    axes = Axes.of(data, names, name=name)
    field = stack(data, names, axes, name=name)
    field = add_note(field, *notes)
    check_static(field, static, name=name)
    # What dask holds stays where it is.
    return field if data.chunks else field.load()


def _described(data: xr.Dataset) -> set[str]:
    """Variables that describe others or the places: bounds, grid mappings, areas, quality."""
    keys = ("bounds", "climatology", "grid_mapping", "cell_measures", "ancillary_variables")
    words: set[str] = set()
    for variable in data.variables.values():
        for place in (variable.attrs, variable.encoding):
            # The connections of an unstructured mesh are told by attributes of many names.
            for key in (*keys, *(at for at in place if at.endswith("_connectivity"))):
                words |= {word.rstrip(":") for word in str(place.get(key, "")).split()}
    return words


def _mapping(data: xr.Dataset, variable: str) -> tuple[str, dict[str, Any]] | None:
    """The name and the attributes of the grid mapping of a variable, where there is one."""
    own = data[variable]
    name = own.attrs.get("grid_mapping", own.encoding.get("grid_mapping", ""))
    name = str(name).split(":")[0].strip()
    return (name, dict(data.variables[name].attrs)) if name in data.variables else None


def _has_time(data: xr.Dataset, time: str | None, variable: str) -> bool:
    named = () if time is None else data[time].dims if time in data.variables else (time,)
    return any(dim in named or axis_of(data, dim) in ("T", "lead") for dim in data[variable].dims)


def _has_space(data: xr.Dataset, variable: str) -> bool:
    dims = data[variable].dims
    kinds = [axis_of(data, dim) for dim in dims if dim != channel_dim(data, dims)]
    return any(kind not in ("T", "lead", "other") for kind in kinds)


def _channels(
    data: xr.Dataset, names: Sequence[str], dim: Hashable | None
) -> tuple[list[str], list[str]]:
    units = {name: str(data[name].attrs.get("units", "")) for name in names}
    if dim is None:
        return list(names), list(units.values())
    labels = [str(at) for at in range(data.sizes[dim])]
    texts = dim in data.coords and data[dim].dtype.kind in "OUS"
    if dim in data.coords:
        labels = [at.decode() if isinstance(at, bytes) else str(at) for at in data[dim].to_numpy()]
    alone = texts and len(names) == 1
    channels = [label if alone else f"{name}_{label}" for name in names for label in labels]
    if len(set(channels)) < len(channels):
        raise InputError(
            f"the positions of the axis {dim} must have a name each to be channels, got "
            f"{listed(labels)}; rename them, or choose one with select="
        )
    given = data.coords.get("units")
    if given is not None and given.dims == (dim,):
        own = list(map(str, given.to_numpy()))
        return channels, [unit for _ in names for unit in own]
    return channels, [units[name] for name in names for _ in labels]


def _space(data: xr.Dataset, axes: Axes, source: str) -> dict[Hashable, Any]:
    """Coordinates of space; those over time may change from file to file and stay behind."""
    coords: dict[Hashable, Any] = {field_dim(dim): np.arange(data.sizes[dim]) for dim in axes.space}
    renamed = {dim: field_dim(dim) for dim in axes.space if field_dim(dim) != dim}
    for name, coord in data.coords.items():
        if name in axes.space and coord.dtype.kind == "f" and (lost := coord.isnull().values).any():
            raise InputError(
                f"the coordinate {name} of {source} must have a number for every cell, got none "
                f"for cell {int(lost.argmax()) + 1} of {len(lost)}; correct it, for example with "
                "xarray"
            )
        if set(coord.dims) <= set(axes.space) and renamed.get(name, name) not in _TAKEN:
            own = {old: new for old, new in renamed.items() if old in coord.dims}
            coords[renamed.get(name, name)] = coord.reset_coords(drop=True).rename(own).variable
    return coords
