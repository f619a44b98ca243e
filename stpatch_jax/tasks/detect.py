"""Detect: the objects in every frame of a field, each with a class and a box."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.errors import check_range, check_size, require
from stpatch_jax.nn.heads import DetectionHead, Detections, non_maximum_suppression
from stpatch_jax.nn.layers import Backbone, BackboneConfig, check_sizes
from stpatch_jax.tasks.models import BackboneWithHead
from stpatch_jax.tasks.task import (
    Batch,
    Metrics,
    Shapes,
    TaskBase,
    TaskConfig,
    check_ids,
    checked_counts,
    real_entries,
)


@dataclasses.dataclass(frozen=True)
class DetectConfig(TaskConfig):
    """Settings of `Detect`.

    Attributes:
        hidden: Width of each hidden layer of the head; empty for a linear one.
        gamma: How fast easy windows lose weight in the focal loss, >= 0.
        alpha: Weight of windows with an object in the focal loss, in [0, 1].
        smooth_l1: Weight of the smooth L1 of a box's bounds, in windows, beside its 1 - GIoU.
        label_weight: Weight of the classes' cross-entropy beside the focal loss.
        box_weight: Weight of the box loss beside the focal loss.
        score_threshold: Detections of a lower score are not valid, from 0 to 1.
        iou_threshold: Overlap above which the lower of two scores of one class goes, from 0 to 1.
        candidates: How many of a frame's best scores are looked at for that.
        max_detections: How many detections of a frame are returned, at most.
    """

    hidden: tuple[int, ...] = ()
    gamma: float = 2.0
    alpha: float = 0.25
    smooth_l1: float = 1.0
    label_weight: float = 1.0
    box_weight: float = 1.0
    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    candidates: int = 256
    max_detections: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gamma", "smooth_l1", "label_weight", "box_weight"):
            check_range(name, getattr(self, name), 0, math.inf, bounds="[)")
        for name in ("alpha", "score_threshold", "iou_threshold"):
            check_range(name, getattr(self, name), 0, 1)
        check_sizes("hidden", self.hidden, least=0)
        for name in ("candidates", "max_detections"):
            check_size(name, getattr(self, name))

    def create(self, *, facts: Mapping[str, Any] | None = None) -> Detect:
        """The task of these settings, as in `TaskConfig.create`."""
        return Detect(self, **(facts or {}))


class CountedObjects(Protocol):
    """What `Detect` asks of its data, as its own facts."""

    class_counts: tuple[int, ...]
    mean_box: tuple[float, ...]


class Detect(TaskBase):
    """Detects the objects in every frame: a box, a class and a score for each.

    A batch holds `field` [batch, time, *space, channel] with 1 to 3 space axes, `boxes` [batch,
    time, objects, 2 * space axes] of bounds `(lo..., hi...)` in cells (cell i reaches from i to
    i + 1), `label` [batch, time, objects] integers from 0 to classes - 1, bool `object_mask`
    [batch, time, objects], True where there is an object, and optionally bool `example_mask`
    [batch], False where an example only fills up the batch.

    In its frame an object belongs to the window whose centre is nearest to its own, the first of
    equally near ones. Of objects that share a window, the one of the smallest volume (the first of
    equal ones) is learnt, as in FCOS (Tian et al., ICCV 2019), and the others are lost: use smaller
    windows or strides if the metric `lost_objects` is not small. `DetectionHead` says which part of
    a feature map answers for which frame.

    Args:
        config: Settings.
        class_counts: Number of training objects of each class: how many classes there are, and
            which is the majority. Empty until `fitted`.
        mean_box: Mean bounds `(lo..., hi...)` of the training objects, in cells: how many space
            axes there are, and the naive baseline.

    Raises:
        InputError: Counts or box are none.
    """

    asks = CountedObjects
    config: DetectConfig

    def __init__(
        self,
        config: DetectConfig,
        *,
        class_counts: Sequence[int] = (),
        mean_box: Sequence[float] = (),
    ):
        counts = checked_counts("class_counts", class_counts, least=1)
        mean_box = tuple(map(float, mean_box))
        super().__init__(config, class_counts=counts, mean_box=mean_box)
        axes = len(mean_box) // 2
        lo, hi = mean_box[:axes], mean_box[axes:]
        fits = len(lo) == len(hi) in (1, 2, 3) and all(map(operator.lt, lo, hi))
        require(
            fits or not (counts or mean_box),
            "mean_box must be 2, 4 or 6 bounds (lo..., hi...) with lo < hi along 1 to 3 space "
            f"axes, got {mean_box}; give the mean bounds of the training objects",
        )

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of training objects of each class, once `fitted`."""
        return self.fact("class_counts")

    @property
    def mean_box(self) -> tuple[float, ...]:
        """Mean bounds of the training objects, once `fitted`."""
        return self.fact("mean_box")

    def check_shapes(self, backbone: BackboneConfig, shapes: Shapes) -> None:
        """Refuses fields and boxes whose axes do not fit each other or the mean box.

        Raises:
            InputError: Naming both.
        """
        field, numbers = tuple(shapes["field"]), len(self.mean_box)
        require(
            len(field) == 3 + numbers // 2,
            f"field must be (batch, time, *space, channel) with the {numbers // 2} space axes of "
            f"mean_box, got shape {field}; series without space have no boxes",
        )
        _check_boxes(tuple(shapes["boxes"]), field, numbers)

    def network(
        self, body: Backbone, backbone: BackboneConfig, shapes: Shapes, *, rngs: nnx.Rngs
    ) -> BackboneWithHead:
        """Puts a `DetectionHead` on a backbone: a field goes to a `DetectionMap`."""
        head = DetectionHead(
            body.spec,
            body.out_features,
            shape=shapes["field"][1:-1],
            classes=len(self.class_counts),
            hidden=self.config.hidden,
            dropout=backbone.dropout,
            rngs=rngs,
            options=backbone.for_head,
        )
        return BackboneWithHead(body, head)

    def check_batch(self, batch: Batch) -> None:
        """Refuses objects whose label is no class, or whose box is not finite or ends too early.

        Raises:
            InputError: Naming the first one.
        """
        real = np.asarray(batch["object_mask"])
        check_ids("label", np.asarray(batch["label"])[real], len(self.class_counts))
        boxes = np.asarray(batch["boxes"])[real]
        lo, hi = np.split(boxes, 2, axis=-1)
        wrong = boxes[~(np.isfinite(boxes).all(axis=-1) & (lo <= hi).all(axis=-1))]
        require(
            wrong.size == 0,
            "boxes must be of finite bounds (lo..., hi...) with lo <= hi, got "
            f"{wrong[:1].tolist()}; sort the bounds or mask the object",
        )

    def loss(self, model: nnx.Module, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Computes focal loss + cross-entropy of the classes + box loss of a batch.

        The focal loss is over all windows of all frames, the other two are means over the learnt
        objects, the box loss in windows.

        Returns:
            The loss, a float32 scalar, and its metrics, float32 scalars: the three parts before
            their weights, `focal`, `cross_entropy` (nats) and `box`, `lost_objects`, the number of
            objects that share a window with a smaller one, `divisor`, the number of learnt ones,
            and `weight`, what the focal loss was divided by: that number, or 1 if there is none.

        Raises:
            InputError: If the shapes of a batch do not belong together.
        """
        real, boxes = _objects(batch, len(self.mean_box))
        output = model(batch["field"]).flat()
        cell, learnt = _assign(boxes, output.window, real)
        cells = jnp.arange(output.score.shape[-1]).reshape(1, 1, 1, -1)
        target = jnp.any((cell[..., None] == cells) & learnt[..., None], axis=2)
        predicted = jnp.take_along_axis(output.box, cell[..., None], axis=2)
        logits = jnp.take_along_axis(output.label, cell[..., None], axis=2)
        lo, hi = jnp.split(output.window[0], 2)
        extent = jnp.tile(hi - lo, 2).reshape(1, 1, 1, -1)
        focal = losses.focal(
            output.score,
            target,
            mask=real_entries(jnp.ones(target.shape, bool), batch),
            gamma=self.config.gamma,
            alpha=self.config.alpha,
        )
        entropy = losses.cross_entropy(logits, batch["label"], mask=learnt)
        box = losses.box_loss(
            predicted / extent, boxes / extent, mask=learnt, smooth_l1=self.config.smooth_l1
        )
        loss = focal + self.config.label_weight * entropy + self.config.box_weight * box
        lost = jnp.sum(real & ~learnt, dtype=jnp.float32)
        count = jnp.sum(losses.entry_weights(learnt))
        metrics = {"focal": focal, "cross_entropy": entropy, "box": box, "lost_objects": lost}
        metrics |= {"divisor": count, "weight": jnp.maximum(count, 1)}
        return loss, jax.lax.stop_gradient(metrics)

    def predict(self, model: nnx.Module, batch: Batch) -> Detections:
        """Detects the objects of a batch; needs `field` only.

        Every window says one box with its most probable class; its score is the probability of an
        object times that of the class. Then `non_maximum_suppression`. Boxes may reach outside of
        the field.

        Returns:
            [batch, time, detections] each, by falling score, where detections is the smallest of
            `max_detections`, `candidates` and the number of windows in space.
        """
        output = model(batch["field"]).flat()
        probability = jax.nn.softmax(output.label, axis=-1)
        score = jax.nn.sigmoid(output.score) * probability.max(axis=-1)
        detections = Detections(
            boxes=output.box,
            score=score,
            label=jnp.argmax(probability, axis=-1).astype(jnp.int32),
            valid=score >= self.config.score_threshold,
        )
        return non_maximum_suppression(
            detections,
            iou=self.config.iou_threshold,
            candidates=self.config.candidates,
            max_detections=self.config.max_detections,
        )

    def baselines(self, batch: Batch) -> dict[str, Detections]:
        """Returns the naive detections by name, [batch, time, 1] each.

        `mean_box` says in every frame the mean box of the training objects with the most frequent
        class, of the score that this class has among them.
        """
        frames = (*batch["field"].shape[:2], 1)
        counts = np.asarray(self.class_counts)
        boxes = jnp.asarray(self.mean_box, jnp.float32).reshape(1, 1, 1, -1)
        detections = Detections(
            boxes=jnp.broadcast_to(boxes, (*frames, boxes.shape[-1])),
            score=jnp.full(frames, counts.max() / counts.sum(), jnp.float32),
            label=jnp.full(frames, counts.argmax(), jnp.int32),
            valid=jnp.ones(frames, bool),
        )
        return {"mean_box": detections}


def _check_boxes(boxes: tuple[int, ...], field: tuple[int, ...], numbers: int) -> None:
    require(
        len(boxes) == 4 and boxes[:2] == field[:2] and boxes[3] == numbers,
        f"boxes must be (batch, time, objects, {numbers}) in the frames of the field, got {boxes} "
        f"for a field {field}; give every frame as many rows and mask what is none",
    )


def _objects(batch: Batch, numbers: int) -> tuple[jax.Array, jax.Array]:
    """Returns which objects are real and their boxes, 0 where there is none."""
    boxes, mask = batch["boxes"], batch["object_mask"]
    _check_boxes(boxes.shape, batch["field"].shape, numbers)
    require(
        batch["label"].shape == mask.shape == boxes.shape[:3],
        f"label and object_mask must be {boxes.shape[:3]}, one value per box, got "
        f"{batch['label'].shape} and {mask.shape}; cut them from the same objects",
    )
    real = real_entries(mask, batch)
    return real, jnp.where(real[..., None], boxes, 0).astype(jnp.float32)


def _assign(boxes: jax.Array, window: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns each object's window, of [cells, bounds], and whether the object is learnt there."""
    axes = window.shape[-1] // 2
    middle, own = window[:, :axes] + window[:, axes:], boxes[..., :axes] + boxes[..., axes:]
    distance = own[..., None, :] - middle.reshape(1, 1, 1, *middle.shape)
    cell = jnp.argmin(jnp.sum(jnp.square(distance), axis=-1), axis=-1)
    volume = jnp.prod(boxes[..., axes:] - boxes[..., :axes], axis=-1)
    # Column objects that beat row objects: smaller, or as small and listed before.
    smaller = volume[..., None, :] < volume[..., :, None]
    equal = volume[..., None, :] == volume[..., :, None]
    before = jnp.tri(volume.shape[-1], k=-1, dtype=bool)[None, None]
    rival = (cell[..., None, :] == cell[..., :, None]) & real[..., None, :]
    return cell, real & ~jnp.any(rival & (smaller | (equal & before)), axis=-1)
