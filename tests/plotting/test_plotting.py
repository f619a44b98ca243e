"""Every plot draws, names its axes and returns them; what it shows is what it was given."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.image import imread
from PIL import Image

from stpatch_jax import WindowSpec, cover_count, plotting
from stpatch_jax.errors import InputError

RANDOM = np.random.default_rng(0)
TIMES = pd.date_range("2024-01-01", periods=12, freq="D").values


def weather():
    values = 280 + RANDOM.normal(size=(4, 6))
    values[1, 2] = np.nan
    coords = {
        "latitude": ("latitude", [60.0, 50.0, 40.0, 30.0], {"units": "degrees_north"}),
        "longitude": ("longitude", np.arange(6.0), {"units": "degrees_east"}),
    }
    return xr.DataArray(values, coords, dims=tuple(coords), attrs={"units": "K"})


def panel():
    coords = {"company": ["A", "B", "C"], "time": TIMES}
    return xr.DataArray(RANDOM.normal(size=(3, 12)), coords, dims=tuple(coords))


def frame():
    return xr.DataArray(RANDOM.random((8, 10)), dims=("height", "width"))


def series():
    return xr.DataArray(RANDOM.normal(size=12), {"time": TIMES}, dims="time")


def curves(shift):
    at = np.linspace(0, 1, 5)
    lines = {
        "deletion": ("share", 1 - at, {"units": "nats"}),
        "insertion": ("share", at + shift),
    }
    return xr.Dataset(lines, {"share": at}, {"faithfulness": shift})


PLOTS = {
    "map": lambda ax: plotting.map_panel(weather(), ax=ax, title="t2m"),
    "difference": lambda ax: plotting.map_panel(weather() - 280, ax=ax, diverging=True, unit="K"),
    "panel": lambda ax: plotting.map_panel(panel(), ax=ax),
    "one time": lambda ax: plotting.map_panel(panel()[:, :1], ax=ax),
    "frame": lambda ax: plotting.map_panel(frame(), ax=ax, limits=(0, 1), colorbar=False),
    "boxes": lambda ax: plotting.detection_boxes(
        RANDOM.random((8, 10, 1)),
        np.array([[0, 1, 4, 5], [2, 2, 6, 9]]),
        labels=["car", "person"],
        scores=[0.9, 0.2],
        true_boxes=np.array([[0, 1, 4, 4]]),
        ax=ax,
    ),
    "no boxes": lambda ax: plotting.detection_boxes(np.zeros((8, 10)), np.zeros((0, 4)), ax=ax),
    "cover of a series": lambda ax: plotting.cover_map(cover_count((4,), (21,)), ax=ax),
    "cover of a frame": lambda ax: plotting.cover_map(
        cover_count(WindowSpec((4, 4), stride=1), (16, 24)), ax=ax, labels=("height", "width")
    ),
    "bands": lambda ax: plotting.quantile_bands(
        TIMES[8:],
        np.arange(3.0) + np.zeros((4, 3)),
        (0.1, 0.5, 0.9),
        past=(TIMES[:8], np.zeros(8)),
        truth=np.ones(4),
        unit="USD",
        ax=ax,
    ),
    "over a frame": lambda ax: plotting.attribution_over_frame(frame(), frame() - 0.5, ax=ax),
    "below a series": lambda ax: plotting.attribution_below_series(
        series(), series(), ax=ax, unit="K"
    ),
    "deletion": lambda ax: plotting.deletion_curves(
        {"occlusion": curves(0.2), "smooth_grad": curves(0.1)}, ax=ax
    ),
    "importance": lambda ax: plotting.importance_bars(
        [0.1, -0.2], ["b", "c"], spread=[0.01, 0.02], unit="nats", ax=ax
    ),
    "truth": lambda ax: plotting.forecast_against_truth(
        TIMES,
        np.arange(12.0),
        {"model": [(TIMES[:3], np.ones(3))]},
        bands=[(TIMES[:3], np.arange(2.0) + np.zeros((3, 2)))],
        levels=(0.1, 0.9),
        unit="USD",
        ax=ax,
    ),
    "errors": lambda ax: plotting.error_by_lead_time(
        {"model": [1, 2], "persistence": [2, None]}, metric="MAE", unit="K", ax=ax
    ),
    "agreement": lambda ax: plotting.agreement(
        np.array([1.0, 3.0]), np.array([2.0, 4.0]), name="age", ax=ax
    ),
    "confusion": lambda ax: plotting.confusion_matrix([[3, 1], [0, 2]], ["no", "yes"], ax=ax),
    "learning": lambda ax: plotting.learning_curve(
        [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "validation/mae": 0.5}], ax=ax
    ),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_draws_names_its_axes_and_returns_them(name, tmp_path):
    figure = plotting.new_figure(1, 1, size=(4, 3))
    ax = figure.axes[0]
    assert PLOTS[name](ax) is ax
    assert isinstance(ax, Axes)
    figure.savefig(tmp_path / "plot.png", dpi=40)
    assert imread(tmp_path / "plot.png")[..., :3].std() > 0.02
    labels = ax.get_xlabel(), ax.get_ylabel()
    # Times and bars with names of their own speak for themselves.
    assert any(labels) if name in ("bands", "truth", "importance") else all(labels)
    legend = ax.get_legend()
    if legend:
        assert all(text.get_text() for text in legend.get_texts())


def test_a_map_lies_where_its_coordinates_say():
    ax = plotting.new_figure(1, 2, size=(4, 3)).axes
    north_first = plotting.map_panel(weather(), ax=ax[0])
    assert north_first.get_ylim() == (25.0, 65.0)
    assert north_first.get_ylabel() == "latitude (°N)"
    rows_down = plotting.map_panel(frame(), ax=ax[1])
    assert rows_down.get_ylim() == (7.5, -0.5)
    assert rows_down.get_xlabel() == "width (cells)"
    with pytest.raises(InputError, match="a map must have two axes"):
        plotting.map_panel(series(), ax=ax[0])


def test_a_text_is_written_on_the_colour_of_its_attributions(tmp_path):
    words = ["not", "$\\x$", "", "at", *["all"] * 30]
    values = xr.DataArray([2.0, -2.0, 1.0, 0.0, *[0.5] * 30], dims="time", attrs={"units": "nats"})
    figure = plotting.new_figure(1, 1, size=(9, 1.5))
    ax = plotting.attribution_over_text(words, values, ax=figure.axes[0], chosen=3)
    assert [text.get_text() for text in ax.texts] == words
    boxes: Any = list(ax.patches)
    colours = np.array([box.get_facecolor() for box in boxes])
    (good, bad), (even, other) = colours[:2, 2] - colours[:2, 0], colours[[3, 4], 2]
    # Purple for, orange against, white for nothing.
    assert good > 0 > bad
    assert even > 0.95 > other
    assert [box.get_edgecolor()[-1] for box in boxes[:4]] == [0, 0, 0, 1]
    figure.savefig(tmp_path / "text.png", dpi=40)
    assert {text.get_color() for text in ax.texts} == {"black", "white"}
    assert figure.axes[1].get_ylabel() == "nats"
    corners = [(box.get_y(), box.get_x() + box.get_width()) for box in boxes]
    assert max(end for _, end in corners) <= ax.get_xlim()[1]
    assert len({row for row, _ in corners}) == plotting.text_rows(words) == 2
    with pytest.raises(InputError, match="must be one number each"):
        plotting.attribution_over_text(words[:2], values, ax=ax)


@pytest.mark.parametrize("shape", [(15, 32), (15,)])
def test_windows_are_counted_in_whole_cells(shape):
    ax = plotting.new_figure(1, 1, size=(4, 3)).axes[0]
    axes = WindowSpec((3, 8)[: len(shape)]).axes(shape)
    plotting.patch_grid(np.arange(np.prod(shape)).reshape(shape) / 7, axes, ax=ax, labels="tx")
    across = ax.get_xticks(), ax.get_yticks() if len(shape) > 1 else ()
    assert all(tick == round(tick) for ticks in across for tick in ticks)


def test_an_animation_has_its_frames(tmp_path):
    shown = []

    def draw(ax, number):
        shown.append(number)
        return plotting.map_panel(frame(), ax=ax, limits=(0, 1), title=f"time {number}")

    path = plotting.animate(draw, 3, tmp_path / "clip.gif", size=(2, 2), dpi=40)
    with Image.open(path) as clip:
        assert getattr(clip, "n_frames", 1) == 3
    assert shown == [0, 1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["clip.gif"]
    with pytest.raises(InputError, match="must be writable"):
        plotting.animate(draw, 1, tmp_path / "no" / "clip.gif")
    with pytest.raises(InputError, match=r"must be a \.gif"):
        plotting.animate(draw, 1, tmp_path / "clip.mp4")


def test_forecasts_of_one_time_are_seen():
    ax = plotting.new_figure(1, 1, size=(4, 3)).axes[0]
    times = np.arange(5).astype("M8[D]")
    spans = [(times[at : at + 1], np.ones(1)) for at in range(1, 5)]
    told: dict[str, Any] = {
        "bands": [(at, np.array([[0.0, 1, 2, 3]])) for at, _ in spans],
        "ax": ax,
    }
    levels = (0.1, 0.3, 0.7, 0.9)
    plotting.forecast_against_truth(times, np.arange(5.0), {"model": spans}, levels=levels, **told)
    assert [line.get_marker() for line in ax.lines[1:]] == ["o"] * 4
    # Two bars of each forecast, and each band in the legend once.
    assert len(ax.collections) == 8
    labels = ["0.1 to 0.9", "0.3 to 0.7", "truth", "model"]
    assert sorted(ax.get_legend_handles_labels()[1]) == sorted(labels)
    ax = plotting.new_figure(1, 1, size=(4, 3)).axes[0]
    past = (times[:1], np.ones(1))
    plotting.quantile_bands(
        times[1:2], np.array([[1.0, 2.0, 3.0]]), (0.1, 0.5, 0.9), ax=ax, past=past
    )
    assert [line.get_marker() for line in ax.lines] == ["o", "."]
    (bar,) = ax.collections
    assert np.min(bar.get_linewidth()) > 1


@pytest.mark.parametrize("calendar", ["360_day", "noleap", "julian"])
def test_dates_of_every_calendar_are_drawn_in_their_year(calendar):
    told = {"periods": 5, "calendar": calendar, "use_cftime": True}
    times = np.asarray(xr.date_range("0999-12-30", **told))
    ax = plotting.new_figure(1, 1, size=(4, 3)).axes[0]
    plotting.forecast_against_truth(
        times, np.arange(5.0), {"model": [(times[1:], np.ones(4))]}, ax=ax
    )
    drawn = np.asarray(ax.lines[0].get_xdata()).astype("M8[D]")
    off = drawn - np.array([str(date)[:10] for date in times], "M8[D]")
    assert (abs(off) <= np.timedelta64(1, "D")).all()


def test_errors_of_one_lead_time_are_bars_with_names():
    ax = plotting.new_figure(1, 1, size=(4, 3)).axes[0]
    plotting.error_by_lead_time({"model": [2.0], "drift": [3.0]}, metric="MAE", unit="K", ax=ax)
    lengths = [bar.get_width() for bar in ax.patches]  # pyright: ignore[reportAttributeAccessIssue]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert dict(zip(names, lengths, strict=True)) == {"drift": 3.0, "model": 2.0}
    assert ax.get_xlabel() == "MAE (K) at lead time 1"
