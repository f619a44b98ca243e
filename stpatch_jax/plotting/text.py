"""Attributions of the words or signs of a text, over the text itself."""

import textwrap
from collections.abc import Sequence
from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from stpatch_jax.errors import require
from stpatch_jax.plotting.style import TRUTH, colour_limits, colour_map

_COLUMNS = 88
_FEWEST_ROWS = 4  # Fewer leave no room for the colours and their numbers.
# Beyond this share of the largest attribution the ground is too dark for black letters.
_DARK = 0.6


def attribution_over_text(
    words: Sequence[str],
    attribution: xr.DataArray,
    *,
    ax: Axes,
    chosen: int | None = None,
    title: str = "",
) -> Axes:
    """Writes a text on a ground that is coloured by the attribution of each of its words.

    Words or signs are [time], an empty one is not drawn; attributions are [time] with `units`. The
    `chosen` word is put into a box.

    Raises:
        InputError: There is not one attribution for each word.
    """
    require(
        attribution.ndim == 1 and attribution.size == len(words),
        f"an attribution of {len(words)} words must be one number each, got "
        f"{dict(attribution.sizes)}; sum it over its other axes",
    )
    values = attribution.values
    low, high = colour_limits(values, diverging=True)
    colours = ScalarMappable(Normalize(low, high), colour_map("PuOr"))
    places = text_places(words)
    for number, (word, value) in enumerate(zip(words, values, strict=True)):
        row, column = places[number]
        ground: Any = colours.to_rgba(value)
        box = Rectangle((column, row), len(word), 0.8, facecolor=ground, edgecolor="none")
        if number == chosen:
            box.set(edgecolor=TRUTH, zorder=1.5)
        ax.add_patch(box)
        ink: dict[str, Any] = {"family": "monospace", "fontsize": 9, "parse_math": False}
        ink["color"] = "white" if abs(value) > _DARK * high else "black"
        middle = column + len(word) / 2, row + 0.44
        ax.text(*middle, word, ha="center", va="center", **ink)
    ax.set_xlim(0, _COLUMNS)
    ax.set_ylim(max(text_rows(words), _FEWEST_ROWS) - 0.1, -0.1)
    ax.set_axis_off()
    ax.set_title(title, fontsize="medium")
    if ax.figure is not None:
        unit = str(attribution.attrs.get("units", "score"))
        bar = ax.figure.colorbar(colours, ax=ax, fraction=0.05, aspect=12)
        bar.set_label("\n".join(textwrap.wrap(unit, 14)), fontsize="small")
    return ax


def text_places(words: Sequence[str]) -> list[tuple[int, int]]:
    """Row and column where each word of a text begins, in lines of 88 letters.

    Words are a column apart, signs stand side by side.

    >>> text_places(["not", "bad"]), text_places(["n", "o"])
    ([(0, 0), (0, 4)], [(0, 0), (0, 1)])
    """
    gap = int(max(map(len, words), default=1) > 1)
    row = column = 0
    places = []
    for word in words:
        if column and column + len(word) > _COLUMNS:
            row, column = row + 1, 0
        places.append((row, column))
        column += len(word) + gap * bool(word)
    return places


def text_rows(words: Sequence[str]) -> int:
    """Number of lines of a text.

    >>> text_rows(["a"] * 100)
    2
    """
    return text_places(words)[-1][0] + 1 if words else 1
