"""The axes of gridded data: which is time, space or channel, and which is one too many."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.readers.dates import is_dated, read_times
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.errors import InputError, listed

_NAMES = {
    "T": ("time", "valid_time", "init_time", "forecast_reference_time", "time_counter", "t"),
    "Z": (
        *("z", "lev", "level", "plev", "depth", "height", "altitude", "alt", "pressure_level"),
        *("isobaricinhpa", "heightaboveground", "hybrid", "model_level_number"),
    ),
    "Y": ("y", "lat", "latitude", "rlat", "nav_lat", "south_north", "northing"),
    "X": ("x", "lon", "longitude", "rlon", "nav_lon", "west_east", "easting"),
    "lead": ("lead_time", "lead", "step", "prediction_timedelta", "forecast_period", "leadtime"),
    "expver": ("expver",),
    "member": ("number", "realization", "realisation", "member", "member_id", "ensemble", "ens"),
    "other": ("quantile", "percentile", "experiment", "scenario", "model"),
}
_STANDARD_NAMES = {
    "T": ("time", "forecast_reference_time"),
    "Z": ("air_pressure", "height", "altitude", "depth", "model_level_number"),
    "Y": ("latitude", "grid_latitude", "projection_y_coordinate"),
    "X": ("longitude", "grid_longitude", "projection_x_coordinate"),
    "lead": ("forecast_period",),
    "member": ("realization",),
}
_UNITS = {
    "Z": ("pa", "hpa", "mbar", "millibar", "level", "layer", "sigma_level"),
    "Y": ("degrees_north", "degree_north", "degrees_n", "degree_n"),
    "X": ("degrees_east", "degree_east", "degrees_e", "degree_e"),
}
# What a field and its forecasts call axes and coordinates of their own.
_RESERVED = ("time", "channel", "units", "init_time", "lead_time", "valid_time")
# What lies along an axis that is none of time, space and channel.
_NO_PLACES = {
    "expver": "; in ERA5 1 is final and 5 preliminary, each missing where the other is known",
    "member": "; the members of an ensemble",
    "lead": "; the lead times of forecasts",
    "other": "",
    "T": "; times",
}
_CHANNELS = ("channel", "channels", "variable", "variables")


def axis_of(dataset: xr.Dataset | xr.DataArray, dim: Hashable) -> str | None:
    """The kind of axis of a dim, None where nothing tells.

    It is T for time, Z, Y or X for space, `lead` for the lead times of forecasts, and `expver`,
    `member` or `other` for what is no place, such as the members of an ensemble. The attributes
    `axis`, `standard_name`, `units` and `positive` of its coordinate decide, then its values, then
    its name.

    >>> axis_of(xr.Dataset(coords={"a": ("a", [1.0], {"units": "degrees_north"})}), "a")
    'Y'
    """
    name = str(dim).lower()
    by_name = next((axis for axis, names in _NAMES.items() if name in names), None)
    if dim not in dataset.coords:
        return by_name or ("T" if _holds_time(dataset, dim) else None)
    coord = dataset[dim]
    attrs = {key: str(value).lower() for key, value in coord.attrs.items()}
    if (axis := attrs.get("axis", "").upper()) in ("T", "Z", "Y", "X"):
        return axis
    for axis, words in _STANDARD_NAMES.items():
        if attrs.get("standard_name") in words:
            return axis
    for axis, words in _UNITS.items():
        if attrs.get("units") in words:
            return axis
    if attrs.get("positive") in ("up", "down"):
        return "Z"
    if coord.dtype.kind == "m":
        return "lead"
    return "T" if is_dated(coord.variable, name=str(dim)) else by_name


def _holds_time(dataset: xr.Dataset | xr.DataArray, dim: Hashable) -> bool:
    """Whether the only time of a data set lies along a dim of another name, as `obs`."""
    if any(str(other).lower() in _NAMES["T"] for other in dataset.dims):
        return False
    beside = dataset.variables if isinstance(dataset, xr.Dataset) else dataset.coords
    return any(
        values.dims == (dim,)
        and (name in _NAMES["T"] or values.attrs.get("standard_name") == "time")
        and is_dated(xr.Variable(values.dims, values.data, values.attrs), name=str(name))
        for name, values in beside.items()
    )


def channel_dim(dataset: xr.Dataset, dims: Iterable[Hashable]) -> Hashable | None:
    """The dim whose positions are channels, None where there is none.

    It is called channel, or is called channels or variable and has names as its coordinate.
    """
    for dim in dims:
        names = dim in dataset.coords and dataset[dim].dtype.kind in "OUST"
        if dim == "channel" or (str(dim).lower() in _CHANNELS and names):
            return dim
    return None


def field_dim(dim: Hashable) -> str:
    """What a field calls a dim of space: as it is called, but for names of the field's own."""
    return f"{dim}_axis" if dim in _RESERVED else str(dim)


def positions(data: xr.Dataset | xr.DataArray, dim: Hashable) -> np.ndarray:
    """The coordinate of a dim; dates are read as such, and without one cells are counted."""
    if dim not in data.coords:
        return np.arange(data.sizes[dim])
    coord = data[dim].drop_vars(set(data[dim].coords) - {dim})
    with parsing(str(dim), "coordinate"):
        return xr.decode_cf(coord.to_dataset(name="of"), decode_timedelta=False)[dim].to_numpy()


def positions_told(data: xr.Dataset | xr.DataArray, dim: Hashable) -> str:
    """The positions along a dim for messages, with their unit where there is one."""
    if dim not in data.coords:
        return f"0 to {data.sizes[dim] - 1}"
    values, unit = positions(data, dim), str(data[dim].attrs.get("units", ""))
    dates = values.dtype.kind in "MO"
    names = [str(value)[:19] for value in values] if dates else values
    return f"{listed(names)}{f' {unit}' if unit and not dates else ''}"


@dataclass(frozen=True)
class Axes:
    """What the dims of the variables of a field are.

    Attributes:
        time: The dim of time; None where the only time is a coordinate without a dim.
        times: The variable with the times, None where there is none.
        space: The dims of space in the order z, y, x; those of unknown axis come first.
        channel: The dim whose positions are channels, if there is one.
        dropped: Dims of one cell beside others.
        notes: What people may not expect.
    """

    time: Hashable | None
    times: Hashable | None
    space: tuple[Hashable, ...]
    channel: Hashable | None
    dropped: tuple[Hashable, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, dataset: xr.Dataset, names: Sequence[str], *, time: str | None = None, name: str
    ) -> Self:
        """The axes of the variables `names`; `time` names that of time, or the variable of it.

        Dims of one cell, such as a level, are dropped beside others; latitudes and longitudes stay.

        Raises:
            InputError: If no dim, or more than one, is a time, one is no space, or the variables
                differ in their dims.
        """
        dims = list(dict.fromkeys(dim for each in names for dim in dataset[each].dims))
        kinds = {dim: axis_of(dataset, dim) for dim in dims}
        channel = channel_dim(dataset, dims)
        along = _time_dim(dataset, [dim for dim in dims if dim != channel], time, name)
        space = [dim for dim in dims if dim not in (along, channel)]
        dropped = [dim for dim in space if dataset.sizes[dim] == 1 and kinds[dim] not in ("Y", "X")]
        # Of lone cells alone one stays.
        if dropped == space and space and kinds[space[-1]] not in _NO_PLACES:
            dropped = dropped[:-1]
        kept = [dim for dim in space if dim not in dropped]
        for dim in kept:
            dated = dim in dataset.coords and is_dated(dataset[dim].variable, name=str(dim))
            if kinds[dim] in _NO_PLACES and (kinds[dim] != "T" or dated):
                raise _no_space(dataset, dim, name)
        _check_shared(dataset, names, dropped, name)
        order = {"Z": 1, "Y": 2, "X": 3}
        kept.sort(key=lambda dim: order.get(str(kinds[dim]), 0))
        times = time if time in dataset.variables else _times(dataset, along)
        axes = cls(along, times, tuple(kept), channel, tuple(dropped), ())
        return replace(axes, notes=tuple(axes._told(dataset)))

    def cut(self, dataset: xr.Dataset) -> xr.Dataset:
        """The data set without the dims that were dropped."""
        return dataset.isel(dict.fromkeys(self.dropped, 0))

    def coordinate(self, dataset: xr.Dataset, *, name: str) -> xr.DataArray | None:
        """The times [time] of a data set that was cut, None where there are none.

        Where a file gives the start of a forecast and its lead time, they are the sum of both.

        Raises:
            InputError: If the starts of forecasts are no dates.
        """
        if self.times is None:
            return None
        times = dataset[self.times]
        if (forecast := _start_and_lead(dataset, self.times)) is not None:
            start, lead = (each.reset_coords(drop=True) for each in forecast)
            starts, _ = read_times([start if start.ndim else start.expand_dims("time")], name=name)
            leads = np.atleast_1d(lead.to_numpy())
            dates = starts.to_numpy() + (leads.astype(object) if starts.dtype == object else leads)
            return xr.DataArray(dates, dims="time", name=start.name)
        return times if times.ndim else times.expand_dims("time")

    def _told(self, dataset: xr.Dataset) -> Iterator[str]:
        for dim in self.dropped:
            at = f", at {positions_told(dataset, dim)}," if dim in dataset.coords else ""
            yield f"The axis {dim} of length 1{at} was dropped."
        if self.channel is not None:
            yield f"The positions of the axis {self.channel} are the channels."
        if self.times is None:
            yield f"The rows are numbered, as {self.time} has no coordinate."
        elif _start_and_lead(self.cut(dataset), self.times) is not None:
            yield "The times are those of the forecasts' start plus their lead time."
        elif self.time is None:
            yield "The only time, a coordinate without an axis, is an axis of length 1."
        elif self.times != self.time:
            yield f"The times are those of the variable {self.times}."
        for dim in self.space:
            if field_dim(dim) != dim:
                own = field_dim(dim)
                yield f"The axis {dim} is called {own}, as a field has a {dim} of its own."


def check_time(dataset: xr.Dataset, dims: Iterable[Hashable], *, name: str) -> None:
    """Refuses variables over dims without a time, unless there is one time, without a dim.

    Raises:
        InputError: There is none.
    """
    timed = any(axis_of(dataset, dim) in ("T", "lead") for dim in dims)
    if not timed and _times(dataset, None) is None:
        raise InputError(
            f"a field must have one time dim, got none among {listed(dims)} in {name}; name it "
            "with time=, or give a file with times"
        )


def _time_dim(
    dataset: xr.Dataset, dims: Sequence[Hashable], time: str | None, name: str
) -> Hashable | None:
    if time is not None:
        along = dataset[time].dims if time in dataset.variables else (time,)
        if len(along) < 2 and set(along) <= set(dims):
            return along[0] if along else None
        raise InputError(
            f"time must name a dim of {name} out of {listed(dims)}, or a variable along one, got "
            f"{time}; correct time="
        )
    times = [dim for kind in ("T", "lead") for dim in dims if axis_of(dataset, dim) == kind]
    long = [dim for dim in times if dataset.sizes[dim] > 1]
    if len(long) > 1:
        raise _no_space(dataset, long[1], name, beside=long[0])
    if not times:
        check_time(dataset, dims, name=name)
    return next(iter([*long, *(dim for dim in times if dim == "time"), *times]), None)


def _no_space(
    dataset: xr.Dataset, dim: Hashable, name: str, *, beside: Hashable = "time"
) -> InputError:
    """What to say of a dim beside that of time that is no space."""
    what, labels = _NO_PLACES[str(axis_of(dataset, dim))], positions(dataset, dim)
    first = str(labels[0])[:19]
    if labels.dtype.kind not in "iufb":
        first = f'"{first}"'
    return InputError(
        f"the axes of {name} beside {beside} must be space, got {dim} of length "
        f"{dataset.sizes[dim]} ({positions_told(dataset, dim)}{what}); choose one position with "
        f'select={{"{dim}": {first}}}'
    )


def _check_shared(
    dataset: xr.Dataset, names: Sequence[str], dropped: Sequence[Hashable], name: str
) -> None:
    over = {each: [dim for dim in dataset[each].dims if dim not in dropped] for each in names}
    first = names[0]
    for each in names[1:]:
        if set(over[each]) != set(over[first]):
            raise InputError(
                "variables that become channels of one field must have the same dims, got "
                f"{first} over ({listed(over[first])}) and {each} over ({listed(over[each])}) in "
                f"{name}; choose with variables="
            )


def _times(dataset: xr.Dataset, along: Hashable | None) -> Hashable | None:
    """The variable that holds the times along a dim; without a dim, that of the only time."""
    dims = () if along is None else (along,)
    dates = [
        name
        for name, variable in dataset.variables.items()
        if variable.dims == dims and is_dated(variable, name=str(name))
    ]
    words = {name: dataset[name].attrs.get("standard_name", "") for name in dates}
    named = [name for name in dates if name == "valid_time"]
    named += [name for name in dates if name == along]
    named += [name for name in dates if words[name] == "time"]
    own = along if along in dataset.variables else None
    # Beside a coordinate that only counts, what says nothing may be any date.
    silent = [name for name in dates if not words[name]] if own is None else []
    return next(iter([*named, *silent, *(dates if along is None else ())]), own)


def _start_and_lead(
    dataset: xr.Dataset, times: Hashable
) -> tuple[xr.DataArray, xr.DataArray] | None:
    """The start [time] or [] of forecasts and their lead times, where these make the times."""
    coord, start = dataset[times], None
    if not is_dated(coord.variable, name=str(times)):
        only = _times(dataset, None)
        start, lead = None if only is None else dataset[only], _lead(dataset, coord.dims)
    elif times != "valid_time" and coord.attrs.get("standard_name") != "time":
        start, lead = coord, _lead(dataset, ())
    else:
        return None
    return None if start is None or lead is None else (start, lead)


def _lead(dataset: xr.Dataset, dims: tuple[Hashable, ...]) -> xr.DataArray | None:
    """The lead times over some dims, timedelta64, None where none, or no unit, is told."""
    for name, coord in dataset.coords.items():
        if coord.dims != dims or axis_of(dataset, name) != "lead":
            continue
        if coord.dtype.kind == "m":
            return coord.astype("m8[us]")
        unit: Any = str(coord.attrs.get("units", ""))
        with suppress(ValueError):
            lead = pd.to_timedelta(np.ravel(coord.to_numpy()), unit).to_numpy()
            return coord.copy(data=lead.astype("m8[us]").reshape(coord.shape))
    return None
