"""Where windows lie, over a frame or below a series, and how many of them hold each cell."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import BoundaryNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from stpatch_jax.errors import require
from stpatch_jax.patches.windows import AxisWindows
from stpatch_jax.plotting import style


def patch_grid(
    values: np.ndarray,
    axes: Sequence[AxisWindows],
    *,
    ax: Axes,
    labels: Sequence[str],
    unit: str = "",
    title: str = "",
) -> Axes:
    """Draws where windows lie: over a frame, or below a series.

    One window in the middle and the next ones along each axis stand out; where windows are dilated,
    dots are the samples of the one in the middle.

    Values are a frame [row, column], a picture [row, column, 3] from 0 to 255, or a series [time],
    NaN where missing; `axes` are the windows along each of these axes, see `WindowSpec.axes`, and
    `labels` their names and units.
    """
    draw = _grid_below_series if len(axes) == 1 else _grid_over_frame
    handles = draw(values, axes, ax, unit)
    ax.set_xlabel(labels[-1])
    ax.set_ylabel(labels[0] if len(labels) > 1 else unit)
    ax.set_title(title, fontsize="medium", pad=26)
    style.legend_above(ax, handles, columns=len(handles))
    return ax


def cover_map(counts: np.ndarray, *, ax: Axes, labels: Sequence[str] = (), title: str = "") -> Axes:
    """Draws how many windows hold each cell; cells in none stand out.

    Counts are [time], or those of a plane [row, column], see `cover_count`; labels are the name and
    unit of each axis.

    Raises:
        InputError: The counts have more than two axes.
    """
    require(
        counts.ndim in (1, 2),
        f"counts must be [time] or [row, column], got {counts.ndim} axes; cut out a plane",
    )
    if counts.ndim == 1:
        cells = np.arange(len(counts))
        ax.step(cells, counts, where="mid", color=style.MODEL)
        ax.fill_between(cells, counts, step="mid", color=style.MODEL, alpha=0.2)
        ax.set_ylim(0, counts.max() + 0.5)
    else:
        levels = np.arange(1, max(int(counts.max()), 1) + 2) - 0.5
        # From 1 up: a cell in no window is none of the colours.
        norm = BoundaryNorm(levels, 256) if len(levels) <= 12 else None
        looks: dict[str, Any] = {"cmap": style.colour_map("cividis"), "norm": norm}
        shown = np.ma.masked_equal(counts, 0)
        image = ax.imshow(shown, interpolation="nearest", **looks)
        _proportion(ax, counts)
        ticks = np.unique(counts[counts > 0]) if norm is not None else None
        if ax.figure is not None:
            ax.figure.colorbar(image, ax=ax, label="windows", ticks=ticks, shrink=0.85)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel(labels[0] if len(labels) > 1 else "windows")
    ax.set_xlabel(labels[-1] if labels else "time (time steps)")
    none = f"{100 * np.mean(counts == 0):.3g} % of the cells in no window"
    ax.set_title(f"{title}\n{none}".strip(), fontsize="medium")
    return ax


def _proportion(ax: Axes, values: np.ndarray) -> None:
    """Cells are squares, but stretched where they would be too narrow to be seen."""
    ratio = values.shape[0] / values.shape[1]
    ax.set_aspect("equal" if 0.3 < ratio < 3 else "auto")


def _grid_over_frame(
    values: np.ndarray, axes: Sequence[AxisWindows], ax: Axes, unit: str
) -> list[Artist]:
    rows, columns = axes
    looks: dict[str, Any] = {"cmap": style.colour_map("viridis")}
    if values.ndim == 2:
        looks["vmin"], looks["vmax"] = style.colour_limits(values)
    image = ax.imshow(values, interpolation="nearest", **looks)
    _proportion(ax, values)
    boxes = [_box(row, column) for row in _spans(rows) for column in _spans(columns)]
    thin = 0.8 if max(rows.count, columns.count) <= 24 else 0.4
    ax.add_collection(PatchCollection(boxes, facecolor="none", edgecolor="white", linewidth=thin))
    (up, one), (left, other) = _middle_windows(rows), _middle_windows(columns)
    ax.add_patch(_box(up, left, edgecolor=style.NAIVE, linewidth=2.2, label="one window"))
    for row, column in ((one, left), (up, other)):
        if (row, column) != (up, left):
            dashed: dict[str, Any] = {"linestyle": (0, (3, 2)), "linewidth": 1.6}
            ax.add_patch(_box(row, column, edgecolor=style.NAIVE, label="the next ones", **dashed))
    if rows.dilation > 1 or columns.dilation > 1:
        y, x = np.meshgrid(_samples(rows, up), _samples(columns, left), indexing="ij")
        ax.plot(x.ravel(), y.ravel(), ".", color=style.NAIVE, markersize=3, label="its samples")
    ax.set_xlim(*_limits(columns))
    ax.set_ylim(*_limits(rows)[::-1])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    if values.ndim == 2 and ax.figure is not None:
        ax.figure.colorbar(image, ax=ax, label=unit, shrink=0.85)
    handles = [*style.labelled(ax)]
    if any(span[0] < 0 or span[1] > axis.size for axis in axes for span in _spans(axis)):
        ax.set_facecolor(style.PADDING)
        handles.append(Rectangle((0, 0), 1, 1, facecolor=style.PADDING, label="padding"))
    if values.dtype.kind == "f" and np.isnan(values).any():
        handles.append(Rectangle((0, 0), 1, 1, facecolor=style.MISSING, label="missing"))
    return handles


def _grid_below_series(
    values: np.ndarray, axes: Sequence[AxisWindows], ax: Axes, unit: str
) -> list[Artist]:
    (axis,) = axes
    ax.plot(np.arange(axis.size), values, color=style.TRUTH, linewidth=1.0, label="series")
    (start, stop), following = _middle_windows(axis)
    # Windows that overlap lie on lines of their own, in the lower quarter.
    lines = max(1, -(-axis.effective // axis.stride)) + (axis.back > 0)
    height = 0.22 / lines
    for number, (first, last) in enumerate(_spans(axis)):
        looks: dict[str, Any] = {"facecolor": style.MODEL, "alpha": 0.45}
        if first == start:
            looks = {"facecolor": style.NAIVE, "label": "one window"}
        elif first == following[0]:
            looks = {"facecolor": style.NAIVE, "alpha": 0.5, "label": "the next one"}
        corner = (first - 0.5, 0.22 - (number % lines + 1) * height)
        size = (last - first, 0.8 * height)
        edge: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.8}
        bar = Rectangle(corner, *size, transform=ax.get_xaxis_transform(), **looks, **edge)
        ax.add_patch(bar)
    ax.axvspan(start - 0.5, stop - 0.5, color=style.NAIVE, alpha=0.12, linewidth=0)
    inside = [cell for cell in _samples(axis, (start, stop)) if 0 <= cell < axis.size]
    if axis.dilation > 1:
        ax.plot(inside, values[inside], ".", color=style.NAIVE, markersize=4, label="its samples")
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    spread = (high - low) or 1.0
    ax.set_ylim(low - 0.4 * spread, high + 0.05 * spread)
    ax.set_xlim(*_limits(axis))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return style.labelled(ax)


def _spans(axis: AxisWindows) -> list[tuple[int, int]]:
    """First cell of each window and the one behind its last."""
    return [(start, start + axis.effective) for start in axis.starts]


def _middle_windows(axis: AxisWindows) -> tuple[tuple[int, int], tuple[int, int]]:
    """The window in the middle, and the one after it if there is one."""
    spans = _spans(axis)
    at = (len(spans) - 1) // 2
    return spans[at], spans[min(at + 1, len(spans) - 1)]


def _samples(axis: AxisWindows, span: tuple[int, int]) -> np.ndarray:
    return np.arange(*span, axis.dilation)


def _limits(axis: AxisWindows) -> tuple[float, float]:
    """Where field, padding and windows end, with room for the lines."""
    first, last = _spans(axis)[0][0], _spans(axis)[-1][1]
    first, last = min(first, 0), max(last, axis.size)
    room = 0.01 * (last - first)
    return first - 0.5 - room, last - 0.5 + room


def _box(row: tuple[int, int], column: tuple[int, int], **looks: Any) -> Rectangle:
    corner = (column[0] - 0.5, row[0] - 0.5)
    return Rectangle(corner, column[1] - column[0], row[1] - row[0], fill=False, **looks)
