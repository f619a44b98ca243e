"""What a loss and its metrics are over all examples of a source: means, each by its weight."""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.data.sampling.batches import Source, sequential_batches
from stpatch_jax.errors import require
from stpatch_jax.training.accumulation import SCALES
from stpatch_jax.training.prefetch import prefetch_to_mesh
from stpatch_jax.training.step import LossFunction
from stpatch_jax.training.weights import spread, whole_weights


class Measure:
    """The loss and its metrics over a source, without dropout: `measure(model) -> {name: mean}`.

    Every example is measured alone and counts as much as the metric `weight` of its loss says, so
    the means do not depend on `batch_size`, the examples of a global batch.
    """

    def __init__(self, loss_fn: LossFunction, source: Source, mesh: Mesh, *, batch_size: int):
        self._loss, self._source, self._mesh, self._size = loss_fn, source, mesh, batch_size
        self._sums = nnx.jit(self._sums_of)

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """Goes through the source, each process through its part of every batch."""
        still = {"deterministic": True, "use_running_average": True}
        model = spread(nnx.view(model, **still, raise_if_not_found=False), self._mesh)
        own = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        batches = sequential_batches(self._source, batch_size=self._size, **own)
        total: Any = None
        with contextlib.closing(prefetch_to_mesh(batches, self._mesh)) as placed:
            for batch in placed:
                sums = jax.tree.map(np.float64, jax.device_get(self._sums(model, batch)))
                total = sums if total is None else jax.tree.map(np.add, total, sums)
        return means(total)

    def _sums_of(self, model: Any, batch: Mapping[str, Any]) -> Any:
        """Of one batch, the same on all processes."""
        batch = dict(batch)
        real = batch.pop("example_mask")
        del batch["example_number"]

        def one(example: Mapping[str, Any]) -> Any:
            loss, metrics = self._loss(model, {name: x[None] for name, x in example.items()})
            return weighed({"loss": loss, **metrics})

        with whole_weights(model, self._mesh):
            measured = jax.vmap(one)(batch)
        # What fills up a batch may be measured to anything.
        return jax.tree.map(lambda x: jnp.sum(jnp.where(real, x, 0)), measured)


def weighed(metrics: Mapping[str, Any]) -> dict[str, dict[str, jax.Array]]:
    """The metrics of one example times its weight, and that weight."""
    weight = jnp.float32(metrics.get("weight", 1))
    weighed = {}
    for name in metrics.keys() - set(SCALES):
        value = jnp.float32(metrics[name])
        require(
            value.shape == (),
            f"the metrics of a task must be scalars, got {name} of shape {value.shape}; take its "
            "mean over the examples",
        )
        # What weighs nothing may be 0 / 0.
        weighed[name] = {"sum": jnp.where(weight == 0, 0, value * weight), "weight": weight}
    return weighed


def means(of: Mapping[str, Any]) -> dict[str, float]:
    """Means out of weighted sums, the loss first."""
    # A compiled function returns its entries sorted by name.
    entries = sorted(of.items(), key=lambda entry: (entry[0] != "loss", entry[0]))
    return {k: float(x["sum"] / x["weight"]) if x["weight"] else math.nan for k, x in entries}
