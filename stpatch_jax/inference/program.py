"""The one compiled program of a tiled prediction: cut, run, weigh, add, divide."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stpatch_jax.inference.tiles import Layout, without_padding
from stpatch_jax.patches.extraction import accumulator, fill_scalar, masked, padded
from stpatch_jax.patches.windows import Windows, WindowSpec


@dataclasses.dataclass(frozen=True)
class Function:
    """A function apart from its arrays, so that those are arguments of the compiled program.

    `tree` is the structure of a callable that is a pytree (a model), of any other a leaf; `fixed`
    are its leaves, with None in the place of each array.
    """

    tree: Any
    fixed: tuple[Any, ...]

    @classmethod
    def split(cls, fn: Callable[[jax.Array], Any]) -> tuple["Function", list[Any]]:
        """The function and its arrays."""
        leaves, tree = jax.tree.flatten(fn)
        is_array = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
        fixed = (None if one else leaf for one, leaf in zip(is_array, leaves, strict=True))
        arrays = [leaf for one, leaf in zip(is_array, leaves, strict=True) if one]
        return cls(tree, tuple(fixed)), arrays

    def __call__(self, arrays: Sequence[Any], windows: jax.Array) -> Any:
        """Calls the function with its arrays put back, in a copy of its own."""
        rest = iter(arrays)
        leaves = [next(rest) if leaf is None else leaf for leaf in self.fixed]
        return jax.tree.unflatten(self.tree, leaves)(windows)


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled program depends on besides its arguments; hashable.

    `windows` are those of `spec` resolved against the field, `layouts` say where every output goes,
    `tree` is the structure of the outputs, and `mesh` has the devices that share a batch.
    """

    function: Function
    spec: WindowSpec
    windows: Windows
    layouts: tuple[Layout, ...]
    tree: Any
    batch_size: int
    mesh: Mesh | None


@functools.partial(jax.jit, static_argnames=("program",))
def run(
    program: Program,
    arrays: list[Any],
    x: jax.Array,
    grid: jax.Array,
    weights: Sequence[tuple[list[Any], list[Any]]],
    regions: list[Any] | None,
) -> Any:
    """Predicts a field [*batch, time, *space, channel]; lead times of outputs are behind time.

    `grid` has the windows of `used_windows`, `weights` for each output what `weight_factors` gives,
    and `regions` what `region_of` gives, or None for all cells.
    """
    axes, fill = program.windows.axes, fill_scalar(program.spec.fill_value, x.dtype)
    batch = x.shape[: x.ndim - len(axes) - 1]
    # Here a reshape is free; outside it would copy the field.
    x = x.reshape(-1, *x.shape[len(batch) :])
    x = padded(x, axes, fill)
    predict = jax.checkpoint(functools.partial(_predict, program), prevent_cse=False)
    size = program.batch_size
    # The last batch is filled up with its last window, which is not added again.
    short = -len(grid) % size
    batches = jnp.concatenate([grid, jnp.repeat(grid[-1:], short, axis=0)])
    count = len(batches) // size
    fresh = (jnp.arange(len(batches)) < len(grid)).reshape(count, size)
    batches = batches.reshape(count, size, -1)
    shapes = jax.eval_shape(predict, arrays, x, batches[0])
    totals = [
        jnp.zeros((len(x), *layout.shape(padded=True), shape.shape[-1]), wide_dtype(shape.dtype))
        for layout, shape in zip(program.layouts, shapes, strict=True)
    ]

    def batch_step(totals: list[jax.Array], batch: Any) -> tuple[list[jax.Array], None]:
        places, fresh = batch
        outputs = predict(arrays, x, places)

        def window_step(totals: list[jax.Array], window: Any) -> tuple[list[jax.Array], None]:
            outputs, place, fresh = window
            added = [
                _add(*parts, place, fresh if short else None)
                for parts in zip(totals, outputs, program.layouts, weights, strict=True)
            ]
            return added, None

        return lax.scan(window_step, totals, (outputs, places, fresh))

    totals, _ = lax.scan(batch_step, totals, (batches, fresh))
    results = []
    for at, (total, layout, shape) in enumerate(zip(totals, program.layouts, shapes, strict=True)):
        region = None if regions is None else regions[at]
        result = _finished(total, layout, weights[at][1], region, shape.dtype)
        results.append(result.reshape(*batch, *result.shape[1:]))
    return jax.tree.unflatten(program.tree, results)


def wide_dtype(dtype: Any) -> jnp.dtype:
    """The dtype in which outputs are added up: at least float32."""
    dtype = jnp.dtype(dtype)
    return accumulator(dtype) if jnp.issubdtype(dtype, jnp.inexact) else jnp.dtype(jnp.float32)


def _predict(
    program: Program, arrays: Sequence[Any], x: jax.Array, places: jax.Array
) -> list[jax.Array]:
    """Cuts a batch of windows and calls the function."""
    strides = np.asarray([1, *(axis.stride for axis in program.windows.axes)], np.int32)
    extent = (1, *program.windows.window, x.shape[-1])

    def cut(place: jax.Array) -> jax.Array:
        return lax.dynamic_slice(x, (*(place * strides), 0), extent)[0]

    fill = fill_scalar(program.spec.fill_value, x.dtype)
    windows = masked(lax.map(cut, places), program.windows.mask, fill)
    mesh = program.mesh
    if mesh is None:
        return jax.tree.leaves(program.function(arrays, windows))
    # Outputs come to every device, so that all add them in the same order.
    split, whole = (NamedSharding(mesh, PartitionSpec(*on)) for on in ([mesh.axis_names], ()))
    windows = lax.with_sharding_constraint(windows, split)
    outputs = jax.tree.leaves(program.function(arrays, windows))
    return [lax.with_sharding_constraint(output, whole) for output in outputs]


def _add(
    total: jax.Array,
    output: jax.Array,
    layout: Layout,
    weights: tuple[list[Any], list[Any]],
    place: jax.Array,
    fresh: jax.Array | None,
) -> jax.Array:
    """Adds the weighted output of one window to the sum, in place."""
    axes = layout.axes
    ones = (1,) if layout.lead is None else (1, 1)
    update = output.astype(total.dtype).reshape(*ones, *output.shape)
    for factor in weights[0]:
        factor = _along(factor, layout).astype(total.dtype)
        # Where a weight is zero even a NaN counts nothing.
        update = jnp.where(factor > 0, update * factor, 0)
    if fresh is not None:
        update = jnp.where(fresh, update, 0)
    cells = [place[0], *(at * axis.stride for at, axis in zip(place[1:], axes, strict=True))]
    start = jnp.zeros_like(place, shape=total.ndim)
    start = start.at[np.asarray((0, *layout.places))].set(jnp.stack(cells), unique_indices=True)
    every = tuple(range(total.ndim))
    numbers = lax.ScatterDimensionNumbers(every, (), every)
    # One window at a time has every index once: no atomics, and a gradient that is a copy, where
    # that of dynamic_update_slice would pass over the whole field.
    once: dict[str, Any] = {"indices_are_sorted": True, "unique_indices": True}
    once["mode"] = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return lax.scatter_add(total, start, update, numbers, **once)


def _along(values: Any, layout: Layout) -> Any:
    """Gives values over (time, *space) the axes of a result: example, lead time and channel."""
    if layout.lead is not None:
        values = values[:, None]
    return values[None, ..., None]


def _finished(
    total: jax.Array, layout: Layout, sums: Sequence[Any], region: Any, dtype: jnp.dtype
) -> jax.Array:
    """Takes the padding off, divides by the weights and leaves out what is outside the region."""
    for position, axis in zip(layout.places, layout.axes, strict=True):
        total = without_padding(total, axis, position)
    for factor in sums:
        factor = _along(factor, layout).astype(total.dtype)
        total = total / jnp.where(factor > 0, factor, 1)
    if region is not None:
        total = jnp.where(_along(region, layout), total, 0)
    return total.astype(dtype if jnp.issubdtype(dtype, jnp.inexact) else total.dtype)
