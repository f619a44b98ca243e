"""Numbers of whole fields: their errors in their own units, beside the rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stpatch_jax import plotting
from stpatch_jax.data import Batch, MeasuredData
from stpatch_jax.runs.judging.judge import Judge, Judged, Tree, judges
from stpatch_jax.runs.judging.neighbors import nearest_neighbors, neighbors_line
from stpatch_jax.runs.judging.tables import metric_table
from stpatch_jax.runs.judging.verdict import Losses, losses_of
from stpatch_jax.tasks import Regress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METRICS = {"mae": "MAE", "rmse": "RMSE", "r2": "R2"}
_COLUMNS, _MOST_PLOTS = 3, 6


@judges(Regress, object)
class RegressionJudge(Judge):
    """Judges numbers of fields.

    Its rows, by example: `target` [target], in units, where there are groups `group`, and under
    `predictions` by rule what was predicted.
    """

    needs = MeasuredData
    task: Regress
    data: MeasuredData

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """Predictions of each example by rule, see the class."""
        rules = {"model": answers, **self.task.baselines(batch)}
        predictions = {name: self.data.in_units(np.asarray(of)) for name, of in rules.items()}
        groups = {name: batch[name] for name in ("group",) if name in batch}
        target = self.data.in_units(np.asarray(batch["target"]))
        return {"predictions": predictions, "target": target, **groups}

    def validation(self, judged: Judged) -> dict[str, float]:
        """Mean absolute error and its square kin, both over all targets, each in its deviation."""
        rows = judged.rows
        errors = (rows["predictions"]["model"] - rows["target"]) / self._scales
        rmse = math.sqrt(float(np.mean(errors**2)))
        return {"scaled_mae": float(np.mean(np.abs(errors))), "scaled_rmse": rmse}

    def losses(self, judged: Judged) -> Losses | None:
        """Absolute errors over all targets, each in its deviation."""
        (rules, _), rows = self._with_neighbors(judged), judged.rows
        scaled = {name: (of - rows["target"]) / self._scales for name, of in rules.items()}
        errors = {name: np.abs(of).mean(axis=1) for name, of in scaled.items()}
        return losses_of("MAE in scaled units", errors, group=rows.get("group"))

    def _with_neighbors(self, judged: Judged) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Predictions by rule, of the nearest neighbour where it is one, and what is told of it."""
        predictions = judged.rows["predictions"]
        if not (neighbors := nearest_neighbors(self.data, judged.split, "target")):
            return predictions, {}
        nearest = {"nearest_neighbor": self.data.in_units(neighbors.answers)}
        return {**predictions, **nearest}, {"neighbors": neighbors.told}

    @property
    def _scales(self) -> np.ndarray:
        """The deviation of each target [1, target]."""
        ends = (self.data.in_units(np.full((1, len(self.data.targets)), end)) for end in (0.0, 1.0))
        return np.subtract(*list(ends)[::-1])

    def report(self, judged: Judged) -> dict[str, Any]:
        """MAE, RMSE and R2 of each target in its own units, by rule."""
        (rules, told), target = self._with_neighbors(judged), judged.rows["target"]
        targets = {
            name: {rule: _errors(of[:, at], target[:, at]) for rule, of in rules.items()}
            for at, name in enumerate(self.data.targets)
        }
        return {"examples": judged.count, **told, "targets": targets}

    def markdown(self, report: Mapping[str, Any]) -> list[str]:
        """The model beside the naive rules, target by target."""
        test = report["test"]
        lines = [f"Test: {test['examples']} examples.", ""]
        for name, rules in test["targets"].items():
            lines += metric_table(name, _METRICS, rules)
        return lines + neighbors_line(test)

    def figures(self, judged: Judged, report: Mapping[str, Any]) -> dict[str, Figure]:
        """Predictions against the truth, for each of the first targets."""
        names = self.data.targets[:_MOST_PLOTS]
        columns = min(len(names), _COLUMNS)
        rows = -(-len(names) // columns)
        figure = plotting.new_figure(rows, columns, size=(4 * columns, 4 * rows))
        for at, (name, ax) in enumerate(zip(names, figure.axes, strict=False)):
            values = judged.rows["predictions"]["model"][:, at], judged.rows["target"][:, at]
            plotting.agreement(*values, name=name, ax=ax)
        for ax in figure.axes[len(names) :]:
            ax.set_axis_off()
        return {"agreement": figure}


def _errors(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """MAE, RMSE, and the share of the variance that is explained, NaN where there is none."""
    error = prediction - target
    spread = float(np.sum((target - target.mean()) ** 2))
    rest = float(np.sum(error**2))
    r2 = 1 - rest / spread if spread > 0 else math.nan
    mean = rest / len(error)
    return {"mae": float(np.abs(error).mean()), "rmse": math.sqrt(mean), "r2": r2}
