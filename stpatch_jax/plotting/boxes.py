"""Boxes over a frame: what was detected, and what is there."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from stpatch_jax.errors import require
from stpatch_jax.plotting.style import COLOURS, labelled, legend_above

_TRUE = COLOURS[6]


def detection_boxes(
    frame: np.ndarray,
    boxes: np.ndarray,
    *,
    ax: Axes,
    labels: Sequence[str] | None = None,
    scores: Sequence[float] | None = None,
    true_boxes: np.ndarray | None = None,
    title: str = "",
) -> Axes:
    """Draws boxes over a frame, one colour per class, with their scores.

    Args:
        frame: Frame [row, column], [row, column, 1], or [row, column, 3] in colours, from 0 to 255
            as integers or from 0 to 1 as floats.
        boxes: [n, 4] bounds `(lo..., hi...)` in cells: first row, first column, last row + 1, last
            column + 1.
        ax: Where to draw.
        labels: Name of the class of each box [n].
        scores: Score of each box [n].
        true_boxes: [m, 4] bounds of what is really there, drawn dashed.
        title: What is drawn.

    Raises:
        InputError: If the shapes do not fit each other.
    """
    boxes = np.asarray(boxes, float)
    frame = np.asarray(frame)
    require(
        boxes.ndim == 2 and boxes.shape[1] == 4,
        f"boxes must have the shape (n, 4), got {boxes.shape}; give (row, column, row, column) for "
        "each",
    )
    for name, values in (("labels", labels), ("scores", scores)):
        require(
            values is None or len(values) == len(boxes),
            f"{name} must be one for each of {len(boxes)} boxes, got "
            f"{0 if values is None else len(values)}; give one each",
        )
    frame = frame[..., 0] if frame.ndim == 3 and frame.shape[-1] == 1 else frame
    ax.imshow(frame, cmap="gray", interpolation="nearest")
    names = ["detected"] * len(boxes) if labels is None else list(labels)
    colours = {name: COLOURS[at % 6] for at, name in enumerate(sorted(set(names)))}
    for number, (box, name) in enumerate(zip(boxes, names, strict=True)):
        _draw(ax, box, edgecolor=colours[name], linewidth=1.8, label=name)
        if scores is not None:
            _score(ax, box, scores[number], colours[name])
    for box in [] if true_boxes is None else np.asarray(true_boxes, float):
        _draw(ax, box, edgecolor=_TRUE, linewidth=1.4, linestyle=(0, (3, 2)), label="true")
    ax.set_xlabel("width (cells)")
    ax.set_ylabel("height (cells)")
    handles = labelled(ax)
    ax.set_title(title, fontsize="medium", pad=24 if handles else None)
    if handles:
        legend_above(ax, handles, columns=min(len(handles), 5))
    return ax


def _draw(ax: Axes, box: np.ndarray, **style: Any) -> None:
    top, left, bottom, right = box
    corner = (left - 0.5, top - 0.5)
    ax.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, **style))


def _score(ax: Axes, box: np.ndarray, score: float, colour: str) -> None:
    """The score in the upper left corner of its box, never outside of the frame."""
    back: dict[str, Any] = {"facecolor": colour, "edgecolor": "none", "pad": 1, "alpha": 0.85}
    top, left = max(box[0], 0) - 0.3, max(box[1], 0) - 0.3
    ink: dict[str, Any] = {"va": "top", "fontsize": "x-small", "color": "white"}
    ax.text(left, top, f"{score:.2f}", bbox=back, clip_on=True, **ink)
