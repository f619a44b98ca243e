"""Hidden patches of a whole split, and what a report says of them beside the naive rules."""

import dataclasses
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.data import Batch, Data
from stpatch_jax.runs.judging.judge import Evaluator, figure
from stpatch_jax.metrics import LeadTimeErrors
from stpatch_jax.tasks import Reconstruct

_KNOWN = ("field", "field_mask", "example_mask")

# `np.float64(array)` would drop the axes of an array of one value before NumPy 2.4.
_float64 = partial(np.asarray, dtype=np.float64)


@dataclasses.dataclass(frozen=True, eq=False)
class SplitReconstructions:
    """The errors of the hidden values of one split, in scaled units, and one field to look at.

    Attributes:
        errors: By name (`model` and the naive rules), over all hidden values.
        examples: Number of fields.
        field: The first field [time, *space, channel].
        hidden: Where it is hidden, bool [time, *space].
        reconstruction: What the model makes of it, shape of `field`.
    """

    errors: dict[str, LeadTimeErrors]
    examples: int
    field: np.ndarray
    hidden: np.ndarray
    reconstruction: np.ndarray


class Reconstructor(Evaluator):
    """Judges reconstructions of hidden patches, always the same ones; see `Evaluator`."""

    def __init__(self, task: Reconstruct, data: Data, mesh: Mesh, *, batch_size: int):
        super().__init__(task.predict, ("field",), data, mesh, batch_size=batch_size)
        self.task = task
        self._judged = jax.jit(self._judge)

    def __call__(self, model: nnx.Module, split: str) -> SplitReconstructions:
        """Reconstructs every field of a split, without dropout."""
        errors: dict[str, LeadTimeErrors] = {}
        examples, first = 0, None
        for batch, reconstruction in self.predicted(model, split):
            known = {name: batch[name] for name in _KNOWN if name in batch}
            found, hidden = jax.device_get(self._judged(reconstruction, known))
            for name, of in jax.tree.map(_float64, found).items():
                errors[name] = errors[name] + of if name in errors else of
            examples += int(batch["example_mask"].sum())
            if first is None:
                first = batch["field"][0], hidden[0], reconstruction[0]
        assert first is not None
        return SplitReconstructions(errors, examples, *first)

    def _judge(
        self, reconstruction: jax.Array, batch: Batch
    ) -> tuple[dict[str, LeadTimeErrors], jax.Array]:
        """The errors of a batch, of the model and the naive rules, and what was hidden."""
        made = {"model": reconstruction, **self.task.baselines(batch)}
        errors = {name: self.task.errors(values, batch).pooled() for name, values in made.items()}
        return errors, self.task.evaluation_mask(batch)

    def summary(self, model: nnx.Module, split: str) -> dict[str, float]:
        """Root of the mean squared error of the hidden values, in scaled units."""
        return {"rmse": float(self(model, split).errors["model"].rmse()[0])}

    def report(self, predictions: SplitReconstructions) -> dict[str, Any]:
        """The figures of one split: RMSE and MAE of the hidden values, in scaled units."""
        return {
            "examples": predictions.examples,
            "scaled": {
                name: {"rmse": figure(errors.rmse()[0]), "mae": figure(errors.mae()[0])}
                for name, errors in predictions.errors.items()
            },
        }
