"""Mean average precision of detections."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from stpatch_jax.errors import InputError, check_range, require
from stpatch_jax.metrics.sums import Array, divide

COCO_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""The IoU thresholds 0.5, 0.55, ... 0.95, over which COCO averages."""
_RECALLS = np.linspace(0, 1, 101)


@dataclasses.dataclass(frozen=True)
class AveragePrecision:
    """Detections matched to true objects, from which average precision follows; on the host.

    Within each frame and class, detections are visited by falling score. Of the true objects that
    were not hit before and that it overlaps by at least the IoU threshold, one hits that which it
    overlaps most; every other one is a false positive, the second detection of one object too.
    `a + b` is both batches together; it keeps a few numbers per detection. All is as COCO has it:
    where no two scores are equal, so are the figures of pycocotools.

    Attributes:
        score: [detections] confidence of every valid detection, float64.
        label: [detections] its class.
        hit: Bool [thresholds, detections], whether it is a hit.
        objects: [classes] number of true objects.

    References:
        Lin et al., "Microsoft COCO: common objects in context", ECCV 2014, with the formulas of its
        evaluation code.
    """

    thresholds: tuple[float, ...]
    score: np.ndarray
    label: np.ndarray
    hit: np.ndarray
    objects: np.ndarray

    @classmethod
    def of(
        cls,
        boxes: Array,
        score: Array,
        label: Array,
        *,
        valid: Array | None = None,
        true_boxes: Array,
        true_label: Array,
        true_mask: Array | None = None,
        classes: int,
        thresholds: Sequence[float] = (0.5,),
    ) -> AveragePrecision:
        """Matches the detections of one batch of frames.

        Args:
            boxes: [*frames, detections, 2 * space axes] bounds `(lo..., hi...)`.
            score: [*frames, detections], higher is surer.
            label: [*frames, detections] predicted classes, integers from 0 to classes - 1.
            valid: Bool [*frames, detections], False where there is no detection; None: all are.
            true_boxes: [*frames, objects, 2 * space axes].
            true_label: [*frames, objects] true classes.
            true_mask: Bool [*frames, objects], False where there is no object; None: all are. What
                the others hold there does not count.
            classes: Number of classes.
            thresholds: IoU thresholds above 0, up to 1; `COCO_THRESHOLDS` for COCO's.

        Raises:
            InputError: If shapes, classes or thresholds do not fit.

        >>> truth = np.array([[[0.0, 0.0, 4.0, 4.0]]])
        >>> boxes = np.array([[[0.0, 0.0, 4.0, 3.0], [5.0, 5.0, 9.0, 9.0]]])
        >>> matched = AveragePrecision.of(
        ...     boxes, np.array([[0.6, 0.9]]), np.array([[0, 0]]),
        ...     true_boxes=truth, true_label=np.array([[0]]), classes=1,
        ... )
        >>> matched.mean()
        0.5
        """
        require(len(thresholds) > 0, "thresholds must be at least one, got none; use (0.5,)")
        for level in thresholds:
            check_range("thresholds of the IoU", level, 0, 1, bounds="(]")
        shapes = boxes.shape, score.shape, true_boxes.shape
        # The frames of boxes [*frames, n, numbers], and how many numbers a box has.
        ours, true = ((*shape[:-2], *shape[-1:]) for shape in (shapes[0], shapes[2]))
        fits = score.shape == label.shape and ours == true
        boxes, label, valid = _frames("detections", boxes, label, valid, classes)
        true_boxes, true_label, real = _frames(
            "true objects", true_boxes, true_label, true_mask, classes
        )
        if not fits:
            raise InputError(
                "detections and true objects must be of the same frames and space axes, with a "
                f"score for each detection, got boxes {shapes[0]}, scores {shapes[1]} and true "
                f"boxes {shapes[2]}; reshape them"
            )
        levels = np.asarray(thresholds, np.float64)
        score = np.asarray(score, np.float64).reshape(valid.shape)
        hit = np.zeros((len(levels), *valid.shape), bool)
        for frame in np.flatnonzero(valid.any(axis=1)):
            own, there = np.flatnonzero(valid[frame]), real[frame]
            hit[:, frame, own] = _hits(
                (boxes[frame, own], score[frame, own], label[frame, own]),
                (true_boxes[frame, there], true_label[frame, there]),
                levels,
            )
        objects = np.bincount(true_label[real], minlength=classes)
        return cls(tuple(levels.tolist()), score[valid], label[valid], hit[:, valid], objects)

    def __add__(self, other: AveragePrecision) -> AveragePrecision:
        if self.thresholds != other.thresholds or len(self.objects) != len(other.objects):
            raise InputError(
                "the sum must be of equal thresholds and classes, got "
                f"{self.thresholds} and {other.thresholds}, {len(self.objects)} and "
                f"{len(other.objects)} classes; match both batches alike"
            )
        return AveragePrecision(
            self.thresholds,
            np.concatenate([self.score, other.score]),
            np.concatenate([self.label, other.label]),
            np.concatenate([self.hit, other.hit], axis=1),
            self.objects + other.objects,
        )

    def at(self, threshold: float) -> AveragePrecision:
        """The same at one of the thresholds."""
        row = self.thresholds.index(threshold)
        return dataclasses.replace(self, thresholds=(threshold,), hit=self.hit[row : row + 1])

    def average_precision(self) -> np.ndarray:
        """Mean precision at the recalls 0, 0.01, ... 1, [thresholds, classes], from 0 to 1.

        The precision at a recall is the best one at that recall or above. Detections of one score
        enter the curve together, so that their order does not count. NaN for a class without true
        objects; what was detected of it then counts nowhere.
        """
        result = np.full((len(self.thresholds), len(self.objects)), np.nan)
        for label in np.flatnonzero(self.objects):
            own = self.label == label
            for row, hit in enumerate(self.hit[:, own]):
                result[row, label] = _precision(self.score[own], hit, self.objects[label])
        return result

    def mean(self) -> float:
        """Mean average precision: over classes with true objects and over thresholds.

        NaN if there are no true objects at all.
        """
        values = self.average_precision()[:, self.objects > 0]
        return float(divide(values.sum(), np.asarray(values.size)))


def _frames(
    name: str, boxes: Array, label: Array, mask: Array | None, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns boxes [frames, n, numbers], labels and mask [frames, n] in NumPy; others refused."""
    mask = np.ones(label.shape, bool) if mask is None else np.asarray(mask)
    fits = boxes.ndim > 1 and boxes.shape[-1] % 2 == 0 and boxes.shape[:-1] == label.shape
    if not fits or mask.shape != label.shape:
        raise InputError(
            f"{name} must have boxes (*frames, n, 2 * space axes), label and mask (*frames, n), "
            f"got {boxes.shape}, {label.shape} and {mask.shape}; reshape them"
        )
    n, numbers = boxes.shape[-2:]
    frames = int(np.prod(boxes.shape[:-2]))
    label = np.where(mask, np.asarray(label), 0).astype(np.int64).reshape(frames, n)
    wrong = label[(label < 0) | (label >= classes)]
    if wrong.size:
        raise InputError(
            f"labels of {name} must be from 0 to {classes - 1}, got {wrong[0]}; give the number "
            "of all classes"
        )
    boxes = np.asarray(boxes, np.float64).reshape(frames, n, numbers)
    return boxes, label, mask.reshape(frames, n)


def _hits(
    detections: tuple[np.ndarray, np.ndarray, np.ndarray],
    truth: tuple[np.ndarray, np.ndarray],
    levels: np.ndarray,
) -> np.ndarray:
    """Matches the detections (boxes, score, label) of one frame; bool [thresholds, detections]."""
    boxes, score, label = detections
    # Ties are broken by the boxes, so that the order in which things are listed does not count.
    true_boxes, true_label = (a[np.lexsort(truth[0].T[::-1])] for a in truth)
    overlap = np.where(label[:, None] == true_label, _iou(boxes, true_boxes), -1.0)
    hit = np.zeros((len(levels), len(boxes)), bool)
    if not len(true_boxes):
        return hit
    taken, rows = np.zeros((len(levels), len(true_boxes)), bool), np.arange(len(levels))
    for index in np.lexsort((*boxes.T[::-1], -score)):
        free = np.where(taken, -1.0, overlap[index])
        best = free.argmax(axis=1)
        hit[:, index] = free[rows, best] >= levels
        taken[rows, best] |= hit[:, index]
    return hit


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs, [len(a), len(b)]; 0 for no volume."""
    axes = a.shape[1] // 2

    def volume(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        return np.maximum(hi - lo, 0).prod(axis=-1)

    lo = np.maximum(a[:, None, :axes], b[None, :, :axes])
    hi = np.minimum(a[:, None, axes:], b[None, :, axes:])
    shared = volume(lo, hi)
    union = volume(a[:, :axes], a[:, axes:])[:, None] + volume(b[:, :axes], b[:, axes:]) - shared
    return shared / np.where(union > 0, union, 1)


def _precision(score: np.ndarray, hit: np.ndarray, objects: int) -> float:
    """Mean of the interpolated precision at 101 recalls, of one class."""
    order = np.argsort(-score, kind="stable")
    score, hits = score[order], np.cumsum(hit[order])
    # A point of the curve is the last detection of each score.
    last = np.flatnonzero(np.diff(score, append=-np.inf))
    precision, recall = hits[last] / (last + 1), hits[last] / objects
    # Behind the last recall that is reached, precision is 0.
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(best[np.searchsorted(recall, _RECALLS)].mean())
