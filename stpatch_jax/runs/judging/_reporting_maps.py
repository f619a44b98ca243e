"""Maps in a forecast's report: truth, forecast and error at some lead times."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from stpatch_jax import plotting
from stpatch_jax.data import truth
from stpatch_jax.runs.judging.registry import SplitForecasts
from stpatch_jax.plotting.style import colour_limits

_MOST_LEADS = 3


def map_figure(data: Any, split: SplitForecasts) -> Figure:
    """Truth, forecast and error of the first channel on a map, from the window in the middle.

    One row of maps for the first, the middle and the last lead time.

    Args:
        data: The field problem (time, two axes of space, channel).
        split: Its forecasts.
    """
    chosen = slice(len(split.index) // 2, len(split.index) // 2 + 1)
    index = split.index[chosen]
    real = truth(data, index)[0, ..., 0]
    forecast = data.in_units(split.forecasts["model"][chosen], index)[0, ..., 0]
    leads = np.unique(np.linspace(0, len(real) - 1, _MOST_LEADS).astype(int))
    limits = colour_limits(np.stack([real, forecast]))
    spread = colour_limits(forecast - real, diverging=True)
    rows, columns = real.shape[1:]
    height = min(max(3.6 * rows / columns, 2.0), 6.0) + 0.8
    figure = plotting.new_figure(len(leads), 3, size=(13, height * len(leads)))
    place: dict[str, Any] = {"like": data.field[0, ..., 0], "unit": data.unit}
    for number, lead in enumerate(leads):
        axes = figure.axes[3 * number : 3 * number + 3]
        when = f"{np.datetime_as_string(data.times[index[0] + lead], 'm')}, lead {lead + 1}"
        _draw(real[lead], axes[0], f"truth, {when}", limits=limits, **place)
        _draw(forecast[lead], axes[1], "forecast", limits=limits, **place)
        error = forecast[lead] - real[lead]
        _draw(error, axes[2], "forecast less truth", limits=spread, diverging=True, **place)
    return figure


def _draw(
    values: np.ndarray, ax: Any, title: str, *, like: xr.DataArray, unit: str, **style: Any
) -> None:
    plotting.map_panel(like.copy(data=values), ax=ax, title=title, unit=unit, **style)
