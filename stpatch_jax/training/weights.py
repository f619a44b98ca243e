"""Weights that lie split over devices, whole where a program uses them."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stpatch_jax.nn.blocks import Remat, blocks_of, blockwise
from stpatch_jax.nn.mesh_axes import MODEL, gathered_sharding
from stpatch_jax.training.mesh import state_sharding


def replicate(model: nnx.Module, mesh: Mesh) -> nnx.Module:
    """Returns a model of its own with all its arrays whole on every device.

    Arrays that are whole already are shared, not copied.
    """
    graphdef, state = nnx.split(model)
    return nnx.merge(graphdef, jax.device_put(state, NamedSharding(mesh, PartitionSpec())))


def spread(model: nnx.Module, mesh: Mesh) -> nnx.Module:
    """Returns a model of its own with its arrays on the devices as in training.

    Arrays that lie so already are shared, not copied.
    """
    graphdef, state = nnx.split(model)
    return nnx.merge(graphdef, jax.device_put(state, state_sharding(state, mesh)))


@contextlib.contextmanager
def whole_weights(
    model: nnx.Module, mesh: Mesh, *, remat: Remat = "none", by_block: bool = True
) -> Iterator[None]:
    """Within it, in a program, a model computes with gathered weights, and with its own after it.

    Left to itself the compiler moves activations where a weight is split, and in a recurrence it
    does so at every time step; here each weight is gathered once.

    Args:
        model: What computes.
        mesh: Over which `state_sharding` says how its parameters are split.
        remat: What a backward pass recomputes of its blocks.
        by_block: Whether the weights of a block are gathered as it runs, and not before: in
            vain where a backward pass keeps them.
    """
    weights = nnx.as_pure(nnx.state(model, nnx.Param))
    is_split = any(mesh.shape.get(name, 1) > 1 for name in ("fsdp", MODEL))
    apart = {path for path, _ in blocks_of(model)} if by_block else set()

    def is_outside(path: tuple[Any, ...], _: Any) -> bool:
        return not any(path[:length] in apart for length in range(len(path)))

    once = nnx.state(model, nnx.All(nnx.Param, is_outside))
    whole = jax.tree.map(gathered_sharding, nnx.as_pure(state_sharding(once, mesh)))
    nnx.update(model, jax.lax.with_sharding_constraint(nnx.as_pure(once), whole))
    split = functools.partial(state_sharding, mesh=mesh) if is_split else None
    unneeded = not apart or (split is None and remat == "none")
    with contextlib.nullcontext() if unneeded else blockwise(remat, split):
        yield
    nnx.update(model, weights)
