"""The one compiled program of a tiled prediction: cut, run, weigh, blend."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from stpatch_jax.inference.blending import Weights, add_mean, add_sum, finished, start
from stpatch_jax.inference.function import Arrays, Function
from stpatch_jax.inference.tiles import Layout
from stpatch_jax.patches.extraction import fill_scalar, masked, padded
from stpatch_jax.patches.windows import Windows, WindowSpec


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
    mesh: Mesh | AbstractMesh | None


@functools.partial(jax.jit, static_argnames=("program",))
def run(
    program: Program,
    arrays: Arrays,
    x: jax.Array,
    grid: jax.Array,
    weights: Sequence[Weights],
    regions: list[Any] | None,
    fill: jax.Array,
) -> Any:
    """Predicts a field [*batch, time, *space, channel]; lead times of outputs are behind time.

    `grid` has the windows of `used_windows`, `weights` for each output what `make_weights` gives,
    and `regions` what `region_of` gives, or None for all cells; `fill` holds elsewhere.
    """

    def blended(arrays: Arrays, x: jax.Array, rest: Any, *, mean: bool) -> Any:
        return _blended(program, arrays, x, *rest, mean=mean)

    # A running mean is exact where windows agree and as fast as a sum, but its transpose is not:
    # derivatives are those of weighted sums, the same but for rounding.
    exact = jax.custom_jvp(functools.partial(blended, mean=True))
    exact.defjvp(functools.partial(jax.jvp, functools.partial(blended, mean=False)))
    rest, batch = (grid, weights, regions, fill), x.shape[: x.ndim - program.spec.rank - 1]
    if all(isinstance(extent, int) for extent in batch):
        return _in_auto_axes(exact, x, len(batch))(arrays, x, rest)
    # As many examples as will come (`jax.export`): the grid is that of one.
    each = jax.vmap(lambda x: exact(arrays, x, rest))(x.reshape(-1, *x.shape[len(batch) :]))
    return jax.tree.map(lambda y: y.reshape(*batch, *y.shape[1:]), each)


def _in_auto_axes(fn: Any, x: jax.Array, batch: int) -> Any:
    """A function whose insides the compiler may split, on a mesh of explicit axes too."""
    sharding = jax.typeof(x).sharding
    types = set(sharding.mesh.axis_types)
    if AxisType.Explicit not in types:
        return fn
    # The examples stay where they are.
    examples = PartitionSpec(*sharding.spec[:batch])
    return jax.sharding.auto_axes(fn, out_sharding=NamedSharding(sharding.mesh, examples))


def _blended(
    program: Program,
    arrays: Arrays,
    x: jax.Array,
    grid: jax.Array,
    weights: Sequence[Weights],
    regions: list[Any] | None,
    fill: jax.Array,
    *,
    mean: bool,
) -> Any:
    axes, constant = program.windows.axes, fill_scalar(program.spec.fill_value, x.dtype)
    batch = x.shape[: x.ndim - len(axes) - 1]
    # Here a reshape is free; outside it would copy the field.
    x = x.reshape(-1, *x.shape[len(batch) :])
    x = padded(x, axes, constant)
    predict = functools.partial(_predict, program)
    if not mean:
        predict = jax.checkpoint(predict, prevent_cse=False)
    size, add = program.batch_size, add_mean if mean else add_sum
    # The last batch is filled up with its last window, which is not added again.
    short = -len(grid) % size
    batches = jnp.concatenate([grid, jnp.repeat(grid[-1:], short, axis=0)])
    count = len(batches) // size
    fresh = (jnp.arange(len(batches)) < len(grid)).reshape(count, size)
    batches = batches.reshape(count, size, -1)
    shapes = jax.eval_shape(predict, arrays, x, batches[0])
    per_output = list(zip(program.layouts, weights, strict=True))
    blends = [
        _varying(start(*one, len(x), shape), (arrays, x))
        for one, shape in zip(per_output, shapes, strict=True)
    ]

    def batch_step(blends: Any, batch: Any) -> tuple[Any, None]:
        places, fresh = batch
        outputs = predict(arrays, x, places)

        def window_step(blends: Any, window: Any) -> tuple[Any, None]:
            outputs, place, fresh = window
            added = [
                add(blend, output, *one, place, fresh if short else None)
                for blend, output, one in zip(blends, outputs, per_output, strict=True)
            ]
            return added, None

        return lax.scan(window_step, blends, (outputs, places, fresh))

    blends, _ = lax.scan(batch_step, blends, (batches, fresh))
    results = []
    for at, (blend, one, shape) in enumerate(zip(blends, per_output, shapes, strict=True)):
        result = finished(blend, *one, fill, mean=mean)
        if regions is not None:
            region = regions[at] if one[0].lead is None else regions[at][:, None]
            result = jnp.where(region[None, ..., None], result, fill.astype(result.dtype))
        if jnp.issubdtype(shape.dtype, jnp.inexact):
            result = result.astype(shape.dtype)
        results.append(result.reshape(*batch, *result.shape[1:]))
    return jax.tree.unflatten(program.tree, results)


def _varying(blend: list[jax.Array], inputs: Any) -> list[jax.Array]:
    """Inside `jax.shard_map`, where what differs between devices is part of a type."""
    leaves = jax.tree.leaves(inputs)
    zero = sum(lax.full_like(leaf, 0, jnp.float32, ()) for leaf in leaves)
    return [one + jnp.asarray(zero).astype(one.dtype) for one in blend]


def _predict(program: Program, arrays: Arrays, x: jax.Array, places: jax.Array) -> list[jax.Array]:
    """Cuts a batch of windows and calls the function."""
    strides = np.asarray([1, *(axis.stride for axis in program.windows.axes)], np.int32)
    extent = (1, *program.windows.window, x.shape[-1])

    def cut(place: jax.Array) -> jax.Array:
        return lax.dynamic_slice(x, (*(place * strides), np.int32(0)), extent)[0]

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
