"""The gradient of a large batch from parts of it, one after another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stpatch_jax.training.mesh import Batch, batch_sharding, sharing

SCALES = ("weight", "divisor")
"""The metrics of a loss that only say how much a part of a batch counts, see `accumulated`."""

Gradient = Callable[[Any, Batch], tuple[tuple[jax.Array, dict[str, jax.Array]], nnx.State]]
"""`(model, batch) -> ((loss, metrics), gradient)`: `nnx.value_and_grad` with `has_aux`."""


def accumulated(gradient: Gradient, parts: int, mesh: Mesh) -> Gradient:
    """Returns a function that takes a gradient part by part, in the memory of one part.

    Loss, metrics and gradient are the means over the parts, `sum(w x) / sum(w)` in float32, where w
    is the metric `weight`: what the loss of a part was divided by, such as its number of real
    targets, so that a masked mean comes out as that of the whole batch. Without it w is 1. A loss
    that is divided by a count only where there is something to count (`Detect`) also has the metric
    `divisor`, that count, and becomes `sum(w x) / sum(divisor)`, by 1 if that is 0. Metrics of a
    part of weight 0 mean nothing and are left out. What else the model holds passes from part to
    part: each draws its own dropout, and each moves batch statistics. Each device of the mesh cuts
    its own examples into parts, so nothing moves between devices.
    """

    def accumulated(model: Any, batch: Batch) -> Any:
        graphdef, weights, rest = nnx.split(model, nnx.Param, ...)

        def body(carry: Any, part: Batch) -> Any:
            rest, total, count = carry
            one = nnx.merge(graphdef, weights, rest, copy=True)
            (loss, metrics), grads = gradient(one, part)
            weight = jnp.asarray(metrics.get("weight", 1.0), jnp.float32)
            divisor = metrics.get("divisor", weight)
            metrics = {name: jnp.where(weight > 0, x, 0) for name, x in metrics.items()}
            total = jax.tree.map(
                lambda sum_, x: sum_ + weight * x.astype(jnp.float32), total, (loss, metrics, grads)
            )
            return (nnx.state(one, nnx.Not(nnx.Param)), total, count + divisor), None

        first = {name: array[0] for name, array in cut(batch, parts, mesh).items()}
        (loss, metrics), grads = nnx.eval_shape(
            lambda: gradient(nnx.merge(graphdef, weights, rest, copy=True), first)
        )
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), (loss, metrics, grads))
        (rest, total, count), _ = jax.lax.scan(
            body, (rest, zeros, jnp.float32(0)), cut(batch, parts, mesh)
        )
        nnx.update(model, rest)
        count = jnp.where(count > 0, count, 1.0)
        loss, metrics, grads = jax.tree.map(
            lambda sum_, like: (sum_ / count).astype(like.dtype), total, (loss, metrics, grads)
        )
        return (loss, metrics), grads

    return accumulated


def cut(batch: Batch, parts: int, mesh: Mesh) -> dict[str, jax.Array]:
    """Cuts arrays `(batch, ...)` to `(parts, batch / parts, ...)`, each device its own examples."""
    shares = mesh.size // sharing(mesh)

    def cut_one(array: jax.Array) -> jax.Array:
        size, *rest = array.shape
        split = array.reshape(shares, parts, size // (shares * parts), *rest)
        stacked = split.swapaxes(0, 1).reshape(parts, size // parts, *rest)
        spec = PartitionSpec(None, *batch_sharding(mesh, shape=array.shape).spec)
        return jax.lax.with_sharding_constraint(stacked, NamedSharding(mesh, spec))

    return {name: cut_one(array) for name, array in batch.items()}
