"""Attributions over what they explain, and how explanations compare."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.ticker import MaxNLocator

from stpatch_jax.errors import require
from stpatch_jax.escapes import printable
from stpatch_jax.plotting import style
from stpatch_jax.plotting.maps import axis_label, map_panel

_SIGN = {True: style.MODEL, False: style.NAIVE}


def attribution_over_frame(
    frame: xr.DataArray,
    attribution: xr.DataArray,
    *,
    ax: Axes,
    limits: tuple[float, float] | None = None,
    title: str = "",
    colorbar: bool = True,
) -> Axes:
    """Draws an attribution over the frame it explains: the frame grey, what counts in colour.

    Args:
        frame: Values [row, column], with coordinates; NaN, drawn green, where the model is not
            shown them.
        attribution: Attributions of its cells, with the same axes and `units`.
        ax: Where to draw.
        limits: Attributions at the ends of the colours, by default the largest either way; the same
            for all frames of a clip lets them be compared.
        title: What is drawn.
        colorbar: Whether to explain the colours.

    Raises:
        InputError: Frame and attribution have not the same two axes.
    """
    require(
        frame.ndim == 2 and frame.dims == attribution.dims and frame.shape == attribution.shape,
        f"frame and attribution must have the same two axes, got {dict(frame.sizes)} and "
        f"{dict(attribution.sizes)}; select one time and channel of both",
    )
    low, high = limits or style.colour_limits(attribution.values, diverging=True)
    map_panel(
        attribution, ax=ax, limits=(low, high), diverging=True, title=title, colorbar=colorbar
    )
    coloured: Any = ax.collections[-1]
    # What counts for nothing shows the frame beneath.
    share = np.abs(attribution.values) / max(abs(low), abs(high))
    opaque: Any = np.clip(share, 0, 1) ** 0.5 * 0.9
    coloured.set_alpha(opaque)
    corners = coloured.get_coordinates()
    edges = corners[0, :, 0], corners[:, 0, 1]
    gray = style.colour_map("gray").with_extremes(bad=style.HIDDEN)
    ax.pcolormesh(*edges, frame.values, cmap=gray, zorder=coloured.zorder - 1)
    return ax


def attribution_below_series(
    series: xr.DataArray, attribution: xr.DataArray, *, ax: Axes, title: str = "", unit: str = ""
) -> Axes:
    """Draws a series, and below it the attribution of each of its time steps as bars.

    Both are [time] and have `units`, which `unit` replaces for the series; the bars get an axis of
    their own on the right.

    Raises:
        InputError: They are not one row each, of the same length.
    """
    require(
        series.ndim == 1 and series.shape == attribution.shape,
        f"series and attribution must be one row each of the same length, got "
        f"{series.shape} and {attribution.shape}; select one cell and channel of both",
    )
    (dim,) = series.dims
    numeric = dim in series.coords and series[dim].dtype.kind in "iufM"
    at = series[dim].values if numeric else np.arange(series.size)
    # In days, as matplotlib counts dates.
    places = date2num(at) if at.dtype.kind == "M" else at.astype(float)
    width = 0.8 * float(np.median(np.diff(places))) if series.size > 1 else 0.8
    bars = ax.twinx()
    values = attribution.values
    bars.bar(places, values, width=width, color=[_SIGN[v >= 0] for v in values], alpha=0.6)
    most = float(np.abs(values).max()) or 1.0
    bars.set_ylim(-1.1 * most, 4.5 * most)
    bars.axhline(0, color="#666666", linewidth=0.6)
    bars.set_ylabel(f"attribution ({attribution.attrs.get('units', 'score')})", fontsize="small")
    ax.plot(at, series.values, color=style.TRUTH, linewidth=1.3)
    low, high = float(np.nanmin(series.values)), float(np.nanmax(series.values))
    room = (high - low) or 1.0
    ax.set_ylim(low - 0.65 * room, high + 0.08 * room)
    ax.set_zorder(bars.get_zorder() + 1)
    ax.patch.set_visible(False)
    if at.dtype.kind == "M":
        style.date_axis(ax.xaxis)
    ax.set_xlabel(axis_label(series, dim))
    ax.set_ylabel(unit or str(series.attrs.get("units", "")))
    ax.set_title(title, fontsize="medium")
    return ax


def deletion_curves(curves: Mapping[str, xr.Dataset], *, ax: Axes, title: str = "") -> Axes:
    """Draws the deletion and insertion curves of explanations, one colour each.

    They are what `deletion_insertion` gave, by the name of the explanation.
    """
    for number, (name, curve) in enumerate(curves.items()):
        colour = style.COLOURS[number % len(style.COLOURS)]
        looks: dict[str, Any] = {"color": colour, "linewidth": 1.5}
        at = curve.share.values
        label = f"{name.replace('_', ' ')} ({curve.attrs['faithfulness']:.3g})"
        ax.plot(at, curve.deletion.values, linestyle=(0, (3, 1.5)), **looks)
        ax.plot(at, curve.insertion.values, label=label, **looks)
        ax.set_ylabel(str(curve.deletion.attrs.get("units", "score")))
    ax.set_xlabel("share of the cells taken away (dashed) or put in")
    title = f"{title}\nfaithfulness in brackets".strip()
    ax.set_title(title, fontsize="medium", pad=24 if len(curves) <= 2 else 42)
    style.legend_above(ax, style.labelled(ax), columns=min(2, max(1, len(curves))))
    return ax


def importance_bars(
    values: Sequence[float],
    names: Sequence[str],
    *,
    ax: Axes,
    spread: Sequence[float] | None = None,
    unit: str = "",
    title: str = "",
) -> Axes:
    """Draws how much each of some things counts, as bars with their names, the largest on top.

    Values and names are [n], and so is `spread`, the standard deviation of each value.
    """
    order = [int(at) for at in np.argsort(values)[-20:]]
    errors = None if spread is None else np.asarray(spread)[order]
    colours = [_SIGN[values[at] >= 0] for at in order]
    ax.barh(np.arange(len(order)), np.asarray(values)[order], xerr=errors, color=colours)
    ax.set_yticks(np.arange(len(order)), [printable(names[at]) for at in order])
    ax.axvline(0, color="#666666", linewidth=0.6)
    ax.set_xlabel(unit)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    more = len(values) - len(order)
    ax.set_title(f"{title} (and {more} more)" if more else title, fontsize="medium")
    return ax
