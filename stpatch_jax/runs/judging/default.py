"""What judges a task that has no judge of its own: its loss and metrics, beside its rules."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from stpatch_jax.data import Batch
from stpatch_jax.errors import require
from stpatch_jax.runs.judging.judge import Judge, Judged, Tree, judges
from stpatch_jax.runs.judging.tables import markdown_table
from stpatch_jax.training.measuring import means, weighed


@judges(object, object)
class DefaultJudge(Judge):
    """Judges any task by its loss, its metrics and its `score`, and its rules by the latter."""

    @property
    def inputs(self) -> Sequence[str] | None:
        """All arrays: the loss may read any of them."""
        return None

    def outputs(self, model: Any, batch: Mapping[str, Any]) -> Tree:
        """The metrics of each example, by rule (`model` and the naive ones).

        They are what `Task.score` gives, of the model also the loss and its metrics: of each its
        `sum`, weighed, and the `weight` of the example, both [batch].
        """
        rules = self.task.baselines(batch)
        require(
            "model" not in rules,
            "a naive rule must have a name of its own, got 'model', under which the model is told; "
            "rename it",
        )
        answers = {"model": self.task.predict(model, batch), **rules}
        count = len(next(iter(batch.values())))
        for name, of in answers.items():
            shapes = [np.shape(leaf) for leaf in jax.tree.leaves(of)]
            require(
                all(shape[:1] == (count,) for shape in shapes),
                f"the answers of {name} must be of every example, [batch, ...], got shapes "
                f"{shapes} for {count} examples; repeat what holds for all of them",
            )

        def one(example: Mapping[str, Any], answers: Tree) -> Tree:
            example, answers = jax.tree.map(lambda x: x[None], (dict(example), answers))
            found = {name: weighed(self.task.score(of, example)) for name, of in answers.items()}
            loss, metrics = self.task.loss(model, example)
            # The loss may weigh otherwise than the score, in which the rules are compared.
            found["model"] = {**weighed({"loss": loss, **metrics}), **found["model"]}
            return found

        return jax.vmap(one)(dict(batch), answers)

    def sums(self, batch: Batch, answers: Tree) -> Tree:
        """Each metric times what its example weighs, and that weight."""
        return jax.tree.map(lambda values: values.sum(dtype=np.float64), answers)

    def validation(self, judged: Judged) -> dict[str, float]:
        """The loss and the metrics of the model."""
        return means(judged.sums["model"])

    def report(self, judged: Judged) -> dict[str, Any]:
        """The means over the examples, by rule."""
        scores = {
            name: {metric: float(value) for metric, value in means(of).items()}
            for name, of in judged.sums.items()
        }
        return {"examples": judged.count, "scores": scores}

    def markdown(self, report: Mapping[str, Any]) -> list[str]:
        """One table of all metrics."""
        test = report["test"]
        metrics = list(dict.fromkeys(name for of in test["scores"].values() for name in of))
        rows = ([name, *(of.get(m) for m in metrics)] for name, of in test["scores"].items())
        return [f"Test: {test['examples']} examples.", "", *markdown_table(["", *metrics], rows)]
