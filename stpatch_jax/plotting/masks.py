"""Masks: the class of each cell of a picture, in colours with names."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from stpatch_jax.plotting.style import COLOURS, colour_limits

# The first class is the background as a rule.
_COLOURS = (COLOURS[-1], *COLOURS[:-1])
_RIGHT, _UNKNOWN = "#EEEEEE", "#FFFFFF"


def class_colours(count: int) -> np.ndarray:
    """A colour for each class [class, 3] from 0 to 1, the first one black."""
    if count <= len(_COLOURS):
        return np.array([to_rgb(colour) for colour in _COLOURS[:count]])
    return np.concatenate(
        [np.zeros((1, 3)), colormaps["turbo"](np.linspace(0, 1, count - 1))[:, :3]]
    )


def class_map(
    labels: np.ndarray,
    *,
    ax: Axes,
    classes: Sequence[str],
    right: np.ndarray | None = None,
    title: str = "",
) -> Axes:
    """Draws the class of each cell [row, column] in its colour; cells below 0 stay white.

    With `right`, bool [row, column], only wrong cells have the colour of their class.
    """
    colours = np.concatenate([class_colours(len(classes)), [to_rgb(_UNKNOWN)]])
    picture = colours[np.where(labels < 0, len(classes), labels)]
    if right is not None:
        picture[right] = to_rgb(_RIGHT)
    return _draw(picture, ax, title)


def grey_picture(values: np.ndarray, *, ax: Axes, title: str = "") -> Axes:
    """Draws values [row, column] in shades of grey, of which a few outliers decide nothing."""
    low, high = colour_limits(values)
    grey = np.clip((values - low) / (high - low), 0, 1)
    return _draw(np.repeat(np.nan_to_num(grey)[..., None], 3, axis=-1), ax, title)


def _draw(picture: np.ndarray, ax: Axes, title: str) -> Axes:
    """Draws colours [row, column, 3] as cells alone: beside each other, axes would say little."""
    stretched = "auto" if 1 in picture.shape[:2] else "equal"
    ax.imshow(picture, interpolation="nearest", aspect=stretched)
    ax.set_title(title, fontsize="medium")
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def class_handles(classes: Sequence[str]) -> list[Rectangle]:
    """What a legend of classes shows: the colour and the name of each."""
    return [
        Rectangle((0, 0), 1, 1, facecolor=tuple(colour), label=name)
        for colour, name in zip(class_colours(len(classes)), classes, strict=True)
    ]
