"""The report of a classification as Markdown, and its plots."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from stpatch_jax import plotting
from stpatch_jax.data import LabelledData
from stpatch_jax.runs.judging.registry import SplitClasses

_FIGURES = {"accuracy": "accuracy", "mcc": "MCC", "macro_f1": "macro F1", "auc": "AUC"}


def summary(report: Mapping[str, Any]) -> list[str]:
    """The lines after the title: the model beside the naive rule, then class by class."""
    test = report["test"]
    rules = [name for name, figures in test.items() if isinstance(figures, Mapping)]
    rules.remove("classes")
    return [
        f"Test: {test['examples']} examples.",
        "",
        f"| | {' | '.join(_FIGURES.values())} |",
        f"|---|{'---:|' * len(_FIGURES)}",
        *(_row(name, test[name], _FIGURES) for name in rules),
        "",
        "| class | precision | recall | F1 |",
        "|---|---:|---:|---:|",
        *(_row(name, of, ("precision", "recall", "f1")) for name, of in test["classes"].items()),
        "",
    ]


def _row(name: str, figures: Mapping[str, float | None], order: Any) -> str:
    cells = ("-" if figures[key] is None else f"{figures[key]:.4g}" for key in order)
    return f"| {name} | {' | '.join(cells)} |"


def figures(
    data: LabelledData, predictions: SplitClasses, report: Mapping[str, Any]
) -> dict[str, Figure]:
    """The plots by name: the confusion matrix."""
    del predictions
    figure = plotting.new_figure(1, 1, size=(4.5, 4))
    plotting.confusion_matrix(report["test"]["confusion"], data.classes, ax=figure.axes[0])
    return {"confusion": figure}
