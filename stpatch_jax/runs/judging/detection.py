"""Detections over a whole split, and what a report says of them beside the naive ones."""

import dataclasses
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.data import ObjectData
from stpatch_jax.runs.judging.judge import Evaluator, figure
from stpatch_jax.metrics import AveragePrecision
from stpatch_jax.tasks import Detect

_SHOWN = 3
SURE = 0.3
"""Score from which on a detection counts for precision and recall."""


@dataclasses.dataclass(frozen=True, eq=False)
class SplitDetections:
    """The detections of every clip of one split matched to the truth; those of a few clips whole.

    Attributes:
        matched: By name (`model` and the naive ones), one entry a clip, at an IoU of 0.5.
        shown: Fields, true objects and the model's detections of the first clips by name,
            [clip, time, ...].
    """

    matched: dict[str, list[AveragePrecision]]
    shown: dict[str, np.ndarray]

    def total(self, name: str, *, chosen: np.ndarray | None = None) -> AveragePrecision:
        """All clips together, or chosen ones, some of them several times.

        Args:
            name: Whose detections.
            chosen: Numbers of clips.
        """
        clips = self.matched[name]
        parts = clips if chosen is None else [clips[number] for number in chosen]
        return AveragePrecision(
            parts[0].thresholds,
            np.concatenate([part.score for part in parts]),
            np.concatenate([part.label for part in parts]),
            np.concatenate([part.hit for part in parts], axis=1),
            np.sum([part.objects for part in parts], axis=0),
        )


class Detector(Evaluator):
    """Judges detected objects; see `Evaluator`."""

    def __init__(self, task: Detect, data: ObjectData, mesh: Mesh, *, batch_size: int):
        super().__init__(task.predict, ("field",), data, mesh, batch_size=batch_size)
        self.task = task
        self.data: ObjectData = data

    def __call__(self, model: nnx.Module, split: str) -> SplitDetections:
        """Detects the objects in every clip of a split, without dropout."""
        matched: dict[str, list[AveragePrecision]] = {}
        shown: dict[str, np.ndarray] = {}
        for batch, detections in self.predicted(model, split):
            real = np.flatnonzero(batch["example_mask"])
            for name, found in {"model": detections, **self.task.baselines(batch)}.items():
                arrays = {key: np.asarray(getattr(found, key)) for key in _FOUND}
                clips = matched.setdefault(name, [])
                clips += [self._matched(arrays, batch, slice(at, at + 1)) for at in real]
            if not shown:
                first = real[:_SHOWN]
                shown = {name: batch[name][first] for name in ("field", *_TRUE)}
                shown |= {f"found_{key}": getattr(detections, key)[first] for key in _FOUND}
        return SplitDetections(matched, shown)

    def _matched(self, found: Any, batch: Any, at: slice) -> AveragePrecision:
        return AveragePrecision.of(
            found["boxes"][at],
            found["score"][at],
            found["label"][at],
            valid=found["valid"][at],
            true_boxes=batch["boxes"][at],
            true_label=batch["label"][at],
            true_mask=batch["object_mask"][at],
            classes=len(self.data.classes),
        )

    def summary(self, model: nnx.Module, split: str) -> dict[str, float]:
        """What the mean average precision at an IoU of 0.5 lacks to 1, and that precision."""
        found = self(model, split).total("model").mean()
        return {"missed_map": 1.0 - found, "map": found}

    def report(self, predictions: SplitDetections) -> dict[str, Any]:
        """The figures of one split: mean average precision, and precision and recall where sure.

        Of the model per class, too.
        """
        totals = {name: predictions.total(name) for name in predictions.matched}
        model = totals["model"]
        per_class = {"ap": model.average_precision()[0], **_precision_recall(model)}
        return {
            "clips": len(predictions.matched["model"]),
            "objects": int(model.objects.sum()),
            "iou": model.thresholds[0],
            "sure": SURE,
            **{name: _figures(total) for name, total in totals.items()},
            "classes": {
                label: {
                    **{name: figure(values[at]) for name, values in per_class.items()},
                    "objects": int(model.objects[at]),
                }
                for at, label in enumerate(self.data.classes)
            },
        }


_TRUE = ("boxes", "label", "object_mask")
_FOUND = ("boxes", "score", "label", "valid")


def _precision_recall(total: AveragePrecision) -> dict[str, np.ndarray]:
    """Precision and recall of each class over detections scored `SURE` or more."""
    sure, classes = total.score >= SURE, len(total.objects)
    found = np.bincount(total.label[sure], minlength=classes)
    hits = np.bincount(total.label[sure & total.hit[0]], minlength=classes)
    with np.errstate(invalid="ignore"):
        return {"precision": hits / found, "recall": hits / total.objects}


def _figures(total: AveragePrecision) -> dict[str, float | None]:
    sure = total.score >= SURE
    hits = int((sure & total.hit[0]).sum())
    return {
        "map": figure(total.mean()),
        "precision": hits / int(sure.sum()) if sure.any() else None,
        "recall": hits / max(int(total.objects.sum()), 1),
    }
