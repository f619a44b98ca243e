"""Where the windows of a tiled prediction lie and where their outputs go: NumPy, nothing traced."""

import dataclasses
import functools
import math
import operator
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stpatch_jax.errors import InputError, check_size, listed
from stpatch_jax.patches.canonical import axis_name
from stpatch_jax.patches.lowerings import Axes
from stpatch_jax.patches.windows import AxisWindows, Windows

Scale = int | float | Fraction | Sequence[int | float | Fraction]
"""Output cells per input cell: one number for all window axes or one for each."""
Scales = Scale | Mapping[str, Scale]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where one output of a function lies in its result; hashable.

    Attributes:
        axes: The windows of the result along (time, *space), in its own cells. With lead times the
            first counts windows along time instead of cells.
        lead: Number of lead times, an axis behind the first; None where the output has the times of
            its window.
    """

    axes: Axes
    lead: int | None

    @property
    def window(self) -> tuple[int, ...]:
        """What a function returns for a window, without batch and channel."""
        extents = tuple(axis.window for axis in self.axes)
        return extents if self.lead is None else (self.lead, *extents[1:])

    @property
    def extent(self) -> tuple[int, ...]:
        """The cells of a window in the axes of its result, without batch and channel."""
        return self.window if self.lead is None else (1, *self.window)

    @property
    def places(self) -> tuple[int, ...]:
        """Position of every one of `axes` in the result, behind one batch axis."""
        later = 2 if self.lead is None else 3
        return (1, *range(later, later + len(self.axes) - 1))

    def shape(self, *, padded: bool) -> tuple[int, ...]:
        """Extent of the result without batch and channel, with or without its padding."""
        extents = [axis.size + padded * (axis.lo + axis.hi) for axis in self.axes]
        return tuple(extents if self.lead is None else [extents[0], self.lead, *extents[1:]])


def make_layout(axes: Axes, scale: Scale, horizon: int | None) -> Layout:
    """Where an output of a declared scale lies, for windows of dilation 1."""
    factors = factors_of(scale, len(axes))
    scaled = list(map(_scaled, range(len(axes)), axes, factors))
    if horizon is None:
        return Layout(tuple(scaled), None)
    check_size("horizon", horizon)
    # Forecasts of several starts for one time stand side by side: nothing is blended along time.
    windows = AxisWindows(axes[0].count, 1, 1, 1, 0, 0, "constant")
    return Layout((windows, *scaled[1:]), horizon)


def factors_of(scale: Scale, rank: int) -> list[Fraction]:
    """Output cells per input cell for each of `rank` axes."""
    scales = list(scale) if isinstance(scale, Sequence | np.ndarray) else [scale] * rank
    try:
        # A third is no binary number; nobody means a denominator beyond a thousand.
        factors = [Fraction(factor).limit_denominator(1000) for factor in scales]
    except (TypeError, ValueError, OverflowError):
        factors = []
    if len(factors) != rank or any(factor <= 0 for factor in factors):
        raise InputError(
            f"scale must be a positive number, or one for each of the {rank} window axes, got "
            f"{scale!r}; give output cells per input cell"
        )
    return factors


def _scaled(position: int, axis: AxisWindows, factor: Fraction) -> AxisWindows:
    """The windows of an axis in output cells; what lies in padding is dropped, but on a ring."""
    # Windows may end in front of the last cell or of the padding: the end counts, not `axis.hi`.
    end = axis.first(axis.count - 1) + axis.window
    hi = max(end - axis.lo - axis.size, 0)
    cells = {"length": axis.size, "window": axis.window, "stride": axis.stride, "padding": axis.lo}
    for name, number in cells.items():
        # Where there is one window nobody steps to the next.
        needed = name != "stride" or axis.count > 1
        if needed and (number * factor).denominator > 1:
            raise InputError(
                f"scale must make whole output cells, got {factor} times the {name} of {number} "
                f"cells along {axis_name(position)}; change the {name} or pad the field"
            )
    lengths = (axis.size, axis.window, axis.lo, hi, axis.back)
    size, window, lo, hi, back = (int(cells * factor) for cells in lengths)
    stride = max(int(axis.stride * factor), 1)
    # What a function says of edge or mirrored cells is no news of the cells that they copy.
    mode = "wrap" if axis.mode == "wrap" else "constant"
    return AxisWindows(size, window, stride, 1, lo, hi, mode, back)


def layouts_of(
    output: Any, axes: Axes, scale: Scales, horizon: int | None, *, windows: int
) -> tuple[Layout, ...]:
    """The layout of every output, checked against the shapes returned for some `windows`."""
    layouts = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(output):
        name = jax.tree_util.keystr(path)
        layout = make_layout(axes, _declared(scale, path), horizon)
        _require_output(name, leaf.shape, (windows, *layout.window), horizon)
        layouts.append(layout)
    if not layouts:
        raise InputError("fn must return at least one array, got none; return its prediction")
    return tuple(layouts)


def _declared(scale: Scales, path: Sequence[Any]) -> Scale:
    """The scale of one output."""
    if not isinstance(scale, Mapping):
        return scale
    key = getattr(path[0], "key", "") if path else ""
    if key not in scale:
        raise InputError(
            f"scale must have an entry for the output {key or 'without a name'}, got "
            f"{listed(scale)}; name every output, or give one scale for all"
        )
    return scale[key]


def _require_output(
    name: str, got: tuple[int, ...], expected: tuple[int, ...], horizon: int | None
) -> None:
    where = f"the output{name and f' {name}'} of fn"
    if len(got) != len(expected) + 1 or got[0] != expected[0]:
        raise InputError(
            f"{where} must have the axes {(*expected, 'channel')} for {expected[0]} windows, got "
            f"shape {got}; return one field for each window"
        )
    for position, (cells, needed) in enumerate(zip(got[1:], expected[1:], strict=False)):
        if cells != needed:
            what = "scale" if position or horizon is None else "horizon"
            raise InputError(
                f"{where} must have {needed} cells along {axis_name(position)} by the declared "
                f"{what}, got {cells} in shape {got}; declare the {what} that fn has"
            )


def without_padding(padded: Any, axis: AxisWindows, position: int) -> Any:
    """Drops the padding of an axis of a NumPy or JAX array; on a ring, adds it where it belongs."""
    return functools.reduce(operator.add, ring_parts(padded, axis, position))


def ring_parts(padded: Any, axis: AxisWindows, position: int) -> list[Any]:
    """An axis without its padding, and on a ring what its padding adds to it turn by turn."""
    size, end = axis.size, padded.shape[position]

    def part(first: int, last: int) -> Any:
        return padded[(*(slice(None),) * position, slice(first, last))]

    parts = [padded if end == size else part(axis.lo, axis.lo + size)]
    if axis.mode != "wrap" or end == size:
        return parts
    pad = jnp.pad if isinstance(padded, jax.Array) else np.pad
    # Padding may go round the ring more than once; turn 0 is the inside itself.
    for turn in range(-(-axis.lo // size) * -1, -(-axis.hi // size) + 1):
        start = axis.lo + turn * size
        first, last = max(start, 0), min(start + size, end)
        if turn and first < last:
            widths = [(0, 0)] * padded.ndim
            widths[position] = (first - start, start + size - last)
            parts.append(pad(part(first, last), widths))
    return parts


def used_windows(windows: Windows, region: np.ndarray | None, batch: int) -> np.ndarray:
    """The windows to predict, `[n, 1 + window axes]`: number of the example, place in the grid.

    Of a batch of examples; those without a True cell of the region (time, *space) are left out.
    """
    used = np.ones(windows.grid, bool)
    if region is not None:
        if region.shape != windows.shape or region.dtype != bool or not region.any():
            raise InputError(
                f"region must be boolean of the field's (time, *space) {windows.shape} with a cell "
                f"that is True, got {region.dtype} {region.shape}; mark the cells to predict"
            )
        used = region
        for position, axis in enumerate(windows.axes):
            used = _any_of(used, _cells_of(axis), position)
    grid = np.argwhere(used).astype(np.int32)
    example = np.repeat(np.arange(batch, dtype=np.int32), len(grid))
    return np.concatenate([example[:, None], np.tile(grid, (batch, 1))], axis=1)


def region_of(layout: Layout, axes: Axes, region: np.ndarray) -> np.ndarray:
    """The region in the cells of a result, without lead times (an axis of extent 1)."""
    for position, (axis, out) in enumerate(zip(axes, layout.axes, strict=True)):
        if position == 0 and layout.lead is not None:
            # A forecast is wanted where its context has a cell of the region.
            cells = _cells_of(axis)
        else:
            # An output cell lies over these cells of the field, wholly or in part.
            edges = Fraction(axis.size, out.size)
            spans = [(math.floor(i * edges), math.ceil((i + 1) * edges)) for i in range(out.size)]
            cells = [np.arange(first, stop) for first, stop in spans]
        region = _any_of(region, cells, position)
    return region


def _cells_of(axis: AxisWindows) -> list[np.ndarray]:
    """The cells of the field that every window along an axis reads."""
    return [cells[cells >= 0] for cells in axis.source_cells()]


def _any_of(marked: np.ndarray, groups: Sequence[np.ndarray], position: int) -> np.ndarray:
    """Whether any cell of each group along one axis is marked."""
    return np.stack([marked.take(group, position).any(position) for group in groups], position)
