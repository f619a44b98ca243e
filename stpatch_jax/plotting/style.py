"""What all plots share: colours, figures, legends."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Colormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.text import Text

from stpatch_jax.escapes import printable

MODEL, NAIVE, TRUTH = "#0072B2", "#D55E00", "#000000"
MISSING, PADDING, QUIET = "#CC79A7", "#BBBBBB", "#999999"
HIDDEN = "#9FD9C3"  # A pale green: attributions are purple and orange.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
"""Those of Okabe and Ito, which colour-blind readers can tell apart."""


class _PlainFigure(Figure):
    """A figure that shows texts as they are: names out of files are no formulas."""

    def draw(self, renderer: Any) -> None:
        with self._plain():
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        layout, dpi, own = self.get_layout_engine(), options.get("dpi"), self.dpi
        if layout is None or not isinstance(dpi, int):
            super().savefig(fname, **options)
            return
        # Laid out by `Figure.savefig` it would be drawn once more, for the places alone.
        self.set_dpi(dpi)
        with self._plain():
            layout.execute(self)
        self.set_layout_engine(None)
        try:
            super().savefig(fname, **options)
        finally:
            self.set_layout_engine(layout)
            self.set_dpi(own)

    @contextlib.contextmanager
    def _plain(self) -> Iterator[None]:
        for text in self.findobj(Text):
            text.set_parse_math(False)
            text.set_text(printable(text.get_text(), keep="\n"))
        with warnings.catch_warnings():
            # A sign that the font lacks is a box.
            warnings.filterwarnings("ignore", "Glyph ", UserWarning)
            yield


def new_figure(rows: int, columns: int, *, size: tuple[float, float]) -> Figure:
    """A figure with a grid of Axes that no global state knows; `size` in inches."""
    figure = _PlainFigure(figsize=size, layout="constrained")
    figure.subplots(rows, columns, squeeze=False)
    return figure


def naive_style() -> dict[str, Any]:
    """How the line of a naive forecast looks."""
    return {"color": NAIVE, "linewidth": 1.0, "linestyle": (0, (2, 1.5))}


def labelled(ax: Axes) -> list[Artist]:
    """One handle for each label, as they were drawn."""
    handles, labels = ax.get_legend_handles_labels()
    return list(dict(zip(labels, handles, strict=True)).values())


def legend_above(ax: Axes, handles: list[Any], *, columns: int) -> None:
    """A legend above the Axes, where nothing drawn can run through it."""
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    ax.legend(handles=handles, frameon=False, fontsize="small", ncols=columns, **place)


def date_axis(axis: Axis) -> None:
    """Few dates on an axis, each as short as its neighbours allow."""
    locator = AutoDateLocator(minticks=2, maxticks=6)
    axis.set_major_locator(locator)
    axis.set_major_formatter(ConciseDateFormatter(locator))


def colour_map(name: str) -> Colormap:
    """A colour map of matplotlib in which missing values stand out."""
    return colormaps[name].with_extremes(bad=MISSING)


def colour_limits(values: np.ndarray, *, diverging: bool = False) -> tuple[float, float]:
    """Values at the ends of the colours, which a few outliers cannot stretch.

    Those of the first and of the last hundredth of what is finite, or with 0 in the middle; 0 and 1
    where nothing is.

    Args:
        values: Values of any shape [...].
        diverging: Whether 0 is in the middle.

    >>> colour_limits(np.array([-1.0, 3.0, np.nan]), diverging=True)
    (-3.0, 3.0)
    """
    known = np.asarray(values, float)[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    if diverging:
        most = float(np.abs(known).max()) or 1.0
        return -most, most
    low, high = map(float, np.percentile(known, (1, 99)))
    return low, high if high > low else low + 1
