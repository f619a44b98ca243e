"""What every field has beside its values: notes, units of channels, times in order."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.times import time_text
from stpatch_jax.errors import InputError


def add_note(field: xr.DataArray, *sentences: str) -> xr.DataArray:
    """The field with more notes under the attribute `notes`, a tuple of whole sentences.

    A note tells what was inferred, dropped, converted or filled when the field was read, without
    the name of the file.

    >>> add_note(xr.DataArray(0), "The axis level, of length 1, was dropped.").attrs["notes"]
    ('The axis level, of length 1, was dropped.',)
    """
    return field.assign_attrs(notes=(*notes_of(field), *sentences)) if sentences else field


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


def all_units(field: xr.DataArray) -> dict[str, str]:
    """The unit of every channel, empty where it is not told."""
    told = channel_units(field)
    return {str(name): told.get(str(name), "") for name in field.channel.values}


_NAMED = ("standard_name", "long_name")
"""What CF tells of a variable beside its units."""


def named_attributes(variables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """What names variables, by variable: of all their attributes `standard_name` and `long_name`.

    >>> named_attributes({"t2m": {"standard_name": "air_temperature", "units": "K"}, "a": {}})
    {'t2m': {'standard_name': 'air_temperature'}}
    """
    told = {
        name: {key: str(attrs[key]) for key in _NAMED if key in attrs}
        for name, attrs in variables.items()
    }
    return {name: attrs for name, attrs in told.items() if attrs}


def channel_attributes(field: xr.DataArray) -> dict[str, dict[str, str]]:
    """What is told of each channel, by name: its units, and what names it in the CF conventions.

    Names stand under the attribute `channels` of the field, those of a single one beside it.
    """
    names = [str(name) for name in field.channel.values]
    named = field.attrs.get("channels", {})
    if len(names) == 1 and not named:
        named = named_attributes({names[0]: field.attrs})
    units = {name: {"units": unit} for name, unit in channel_units(field).items()}
    return {name: {**named.get(name, {}), **units.get(name, {})} for name in names}


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
            "more than once; remove what is double, or give one of several stations or runs"
        )
    if (order[1:] > order[:-1]).all():
        return field
    return add_note(field.isel(time=order), "The rows were put in order of time.")
