"""Plots with matplotlib: every function draws on one Axes, with units, and returns it.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

MODEL, NAIVE, TRUTH = "#0072B2", "#D55E00", "#000000"


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
    locator = AutoDateLocator(minticks=3, maxticks=5)
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
        right.set_ylabel(f"{validation} (scaled units)")
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
