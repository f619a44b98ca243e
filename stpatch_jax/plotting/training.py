"""What a training leaves: learning curves, confusion matrices, predictions against the truth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stpatch_jax.escapes import printable
from stpatch_jax.plotting.style import MODEL, NAIVE, QUIET, legend_above

# Names of more in all run into each other below an axis.
_MOST_LETTERS = 30


def confusion_matrix(counts: Sequence[Sequence[int]], classes: Sequence[str], *, ax: Axes) -> Axes:
    """Draws counts of true against predicted classes, shaded by their share of the true class.

    Rows are true classes, columns predicted ones; `classes` are their names.
    """
    table = np.asarray(counts)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        color = "white" if share[row, column] > 0.5 else "black"
        ax.text(column, row, str(count), ha="center", va="center", color=color)
    names = list(map(printable, classes))
    upright = 90 if sum(map(len, names)) > _MOST_LETTERS else 0
    ax.set_xticks(range(len(names)), names, rotation=upright)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    return ax


def agreement(
    predicted: np.ndarray, true: np.ndarray, *, name: str, ax: Axes, most: int = 5000
) -> Axes:
    """Draws predicted against true numbers [example], of many of them evenly spread ones.

    On the diagonal both are the same.
    """
    shown = np.linspace(0, len(true) - 1, min(most, len(true))).round().astype(int)
    ends = [min(np.min(predicted), np.min(true)), max(np.max(predicted), np.max(true))]
    ax.plot(ends, ends, color=QUIET, linewidth=1)
    ax.scatter(true[shown], predicted[shown], s=9, alpha=0.6, color=MODEL, linewidths=0)
    ax.set_xlabel(f"true {name}")
    ax.set_ylabel(f"predicted {name}")
    return ax


def learning_curve(
    metrics: Sequence[Mapping[str, Any]], *, ax: Axes, validation: str = "validation/mae"
) -> Axes:
    """Draws training loss per step and a validation metric where it was measured.

    `metrics` are the lines of `metrics.jsonl`, `validation` names one that gets an axis of its own
    on the right.
    """
    step = [line["step"] for line in metrics]
    loss = np.array([line.get("loss") for line in metrics], float)
    ax.plot(step, loss, color=QUIET, linewidth=0.6, alpha=0.7)
    smooth = max(1, len(loss) // 20)
    means = np.convolve(loss, np.ones(smooth) / smooth, mode="valid")
    ax.plot(step[smooth - 1 :], means, color=MODEL, label=f"training loss (mean of {smooth})")
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel("training loss")
    measured = [(line["step"], line[validation]) for line in metrics if validation in line]
    handles = ax.get_lines()[1:]
    if measured:
        right = ax.twinx()
        at, values = zip(*measured, strict=True)
        right.plot(at, values, color=NAIVE, marker="o", label=validation)
        right.set_ylabel(validation)
        handles = [*handles, *right.get_lines()]
    legend_above(ax, handles, columns=2)
    return ax
