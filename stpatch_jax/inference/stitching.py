"""How a result grows window by window: held whole, or swept along with what is done let go."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stpatch_jax.inference.blending import (
    Weights,
    add_mean,
    add_sum,
    blended_dtype,
    corner,
    finished,
    start,
)
from stpatch_jax.inference.tiles import Layout
from stpatch_jax.patches.windows import AxisWindows

# Cells that are finished at once, at least, so that a device has something to do.
_BUSY_CELLS = 2**14


@dataclasses.dataclass(frozen=True)
class Output:
    """One output of a function and what becomes of it.

    `windows` are its shape and dtype for a batch, and `region` says which cells of its result,
    without lead times, hold more than the fill; None for all.
    """

    layout: Layout
    weights: Weights
    region: Any
    windows: Any

    def result(self, blend: list[jax.Array], fill: jax.Array, *, mean: bool) -> jax.Array:
        """What the blend of all windows says, `[example, time, *space, channel]`."""
        values = finished(blend, self.layout, self.weights, fill, mean=mean)
        if self.region is not None:
            region = self.region if self.layout.lead is None else self.region[:, None]
            values = jnp.where(region[None, ..., None], values, fill.astype(values.dtype))
        return values.astype(blended_dtype(self.windows.dtype))


@dataclasses.dataclass(frozen=True)
class Whole:
    """All results at once, as running means or as weighted sums."""

    outputs: Sequence[Output]
    fill: jax.Array
    mean: bool

    def start(self, examples: int, inputs: Any) -> Any:
        """The state before any window."""
        blends = [start(one.layout, one.weights, examples, one.windows) for one in self.outputs]
        return _varying(blends, inputs)

    def add(
        self, blends: Any, values: Sequence[jax.Array], place: jax.Array, fresh: jax.Array | None
    ) -> Any:
        """Adds what a function says of the window at a place, unless it was there before."""
        add, added = add_mean if self.mean else add_sum, []
        for one, blend, value in zip(self.outputs, blends, values, strict=True):
            at = corner(place, one.layout, blend[0].ndim)
            added.append(add(blend, value, one.layout, one.weights, place, fresh, at))
        return added

    def results(self, blends: Any) -> list[jax.Array]:
        """The results after the last window."""
        both = zip(self.outputs, blends, strict=True)
        return [one.result(blend, self.fill, mean=self.mean) for one, blend in both]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Results that are finished stride by stride while windows come in the order of the grid.

    It goes along the first axis that has several windows: once a window begins in another stride
    nothing is added to those behind it any more. On a ring the first stride is done with the last
    window, so there, and where there is one window, the whole axis counts as one. A stride is taken
    in slabs, as thin as keeps a device busy, since what is made of them is held beside the blends.
    """

    layouts: tuple[Layout, ...]

    @functools.cached_property
    def axis(self) -> int:
        """The window axis that is swept along."""
        several = [at for at, axis in enumerate(self.layouts[0].axes) if axis.count > 1]
        return several[0] if several else 0

    @property
    def position(self) -> int:
        """The same axis in a result behind one batch axis."""
        return self.layouts[0].places[self.axis]

    @functools.cached_property
    def strides(self) -> int:
        """Strides of one example."""
        axis = self.layouts[0].axes[self.axis]
        ring = axis.mode == "wrap" and axis.lo + axis.hi > 0
        return 1 if ring or axis.count == 1 else -(-_padded(axis) // axis.stride)

    @functools.cached_property
    def slabs(self) -> int:
        """Slabs of a stride."""
        if self.strides == 1:
            return 1
        stride = math.gcd(*(layout.axes[self.axis].stride for layout in self.layouts))
        cells = math.prod(self._cut(self.layouts[0], stride).shape(padded=False))
        most = max(cells // _BUSY_CELLS, 1)
        return max(slabs for slabs in range(1, stride + 1) if stride % slabs == 0 and slabs <= most)

    def slab(self, layout: Layout) -> Layout:
        """The cells that are finished at once."""
        return self._cut(layout, layout.axes[self.axis].stride // self.slabs)

    def held(self, layout: Layout) -> Layout:
        """The cells that are blended at a time: what windows reach which begin in one stride."""
        axis = layout.axes[self.axis]
        reach = (np.asarray(axis.starts) + axis.lo) % axis.stride + axis.window
        return self._cut(layout, -(-int(reach.max()) // axis.stride) * axis.stride)

    def _cut(self, layout: Layout, size: int) -> Layout:
        if self.strides == 1:
            return layout
        axes = list(layout.axes)
        axes[self.axis] = dataclasses.replace(axes[self.axis], size=size, lo=0, hi=0)
        return dataclasses.replace(layout, axes=tuple(axes))

    def cells(self, layout: Layout) -> tuple[int, ...]:
        """The axes (time, *space) of a slab, with lead times."""
        return self.slab(layout).shape(padded=False)


@dataclasses.dataclass(frozen=True)
class Swept:
    """Results of a function of the slabs of a sweep, of which no more is held than blends need.

    `reduce` takes a slab of every output and returns slabs of the results. The state is how many
    strides are finished, the blends of what comes next, and the results so far.
    """

    outputs: Sequence[Output]
    fill: jax.Array
    reduce: Callable[[list[jax.Array]], list[jax.Array]]

    @functools.cached_property
    def sweep(self) -> Sweep:
        """The order of things."""
        return Sweep(tuple(one.layout for one in self.outputs))

    @functools.cached_property
    def made(self) -> list[Any]:
        """Shapes and dtypes of what is made of a slab."""
        slabs = []
        for one in self.outputs:
            shape = (1, *self.sweep.cells(one.layout), one.windows.shape[-1])
            slabs.append(jax.ShapeDtypeStruct(shape, blended_dtype(one.windows.dtype)))
        return jax.eval_shape(self.reduce, slabs)

    def start(self, examples: int, inputs: Any) -> Any:
        """As in `Whole`."""
        sweep, results = self.sweep, []
        blends = [
            start(sweep.held(one.layout), one.weights, 1, one.windows) for one in self.outputs
        ]
        for made in self.made:
            shape = [examples, *made.shape[1:]]
            shape[sweep.position] *= sweep.strides * sweep.slabs
            results.append(jnp.zeros(shape, made.dtype))
        return jnp.int32(0), *_varying((blends, results), inputs)

    def add(
        self, state: Any, values: Sequence[jax.Array], place: jax.Array, fresh: jax.Array | None
    ) -> Any:
        """As in `Whole`."""
        sweep, wanted, added = self.sweep, place[0] * self.sweep.strides, []
        corners = [
            corner(place, one.layout, blend[0].ndim)
            for one, blend in zip(self.outputs, state[1], strict=True)
        ]
        if sweep.strides > 1:
            strides = [np.int32(one.layout.axes[sweep.axis].stride) for one in self.outputs]
            wanted = wanted + corners[0][sweep.position] // strides[0]
            for at, stride in zip(corners, strides, strict=True):
                at[sweep.position] %= stride
        number, blends, results = self._finished(state, wanted)
        for one, blend, value, at in zip(self.outputs, blends, values, corners, strict=True):
            at[0] = jnp.zeros_like(at[0])
            added.append(add_mean(blend, value, one.layout, one.weights, place, fresh, at))
        return number, added, results

    def results(self, state: Any) -> list[jax.Array]:
        """As in `Whole`."""
        sweep = self.sweep
        _, _, results = self._finished(state, np.int32(len(state[2][0]) * sweep.strides))
        if sweep.strides == 1:
            return results
        trimmed = []
        for result, made in zip(results, self.made, strict=True):
            # Outputs of as many cells in a slab have as many in the field.
            axis = next(
                one.layout.axes[sweep.axis]
                for one in self.outputs
                if (cells := sweep.cells(one.layout)) == made.shape[1 : 1 + len(cells)]
            )
            end = axis.lo + axis.size
            trimmed.append(lax.slice_in_dim(result, axis.lo, end, axis=sweep.position))
        return trimmed

    def _finished(self, state: Any, wanted: Any) -> Any:
        """Goes on until so many strides are finished: a loop, where all stays in its place."""
        return lax.while_loop(lambda state: state[0] < wanted, self._finish_one, state)

    def _finish_one(self, state: Any) -> Any:
        number, blends, results = state
        sweep, position = self.sweep, self.sweep.position
        example, stride = number // sweep.strides, number % sweep.strides
        # Always all slabs of a stride. As the compiler cannot know that, the second loop, which
        # begins where the first one ends, waits for it and may overwrite what that has read: where
        # it does know, it copies the blends.
        left = len(results[0]) * sweep.strides - number
        slabs = jnp.minimum(left, 1) * sweep.slabs

        def finish(state: Any) -> Any:
            slab, results = state
            at = stride * sweep.slabs + slab
            parts = []
            for one, blend in zip(self.outputs, blends, strict=True):
                part = [_slab_of(held, slab, self._cells(one), position) for held in blend]
                parts.append(self._slab(one, at).result(part, self.fill, mean=True))
            return slab + 1, [
                _written(result, new, {0: example, position: at})
                for result, new in zip(results, self.reduce(parts), strict=True)
            ]

        def move(at: Any, blends: Any) -> Any:
            return [
                [_followed(x, at - end, sweep.slabs, self._cells(one), position) for x in blend]
                for one, blend in zip(self.outputs, blends, strict=True)
            ]

        start = (jnp.int32(0), results)
        end, results = lax.while_loop(lambda state: state[0] < slabs, finish, start)
        held = blends[0][0].shape[position] // self._cells(self.outputs[0])
        return number + 1, lax.fori_loop(end, end + held, move, blends), results

    def _cells(self, one: Output) -> int:
        """Cells of a slab along the axis, padding included."""
        return self.sweep.slab(one.layout).shape(padded=True)[self.sweep.position - 1]

    def _slab(self, one: Output, at: jax.Array) -> Output:
        """An output in the cells of one slab."""
        sweep = self.sweep
        if sweep.strides == 1:
            return one
        axis, layout = one.layout.axes[sweep.axis], sweep.slab(one.layout)
        cells = layout.axes[sweep.axis].size

        def cut(values: Any, before: int) -> jax.Array:
            """Its part of values along the axis, which begin some cells behind the first slab."""
            widths = [(0, 0)] * values.ndim
            behind = sweep.strides * axis.stride - before - values.shape[sweep.axis]
            widths[sweep.axis] = (before, behind)
            return lax.dynamic_slice_in_dim(
                jnp.pad(values, widths), at * np.int32(cells), cells, sweep.axis
            )

        totals = [
            cut(total, 0) if total.shape[sweep.axis] == _padded(axis) else total
            for total in one.weights["total"]
        ]
        region = None if one.region is None else cut(one.region, axis.lo)
        weights = {"window": one.weights["window"], "total": totals}
        return dataclasses.replace(one, layout=layout, weights=weights, region=region)


def _padded(axis: AxisWindows) -> int:
    return axis.lo + axis.size + axis.hi


def _written(result: jax.Array, new: jax.Array, places: dict[int, Any]) -> jax.Array:
    """A result with a piece at some place along two axes, counted in pieces."""
    at = [np.int32(0)] * result.ndim
    for position, place in places.items():
        at[position] = place * np.int32(new.shape[position])
    return lax.dynamic_update_slice(result, new, at)


def _slab_of(held: jax.Array, slab: Any, cells: int, position: int) -> jax.Array:
    return lax.dynamic_slice_in_dim(held, slab * np.int32(cells), cells, position)


def _followed(held: jax.Array, slab: Any, stride: int, cells: int, position: int) -> jax.Array:
    """With what is a stride further in the place of a slab; behind everything are zeros."""
    later = _slab_of(held, slab + stride, cells, position)
    later = jnp.where((slab + stride) * cells < held.shape[position], later, 0)
    return lax.dynamic_update_slice_in_dim(held, later, slab * np.int32(cells), position)


def _varying(state: Any, inputs: Any) -> Any:
    """Inside `jax.shard_map`, where what differs between devices is part of a type."""
    leaves = jax.tree.leaves(inputs)
    zero = jnp.asarray(sum(lax.full_like(leaf, 0, jnp.float32, ()) for leaf in leaves))
    return jax.tree.map(lambda one: one + zero.astype(one.dtype), state)
