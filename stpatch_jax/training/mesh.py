"""The device mesh, and what lies on it how: batches over `data`, state over `fsdp`, fields too."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from stpatch_jax.errors import require
from stpatch_jax.nn.blocks import is_stacked
from stpatch_jax.nn.mesh_axes import MODEL, OVER_MODEL, SHARED
from stpatch_jax.training.config import MeshConfig

Batch = Mapping[str, Any]
"""Arrays by name, each `(batch, ...)`: NumPy on the host, `jax.Array` inside the step."""

SMALLEST_SPLIT = 1024
"""Elements of the smallest array that `state_sharding` splits without having been asked to.

Biases and scales of norms, which hold next to nothing, would each cost a collective of their own.
"""


def make_mesh(
    *, data: int = -1, fsdp: int = 1, space: int = 1, sequence: int = 1, model: int = 1
) -> Mesh:
    """Returns a mesh over all devices of all processes, with the axes of `MeshConfig`.

    The axis types are Auto: the compiler places the collectives. The devices that share an example,
    along `space`, `sequence` and `model`, are neighbours.

    The arguments are the sizes of the axes, as in `MeshConfig`; the product of the last three must
    divide the devices of one process, which loads whole examples.

    Raises:
        InputError: If the sizes do not multiply to the number of devices.
    """
    devices = jax.device_count()
    asked = MeshConfig(data=data, fsdp=fsdp, space=space, sequence=sequence, model=model)
    sizes = dataclasses.asdict(asked)
    fixed = math.prod(size for size in sizes.values() if size != -1)
    require(
        devices % fixed == 0 and (fixed == devices or -1 in sizes.values()),
        f"train.mesh must multiply to the number of devices, {devices}, got {sizes}; set one size "
        f"to -1 and the others to divisors of {devices}",
    )
    shape = tuple(devices // fixed if size == -1 else size for size in sizes.values())
    mesh = jax.make_mesh(shape, tuple(sizes), axis_types=(AxisType.Auto,) * len(shape))
    shared = " times ".join(f"train.mesh.{name}" for name in SHARED if mesh.shape[name] > 1)
    require(
        jax.local_device_count() % sharing(mesh) == 0,
        f"{shared} must divide the devices of one process, {jax.local_device_count()}, got "
        f"{sharing(mesh)}; use a divisor",
    )
    return mesh


def sharing(mesh: Mesh) -> int:
    """How many devices share each example."""
    return math.prod(mesh.shape.get(name, 1) for name in SHARED)


def state_sharding(state: Any, mesh: Mesh) -> Any:
    """Returns where the arrays of a model or optimiser lie, by one rule for each.

    An array whose Variable has the metadata `out_sharding` (`ShardConfig` gives it to the
    parameters of a backbone, and the moments of the optimiser inherit it) lies as that says. Of
    the others, those of two axes or more and `SMALLEST_SPLIT` elements are split over `fsdp`
    along their longest axis that its size divides, the last of them if there are several; the
    kernels of heads and hidden layers of a transformer over `model` besides, along another.
    Whatever is left, and any axis that its share of the mesh does not divide, lies whole on
    every device. Stacked blocks lie as one of them would. The state is one of `nnx.state`,
    concrete, traced or of shapes; a `NamedSharding` takes the place of each array.

    Raises:
        InputError: If an annotation names an axis that the mesh does not have.
    """

    def place(variable: nnx.Variable) -> nnx.Variable:
        stacked = is_stacked(variable)
        shape, annotation = variable.shape[stacked:], variable.get_metadata("out_sharding", None)
        spec = _over_model(variable.get_metadata(OVER_MODEL, None), shape, mesh)
        if annotation is None:
            spec = _split_longest(shape, mesh, spec)
        else:
            # An axis of the mesh splits one of the array: `model` the one that the layer asks for.
            wanted = _fit(annotation, shape, mesh, taken={MODEL}.intersection(spec))
            both = itertools.zip_longest(spec, wanted)
            spec = PartitionSpec(*(one or other for one, other in both))
        return variable.replace(NamedSharding(mesh, PartitionSpec(*[None] * stacked, *spec)))

    return jax.tree.map(place, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def _over_model(axis: int | None, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """An axis over `model`, where there are several devices along it and it divides."""
    size = mesh.shape.get(MODEL, 1)
    if axis is None or size == 1 or shape[axis] % size:
        return PartitionSpec()
    return PartitionSpec(*[None] * (len(shape) + axis), MODEL)


def _split_longest(shape: tuple[int, ...], mesh: Mesh, spec: PartitionSpec) -> PartitionSpec:
    """The spec with the longest of the axes that it leaves whole split over `fsdp`."""
    entries = [*spec, *[None] * (len(shape) - len(spec))]
    size = mesh.shape.get("fsdp", 1)
    divided = [at for at, n in enumerate(shape) if n % size == 0 and entries[at] is None]
    if size == 1 or not divided or len(shape) < 2 or math.prod(shape) < SMALLEST_SPLIT:
        return spec
    axis = max(divided, key=lambda axis: (shape[axis], axis))
    entries[axis] = "fsdp"
    return PartitionSpec(*entries[: max(axis + 1, len(spec))])


def _fit(annotation: Any, shape: tuple[int, ...], mesh: Mesh, *, taken: set[str]) -> PartitionSpec:
    """The annotation without the axes that it cannot split, or by what is taken."""
    entries: list[Any] = []
    for n, entry in zip(shape, annotation, strict=False):
        names = entry if isinstance(entry, tuple) else () if entry is None else (entry,)
        for name in names:
            require(
                name in mesh.shape,
                f"the sharding of a parameter of shape {shape} must be over axes of the mesh, "
                f"{', '.join(mesh.axis_names)}, got {name!r}; name one of them in the ShardConfig",
            )
        size = math.prod(mesh.shape[name] for name in names)
        fits = size > 1 and n % size == 0 and not taken.intersection(names)
        entries.append(entry if fits else None)
    while entries and entries[-1] is None:
        entries.pop()
    return PartitionSpec(*entries)


def batch_sharding(mesh: Mesh, *, shape: Sequence[int] = ()) -> NamedSharding:
    """Returns where an array of a batch lies, by its shape.

    The first axis is split over `data` and `fsdp`. Where the mesh has more than one device along
    `space`, arrays `(batch, time, *space, channel)` of four axes or more are split over it along
    their first space axis, if it divides that. Without a shape it is the rule of the first axis.
    """
    batch = tuple(name for name in mesh.axis_names if name not in SHARED)
    spatial = len(shape) >= 4 and mesh.shape.get("space", 1) > 1
    if spatial and shape[2] % mesh.shape["space"] == 0:
        return NamedSharding(mesh, PartitionSpec(batch, None, "space"))
    return NamedSharding(mesh, PartitionSpec(batch))


def check_batch_size(batch_size: int, mesh: Mesh, *, accumulate: int = 1) -> None:
    """Checks that a global batch splits evenly over the devices, also in parts.

    Raises:
        InputError: If `batch_size` is not a multiple of the devices along `data` and `fsdp`, times
            the number of parts.
    """
    shares = mesh.size // sharing(mesh)
    unit = shares * accumulate
    below = batch_size // unit * unit
    parts = f" in {accumulate} parts" if accumulate > 1 else ""
    require(
        batch_size == below,
        f"the global batch size must be a multiple of {unit}, got {batch_size} on {shares} "
        f"devices{parts}; use {f'{below} or ' * bool(below)}{below + unit}",
    )


def shard_local_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's part of a global batch on its devices.

    Arrays [global batch / processes, ...], in a single process the whole batch, become global
    ones [global batch, ...], sharded by `batch_sharding`. 64-bit numbers become 32-bit ones
    unless JAX's x64 mode is on.

    Raises:
        InputError: If the global batch does not split evenly over the devices.

    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> shard_local_batch({"x": np.zeros((2, 3))}, mesh)["x"].shape
    (2, 3)
    """
    make = jax.make_array_from_process_local_data
    parts = _placements(batch, mesh, jax.process_count())
    return {name: make(sharding, local) for name, local, sharding in parts}


def shard_global_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
    """Puts a global batch [batch, ...], which every process holds whole, on the devices.

    Row `i` of the result is row `i` of the input, wherever the mesh has the devices of a process;
    `shard_local_batch` takes the parts that each process has read, in an order of its own.
    Otherwise as there.

    Raises:
        InputError: If the batch does not split evenly over the devices.

    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> shard_global_batch({"x": np.array([1.0, 2.0])}, mesh)["x"].tolist()
    [1.0, 2.0]
    """
    make = jax.make_array_from_callback
    whole = _placements(batch, mesh, 1)
    return {name: make(x.shape, sharding, x.__getitem__) for name, x, sharding in whole}


def _placements(
    batch: Batch, mesh: Mesh, parts: int
) -> Iterator[tuple[str, np.ndarray, NamedSharding]]:
    """Each array of one of so many parts of a batch, in the dtype and sharding of the whole."""
    for name, values in batch.items():
        array = np.asarray(values)
        check_batch_size(len(array) * parts, mesh)
        array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
        yield name, array, batch_sharding(mesh, shape=array.shape)
