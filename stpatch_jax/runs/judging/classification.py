"""Classes of whole fields: accuracy and what else a report says of them, beside the rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from stpatch_jax import plotting
from stpatch_jax.data import Batch, LabelledData
from stpatch_jax.metrics import Confusion, roc_auc
from stpatch_jax.runs.judging.judge import Judge, Judged, Tree, judges
from stpatch_jax.runs.judging.neighbors import nearest_neighbors, neighbors_line
from stpatch_jax.runs.judging.question import Asked, Question, log_odds
from stpatch_jax.runs.judging.tables import metric_table
from stpatch_jax.runs.judging.verdict import Losses, losses_of
from stpatch_jax.tasks import Classify

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METRICS = {"accuracy": "accuracy", "mcc": "MCC", "macro_f1": "macro F1", "auc": "AUC"}
_OF_CLASS = {"precision": "precision", "recall": "recall", "f1": "F1"}


@judges(Classify, object)
class ClassJudge(Judge):
    """Judges classes of labelled fields.

    Its rows, by example: `label`, where there are groups `group` (see `LabelledSplit`), and under
    `probabilities` by rule those of each class.
    """

    needs = LabelledData
    task: Classify
    data: LabelledData

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """Probabilities of each example by rule, see the class."""
        rules = {"model": answers, **self.task.baselines(batch)}
        probabilities = {name: np.asarray(values) for name, values in rules.items()}
        # Examples without groups stand for themselves.
        groups = {name: batch[name] for name in ("group",) if name in batch}
        return {"probabilities": probabilities, "label": batch["label"], **groups}

    def validation(self, judged: Judged) -> dict[str, float]:
        """Share of wrong classes, Matthews' correlation coefficient, and AUC where defined.

        The coefficient is 0 where it is not defined, as for a model that knows one class only.
        """
        metrics = _metrics(judged.rows, "model")
        auc = {} if math.isnan(metrics["auc"]) else {"auc": metrics["auc"]}
        mcc = 0.0 if math.isnan(metrics["mcc"]) else metrics["mcc"]
        return {"error": 1.0 - metrics["accuracy"], "mcc": mcc, **auc}

    def losses(self, judged: Judged) -> Losses | None:
        """How many examples of each group are of another class than was said."""
        rows, _ = self._with_neighbors(judged)
        said = {name: of.argmax(axis=-1) for name, of in rows["probabilities"].items()}
        wrong = {name: of != rows["label"] for name, of in said.items()}
        return losses_of("the share of wrong classes", wrong, group=rows.get("group"))

    def _with_neighbors(self, judged: Judged) -> tuple[Tree, dict[str, Any]]:
        """The rows of all rules, with the nearest neighbour where it is one, and what is told."""
        if not (neighbors := nearest_neighbors(self.data, judged.split, "label")):
            return judged.rows, {}
        sure = {"nearest_neighbor": np.eye(len(self.data.classes))[neighbors.answers]}
        rows = {**judged.rows, "probabilities": {**judged.rows["probabilities"], **sure}}
        return rows, {"neighbors": neighbors.told}

    def report(self, judged: Judged) -> dict[str, Any]:
        """Accuracy, MCC, macro F1 and AUC by rule.

        Of the model per class, too, with the counts of true (rows) against predicted classes.
        """
        (rows, told), counts = self._with_neighbors(judged), confusion(judged.rows, "model")
        per_class = {"precision": counts.precision(), "recall": counts.recall(), "f1": counts.f1()}
        return {
            "examples": judged.count,
            **told,
            **{name: _metrics(rows, name) for name in rows["probabilities"]},
            "classes": {
                label: {name: float(values[at]) for name, values in per_class.items()}
                for at, label in enumerate(self.data.classes)
            },
            "confusion": np.asarray(counts.counts).astype(int).tolist(),
        }

    def markdown(self, report: Mapping[str, Any]) -> list[str]:
        """The model beside the naive rules, then class by class."""
        test, others = report["test"], ("examples", "neighbors", "classes", "confusion")
        rules = {name: of for name, of in test.items() if name not in others}
        return [
            f"Test: {test['examples']} examples.",
            "",
            *metric_table("", _METRICS, rules),
            *neighbors_line(test),
            *metric_table("class", _OF_CLASS, test["classes"]),
        ]

    def figures(self, judged: Judged, report: Mapping[str, Any]) -> dict[str, Figure]:
        """The confusion matrix."""
        side = max(4.0, 0.4 * len(self.data.classes) + 1)
        figure = plotting.new_figure(1, 1, size=(side + 0.5, side))
        confused = report["test"]["confusion"]
        plotting.confusion_matrix(confused, self.data.classes, ax=figure.axes[0])
        return {"confusion": figure}

    def question(self, asked: Asked) -> Question:
        """The log-odds of a class, by default of the one that the model gives."""
        asked.refuse("lead", what="a class")
        classes, example, probabilities = list(self.data.classes), asked.example, asked.answer
        name = asked.choice(classes, classes[int(probabilities.argmax())])
        number = classes.index(name)

        def quality(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
            logs = jax.nn.log_softmax(model(inputs["field"]), axis=-1)
            return jnp.take_along_axis(logs, inputs["label"][:, None], axis=-1)[:, 0]

        return asked.question(
            asked.field(example["field"]),
            lambda model, inputs: log_odds(model(inputs["field"]), number),
            name="field",
            quality=quality,
            judged=("label",),
            title=f"{asked.name}: class {name}, probability {probabilities[number]:.3g}, truly "
            f"{classes[int(example['label'])]}",
            unit="nats",
            loss="cross-entropy, nats",
        )


def confusion(rows: Tree, name: str) -> Confusion:
    """Counts of true against predicted classes of a rule."""
    values = rows["probabilities"][name]
    return Confusion.of(values.argmax(-1), rows["label"], classes=values.shape[-1])


def _metrics(rows: Tree, name: str) -> dict[str, float]:
    counts, values = confusion(rows, name), rows["probabilities"][name]
    score = values[:, 1] if values.shape[-1] == 2 else values
    metrics = {name: float(getattr(counts, name)()) for name in ("accuracy", "mcc", "macro_f1")}
    return {**metrics, "auc": float(roc_auc(score, rows["label"]))}
