"""Axes that a field has too many: one position of each is chosen, or the axis is refused."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.readers.conventions import axis_of
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.errors import InputError, listed, shortened

Object = TypeVar("Object", xr.Dataset, xr.DataArray)

# Axes along which nothing lies side by side: neither space nor time.
_NO_SPACE = {
    "expver": "in ERA5 1 is final and 5 preliminary, each missing where the other is known",
    **dict.fromkeys(("number", "realization", "member", "member_id"), "the members of an ensemble"),
    **dict.fromkeys(("ensemble", "ensemble_member", "ens"), "the members of an ensemble"),
}


def selected(
    data: Object, select: Mapping[str, Any], *, name: str, time: Hashable | None = None
) -> tuple[Object, list[str]]:
    """One position of each axis that is named, by its coordinate, or counted where it has none.

    Returns:
        What is left, and a sentence on each axis.

    Raises:
        InputError: There is no such axis or position, or it is the time.

    >>> data = xr.Dataset({"t": (("time", "level"), [[1, 2]])}, {"level": [850, 500]})
    >>> selected(data, {"level": 500}, name="a.nc")[1]
    ['Of the axis level (850, 500), 500 was chosen.']
    """
    notes = []
    others = [dim for dim in data.dims if dim not in (time, "time")]
    if unknown := [axis for axis in select if axis not in others]:
        raise InputError(
            f"select= must name axes of {name} beside its time, {_with_lengths(data, others)}, got "
            f"{listed(unknown)}; choose from these"
        )
    for axis, value in select.items():
        at = _position(data, axis, value, name)
        notes.append(f"Of the axis {axis} ({_values(data, axis)}), {value} was chosen.")
        data = data.isel({axis: at})
    return data, notes


def without_lone_cells(
    data: xr.Dataset, names: Sequence[str], *, time: Hashable | None
) -> tuple[xr.Dataset, list[str]]:
    """Drops axes of one cell of some variables, such as a level, beside axes of space.

    Times, latitudes and longitudes stay, and so does the last axis of space.

    Returns:
        What is left, and a sentence on each axis that was dropped.
    """
    notes = []
    axes = {dim: axis_of(data, dim) for of in names for dim in data[of].dims}
    space = [dim for dim, axis in axes.items() if dim != time and axis != "T"]
    lone = [dim for dim in space if data.sizes[dim] == 1 and axes[dim] not in ("Y", "X")]
    # Of lone cells alone one stays.
    for dim in lone if len(lone) < len(space) else lone[:-1]:
        at = f", at {_values(data, dim)}," if dim in data.coords else ""
        notes.append(f"The axis {dim} of length 1{at} was dropped.")
        data = data.isel({dim: 0})
    return data, notes


def check_space(data: xr.Dataset, dims: Sequence[Hashable], *, name: str) -> None:
    """Refuses axes that are no space: cells along them are no neighbours.

    Raises:
        InputError: There is one, whose name, length and positions are told.
    """
    for dim in dims:
        what = _NO_SPACE.get(str(dim).lower())
        if what is None and dim in data.coords:
            members = data[dim].attrs.get("standard_name") == "realization"
            what = _NO_SPACE["realization"] if members else None
        if what is not None:
            raise InputError(
                f"the axes of {name} beside time must be space, got {dim} of length "
                f"{data.sizes[dim]} ({_values(data, dim)}; {what}); choose one position with "
                f'select={{"{dim}": {_first(data, dim)}}}'
            )


def _position(data: xr.Dataset | xr.DataArray, axis: str, value: Any, name: str) -> int:
    """Where a value stands along an axis."""
    values = _positions(data, axis)
    with np.errstate(all="ignore"):
        if values.dtype.kind in "iufb":
            number: Any = pd.to_numeric(value, errors="coerce")
            found = np.isclose(values.astype(float), number, rtol=1e-6, atol=0)
        elif values.dtype.kind == "M":
            found = values == pd.to_datetime(str(value), errors="coerce")
        else:
            found = values.astype(str) == str(value)
    if found.sum() != 1:
        raise InputError(
            f"select= must give one of the positions of {axis} in {name}, {_values(data, axis)}, "
            f"got {shortened(value)}; choose one of them"
        )
    return int(found.argmax())


def _positions(data: xr.Dataset | xr.DataArray, axis: Hashable) -> np.ndarray:
    """The coordinate of an axis; dates are read as such, and without one cells are counted."""
    if axis not in data.coords:
        return np.arange(data.sizes[axis])
    coord = data[axis].drop_vars(set(data[axis].coords) - {axis})
    with parsing(str(axis), "coordinate"):
        return xr.decode_cf(coord.to_dataset(name="of"), decode_timedelta=False)[axis].to_numpy()


def _values(data: xr.Dataset | xr.DataArray, dim: Hashable) -> str:
    """The positions along an axis, with their unit where there is one."""
    if dim not in data.coords:
        return f"0 to {data.sizes[dim] - 1}"
    values, unit = _positions(data, dim), str(data[dim].attrs.get("units", ""))
    dates = values.dtype.kind in "MO"
    names = [str(value)[:19] for value in values] if dates else values
    return f"{listed(names)}{f' {unit}' if unit and not dates else ''}"


def _first(data: xr.Dataset, dim: Hashable) -> str:
    """The first position along an axis, as it is written in Python."""
    first = _positions(data, dim)[0]
    first = str(first)[:19] if isinstance(first, np.datetime64) else first.item()
    return f"{first}" if isinstance(first, int | float) else f'"{first}"'


def _with_lengths(data: xr.Dataset | xr.DataArray, dims: Sequence[Hashable]) -> str:
    return listed(f"{dim} ({data.sizes[dim]})" for dim in dims)
