"""Objects in every frame: average precision and what else a report says, beside the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import plotting
from stpatch_jax.data import Batch, ObjectData
from stpatch_jax.losses import box_iou
from stpatch_jax.metrics import COCO_THRESHOLDS, AveragePrecision
from stpatch_jax.runs.judging.judge import Judge, Judged, Shows, Tree, judges
from stpatch_jax.runs.judging.question import Asked, Question, log_odds
from stpatch_jax.runs.judging.tables import metric_table
from stpatch_jax.runs.judging.verdict import Losses
from stpatch_jax.tasks import Detect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 3
_MOST_FRAMES = 4
_IOU = 0.5
SURE = 0.3
"""Score from which on a detection counts for precision and recall."""

_SHARES = {"precision": "precision", "recall": "recall"}
_METRICS = {"map": "mAP .5", "map_50_95": "mAP .5:.95", **_SHARES}
_OF_CLASS = {"ap": "AP .5", "ap_50_95": "AP .5:.95", **_SHARES, "objects": "objects"}
_TRUE = ("boxes", "label", "object_mask")
_FOUND = ("boxes", "score", "label", "valid")


@judges(Detect, object)
class DetectionJudge(Judge):
    """Judges detected objects by average precision as COCO has it.

    Its rows, by clip: under `matched` by rule the detections [clip, detections], of which those
    count that are `valid`, with `hit` at `COCO_THRESHOLDS` [clip, detections, thresholds], and the
    number of `objects` [clip, classes].
    """

    needs = ObjectData
    task: Detect
    data: ObjectData

    def outputs(self, model: Any, batch: Mapping[str, Any]) -> Tree:
        """The detections by name, [batch, time, detections, ...] each."""
        found = self.task.predict(model, batch)
        return {key: getattr(found, key) for key in _FOUND}

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """What was hit in each clip, by rule."""
        rules = {"model": answers}
        for name, of in self.task.baselines(batch).items():
            rules[name] = {key: np.asarray(getattr(of, key)) for key in _FOUND}
        return {"matched": {name: self._matched(of, batch) for name, of in rules.items()}}

    def _matched(self, of: Tree, batch: Batch) -> Tree:
        classes, clips = len(self.data.classes), len(batch["label"])
        found = AveragePrecision.of(
            *(of[key] for key in ("boxes", "score", "label")),
            valid=of["valid"],
            true_boxes=batch["boxes"],
            true_label=batch["label"],
            true_mask=batch["object_mask"],
            classes=classes,
            thresholds=COCO_THRESHOLDS,
        )
        valid = of["valid"].reshape(clips, -1)
        rows = {"valid": valid}
        for key, values in (("score", found.score), ("label", found.label), ("hit", found.hit.T)):
            rows[key] = np.zeros((*valid.shape, *values.shape[1:]), values.dtype)
            rows[key][valid] = values
        true = zip(batch["label"], batch["object_mask"], strict=True)
        objects = [np.bincount(label[mask], minlength=classes) for label, mask in true]
        return {**rows, "objects": np.stack(objects)}

    def shows(self, count: int) -> Mapping[str, Shows]:
        """The first clips, their objects and what the model detects."""

        def clips(batch: Batch, answers: Tree) -> Tree:
            found = {f"found_{key}": values for key, values in answers.items()}
            return {**{name: batch[name] for name in ("field", *_TRUE)}, **found}

        return {"clips": Shows(range(min(_SHOWN, count)), clips)}

    def validation(self, judged: Judged) -> dict[str, float]:
        """What the mean average precision at an IoU of 0.5 lacks to 1, it, and that over IoUs."""
        found = total(judged.rows["matched"]["model"])
        at_half = found.at(_IOU).mean()
        return {"missed_map": 1.0 - at_half, "map": at_half, "map_50_95": found.mean()}

    def losses(self, judged: Judged) -> Losses | None:
        """Objects of each clip that are not found, and what is found where none is, where sure."""
        matched = judged.rows["matched"]
        objects = matched["model"]["objects"].sum(axis=1)
        wrong = {}
        for name, of in matched.items():
            sure = of["valid"] & (of["score"] >= SURE)
            wrong[name] = objects + sure.sum(axis=1) - 2.0 * (sure & of["hit"][..., 0]).sum(axis=1)
        return Losses("missed and false detections", wrong, objects)

    def report(self, judged: Judged) -> dict[str, Any]:
        """Mean average precision, and precision and recall where sure; of the model by class."""
        totals = {name: total(clips) for name, clips in judged.rows["matched"].items()}
        model, by_iou = totals["model"], totals["model"].average_precision()
        per_class = {"ap": by_iou[0], "ap_50_95": by_iou.mean(axis=0), **_precision_recall(model)}
        return {
            "clips": judged.count,
            "objects": int(model.objects.sum()),
            "iou": _IOU,
            "sure": SURE,
            **{name: _metrics(of) for name, of in totals.items()},
            "classes": {
                label: {name: float(values[at]) for name, values in per_class.items()}
                | {"objects": int(model.objects[at])}
                for at, label in enumerate(self.data.classes)
            },
        }

    def markdown(self, report: Mapping[str, Any]) -> list[str]:
        """The model beside the naive rules, then class by class."""
        test, others = report["test"], ("clips", "objects", "iou", "sure", "classes")
        rules = {name: of for name, of in test.items() if name not in others}
        return [
            f"Test: {test['clips']} examples, {test['objects']} objects. Average precision as COCO "
            f"has it, at an IoU of .5, and the mean over those of .5, .55, ... .95. Precision and "
            f"recall are of detections scored {test['sure']:g} or more, hits from an IoU of "
            f"{test['iou']:g} on.",
            "",
            *metric_table("", _METRICS, rules),
            *metric_table("class", _OF_CLASS, test["classes"]),
        ]

    def figures(self, judged: Judged, report: Mapping[str, Any]) -> dict[str, Figure]:
        """What was detected in the first frames of the first clips."""
        shown, sure = judged.shown["clips"], report["test"]["sure"]
        if shown["boxes"].shape[-1] != 4:
            return {}
        clips, frames = shown["field"].shape[0], min(_MOST_FRAMES, shown["field"].shape[1])
        rows, columns = (clips, frames) if frames > 1 else (1, clips)
        figure = plotting.new_figure(rows, columns, size=(3.2 * columns, 3.8 * rows))
        for number, ax in enumerate(figure.axes):
            at = divmod(number, frames)
            seen = shown["found_valid"][at] & (shown["found_score"][at] >= sure)
            real = shown["object_mask"][at]
            classes = ", ".join(self.data.classes[label] for label in shown["label"][at][real])
            plotting.detection_boxes(
                self._picture(shown["field"][at]),
                shown["found_boxes"][at][seen],
                labels=[self.data.classes[label] for label in shown["found_label"][at][seen]],
                scores=shown["found_score"][at][seen].tolist(),
                true_boxes=shown["boxes"][at][real],
                ax=ax,
                title=f"example {at[0]}, frame {at[1]}: {classes}",
            )
        return {"boxes": figure}

    def _picture(self, frame: np.ndarray) -> np.ndarray:
        seen = self.data.shown(frame)
        return seen if seen.shape[-1] in (1, 3) else seen[..., :1]

    def question(self, asked: Asked) -> Question:
        """The confidence in one object, as log-odds: in its window, whatever box that gives."""
        example, classes = asked.example, list(self.data.classes)
        frames = len(example["field"])
        flat = nnx.jit(lambda model, field: model(field).flat())
        windows = flat(asked.model, example["field"][None])
        confidence = jax.nn.sigmoid(windows.score)[..., None] * jax.nn.softmax(windows.label, -1)
        sure = np.asarray(confidence)[0]
        if asked.target is not None:
            wanted = classes.index(asked.choice(classes, ""))
            sure = np.where(np.arange(len(classes)) == wanted, sure, 0)
        lead = asked.lead_of(frames, "the number of a frame")
        rows = np.arange(frames) if lead is None else np.array([lead - 1])
        at, window, label = map(int, np.unravel_index(sure[rows].argmax(), sure[rows].shape))
        frame = int(rows[at])
        box = np.asarray(windows.box)[0, frame, window]

        def answer(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
            flat = model(inputs["field"]).flat()
            score = flat.score[:, frame, window]
            if len(classes) == 1:
                return score
            logs = jax.nn.log_softmax(flat.label[:, frame, window], axis=-1)
            others = logs[:, label] - log_odds(logs, label)
            # p / (1 - p) of p = P(object) P(class): where there is none, or of another class.
            wrong = jnp.logaddexp(jax.nn.log_sigmoid(-score), jax.nn.log_sigmoid(score) + others)
            return jax.nn.log_sigmoid(score) + logs[:, label] - wrong

        return asked.question(
            asked.field(example["field"]),
            answer,
            name="field",
            quality=asked.negative_loss,
            judged=[key for key in example if key != "field"],
            title=f"{asked.name}: {classes[label]} in frame {frame + 1} of {frames}, confidence "
            f"{sure[frame, window, label]:.3g}, {_truth(box, frame, example, classes)}",
            unit="nats",
            place=((frame, frame + 1), *zip(*np.split(box, 2), strict=True)),
            loss="loss of detection, nats",
        )


def _truth(box: np.ndarray, frame: int, example: Batch, classes: Sequence[str]) -> str:
    real = np.flatnonzero(example["object_mask"][frame])
    overlap = np.asarray(jax.jit(box_iou)(box[None], example["boxes"][frame, real]))
    if not overlap.any():
        return "truly nothing"
    best = int(overlap.argmax())
    return f"truly {classes[int(example['label'][frame, real[best]])]} (IoU {overlap[best]:.2g})"


def total(rows: Mapping[str, np.ndarray]) -> AveragePrecision:
    """The detections of some clips, see `DetectionJudge`, together."""
    score, label, hit = (rows[key][rows["valid"]] for key in ("score", "label", "hit"))
    return AveragePrecision(COCO_THRESHOLDS, score, label, hit.T, rows["objects"].sum(axis=0))


def _precision_recall(of: AveragePrecision) -> dict[str, np.ndarray]:
    """Precision and recall of each class over detections scored `SURE` or more."""
    sure, classes = of.score >= SURE, len(of.objects)
    found = np.bincount(of.label[sure], minlength=classes)
    hits = np.bincount(of.label[sure & of.hit[0]], minlength=classes)
    with np.errstate(invalid="ignore"):
        return {"precision": hits / found, "recall": hits / of.objects}


def _metrics(of: AveragePrecision) -> dict[str, float | None]:
    sure = of.score >= SURE
    hits = int((sure & of.hit[0]).sum())
    return {
        "map": float(of.at(_IOU).mean()),
        "map_50_95": float(of.mean()),
        "precision": hits / int(sure.sum()) if sure.any() else None,
        "recall": hits / max(int(of.objects.sum()), 1),
    }
