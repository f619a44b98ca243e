"""Classes of a whole split, and what a report says of them beside the naive rule."""

import dataclasses
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.data import LabelledData
from stpatch_jax.runs.judging.judge import Evaluator, Kept, figure
from stpatch_jax.metrics import Confusion, roc_auc
from stpatch_jax.tasks import Classify


@dataclasses.dataclass(frozen=True, eq=False)
class SplitClasses:
    """The class probabilities of every example of one split beside the truth.

    Attributes:
        probabilities: By name (`model` and the naive rules), each [example, class].
        label: Number of the true class [example].
        group: Number of the group of each example [example], see `LabelledSplit`.
    """

    probabilities: dict[str, np.ndarray]
    label: np.ndarray
    group: np.ndarray

    def confusion(self, name: str) -> Confusion:
        """Counts of true against predicted classes."""
        values = self.probabilities[name]
        return Confusion.of(values.argmax(-1), self.label, classes=values.shape[-1])


class Classifier(Evaluator):
    """Judges classes of labelled fields; see `Evaluator`."""

    def __init__(self, task: Classify, data: LabelledData, mesh: Mesh, *, batch_size: int):
        super().__init__(task.predict, ("field",), data, mesh, batch_size=batch_size)
        self.task = task
        self.data: LabelledData = data

    def __call__(self, model: nnx.Module, split: str) -> SplitClasses:
        """Classifies every example of a split, without dropout."""
        kept = Kept()
        for batch, probabilities in self.predicted(model, split):
            rows = {"model": probabilities, **self.task.baselines(batch)}
            rows |= {f"/{name}": batch[name] for name in ("label", "group")}
            kept.add(rows, batch["example_mask"])
        arrays = kept.arrays()
        label, group = arrays.pop("/label"), arrays.pop("/group")
        return SplitClasses(arrays, label, group)

    def summary(self, model: nnx.Module, split: str) -> dict[str, float]:
        """Share of wrong classes, Matthews' correlation coefficient, and AUC where defined.

        The coefficient is 0 where it is not defined, as for a model that knows one class only.
        """
        predictions = self(model, split)
        figures = _figures(predictions, "model")
        auc = {} if figures["auc"] is None else {"auc": figures["auc"]}
        error = 1.0 - float(predictions.confusion("model").accuracy())
        return {"error": error, "mcc": figures["mcc"] or 0.0, **auc}

    def report(self, predictions: SplitClasses) -> dict[str, Any]:
        """The figures of one split: accuracy, MCC, macro F1 and AUC.

        Of the model per class, too, with the counts of true (rows) against predicted classes.
        """
        counts = predictions.confusion("model")
        per_class = {
            "precision": counts.precision(),
            "recall": counts.recall(),
            "f1": counts.f1(),
        }
        return {
            "examples": len(predictions.label),
            **{name: _figures(predictions, name) for name in predictions.probabilities},
            "classes": {
                label: {name: figure(values[at]) for name, values in per_class.items()}
                for at, label in enumerate(self.data.classes)
            },
            "confusion": np.asarray(counts.counts).astype(int).tolist(),
        }


def _figures(predictions: SplitClasses, name: str) -> dict[str, float | None]:
    counts, values = predictions.confusion(name), predictions.probabilities[name]
    score = values[:, 1] if values.shape[-1] == 2 else values
    return {
        "accuracy": figure(counts.accuracy()),
        "mcc": figure(counts.mcc()),
        "macro_f1": figure(counts.macro_f1()),
        "auc": figure(roc_auc(score, predictions.label)),
    }
