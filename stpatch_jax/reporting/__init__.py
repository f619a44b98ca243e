"""What a run leaves for people: the report as Markdown, and its plots."""

import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from stpatch_jax import plotting
from stpatch_jax.reporting import classification, forecast
from stpatch_jax.rundir import RunDirectory

_KINDS: dict[str, ModuleType] = {"Forecast": forecast, "Classify": classification}


def summary(report: Mapping[str, Any]) -> str:
    """The report as Markdown: the model beside the naive rules."""
    lines = [
        f"# {report['recipe']}",
        "",
        f"Step {report['step']}, {report['parameters']:,} parameters.",
        *_KINDS[report["task"]].summary(report),
    ]
    return "\n".join(lines)


def draw_plots(
    directory: RunDirectory, data: Any, predictions: Any, report: Mapping[str, Any]
) -> None:
    """Writes the plots of the task, and `plots/learning.png`.

    Args:
        directory: The run directory.
        data: The data of the run.
        predictions: What its evaluator predicted of the test split.
        report: The report.
    """
    directory.plots.mkdir(exist_ok=True)
    metrics = [json.loads(line) for line in directory.metrics_file.read_text().splitlines()]
    figures = _KINDS[report["task"]].figures(data, predictions, report)
    figures["learning"] = plotting.new_figure(1, 1, size=(7, 4))
    decides = next(iter(report["validation"]))
    plotting.learning_curve(
        metrics, ax=figures["learning"].axes[0], validation=f"validation/{decides}"
    )
    for name, drawn in figures.items():
        part = directory.plots / f"{name}.part.png"
        drawn.savefig(part, dpi=120)
        part.replace(directory.plots / f"{name}.png")


__all__ = ["draw_plots", "summary"]
