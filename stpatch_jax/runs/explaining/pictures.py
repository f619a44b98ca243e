"""Pictures of the explanations of a run."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stpatch_jax import plotting
from stpatch_jax.data.times import time_text

_MOST_FRAMES = 4
# A yellow line in a black one is seen on any ground.
_LINES: tuple[dict[str, Any], ...] = (
    {"fill": False, "edgecolor": "#000000", "linewidth": 3.2},
    {"fill": False, "edgecolor": "#F0E442", "linewidth": 1.4},
)

Place = Sequence[tuple[float, float]]


def draw_maps(
    field: xr.DataArray, maps: Mapping[str, xr.DataArray], *, title: str, place: Place | None = None
) -> Figure:
    """Draws every explanation over the field, one row a method.

    Texts on a coloured ground, a series with bars below, a panel as time beside space (one time
    alone as channels), of frames up to four times, of volumes one plane: that of the place, or that
    which counts most.

    Args:
        field: The field (time, *space, channel); of its channels the first is drawn. NaN where the
            model is not shown it.
        maps: Explanations (time, *space) or (time, *space, channel), which are summed over the
            channels, by method.
        title: What is explained.
        place: Where that lies, bounds `(lo, hi)` in cells along time and each space axis, drawn as
            a box; None where it is not a part of the field.
    """
    space = field.ndim - 2
    flat = {
        name: values.sum("channel", keep_attrs=True) if "channel" in values.dims else values
        for name, values in maps.items()
    }
    shown = field.isel(channel=0, drop=True)
    if place is not None:
        # A panel is covered by its attribution: what is hidden cannot be seen there.
        gaps = space != 1 and bool(shown.isnull().any())
        hidden = f"{'green' if space else 'gap'}: hidden from the model; " * gaps
        title = f"{title}\n{hidden}box: what is explained"
    if space >= 2:
        return _frames(shown, flat, title, place)
    if "word" in field.coords:
        return _text(list(map(str, field.word.values)), flat, title, place)
    figure = plotting.new_figure(len(flat), 1, size=(9, 2.9 * len(flat) + 0.3))
    for ax, (name, values) in zip(figure.axes, flat.items(), strict=False):
        heading = name.replace("_", " ")
        if space == 0:
            channel = str(field.channel.values[0])
            unit = f"{'channel ' * channel.isdigit()}{channel} (scaled)"
            plotting.attribution_below_series(shown, values, ax=ax, title=heading, unit=unit)
            if place is not None:
                (start, end), *_ = place
                for line in _LINES:
                    ax.axvspan(start - 0.5, end - 0.5, **line)
        else:
            # One time alone has room for the channels.
            by_channel = len(field) == 1 and "channel" in maps[name].dims
            plane = maps[name].isel(time=0, drop=True) if by_channel else values
            signed = name != "attention_rollout"
            plotting.map_panel(plane.T, ax=ax, title=heading, diverging=signed)
            if place is not None and not by_channel:
                _outline(ax, place[1], place[0])
    _entitle(figure, title)
    return figure


def _text(
    words: list[str], maps: Mapping[str, xr.DataArray], title: str, place: Place | None
) -> Figure:
    height = max(1.1, 0.27 * plotting.text_rows(words))
    figure = plotting.new_figure(len(maps), 1, size=(9, (height + 0.45) * len(maps) + 0.4))
    chosen = None if place is None else int(place[0][0])
    for ax, (name, values) in zip(list(figure.axes), maps.items(), strict=True):
        heading = name.replace("_", " ")
        plotting.attribution_over_text(words, values, ax=ax, title=heading, chosen=chosen)
    _entitle(figure, title)
    return figure


def _frames(
    field: xr.DataArray, maps: Mapping[str, xr.DataArray], title: str, place: Place | None
) -> Figure:
    """Up to four times of every explanation, over the frames."""
    if field.ndim == 4:
        dim = field.dims[1]
        plane = _plane(maps) if place is None else int(np.mean(place[1]))
        field = field.isel({dim: plane})
        maps = {name: values.isel({dim: plane}) for name, values in maps.items()}
        title += f", {dim} {plane}"
    times = np.linspace(0, len(field) - 1, _MOST_FRAMES).round().astype(int)
    if place is not None:
        # The frame of what is explained is one of them.
        times[np.abs(times - int(place[0][0])).argmin()] = int(place[0][0])
    times = np.unique(times)
    many = len(times) > 1
    rows, columns = (len(maps), len(times)) if many else (1, len(maps))
    figure = plotting.new_figure(rows, columns, size=(3.4 * columns + 1, 2.9 * rows + 0.4))
    dated = "time" in field.coords
    axes = iter(list(figure.axes))
    for name, values in maps.items():
        most = float(np.abs(values.values).max()) or 1.0
        for number in times:
            moment = time_text(field.time.values[number]) if dated else f"time {number}"
            parts = [name.replace("_", " ")] * bool(number == times[0]) + [moment] * many
            ax = plotting.attribution_over_frame(
                field[number].drop_vars("time", errors="ignore"),
                values[number].drop_vars("time", errors="ignore"),
                ax=next(axes),
                limits=(-most, most),
                title=", ".join(parts),
                colorbar=bool(number == times[-1]),
            )
            if place is not None and place[0][0] <= number < place[0][1]:
                _outline(ax, *place[-2:])
    _entitle(figure, title)
    return figure


def _entitle(figure: Figure, title: str) -> None:
    """Writes a title in lines that the figure has room for."""
    letters = int(12.5 * figure.get_figwidth())
    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, letters)]
    # What a text holds between dollars is no formula.
    figure.suptitle("\n".join(lines), fontsize="medium", parse_math=False)


def _plane(maps: Mapping[str, xr.DataArray]) -> int:
    """The plane of a volume that counts most."""
    sizes = (np.abs(values.values) for values in maps.values())
    return int(np.argmax(np.sum(sum(x / (x.max() or 1) for x in sizes), axis=(0, 2, 3))))


def _outline(ax: Axes, rows: tuple[float, float], columns: tuple[float, float]) -> None:
    """A box around cells, which lie half a cell to each side of their number."""
    corner = columns[0] - 0.5, rows[0] - 0.5
    for line in _LINES:
        ax.add_patch(Rectangle(corner, columns[1] - columns[0], rows[1] - rows[0], **line))


def draw_scores(
    curves: Mapping[str, xr.Dataset], tables: Mapping[str, xr.DataArray], *, title: str
) -> Figure:
    """Draws how faithful the explanations are, and what channels, lags and neighbours count.

    That is what `deletion_insertion` gave, by method, and `channel_importance` and
    `neighborhood_weights`, where they are known.
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
    _entitle(figure, title)
    return figure
