"""Axes that a field has too many: one position of each is chosen."""

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.readers.axes import axis_of, positions, positions_told
from stpatch_jax.errors import InputError, listed, near, shortened, spelt

Object = TypeVar("Object", xr.Dataset, xr.DataArray)


def selected(
    data: Object, select: Mapping[str, Any], *, name: str, time: Hashable | None = None
) -> tuple[Object, list[str]]:
    """One position of each axis that is named, by its coordinate, or counted where it has none.

    Returns:
        What is left, and a sentence on each axis.

    >>> data = xr.Dataset({"t": (("time", "level"), [[1, 2]])}, {"level": [850, 500]})
    >>> selected(data, {"level": 500}, name="a.nc")[1]
    ['Of the axis level (850, 500), 500 was chosen.']
    """
    notes = []
    others = [dim for dim in data.dims if dim not in (time, "time")]
    if len(others) < len(data.dims) and any(axis_of(data, dim) == "lead" for dim in others):
        others = list(data.dims)  # The start of a forecast may be chosen, too.
    select = dict(zip(spelt(select, others), select.values(), strict=True))
    if unknown := [axis for axis in select if axis not in others]:
        raise InputError(
            f"select= must name axes of {name} beside its time, "
            f"{listed(f'{dim} ({data.sizes[dim]})' for dim in others)}, got {listed(unknown)}; "
            f"{near(unknown, others)}"
        )
    for axis, value in select.items():
        at = _position(data, axis, value, name)
        notes.append(f"Of the axis {axis} ({positions_told(data, axis)}), {value} was chosen.")
        data = data.isel({axis: at})
    return data, notes


def _position(data: xr.Dataset | xr.DataArray, axis: str, value: Any, name: str) -> int:
    values = positions(data, axis)
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
            f"select= must give one of the positions of {axis} in {name}, "
            f"{positions_told(data, axis)}, got {shortened(value)}; choose one of them"
        )
    return int(found.argmax())
