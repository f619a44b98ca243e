"""Maps and frames: a field over two axes, with its coordinates."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from stpatch_jax.errors import require
from stpatch_jax.plotting.style import MISSING, colour_limits, colour_map, date_axis, legend_above

# Axes of cells, not of places: counted from the top, as in a picture.
_FROM_TOP = ("height", "row", "y")
_DEGREES = {"degrees_north": "°N", "degrees_east": "°E"}
# More names than these on an axis run into each other.
_MOST_NAMES = 20


def map_panel(
    values: xr.DataArray,
    *,
    ax: Axes,
    limits: tuple[float, float] | None = None,
    diverging: bool = False,
    title: str = "",
    unit: str | None = None,
    colorbar: bool = True,
) -> Axes:
    """Draws a field over two axes: a map, a frame, or time beside space.

    Cells lie where their coordinates say; without coordinates they are counted. Rows of a picture
    (`height`, `row` or `y`) and names run downwards, all other axes upwards.

    Args:
        values: Values [row, column] with the names, coordinates and `units` of both axes; NaN where
            missing.
        ax: Where to draw.
        limits: Values at the ends of the colours; by default the range of the values without the
            outermost hundredths, about 0 if `diverging`.
        diverging: Whether 0 lies in the middle of the colours, for differences and attributions.
        title: What is drawn.
        unit: Unit of the values; by default their attribute `units`.
        colorbar: Whether to explain the colours.

    Raises:
        InputError: If the values have not two axes.
    """
    require(
        values.ndim == 2,
        f"a map must have two axes, got {values.dims}; select or average the others first",
    )
    rows, columns = (_edges(values, dim) for dim in values.dims)
    low, high = limits or colour_limits(values.values, diverging=diverging)
    colours = colour_map("PuOr" if diverging else "cividis")
    style: dict[str, Any] = {"cmap": colours, "vmin": low, "vmax": high}
    mesh = ax.pcolormesh(columns, rows, values.values, **style)
    _describe(ax, values)
    if colorbar and ax.figure is not None:
        label = str(values.attrs.get("units", "")) if unit is None else unit
        ax.figure.colorbar(mesh, ax=ax, label=label, shrink=0.85)
    missing = values.dtype.kind == "f" and bool(np.isnan(values.values).any())
    ax.set_title(title, fontsize="small", pad=22 if missing else None)
    if missing:
        legend_above(ax, [Rectangle((0, 0), 1, 1, facecolor=MISSING, label="missing")], columns=1)
    return ax


def axis_label(values: xr.DataArray, dim: Any) -> str:
    """Name and unit of an axis; cells or time steps where it has no coordinate."""
    counted = "time steps" if dim == "time" else "cells"
    if dim not in values.coords:
        return f"{dim} ({counted})"
    unit = str(values[dim].attrs.get("units", ""))
    unit = _DEGREES.get(unit, unit)
    return f"{dim} ({unit})" if unit else str(dim)


def _edges(values: xr.DataArray, dim: Any) -> np.ndarray:
    """Where the cells of an axis begin and end, half way between their coordinates."""
    places = np.arange(values.sizes[dim], dtype=float)
    if dim in values.coords and values[dim].dtype.kind in "iufM":
        dated = values[dim].dtype.kind == "M"
        places = date2num(values[dim].values) if dated else values[dim].values.astype(float)
    half = np.diff(places) / 2 if len(places) > 1 else np.array([0.5])
    return np.concatenate(
        [places[:1] - half[0], places[:-1] + half[: len(places) - 1], places[-1:] + half[-1]]
    )


def _describe(ax: Axes, values: xr.DataArray) -> None:
    """Labels, direction and proportions of both axes."""
    for dim, axis in zip(values.dims, (ax.yaxis, ax.xaxis), strict=True):
        axis.set_label_text(axis_label(values, dim))
        kind = values[dim].dtype.kind if dim in values.coords else "i"
        if kind == "M" and values.sizes[dim] == 1:
            day = str(values[dim].values[0])[:16].removesuffix("T00:00")
            axis.set_ticks([date2num(values[dim].values[0])], [day])
        elif kind == "M":
            date_axis(axis)
        elif kind in "UO":
            step = -(-values.sizes[dim] // _MOST_NAMES)
            names = [str(name) for name in values[dim].values[::step]]
            upright = 90 if axis is ax.xaxis and len(names) > 8 else 0
            axis.set_ticks(np.arange(values.sizes[dim])[::step], names, rotation=upright)
        elif kind in "iu":
            axis.set_major_locator(MaxNLocator(integer=True))
    row, column = values.dims
    kind = values[row].dtype.kind if row in values.coords else "i"
    if str(row) in _FROM_TOP or kind in "UO":
        ax.invert_yaxis()
    # A cell of a map or a picture is a square; time and names have no length.
    if not ({"time", "lead_time"} & {row, column}) and kind not in "UO":
        high, wide = abs(np.ptp(ax.get_ylim())), abs(np.ptp(ax.get_xlim()))
        ax.set_aspect("equal" if 0.3 < high / wide < 3 else "auto")
