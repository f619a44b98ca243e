"""What a run leaves for people: the report as Markdown, and its plots."""

import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from stpatch_jax import plotting
from stpatch_jax.runs.judging.report import (
    classification,
    customers,
    detection,
    forecast,
    frames,
    next_token,
    reconstruction,
)
from stpatch_jax.runs.directory import RunDirectory

_KINDS: dict[str, ModuleType] = {
    "Forecast": forecast,
    "Frames": frames,
    "Classify": classification,
    "Customers": customers,
    "Detect": detection,
    "NextToken": next_token,
    "Reconstruct": reconstruction,
}


def summary(report: Mapping[str, Any]) -> str:
    """The report as Markdown: the model beside the naive rules."""
    lines = [
        f"# {report['recipe']}",
        "",
        f"Step {report['step']}, {report['parameters']:,} parameters{_cost(report)}.",
        *_kind(report).summary(report),
    ]
    return "\n".join(lines)


def _cost(report: Mapping[str, Any]) -> str:
    """What an example costs, where that is known."""
    patches, flops = (report.get(name) for name in ("patches", "flops_per_example"))
    cut = f"; an example is {patches:,} patch{'es' * (patches != 1)}" if patches else ""
    return f"{cut}; its gradient takes {flops:.3g} FLOP" if flops else cut


def _kind(report: Mapping[str, Any]) -> ModuleType:
    """What writes a report: that of its task, unless its figures are of a kind of their own."""
    return _KINDS[report["test"].get("kind", report["task"])]


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
    figures = _kind(report).figures(data, predictions, report)
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
