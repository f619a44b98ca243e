"""Forecasts beside the truth, and their errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from matplotlib.ticker import MaxNLocator

from stpatch_jax.errors import require
from stpatch_jax.plotting import style


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
    """
    ax.plot(times, truth, color=style.TRUTH, linewidth=1.2, label="truth")
    for name, lines in forecasts.items():
        looks = {"color": style.MODEL, "linewidth": 1.4} if name == "model" else style.naive_style()
        for number, (at, values) in enumerate(lines):
            ax.plot(at, values, label=name if number == 0 else None, **looks)
    style.date_axis(ax.xaxis)
    ax.set_title(title, fontsize="medium")
    ax.set_ylabel(unit, fontsize="small")
    ax.tick_params(labelsize="small")
    return ax


def error_by_lead_time(
    errors: Mapping[str, Sequence[float | None]], *, ax: Axes, metric: str, unit: str
) -> Axes:
    """Draws one line of errors per forecast over the lead time, in time steps."""
    colours = iter(style.COLOURS[1:])
    for name, values in errors.items():
        looks: dict[str, Any] = {"color": style.MODEL}
        if name != "model":
            looks = style.naive_style() | {"color": next(colours)}
        lead = np.arange(1, len(values) + 1)
        ax.plot(lead, np.array(values, float), marker="o", markersize=4, label=name, **looks)
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
    """
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

    Args:
        times: Time of each lead [horizon], or the lead times themselves.
        quantiles: Forecast [horizon, quantile].
        levels: Probability of each quantile, increasing; the first and the last bound the widest
            band, the second and the last but one the next, and so on. One left over in the middle
            is drawn as a line.
        ax: Where to draw.
        past: Times and values of the context.
        truth: What came [horizon], NaN where missing.
        title: Name of the series.
        unit: Unit of the values.

    Raises:
        InputError: There is not one quantile for each level.
    """
    require(
        quantiles.shape == (len(times), len(levels)),
        f"quantiles must have the shape (horizon, quantile) = {(len(times), len(levels))}, got "
        f"{quantiles.shape}; give one for each time and level",
    )
    bands = len(levels) // 2
    for at in range(bands):
        label = f"{levels[at]:g} to {levels[-1 - at]:g}"
        looks: dict[str, Any] = {"color": style.MODEL, "alpha": 0.18 + 0.2 * at, "linewidth": 0}
        ax.fill_between(times, quantiles[:, at], quantiles[:, -1 - at], label=label, **looks)
    if len(levels) % 2:
        name = "median" if levels[bands] == 0.5 else f"quantile {levels[bands]:g}"
        ax.plot(times, quantiles[:, bands], color=style.MODEL, linewidth=1.6, label=name)
    if past is not None:
        ax.plot(*past, color=style.TRUTH, linewidth=1.2, label="context")
    if truth is not None:
        ax.plot(times, truth, color=style.NAIVE, linewidth=1.2, marker=".", label="truth")
    if np.asarray(times).dtype.kind == "M":
        style.date_axis(ax.xaxis)
    else:
        ax.set_xlabel("lead time (time steps)")
    ax.set_ylabel(unit)
    handles = style.labelled(ax)
    style.legend_above(ax, handles, columns=len(handles))
    ax.set_title(title, fontsize="medium", pad=24)
    return ax
