"""What judges a task that has no judge of its own: its loss and metrics, beside its rules."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stpatch_jax.data import Batch
from stpatch_jax.runs.judging.judge import Judge, Judged, Tree, finite, judges
from stpatch_jax.runs.judging.tables import markdown_table


@judges(object, object)
class DefaultJudge(Judge):
    """Judges any task by its loss, its metrics and its `score`, and its rules by the latter."""

    @property
    def inputs(self) -> None:
        """All arrays: the loss may read any of them."""

    def outputs(self, model: Any, batch: Mapping[str, Any]) -> Tree:
        """The metrics of each example, by rule (`model` and the naive ones).

        They are what `Task.score` gives, of the model also the loss and
        its metrics, each [batch], and under `weight` what an example weighs.
        """
        answers = {"model": self.task.predict(model, batch), **self.task.baselines(batch)}

        def one(example: Mapping[str, Any], answers: Tree) -> Tree:
            example, answers = jax.tree.map(lambda x: x[None], (dict(example), answers))
            found = {name: dict(self.task.score(of, example)) for name, of in answers.items()}
            loss, metrics = self.task.loss(model, example)
            found["model"] = {"loss": loss, **metrics, **found["model"]}
            return {
                name: {"weight": jnp.float32(1), **jax.tree.map(jnp.float32, of)}
                for name, of in found.items()
            }

        return jax.vmap(one)(dict(batch), answers)

    def sums(self, batch: Batch, answers: Tree) -> Tree:
        """Each metric times what its example weighs, and that weight."""
        del batch
        return {
            name: {
                metric: (values if metric == "weight" else values * of["weight"]).sum(
                    dtype=np.float64
                )
                for metric, values in of.items()
            }
            for name, of in answers.items()
        }

    def validation(self, judged: Judged) -> dict[str, float]:
        """The loss and the metrics of the model."""
        return _means(judged.sums["model"])

    def report(self, judged: Judged) -> dict[str, Any]:
        """The means over the examples, by rule."""
        means = {name: _means(of) for name, of in judged.sums.items()}
        return {
            "examples": judged.count,
            "scores": {
                name: {metric: finite(value) for metric, value in of.items()}
                for name, of in means.items()
            },
        }

    def markdown(self, report: Mapping[str, Any]) -> list[str]:
        """One table of all metrics."""
        test = report["test"]
        metrics = list(dict.fromkeys(name for of in test["scores"].values() for name in of))
        rows = ([name, *(of.get(m) for m in metrics)] for name, of in test["scores"].items())
        return [f"Test: {test['examples']} examples.", "", *markdown_table(["", *metrics], rows)]


def _means(of: Mapping[str, Any]) -> dict[str, float]:
    """Means out of weighted sums, the loss first."""
    weight = float(of["weight"])
    # A compiled function returns its entries sorted by name.
    names = sorted(of.keys() - {"weight"}, key=lambda name: (name != "loss", name))
    return {name: float(of[name]) / weight if weight else math.nan for name in names}
