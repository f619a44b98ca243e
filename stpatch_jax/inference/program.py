"""The one compiled program of a tiled prediction: cut, run, weigh, blend."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from stpatch_jax.errors import InputError
from stpatch_jax.inference.blending import Weights
from stpatch_jax.inference.function import Arrays, Function, on_mesh
from stpatch_jax.inference.stitching import Output, Swept, Whole
from stpatch_jax.inference.tiles import Layout
from stpatch_jax.patches.extraction import fill_scalar, masked, padded
from stpatch_jax.patches.windows import Windows, WindowSpec


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled program depends on besides its arguments; hashable.

    `windows` are those of `spec` resolved against the field, `layouts` say where every output goes,
    `tree` and `results` are the structures of the outputs and of what is returned, `batch_axes` are
    those of the field in front of time, and `mesh` has the devices that share a batch.
    """

    function: Function
    spec: WindowSpec
    windows: Windows
    layouts: tuple[Layout, ...]
    tree: Any
    reduce: Function | None
    results: Any
    batch_axes: int
    batch_size: int
    mesh: Mesh | AbstractMesh | None

    def reduced(self, arrays: Arrays, slabs: Sequence[jax.Array]) -> list[jax.Array]:
        """What `reduce` makes of a slab of each output, given with as many axes as a result."""
        assert self.reduce is not None
        batch = (1,) * self.batch_axes
        given = [slab.reshape(*batch, *slab.shape[1:]) for slab in slabs]
        made = jax.tree.leaves(self.reduce(arrays, jax.tree.unflatten(self.tree, given)))
        return [one.reshape(1, *one.shape[self.batch_axes :]) for one in made]


class Constants(NamedTuple):
    """The arguments of a program that are not traced: what is known of windows and results.

    `grid` has the windows of `used_windows`, `weights` for each output what `make_weights` gives,
    and `regions` what `region_of` gives, or None for all cells; `fill` holds elsewhere.
    """

    grid: Any
    weights: Sequence[Weights]
    regions: list[Any] | None
    fill: Any


@functools.partial(jax.jit, static_argnames=("program",))
def run(program: Program, arrays: tuple[Arrays, Arrays], x: jax.Array, constants: Constants) -> Any:
    """Predicts a field [*batch, time, *space, channel]; lead times of outputs are behind time.

    `arrays` are those that the function and `reduce` hold.
    """
    # A running mean is exact where windows agree and as fast as a sum, but its transpose is not:
    # derivatives are those of weighted sums, the same but for rounding.
    exact = jax.custom_jvp(functools.partial(_blended, program, mean=True))
    sums = functools.partial(jax.jvp, functools.partial(_blended, program, mean=False))
    exact.defjvp(sums if program.reduce is None else _refuse_derivatives)
    batch = x.shape[: x.ndim - program.spec.rank - 1]
    if all(isinstance(extent, int) for extent in batch):
        return _in_auto_axes(exact, x, len(batch))(arrays, x, constants)
    # As many examples as will come (`jax.export`): the grid is that of one.
    each = jax.vmap(lambda x: exact(arrays, x, constants))(x.reshape(-1, *x.shape[len(batch) :]))
    return jax.tree.map(lambda y: y.reshape(*batch, *y.shape[1:]), each)


def _refuse_derivatives(*_: Any) -> Any:
    raise InputError(
        "reduce must not be part of a derivative, which needs the blended values of all cells, got "
        "one; apply it to the result of sliding_window_apply instead, which gives the same values"
    )


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
    arrays: tuple[Arrays, Arrays],
    x: jax.Array,
    constants: Constants,
    *,
    mean: bool,
) -> Any:
    grid, weights, regions, fill = constants
    axes, constant = program.windows.axes, fill_scalar(program.spec.fill_value, x.dtype)
    batch = x.shape[: x.ndim - len(axes) - 1]
    # Here a reshape is free; outside it would copy the field.
    x = x.reshape(-1, *x.shape[len(batch) :])
    x = padded(x, axes, constant)
    predict = functools.partial(_predict, program)
    if not mean:
        predict = jax.checkpoint(predict, prevent_cse=False)
    size = program.batch_size
    # The last batch is filled up with its last window, which is not added again.
    short = -len(grid) % size
    batches = jnp.concatenate([grid, jnp.repeat(grid[-1:], short, axis=0)])
    count = len(batches) // size
    fresh = (jnp.arange(len(batches)) < len(grid)).reshape(count, size)
    batches = batches.reshape(count, size, -1)
    shapes = jax.eval_shape(predict, arrays[0], x, batches[0])
    regions = [None] * len(shapes) if regions is None else regions
    outputs = list(map(Output, program.layouts, weights, regions, shapes))
    stitch = Whole(outputs, fill, mean)
    if program.reduce is not None:
        stitch = Swept(outputs, fill, functools.partial(program.reduced, arrays[1]))

    def batch_step(state: Any, batch: Any) -> tuple[Any, None]:
        places, fresh = batch
        values = predict(arrays[0], x, places)

        def window_step(state: Any, window: Any) -> tuple[Any, None]:
            values, place, fresh = window
            return stitch.add(state, values, place, fresh if short else None), None

        return lax.scan(window_step, state, (values, places, fresh))

    state, _ = lax.scan(batch_step, stitch.start(len(x), (arrays, x)), (batches, fresh))
    results = [result.reshape(*batch, *result.shape[1:]) for result in stitch.results(state)]
    return jax.tree.unflatten(program.results, results)


def _predict(program: Program, arrays: Arrays, x: jax.Array, places: jax.Array) -> list[jax.Array]:
    """Cuts a batch of windows and calls the function."""
    axes = program.windows.axes
    extent = (1, *program.windows.window, x.shape[-1])

    def cut(place: jax.Array) -> jax.Array:
        first = [axis.first(at) for axis, at in zip(axes, place[1:], strict=True)]
        return lax.dynamic_slice(x, (place[0], *first, np.int32(0)), extent)[0]

    fill = fill_scalar(program.spec.fill_value, x.dtype)
    windows = masked(lax.map(cut, places), program.windows.mask, fill)
    mesh = program.mesh
    if mesh is None:
        return jax.tree.leaves(program.function(arrays, windows))
    # Outputs come to every device, so that all add them in the same order.
    split, whole = (NamedSharding(mesh, PartitionSpec(*on)) for on in ([mesh.axis_names], ()))
    windows = lax.with_sharding_constraint(windows, split)
    with on_mesh(mesh):
        outputs = jax.tree.leaves(program.function(arrays, windows))
    return [lax.with_sharding_constraint(output, whole) for output in outputs]
