"""How much every sample of a window counts where windows overlap: NumPy, nothing traced."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from stpatch_jax.errors import InputError, check_choice
from stpatch_jax.patches.lowerings import Axes
from stpatch_jax.patches.windows import AxisWindows, Windows

BlendName = Literal["uniform", "linear", "hann", "gaussian", "crop"]
BLEND_NAMES: tuple[str, ...] = get_args(BlendName)
Blend = BlendName | tuple[str, float] | np.ndarray
"""A blend by name, `("gaussian", width)` with the width as a share of the window, or weights of the
shape of a window (see `blend_weights`)."""


@dataclasses.dataclass(frozen=True)
class Weighting:
    """A blend on windows of one shape; hashable.

    The weight of a sample is the product of one table for each axis, `[1 or windows, window]`, and
    of the own weights `[*window]`, if there are any.
    """

    name: str
    width: float
    window: tuple[int, ...]
    own: bytes

    @classmethod
    def of(cls, blend: Any, window: tuple[int, ...]) -> "Weighting":
        """Checks a blend for windows of a shape."""
        if isinstance(blend, tuple) and len(blend) == 2 and blend[0] == "gaussian":
            width = blend[1] if isinstance(blend[1], float | int | np.number) else 0
            if not 0 < width < np.inf:
                raise InputError(
                    f"the width of a gaussian blend must be a share of the window above 0, got "
                    f'{blend[1]!r}; give ("gaussian", 0.125), say'
                )
            return cls("gaussian", float(width), window, b"")
        if not hasattr(blend, "shape") and not isinstance(blend, list):
            check_choice("blend", blend, BLEND_NAMES)
            return cls(str(blend), 1 / 8, window, b"")
        weights, got = np.full((), np.nan), type(blend).__name__
        with contextlib.suppress(TypeError, ValueError):  # among them that of a traced array
            weights = np.asarray(blend, np.float64)
            got = f"shape {weights.shape}"
        sound = np.isfinite(weights).all() and (weights >= 0).all()
        if weights.shape != window or not sound or not weights.any():
            raise InputError(
                f"weights must be an array of shape {window}, as the output of a window, finite "
                f"with none below zero and not all zero, got {got}; give one weight per cell"
            )
        return cls("own", 0.0, window, weights.tobytes())

    @property
    def is_whole(self) -> bool:
        """Whether weights are whole numbers, so that sums of whole numbers stay exact."""
        return self.name in ("uniform", "crop")

    def tables(self, axes: Axes) -> list[np.ndarray]:
        """The weights along each axis, `[1, window]`, or `[windows, window]` where they differ."""
        if self.name == "crop":
            return [_nearest(axis) for axis in axes]
        return [self.taper(extent)[None] for extent in self.window]

    def taper(self, extent: int) -> np.ndarray:
        """The weights of one axis where all windows have the same, float64 `[window]`."""
        sample = np.arange(extent)
        if self.name == "linear":
            return np.minimum(sample + 1.0, extent - sample)
        if self.name == "hann":
            return np.sin(np.pi * (sample + 0.5) / extent) ** 2
        if self.name == "gaussian":
            # Without a floor, far samples would weigh less than the rounding of the others.
            sigmas = (sample - (extent - 1) / 2) / (extent * self.width)
            return np.maximum(np.exp(-0.5 * sigmas**2), 1e-3)
        return np.ones(extent)

    def core(self, mask: np.ndarray | None) -> np.ndarray | None:
        """Weights `[*window]` that are no product over the axes: own ones, within a footprint."""
        own = np.frombuffer(self.own).reshape(self.window) if self.own else None
        if own is None or mask is None:
            return own if mask is None else mask.astype(np.float64)
        return own * mask

    def factors(self, windows: Windows) -> list[np.ndarray]:
        """Weights without the footprint, as factors that broadcast to `(*grid, *window)`."""
        tables, rank = self.tables(windows.axes), len(self.window)
        if self.own:
            return [_on_grid(np.frombuffer(self.own).reshape(self.window))]
        if self.name != "crop":
            return [_on_grid(outer([table[0] for table in tables]))]
        forms = np.ones((rank, 2 * rank), int)
        for position, (form, table) in enumerate(zip(forms, tables, strict=True)):
            form[[position, rank + position]] = table.shape
        return [table.reshape(form) for table, form in zip(tables, forms, strict=True)]

    def totals(self, windows: Windows) -> list[np.ndarray]:
        """What weights add up to: factors that broadcast to `(time, *space)`, 0 where none is."""
        return folded(windows.axes, self.tables(windows.axes), self.core(windows.mask))


def outer(factors: Sequence[np.ndarray]) -> np.ndarray:
    """The product of one factor per axis, `(len(factors[0]), len(factors[1]), ...)`."""
    return functools.reduce(np.multiply, np.ix_(*factors))


def _on_grid(weights: np.ndarray) -> np.ndarray:
    return weights.reshape((1,) * weights.ndim + weights.shape)


def folded(axes: Axes, tables: Sequence[np.ndarray], core: np.ndarray | None) -> list[np.ndarray]:
    """Adds the weights of all windows up in the cells they read: factors of the sums, to broadcast.

    They are tables `[1 or windows, window]` for each axis times a core `[*window]`, if any.
    """
    # Without a core the sum separates: a compiled program holds one small factor per axis.
    if core is None:
        return list(np.ix_(*map(fold_axis, axes, tables)))
    for position, (axis, table) in enumerate(zip(axes, tables, strict=True)):
        core = np.moveaxis(_fold_first(axis, table, np.moveaxis(core, position, 0)), 0, position)
    return [core]


def fold_axis(axis: AxisWindows, table: np.ndarray) -> np.ndarray:
    """Adds weights `[window]` or `[windows, window]` along one axis to the cells that are read.

    Example:
        >>> fold_axis(AxisWindows(6, 4, 2, 1, 0, 0, "constant"), np.ones(4)).tolist()
        [1.0, 1.0, 2.0, 2.0, 1.0, 1.0]
    """
    cells = axis.source_cells()
    inside = cells >= 0
    total = np.zeros(axis.size, table.dtype)
    np.add.at(total, cells[inside], np.broadcast_to(table, cells.shape)[inside])
    return total


def _fold_first(axis: AxisWindows, table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Adds `table[g, i] * values[i]` to the cell that sample `i` of window `g` reads."""
    cells = axis.source_cells()
    table = np.broadcast_to(table, cells.shape)
    total = np.zeros((axis.size, *values.shape[1:]), np.result_type(table, values))
    # From the last sample on a cell meets its windows in their order.
    for sample in reversed(range(axis.window)):
        (read,) = np.nonzero(cells[:, sample] >= 0)
        at, added = cells[read, sample], np.multiply.outer(table[read, sample], values[sample])
        if len(np.unique(at)) == len(at):
            total[at] += added
        else:  # padding repeats a cell
            np.add.at(total, at, added)
    return total


def _nearest(axis: AxisWindows) -> np.ndarray:
    """1 for the sample among those that read a cell which comes first by `nearest_first`, else 0.

    Of equal ones it is that of the first window: every cell that is read has exactly one.
    """
    cells = axis.source_cells()
    order = np.broadcast_to(nearest_first((axis.window,)), cells.shape)
    order = np.argsort(order, axis=None, kind="stable")
    read, first = np.unique(cells.ravel()[order], return_index=True)
    own = np.zeros(cells.shape)
    own.flat[order[first[read >= 0]]] = 1
    return own


def nearest_first(window: tuple[int, ...]) -> np.ndarray:
    """The place of every sample by distance from the window's centre, int32 `[*window]`.

    Axes count in window extents. Later samples come before equally near ones, so that earlier
    windows do; the order is the same for each axis alone and for all together.
    """
    # Whole numbers, because a tie must not depend on rounding.
    common = math.lcm(*window)
    centres = [(2 * np.arange(w) + 1 - w) * (common // w) for w in window]
    squares = functools.reduce(np.add.outer, [centre**2 for centre in centres])
    order = np.argsort(squares.ravel()[::-1], kind="stable")
    places = np.empty(squares.size, np.int32)
    places[squares.size - 1 - order] = np.arange(squares.size)
    return places.reshape(window)
