"""The report of a detection as Markdown, and its plots."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from stpatch_jax import plotting
from stpatch_jax.data import ObjectData
from stpatch_jax.runs.judging.registry import SplitDetections

_FIGURES = {"map": "mAP", "precision": "precision", "recall": "recall"}
_MOST_FRAMES = 4


def summary(report: Mapping[str, Any]) -> list[str]:
    """The lines after the title: the model beside the naive rule, then class by class."""
    test = report["test"]
    rules = [name for name, figures in test.items() if isinstance(figures, Mapping)]
    rules.remove("classes")
    return [
        f"Test: {test['clips']} clips, {test['objects']} objects. A detection is a hit from an IoU "
        f"of {test['iou']:g} on; precision and recall are of those scored {test['sure']:g} or "
        "more.",
        "",
        f"| | {' | '.join(_FIGURES.values())} |",
        f"|---|{'---:|' * len(_FIGURES)}",
        *(_row(name, test[name], _FIGURES) for name in rules),
        "",
        "| class | AP | precision | recall | objects |",
        "|---|---:|---:|---:|---:|",
        *(
            _row(name, of, ("ap", "precision", "recall", "objects"))
            for name, of in test["classes"].items()
        ),
        "",
    ]


def _row(name: str, figures: Mapping[str, float | None], order: Any) -> str:
    cells = ("-" if figures[key] is None else f"{figures[key]:.4g}" for key in order)
    return f"| {name} | {' | '.join(cells)} |"


def figures(
    data: ObjectData, split: SplitDetections, report: Mapping[str, Any]
) -> dict[str, Figure]:
    """The plots by name: what was detected in the first frames of the first clips."""
    shown, sure = split.shown, report["test"]["sure"]
    clips, frames = shown["field"].shape[0], min(_MOST_FRAMES, shown["field"].shape[1])
    figure = plotting.new_figure(clips, frames, size=(3.2 * frames, 3.8 * clips))
    for number, ax in enumerate(figure.axes):
        at = divmod(number, frames)
        seen = shown["found_valid"][at] & (shown["found_score"][at] >= sure)
        real = shown["object_mask"][at]
        truth = ", ".join(data.classes[label] for label in shown["label"][at][real])
        plotting.detection_boxes(
            shown["field"][at].clip(0, 1),
            shown["found_boxes"][at][seen],
            labels=[data.classes[label] for label in shown["found_label"][at][seen]],
            scores=shown["found_score"][at][seen].tolist(),
            true_boxes=shown["boxes"][at][real],
            ax=ax,
            title=f"clip {at[0]}, frame {at[1]}: {truth}",
        )
    return {"boxes": figure}
