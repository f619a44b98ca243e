"""How a field larger than memory is cut into regions that are predicted one by one."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from stpatch_jax.errors import InputError
from stpatch_jax.patches.canonical import Padding, axis_name
from stpatch_jax.patches.lowerings import Axes
from stpatch_jax.patches.windows import AxisWindows, WindowSpec, source_cell


@dataclasses.dataclass(frozen=True)
class AxisRegions:
    """One axis of a field in pieces; every piece is predicted from as many windows as the others.

    A piece has all windows that reach into it, so that its values are those of a prediction of the
    whole axis. Windows beyond, that make up the number, do not touch it.

    Attributes:
        size: Length of what is cut: cells, or windows along time where forecasts are made.
        extent: Length of a piece.
        factor: Output cells per cell.
        whole: Whether the axis is one piece with the padding of its spec, as a ring must be.
    """

    axis: AxisWindows
    size: int
    extent: int
    factor: Fraction
    of_windows: bool
    whole: bool

    @property
    def count(self) -> int:
        """Number of pieces."""
        return -(-self.size // self.extent)

    @functools.cached_property
    def windows(self) -> int:
        """Windows that each piece is predicted from."""
        return max(stop - start for start, stop in map(self._needed, range(self.count)))

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """First cell of every window."""
        return np.asarray(self.axis.starts)

    def _piece(self, number: int) -> tuple[int, int]:
        return number * self.extent, min((number + 1) * self.extent, self.size)

    def _needed(self, number: int) -> tuple[int, int]:
        """The windows that reach into a piece."""
        first, stop = self._piece(number)
        if self.of_windows:
            return first, stop
        # Those that start before its end, less those that end before its start.
        reach = first - self.axis.window, stop - 1
        start, stop = np.searchsorted(self.starts, reach, side="right")
        return int(start), int(stop)

    def first_window(self, number: int) -> int:
        """The first window of a piece."""
        return min(self._needed(number)[0], self.axis.count - self.windows)

    @property
    def padding(self) -> Padding:
        """That of a slab: of FLUSH windows the last may be in it, or not."""
        if self.axis.back:
            return "FLUSH"
        return (self.axis.lo, self.axis.hi) if self.whole else (0, 0)

    def cells(self, number: int) -> np.ndarray:
        """The cells of the field that a piece is predicted from; outside of it in padding."""
        if self.whole:
            return np.arange(self.size)
        first = self.first_window(number)
        last = self.starts[first + self.windows - 1]
        return np.arange(self.starts[first], last + self.axis.window)

    def result(self, number: int) -> slice:
        """Where a piece lies in the result."""
        first, stop = self._piece(number)
        return slice(int(first * self.factor), int(stop * self.factor))

    def own(self, number: int) -> slice:
        """Where a piece lies in what is predicted for it."""
        first, stop = self._piece(number)
        start = 0
        if self.of_windows:
            start = self.first_window(number)
        elif not self.whole:
            start = int(self.starts[self.first_window(number)])
        return slice(int((first - start) * self.factor), int((stop - start) * self.factor))


@dataclasses.dataclass(frozen=True)
class Regions:
    """All regions of a field, numbered from 0 with the last axis running fastest."""

    spec: WindowSpec
    axes: tuple[AxisRegions, ...]

    def __len__(self) -> int:
        return math.prod(axis.count for axis in self.axes)

    def pieces(self, region: int) -> Iterator[tuple[AxisRegions, int]]:
        """Every axis with the piece of a region."""
        numbers = np.unravel_index(region, [axis.count for axis in self.axes])
        return zip(self.axes, map(int, numbers), strict=True)

    @property
    def slab(self) -> tuple[int, ...]:
        """Cells (time, *space) that every region is predicted from."""
        return tuple(len(axis.cells(0)) for axis in self.axes)

    @property
    def slab_spec(self) -> WindowSpec:
        """The windows of such a slab."""
        return WindowSpec(
            [axis.axis.window for axis in self.axes],
            stride=[axis.axis.stride for axis in self.axes],
            padding=[axis.padding for axis in self.axes],
            padding_mode=self.spec.padding_mode,
            fill_value=self.spec.fill_value,
            footprint=self.spec.footprint,
        )

    @property
    def chunks(self) -> tuple[int, ...]:
        """Extent of a region in the result, (time or windows, *space)."""
        return tuple(axis.result(0).stop for axis in self.axes)


def make_regions(
    spec: WindowSpec,
    axes: Axes,
    factors: Sequence[Fraction],
    *,
    horizon: int | None,
    extents: Sequence[int | None] | None,
    most: int,
    pieces: Sequence[int] | None,
) -> Regions:
    """Cuts a field into regions.

    `extents` are the cells of a region along (time, *space), None for a whole axis, rounded up to
    whole strides and to whole `pieces` of the result, so that no two regions write in one; with a
    horizon the first counts windows. None chooses, up to slabs of `most`.
    """
    # With a horizon, pieces along time are of windows (each one forecast), not of cells.
    units = [1 if horizon and not at else axis.stride for at, axis in enumerate(axes)]
    sizes = [axis.count if horizon and not at else axis.size for at, axis in enumerate(axes)]
    factors = [Fraction(1) if horizon and not at else factor for at, factor in enumerate(factors)]
    if pieces is not None:
        each = list(zip(units, factors, pieces, strict=True))
        units = [unit * (unit * factor / cells).denominator for unit, factor, cells in each]
    # On a ring the first windows reach the last cells: no piece of it stands alone.
    rings = [axis.mode == "wrap" and axis.lo + axis.hi > 0 for axis in axes]

    def cut(extents: Sequence[int]) -> Regions:
        parts = []
        for at, axis in enumerate(axes):
            of_windows = bool(horizon) and at == 0
            # Whole strides, so that every piece begins alike in its windows and one program does.
            extent = min(-(-extents[at] // units[at]) * units[at], sizes[at])
            whole = rings[at] and not of_windows
            parts.append(AxisRegions(axis, sizes[at], extent, factors[at], of_windows, whole))
        return Regions(spec, tuple(parts))

    if extents is not None:
        if len(extents) != len(axes) or any(e is not None and e < 1 for e in extents):
            raise InputError(
                f"region must have one extent for each of the {len(axes)} axes from "
                f"{axis_name(0)} on, got {tuple(extents)}; give cells, or None for a whole axis"
            )
        asked = zip(extents, sizes, rings, strict=True)
        return cut([size if ring or e is None else e for e, size, ring in asked])
    chosen = list(sizes)
    while math.prod((regions := cut(chosen)).slab) > most:
        # Halved until a slab fits. Time first: files keep it in pieces more often than space; then
        # the axis with most strides, since compact slabs read the fewest cells twice.
        counted = zip(chosen, units, rings, strict=True)
        strides = [0 if ring else -(-extent // unit) for extent, unit, ring in counted]
        if max(strides) < 2:
            break  # one stride of each axis: nothing is left to halve
        at = 0 if strides[0] > 1 else int(np.argmax(strides))
        chosen[at] = -(-strides[at] // 2) * units[at]
    return regions


def field_cells(axis: AxisRegions, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cells of the field that are read for a piece, and which of them are constant padding."""
    source = source_cell(cells, axis.axis.size, axis.axis.mode)
    return source, (source != cells) & (axis.axis.mode == "constant")
