"""Pictures of the explanations of a run."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from stpatch_jax import plotting
from stpatch_jax.explaining.question import told_place

_MOST_FRAMES = 4


def draw_maps(field: xr.DataArray, maps: Mapping[str, xr.DataArray], *, title: str) -> Figure:
    """Draws every explanation over the field, one row a method.

    A series with bars below, a panel as time beside space (one time alone as channels), of frames
    up to four times, of volumes the plane that counts most.

    Args:
        field: The field (time, *space, channel); of its channels the first is drawn.
        maps: Explanations (time, *space) or (time, *space, channel), which are summed over the
            channels, by method.
        title: What is explained.
    """
    space = field.ndim - 2
    flat = {
        name: values.sum("channel", keep_attrs=True) if "channel" in values.dims else values
        for name, values in maps.items()
    }
    shown = field.isel(channel=0, drop=True)
    if space >= 2:
        return _frames(shown, flat, title)
    figure = plotting.new_figure(len(flat), 1, size=(9, 2.9 * len(flat) + 0.3))
    for ax, (name, values) in zip(figure.axes, flat.items(), strict=False):
        told = name.replace("_", " ")
        if space == 0:
            channel = str(field.channel.values[0])
            unit = f"{'channel ' * channel.isdigit()}{channel} (scaled)"
            plotting.attribution_below_series(shown, values, ax=ax, title=told, unit=unit)
        else:
            # One time alone has room for the channels.
            by_channel = len(field) == 1 and "channel" in maps[name].dims
            plane = maps[name].isel(time=0, drop=True) if by_channel else values
            signed = name != "attention_rollout"
            plotting.map_panel(plane.T, ax=ax, title=told, diverging=signed)
    figure.suptitle(title, fontsize="medium")
    return figure


def _frames(field: xr.DataArray, maps: Mapping[str, xr.DataArray], title: str) -> Figure:
    """Up to four times of every explanation, over the frames."""
    total = sum(
        np.abs(values.values) / (np.abs(values.values).max() or 1) for values in maps.values()
    )
    if field.ndim == 4:
        plane = int(np.argmax(np.sum(total, axis=(0, 2, 3))))
        dim = field.dims[1]
        field = field.isel({dim: plane})
        maps = {name: values.isel({dim: plane}) for name, values in maps.items()}
        title += f", {dim} {plane}"
    times = np.unique(np.linspace(0, len(field) - 1, _MOST_FRAMES).round().astype(int))
    size = (3.3 * len(times) + 1, 2.9 * len(maps))
    figure = plotting.new_figure(len(maps), len(times), size=size)
    dated = "time" in field.coords
    axes = iter(list(figure.axes))
    for name, values in maps.items():
        most = float(np.abs(values.values).max()) or 1.0
        for number in times:
            told = told_place(field.time.values[number]) if dated else f"time {number}"
            plotting.attribution_over_frame(
                field[number].drop_vars("time", errors="ignore"),
                values[number].drop_vars("time", errors="ignore"),
                ax=next(axes),
                limits=(-most, most),
                title=f"{name.replace('_', ' ')}, {told}" if number == times[0] else told,
                colorbar=bool(number == times[-1]),
            )
    figure.suptitle(title, fontsize="medium")
    return figure


def draw_scores(
    curves: Mapping[str, xr.Dataset], tables: Mapping[str, xr.DataArray], *, title: str
) -> Figure:
    """Draws how faithful the explanations are, and what channels, lags and neighbours count.

    Args:
        curves: What `deletion_insertion` gave, by method.
        tables: `channel_importance` and `neighborhood_weights`, where they are known.
        title: What is explained.
    """
    figure = plotting.new_figure(1, 1 + len(tables), size=(5.5 * (1 + len(tables)), 4.6))
    axes = list(figure.axes)
    plotting.deletion_curves(curves, ax=axes[0])
    for ax, (name, values) in zip(axes[1:], tables.items(), strict=True):
        if name == "channel_importance":
            plotting.importance_bars(
                values.mean("repeat").values.tolist(),
                list(map(str, values.channel.values)),
                ax=ax,
                spread=values.std("repeat").values.tolist(),
                unit=str(values.attrs["units"]),
                title="loss without a channel",
            )
        else:
            shares = values.sum("channel", keep_attrs=True)
            plotting.map_panel(shares, ax=ax, title="lags and neighbours in use")
    figure.suptitle(title, fontsize="medium")
    return figure
