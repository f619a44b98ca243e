"""Plots with matplotlib: every function draws on one Axes, with units, and returns it.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import Colormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from stpatch_jax.windows import AxisWindows

MODEL, NAIVE, TRUTH = "#0072B2", "#D55E00", "#000000"
_PADDING, _MISSING = "#BBBBBB", "#CC79A7"


def new_figure(rows: int, columns: int, *, size: tuple[float, float]) -> Figure:
    """A figure with a grid of Axes that no global state knows; `size` in inches."""
    figure = Figure(figsize=size, layout="constrained")
    figure.subplots(rows, columns, squeeze=False)
    return figure


def forecast_against_truth(
    times: np.ndarray,
    truth: np.ndarray,
    forecasts: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]],
    *,
    ax: Axes,
    title: str = "",
    unit: str = "",
) -> Axes:
    """Draws the truth as a line and every forecast as a short line from its origin.

    Args:
        times: Times of the truth [n], datetime64.
        truth: Values [n], NaN where missing.
        forecasts: By name (`model`, or a naive rule), pairs of times and values.
        ax: Where to draw.
        title: Name of the series.
        unit: Unit of the values.

    Returns:
        `ax`.
    """
    ax.plot(times, truth, color=TRUTH, linewidth=1.2, label="truth")
    for name, lines in forecasts.items():
        style = {"color": MODEL, "linewidth": 1.4} if name == "model" else _naive_style()
        for number, (at, values) in enumerate(lines):
            ax.plot(at, values, label=name if number == 0 else None, **style)
    locator = AutoDateLocator(minticks=2, maxticks=6)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.set_title(title, fontsize="medium")
    ax.set_ylabel(unit, fontsize="small")
    ax.tick_params(labelsize="small")
    return ax


def _naive_style() -> dict[str, Any]:
    return {"color": NAIVE, "linewidth": 1.0, "linestyle": (0, (2, 1.5))}


def error_by_lead_time(
    errors: Mapping[str, Sequence[float | None]], *, ax: Axes, metric: str, unit: str
) -> Axes:
    """Draws one line of errors per forecast over the lead time, in time steps."""
    for name, values in errors.items():
        style: dict[str, Any] = {"color": MODEL} if name == "model" else _naive_style()
        lead = np.arange(1, len(values) + 1)
        ax.plot(lead, np.array(values, float), marker="o", markersize=4, label=name, **style)
    ax.set_xlabel("lead time (time steps)")
    ax.set_ylabel(f"{metric} ({unit})")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)
    return ax


def returns_and_quantiles(
    times: np.ndarray,
    returns: np.ndarray,
    quantiles: Mapping[str, np.ndarray],
    *,
    ax: Axes,
    title: str = "",
    unit: str = "",
) -> Axes:
    """Draws returns as dots, each quantile as a line, and those below the model's as crosses.

    Args:
        times: Times of the returns [n], datetime64.
        returns: Values [n], NaN where missing.
        quantiles: Values [n] by name: `model`, then the naive rules.
        ax: Where to draw.
        title: What is drawn.
        unit: Unit of the returns.

    Returns:
        `ax`.
    """
    ax.plot(times, returns, ".", color="#999999", markersize=4, label="returns")
    below = returns < quantiles["model"]
    ax.plot(times[below], returns[below], "x", color=TRUTH, markersize=6, label="below the model")
    styles = [{"color": MODEL, "linewidth": 1.4}, _naive_style(), {"color": _MISSING}]
    for (name, values), style in zip(quantiles.items(), styles, strict=False):
        ax.plot(times, values, label=name, **style)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(ax.xaxis.get_major_locator()))
    ax.set_title(title, fontsize="medium", pad=26)
    ax.set_ylabel(unit)
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    ax.legend(frameon=False, fontsize="small", ncols=len(quantiles) + 2, **place)
    return ax


def confusion_matrix(counts: Sequence[Sequence[int]], classes: Sequence[str], *, ax: Axes) -> Axes:
    """Draws counts of true against predicted classes, shaded by their share of the true class.

    Args:
        counts: Rows are true classes, columns predicted ones.
        classes: Names of the classes.
        ax: Where to draw.

    Returns:
        `ax`.
    """
    table = np.asarray(counts)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        color = "white" if share[row, column] > 0.5 else "black"
        ax.text(column, row, str(count), ha="center", va="center", color=color)
    ax.set_xticks(range(len(classes)), classes)
    ax.set_yticks(range(len(classes)), classes)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    return ax


def learning_curve(
    metrics: Sequence[Mapping[str, Any]], *, ax: Axes, validation: str = "validation/mae"
) -> Axes:
    """Draws training loss per step and a validation metric where it was measured.

    Args:
        metrics: The lines of `metrics.jsonl`.
        ax: Where to draw; the validation metric gets an axis of its own on the right.
        validation: Name of the validation metric.

    Returns:
        `ax`.
    """
    step = [line["step"] for line in metrics]
    loss = np.array([line["loss"] for line in metrics], float)
    ax.plot(step, loss, color="#999999", linewidth=0.6, alpha=0.7)
    smooth = max(1, len(loss) // 20)
    means = np.convolve(loss, np.ones(smooth) / smooth, mode="valid")
    ax.plot(step[smooth - 1 :], means, color=MODEL, label=f"training loss (mean of {smooth})")
    ax.set_xlabel("step")
    ax.set_ylabel("training loss")
    measured = [(line["step"], line[validation]) for line in metrics if validation in line]
    handles = ax.get_lines()[1:]
    if measured:
        right = ax.twinx()
        at, values = zip(*measured, strict=True)
        right.plot(at, values, color=NAIVE, marker="o", label=validation)
        right.set_ylabel(validation)
        handles = [*handles, *right.get_lines()]
    # Above the Axes, where no curve can run through it.
    ax.legend(
        handles=handles,
        frameon=False,
        fontsize="small",
        ncols=2,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
    )
    return ax


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

    Args:
        values: Frame [row, column], picture [row, column, 3] from 0 to 255, or series [time]; NaN
            where missing.
        axes: The windows along each of these axes, see `WindowSpec.axes`.
        ax: Where to draw.
        labels: Name and unit of each axis.
        unit: Unit of the values.
        title: What is drawn.

    Returns:
        `ax`.
    """
    draw = _grid_below_series if len(axes) == 1 else _grid_over_frame
    handles = draw(values, axes, ax, unit)
    ax.set_xlabel(labels[-1])
    ax.set_ylabel(labels[0] if len(labels) > 1 else unit)
    ax.set_title(title, fontsize="medium", pad=26)
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    ax.legend(handles=handles, frameon=False, fontsize="small", ncols=len(handles), **place)
    return ax


def _grid_over_frame(
    values: np.ndarray, axes: Sequence[AxisWindows], ax: Axes, unit: str
) -> list[Artist]:
    rows, columns = axes
    image = ax.imshow(values, interpolation="nearest", cmap=_with_gaps(), **_range(values))
    # Cells so narrow that they could not be seen are stretched.
    ratio = values.shape[0] / values.shape[1]
    ax.set_aspect("equal" if 0.3 < ratio < 3 else "auto")
    boxes = [_box(row, column) for row in _spans(rows) for column in _spans(columns)]
    thin = 0.8 if max(rows.count, columns.count) <= 24 else 0.4
    ax.add_collection(PatchCollection(boxes, facecolor="none", edgecolor="white", linewidth=thin))
    (up, one), (left, other) = _chosen(rows), _chosen(columns)
    ax.add_patch(_box(up, left, edgecolor=NAIVE, linewidth=2.2, label="one window"))
    for row, column in ((one, left), (up, other)):
        if (row, column) != (up, left):
            style: dict[str, Any] = {"linestyle": (0, (3, 2)), "linewidth": 1.6}
            ax.add_patch(_box(row, column, edgecolor=NAIVE, label="the next ones", **style))
    if rows.dilation > 1 or columns.dilation > 1:
        y, x = np.meshgrid(_samples(rows, up), _samples(columns, left), indexing="ij")
        ax.plot(x.ravel(), y.ravel(), ".", color=NAIVE, markersize=3, label="its samples")
    ax.set_xlim(*_limits(columns))
    ax.set_ylim(*_limits(rows)[::-1])
    if values.ndim == 2 and ax.figure is not None:
        ax.figure.colorbar(image, ax=ax, label=unit, shrink=0.85)
    handles = [*_labelled(ax)]
    if any(span[0] < 0 or span[1] > axis.size for axis in axes for span in _spans(axis)):
        ax.set_facecolor(_PADDING)
        handles.append(Rectangle((0, 0), 1, 1, facecolor=_PADDING, label="padding"))
    if values.dtype.kind == "f" and np.isnan(values).any():
        handles.append(Rectangle((0, 0), 1, 1, facecolor=_MISSING, label="missing"))
    return handles


def _grid_below_series(
    values: np.ndarray, axes: Sequence[AxisWindows], ax: Axes, unit: str
) -> list[Artist]:
    (axis,) = axes
    ax.plot(np.arange(axis.size), values, color=TRUTH, linewidth=1.0, label="series")
    (start, stop), following = _chosen(axis)
    # Windows that overlap lie on lines of their own, in the lower quarter.
    lines = max(1, -(-axis.effective // axis.stride))
    height = 0.22 / lines
    for number, (first, last) in enumerate(_spans(axis)):
        style: dict[str, Any] = {"facecolor": MODEL, "alpha": 0.45}
        if first == start:
            style = {"facecolor": NAIVE, "label": "one window"}
        elif first == following[0]:
            style = {"facecolor": NAIVE, "alpha": 0.5, "label": "the next one"}
        corner = (first - 0.5, 0.22 - (number % lines + 1) * height)
        size = (last - first, 0.8 * height)
        edge: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.8}
        bar = Rectangle(corner, *size, transform=ax.get_xaxis_transform(), **style, **edge)
        ax.add_patch(bar)
    ax.axvspan(start - 0.5, stop - 0.5, color=NAIVE, alpha=0.12, linewidth=0)
    inside = [cell for cell in _samples(axis, (start, stop)) if 0 <= cell < axis.size]
    if axis.dilation > 1:
        ax.plot(inside, values[inside], ".", color=NAIVE, markersize=4, label="its samples")
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    spread = (high - low) or 1.0
    ax.set_ylim(low - 0.4 * spread, high + 0.05 * spread)
    ax.set_xlim(*_limits(axis))
    return _labelled(ax)


def _labelled(ax: Axes) -> list[Artist]:
    """One handle for each label, as they were drawn."""
    handles, labels = ax.get_legend_handles_labels()
    return list(dict(zip(labels, handles, strict=True)).values())


def _spans(axis: AxisWindows) -> list[tuple[int, int]]:
    """First cell of each window and the one behind its last."""
    return [(start, start + axis.effective) for start in axis.starts]


def _chosen(axis: AxisWindows) -> tuple[tuple[int, int], tuple[int, int]]:
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


def _box(row: tuple[int, int], column: tuple[int, int], **style: Any) -> Rectangle:
    corner = (column[0] - 0.5, row[0] - 0.5)
    return Rectangle(corner, column[1] - column[0], row[1] - row[0], fill=False, **style)


def _with_gaps() -> Colormap:
    return colormaps["viridis"].with_extremes(bad=_MISSING)


def _range(values: np.ndarray) -> dict[str, Any]:
    """Colour limits that a few outliers cannot stretch; none for a picture."""
    known = values[np.isfinite(values)] if values.ndim == 2 else np.empty(0)
    if not known.size:
        return {}
    low, high = np.percentile(known, (1, 99))
    return {"vmin": low, "vmax": high if high > low else low + 1}
