"""What judging a model needs whatever the task: predictions over a whole split."""

import abc
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.data import Batch, Data, sequential_batches
from stpatch_jax.training import replicate, shard_global_batch, to_host


class Evaluator(abc.ABC):
    """Judges a model on whole splits, in batches sharded over the mesh.

    Every process gets all predictions; each computes its share of them.

    Args:
        predict: `(model, batch) -> predictions`, a tree of [batch, ...], without dropout.
        inputs: Names of the arrays of a batch that `predict` reads.
        data: Where the examples come from.
        mesh: The mesh of the run.
        batch_size: Examples of a global batch, a multiple of the number of devices.
    """

    def __init__(
        self,
        predict: Callable[[Any, Mapping[str, Any]], Any],
        inputs: tuple[str, ...],
        data: Data,
        mesh: Mesh,
        *,
        batch_size: int,
    ):
        self.inputs, self.data, self.mesh, self.batch_size = inputs, data, mesh, batch_size
        self._predict = nnx.jit(predict)

    @abc.abstractmethod
    def __call__(self, model: nnx.Module, split: str) -> Any:
        """Predicts every example of a split, without dropout."""

    @abc.abstractmethod
    def summary(self, model: nnx.Module, split: str) -> dict[str, float]:
        """A few figures of one split; settings are compared by the first, the less the better."""

    @abc.abstractmethod
    def report(self, predictions: Any) -> dict[str, Any]:
        """All figures of one split, JSON-able, beside those of the naive rules."""

    def predicted(self, model: nnx.Module, split: str) -> Iterator[tuple[Batch, Any]]:
        """Every global batch of a split with its predictions, the filling of the last one too."""
        # A model need not have dropout to be told to leave it out.
        model = nnx.view(model, deterministic=True, raise_if_not_found=False)
        model = replicate(model, self.mesh)
        with jax.set_mesh(self.mesh):
            for batch in sequential_batches(self.data.source(split), batch_size=self.batch_size):
                inputs = {name: batch[name] for name in self.inputs}
                found = self._predict(model, shard_global_batch(inputs, self.mesh))
                yield batch, jax.tree.map(to_host, found)


class Kept:
    """Arrays of many batches by name, without the examples that only fill a batch."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}

    def add(self, arrays: Mapping[str, Any], example_mask: np.ndarray) -> None:
        """Keeps the real examples of arrays [batch, ...]."""
        for name, values in arrays.items():
            self._parts.setdefault(name, []).append(np.asarray(values)[example_mask])

    def arrays(self) -> dict[str, np.ndarray]:
        """All of them, [example, ...]."""
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}


def figure(value: Any) -> float | None:
    """A plain number; None where nothing was there to be measured."""
    value = float(value)
    return value if math.isfinite(value) else None
