"""Forecasts beside the truth, and their errors."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from matplotlib.ticker import MaxNLocator

from stpatch_jax.data.clocks import standard_dates
from stpatch_jax.errors import require
from stpatch_jax.plotting import style


def forecast_against_truth(
    times: np.ndarray,
    truth: np.ndarray,
    forecasts: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]],
    *,
    ax: Axes,
    bands: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    levels: Sequence[float] = (),
    title: str = "",
    unit: str = "",
) -> Axes:
    """Draws the truth as a line and every forecast as a short line from its origin.

    Times [n] are dates or numbers, the truth [n] is NaN where missing, and forecasts are pairs of
    times and values by name: `model`, or a naive rule. One of a single time is a dot. `bands` are
    pairs of times and quantiles [n, quantile] of such levels, drawn as by `quantile_bands`.
    """
    times = standard_dates(times)
    for number, (at, quantiles) in enumerate(bands):
        _draw_bands(ax, standard_dates(at), quantiles, levels, labelled=number == 0)
    ax.plot(times, truth, color=style.TRUTH, linewidth=1.2, label="truth")
    for name, lines in forecasts.items():
        looks = {"color": style.MODEL, "linewidth": 1.4} if name == "model" else style.naive_style()
        for number, (at, values) in enumerate(lines):
            looks |= {"marker": "o", "markersize": 2.5} if len(values) == 1 else {}
            ax.plot(standard_dates(at), values, label=name if number == 0 else None, **looks)
    if times.dtype.kind == "M":
        style.date_axis(ax.xaxis)
    ax.set_title(title, fontsize="medium")
    ax.set_ylabel(unit, fontsize="small")
    ax.tick_params(labelsize="small")
    return ax


def error_by_lead_time(
    errors: Mapping[str, Sequence[float | None]],
    *,
    ax: Axes,
    metric: str,
    unit: str,
    along: str = "lead time (time steps)",
) -> Axes:
    """Draws a line of errors per forecast over the lead time, or what `along` names, from 1.

    Where there is one lead time alone, errors are bars.
    """
    if max(map(len, errors.values())) == 1:
        names = [*errors][::-1]
        lengths = np.array([errors[name][0] for name in names], float)
        ax.barh(names, lengths, color=[style.MODEL if n == "model" else style.QUIET for n in names])
        ax.set_xlabel(f"{metric} ({unit}) at {along.partition(' (')[0]} 1")
        return ax
    colours = itertools.cycle(style.COLOURS[1:])
    for name, values in errors.items():
        looks: dict[str, Any] = {"color": style.MODEL}
        if name != "model":
            looks = style.naive_style() | {"color": next(colours)}
        lead = np.arange(1, len(values) + 1)
        ax.plot(lead, np.array(values, float), marker="o", markersize=4, label=name, **looks)
    ax.set_xlabel(along)
    ax.set_ylabel(f"{metric} ({unit})")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.legend_above(ax, style.labelled(ax), columns=2)
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

    Times [n] are dates, returns [n] NaN where missing, and quantiles [n] go by name: `model`,
    then the naive rules.
    """
    times = standard_dates(times)
    ax.plot(times, returns, ".", color=style.QUIET, markersize=4, label="returns")
    below = returns < quantiles["model"]
    crosses: dict[str, Any] = {"color": style.TRUTH, "markersize": 6, "label": "below the model"}
    ax.plot(times[below], returns[below], "x", **crosses)
    model = {"color": style.MODEL, "linewidth": 1.4}
    lines = [model, style.naive_style(), {"color": style.MISSING}]
    for (name, values), looks in zip(quantiles.items(), lines, strict=False):
        ax.plot(times, values, label=name, **looks)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(ax.xaxis.get_major_locator()))
    ax.set_title(title, fontsize="medium", pad=26)
    ax.set_ylabel(unit)
    style.legend_above(ax, style.labelled(ax), columns=len(quantiles) + 2)
    return ax


def quantile_bands(
    times: np.ndarray,
    quantiles: np.ndarray,
    levels: Sequence[float],
    *,
    ax: Axes,
    past: tuple[np.ndarray, np.ndarray] | None = None,
    truth: np.ndarray | None = None,
    title: str = "",
    unit: str = "",
) -> Axes:
    """Draws one forecast as bands between pairs of quantiles, with what came before and what came.

    Times are those of each lead [horizon], or the lead times themselves; quantiles are [horizon,
    quantile]; levels increase. The first and the last level bound the widest band, the second and
    the last but one the next, and so on; one left over in the middle is drawn as a line. `past` are
    times and values of the context, `truth` is what came [horizon], NaN where missing. Bands of a
    single time are bars.

    Raises:
        InputError: There is not one quantile for each level.
    """
    require(
        quantiles.shape == (len(times), len(levels)),
        f"quantiles must have the shape (horizon, quantile) = {(len(times), len(levels))}, got "
        f"{quantiles.shape}; give one for each time and level",
    )
    bands, times, one = len(levels) // 2, standard_dates(np.asarray(times)), len(times) == 1
    _draw_bands(ax, times, quantiles, levels, width=8.0)
    if len(levels) % 2:
        name = "median" if levels[bands] == 0.5 else f"quantile {levels[bands]:g}"
        looks: dict[str, Any] = {"marker": "o"} if one else {}
        ax.plot(times, quantiles[:, bands], color=style.MODEL, linewidth=1.6, label=name, **looks)
    if past is not None:
        at, values = standard_dates(past[0]), past[1]
        looks = {"marker": "."} if len(values) == 1 else {}
        ax.plot(at, values, color=style.TRUTH, linewidth=1.2, label="context", **looks)
    if truth is not None:
        ax.plot(times, truth, color=style.NAIVE, linewidth=1.2, marker=".", label="truth")
    if times.dtype.kind == "M":
        style.date_axis(ax.xaxis)
    else:
        ax.set_xlabel("lead time (time steps)")
    ax.set_ylabel(unit)
    handles = style.labelled(ax)
    style.legend_above(ax, handles, columns=len(handles))
    ax.set_title(title, fontsize="medium", pad=24)
    return ax


def _draw_bands(
    ax: Axes,
    times: np.ndarray,
    quantiles: np.ndarray,
    levels: Sequence[float],
    *,
    labelled: bool = True,
    width: float = 3.0,
) -> None:
    """Fills between pairs of quantiles [n, quantile]; a single time is a bar of some width."""
    one = len(times) == 1
    for at in range(len(levels) // 2):
        label = f"{levels[at]:g} to {levels[-1 - at]:g}" if labelled else None
        looks: dict[str, Any] = {"color": style.MODEL, "alpha": 0.18 + 0.2 * at}
        looks |= {"label": label, "linewidth": width if one else 0}
        draw = ax.vlines if one else ax.fill_between
        draw(times, quantiles[:, at], quantiles[:, -1 - at], **looks)
