"""The device mesh, and what lies on it how: state replicated, batches split over `data`."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from stpatch_jax.errors import InputError

Batch = Mapping[str, Any]
"""Arrays by name, each `(batch, ...)`: NumPy on the host, `jax.Array` inside the step."""


def make_mesh() -> Mesh:
    """Returns a mesh over all devices of all processes, with the one axis `data`.

    The axis type is Auto: the compiler places the collectives.
    """
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def state_sharding(mesh: Mesh) -> NamedSharding:
    """Returns where model and optimiser lie: a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns where a batch lies: its first axis split over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Checks that a global batch splits evenly over the devices.

    Raises:
        InputError: If `batch_size` is not a multiple of the size of the axis `data`.
    """
    devices = mesh.shape["data"]
    if batch_size % devices:
        above = -(-batch_size // devices) * devices
        below = above - devices
        raise InputError(
            f"the global batch size must be a multiple of the number of devices, but it is "
            f"{batch_size} on {devices} devices; use {f'{below} or {above}' if below else above}"
        )


def shard_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's part of a global batch on its devices.

    Args:
        batch: Arrays `(global batch / processes, ...)`; in a single process the whole batch.
            64-bit numbers become 32-bit ones unless JAX's x64 mode is on.
        mesh: The mesh of `make_mesh`.

    Returns:
        Global arrays `(global batch, ...)`, sharded over `data`.

    Raises:
        InputError: If the global batch is not a multiple of the number of devices.
    """
    sharding = batch_sharding(mesh)

    def place(local: Any) -> jax.Array:
        local = np.asarray(local)
        check_batch_size(len(local) * jax.process_count(), mesh)
        local = local.astype(jax.dtypes.canonicalize_dtype(local.dtype), copy=False)
        return jax.make_array_from_process_local_data(sharding, local)

    return {name: place(local) for name, local in batch.items()}
