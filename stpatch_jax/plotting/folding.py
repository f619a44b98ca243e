"""How windows cover cells, how they are blended, and the seams they leave."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.ticker import MaxNLocator

from stpatch_jax.errors import require
from stpatch_jax.patches.extraction import Spec
from stpatch_jax.patches.folding import Blend, blend_weights, cover_count
from stpatch_jax.patches.windows import AxisWindows, WindowSpec
from stpatch_jax.plotting.style import MISSING, MODEL, NAIVE, QUIET, labelled, legend_above


def cover_map(spec: Spec, shape: tuple[int, ...], *, ax: Axes, title: str = "") -> Axes:
    """Draws how many windows hold each cell; cells in none stand out.

    Args:
        spec: The windows.
        shape: `(time,)`, `(time, cell)` or `(time, height, width)` of the field; of the last the
            counts of the time in the middle are drawn.
        ax: Where to draw.
        title: What is drawn.

    Returns:
        `ax`.

    Raises:
        InputError: The windows do not fit the shape, or it has more axes.
    """
    require(
        1 <= len(shape) <= 3,
        f"a cover map needs (time), (time, cell) or (time, height, width), got {shape}; cut a "
        "plane out of a volume",
    )
    counts = cover_count(spec, shape)
    if len(shape) == 1:
        ax.step(np.arange(len(counts)), counts, where="mid", color=MODEL)
        ax.fill_between(np.arange(len(counts)), counts, step="mid", color=MODEL, alpha=0.2)
        ax.set_ylim(0, counts.max() + 0.5)
        ax.set_ylabel("windows")
        ax.set_xlabel("time (time steps)")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_title(title, fontsize="medium")
        return ax
    # Time runs from left to right where it is drawn.
    plane, names = counts.T, ("cell", "time (time steps)")
    if len(shape) == 3:
        plane, names = counts[len(counts) // 2], ("height (cells)", "width (cells)")
    levels = np.arange(1, max(int(plane.max()), 1) + 2) - 0.5
    # From 1 up: a cell in no window is none of the colours.
    norm = BoundaryNorm(levels, 256) if len(levels) <= 12 else None
    shown = np.ma.masked_equal(plane, 0)
    colours = colormaps["cividis"].with_extremes(bad=MISSING)
    image = ax.imshow(shown, cmap=colours, norm=norm, interpolation="nearest", aspect="auto")
    ticks = np.unique(plane[plane > 0]) if norm is not None else None
    if ax.figure is not None:
        ax.figure.colorbar(image, ax=ax, label="windows", ticks=ticks, shrink=0.85)
    ax.set_ylabel(names[0])
    ax.set_xlabel(names[1])
    none = f"{100 * np.mean(plane == 0):.3g} % of the cells in no window"
    ax.set_title(f"{title}\n{none}".strip(), fontsize="medium")
    return ax


def blend_profile(
    spec: Spec, size: int, *, ax: Axes, blend: Blend = "hann", title: str = ""
) -> Axes:
    """Draws the weight of every window along one axis, and their sum, which is one where covered.

    Args:
        spec: The windows of one axis.
        size: Length of the axis, in cells.
        ax: Where to draw.
        blend: The taper, see `blend_weights`.
        title: What is drawn.

    Returns:
        `ax`.

    Raises:
        InputError: The spec has more than one axis, or does not fit.
    """
    spec = WindowSpec.of(spec)
    require(
        spec.rank == 1,
        f"a blend profile needs windows of one axis, got {spec.window}; give one axis of them",
    )
    weights = blend_weights(spec, (size,), blend=blend)
    cells = spec.axes((size,))[0].source_cells()
    total = np.zeros(size)
    for number, (at, weight) in enumerate(zip(cells, weights, strict=True)):
        inside = at >= 0
        np.add.at(total, at[inside], weight[inside])
        label = "one window" if number == len(cells) // 2 else None
        style: dict[str, Any] = {"color": NAIVE if label else QUIET, "label": label}
        ax.plot(at[inside], weight[inside], linewidth=1.8 if label else 0.9, **style)
    ax.plot(np.arange(size), total, color=MODEL, linewidth=1.8, label="sum of all")
    ax.set_xlabel("position (cells)")
    ax.set_ylabel(f"weight ({blend})")
    ax.set_ylim(bottom=0)
    ax.set_title(title, fontsize="medium", pad=24)
    legend_above(ax, labelled(ax), columns=2)
    return ax


def seams(
    values: np.ndarray, axis: AxisWindows, *, ax: Axes, unit: str = "", title: str = ""
) -> Axes:
    """Draws how far a field jumps from cell to cell along an axis, beside the borders of windows.

    Where a tiled prediction has seams, the jumps at the borders of windows stick out.

    Args:
        values: The field with that axis first [cell, ...], NaN where missing.
        axis: The windows along the axis, see `WindowSpec.axes`.
        ax: Where to draw.
        unit: Unit of the values.
        title: What is drawn.

    Returns:
        `ax`.
    """
    jumps = np.abs(np.diff(np.asarray(values, float), axis=0)).reshape(len(values) - 1, -1)
    known = np.isfinite(jumps)
    mean = np.where(known, jumps, 0).sum(1) / np.maximum(known.sum(1), 1)
    borders = {edge for start in axis.starts for edge in (start, start + axis.effective)}
    inside = sorted(edge for edge in borders if 0 < edge < len(values))
    for number, edge in enumerate(inside):
        label = "border of a window" if number == 0 else None
        ax.axvline(edge - 0.5, color=NAIVE, linewidth=0.8, alpha=0.6, label=label)
    ax.plot(np.arange(len(mean)) + 0.5, mean, color=MODEL, linewidth=1.4, label="mean jump")
    if inside and len(inside) < len(mean):
        at = np.isin(np.arange(1, len(values)), inside)
        ratio = mean[at].mean() / max(mean[~at].mean(), np.finfo(float).tiny)
        title = f"{title}\nat borders {ratio:.3g} times the jump elsewhere".strip()
    ax.set_xlabel("position (cells)")
    ax.set_ylabel(f"mean jump ({unit})" if unit else "mean jump")
    ax.set_ylim(bottom=0)
    ax.set_title(title, fontsize="medium", pad=24)
    legend_above(ax, labelled(ax), columns=2)
    return ax
