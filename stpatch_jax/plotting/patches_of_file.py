"""A picture of the patch grid over a part of a field, and of how often it covers each cell."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from stpatch_jax import plotting
from stpatch_jax.data.fields.describing import fitting_axes, product, told
from stpatch_jax.data.readers.conventions import channel_units
from stpatch_jax.patches.blends import fold_axis
from stpatch_jax.patches.folding import cover_count
from stpatch_jax.patches.windows import AxisWindows, WindowSpec

# More windows than these along an axis of a picture would run into each other.
_SHOWN = 64


def draw_patches(field: xr.DataArray, spec: WindowSpec) -> Figure:
    """Draws the patch grid over a part of the field that shows single windows, and its cover.

    Over a series without space, over time and space of a panel, over a frame of a map or video, and
    over a plane of a volume, in the middle of the axes that the picture has not. Only what is drawn
    is read.
    """
    axes = fitting_axes(field, spec)
    # Time runs from left to right where it is drawn.
    drawn = {1: (0,), 2: (1, 0)}.get(len(axes), (len(axes) - 2, len(axes) - 1))
    shown = [_first_windows(axes[axis]) for axis in drawn]
    where: dict[Any, Any] = {}
    for axis, dim in enumerate(field.dims[:-1]):
        where[dim] = slice(shown[drawn.index(axis)].size) if axis in drawn else _middle(axes[axis])
    part = field.isel(where)
    picture = field.dtype == np.uint8 and field.sizes["channel"] == 3 and len(axes) > 2
    part = part if picture else part.isel(channel=0)
    values = part.transpose(*(field.dims[axis] for axis in drawn), ...).values
    unit = channel_units(field).get(str(field.channel.values[0]), "")
    if len(axes) == 2:
        values, unit = _standardised(values), "standard deviations from the row's mean"
    labels = [f"{field.dims[axis]} ({'time steps' if axis == 0 else 'cells'})" for axis in drawn]
    # A series runs over its cover; a frame has it on the right.
    rows, columns = (2, 1) if len(shown) == 1 else (1, 2)
    figure = plotting.new_figure(rows, columns, size=_size(values, shown))
    grid, cover = figure.axes
    unit, title = "" if picture else unit, _title(field, axes, drawn, picture=picture)
    plotting.patch_grid(values, shown, ax=grid, labels=labels, unit=unit, title=title)
    counts = _cover(spec, axes, drawn)[tuple(slice(axis.size) for axis in shown)]
    plotting.cover_map(counts, ax=cover, labels=labels, title="windows that hold each cell")
    return figure


def _cover(spec: WindowSpec, axes: Sequence[AxisWindows], drawn: Sequence[int]) -> np.ndarray:
    """How many windows hold each cell of the plane that is drawn, in the middle of the others."""
    at = tuple(slice(None) if axis in drawn else _middle(axes[axis]) for axis in range(len(axes)))
    if spec.footprint is not None:
        counts = cover_count(spec, [axis.size for axis in axes])[at]
        return counts.T if tuple(drawn) == (1, 0) else counts
    # Boxes cover by axis, so a field of any length needs no counts of all its cells.
    ones = [np.ones(axis.window, np.int64) for axis in axes]
    each = [fold_axis(axes[n], ones[n])[at[n]] for n in range(len(axes))]
    rest = math.prod(int(each[axis]) for axis in range(len(axes)) if axis not in drawn)
    return rest * functools.reduce(np.multiply.outer, [each[axis] for axis in drawn])


def _first_windows(axis: AxisWindows) -> AxisWindows:
    """The axis as if it ended behind the last window that is shown."""
    if axis.count <= _SHOWN:
        return axis
    end = axis.starts[_SHOWN - 1] + axis.effective
    size = min(max(end, 1), axis.size)
    return dataclasses.replace(axis, size=size, hi=max(end - size, 0), back=0)


def _middle(axis: AxisWindows) -> int:
    """The middle sample of the middle window, where it lies inside the field."""
    cell = axis.starts[axis.count // 2] + axis.window // 2 * axis.dilation
    return min(max(cell, 0), axis.size - 1)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Each row minus its mean, over its standard deviation; NaN stays NaN."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    mean = np.where(known, values, 0.0).sum(axis=1, keepdims=True) / count
    deviation = np.where(known, values - mean, 0.0)
    std = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / count)
    return np.where(known, deviation / np.where(std > 0, std, 1.0), np.nan)


def _size(values: np.ndarray, shown: Sequence[AxisWindows]) -> tuple[float, float]:
    """Inches of a picture; one of rows and columns keeps the shape of its cells."""
    if len(shown) == 1:
        return 9.0, 6.0
    rows, columns = values.shape[:2]
    return 15.0, min(max(7.0 * rows / columns, 3.5), 9.0) + 0.9


def _title(
    field: xr.DataArray, axes: Sequence[AxisWindows], drawn: Sequence[int], *, picture: bool
) -> str:
    """What is drawn, where the rest of the field lies, and how much of the grid is left out."""
    planes = [
        f"{dim} {_place(field, dim, _middle(axis))}"
        for number, (dim, axis) in enumerate(zip(field.dims, axes, strict=False))
        if number not in drawn
    ]
    name = "" if picture else str(field.channel.values[0])
    parts = [f"patch grid {product([axis.count for axis in axes])}"]
    for dim, count in ((field.dims[number], axes[number].count) for number in drawn):
        if count > _SHOWN:
            parts.append(f"first {_SHOWN} of {count} windows along {dim}")
    return ", ".join(filter(None, [name, *planes])) + "\n" + ", ".join(parts)


def _place(field: xr.DataArray, dim: Any, at: int) -> str:
    """A position along a dim by its coordinate."""
    if dim not in field.coords:
        return str(at)
    return f"{told(field[dim].values[at])} {field[dim].attrs.get('units', '')}".strip()
