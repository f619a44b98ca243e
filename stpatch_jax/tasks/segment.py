"""Segment: one class for every cell of a field."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.errors import check_range, require
from stpatch_jax.metrics import Confusion
from stpatch_jax.nn.heads import DenseHead
from stpatch_jax.nn.layers import Backbone, BackboneConfig
from stpatch_jax.patches.blends import BlendName
from stpatch_jax.tasks.models import BackboneWithHead
from stpatch_jax.tasks.task import Batch, Metrics, Shapes, TaskConfig, check_ids, real_entries
from stpatch_jax.tasks.weighing import (
    ClassWeights,
    WeighedClasses,
    check_class_weights,
    weight_of_each,
)

IGNORED = -1
"""The label of a cell that counts for nothing."""


@dataclasses.dataclass(frozen=True)
class SegmentConfig(TaskConfig):
    """Settings of `Segment`.

    Attributes:
        cross_entropy: Weight of the cross-entropy in the loss.
        dice: Weight of the soft Dice loss, which counts each class alike, however few cells it has.
        class_weights: Weight of the cells of each class in the cross-entropy; "balanced" for
            `n / (classes * count)`, under which all classes weigh the same in sum; None for 1.
        blend: Taper with which the head's windows are averaged where they overlap, see `DenseHead`.
    """

    cross_entropy: float = 1.0
    dice: float = 1.0
    class_weights: ClassWeights = None
    blend: BlendName = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cross_entropy", "dice"):
            check_range(name, getattr(self, name), 0, math.inf, bounds="[)")
        require(
            self.cross_entropy + self.dice > 0,
            "cross_entropy and dice must not both be 0, got 0 and 0; give one of them a weight",
        )
        check_class_weights(self.class_weights, ())

    def create(self, *, facts: Mapping[str, Any] | None = None) -> Segment:
        """The task of these settings, as in `TaskConfig.create`."""
        return Segment(self, **(facts or {}))


class Segment(WeighedClasses):
    """Gives every cell of a field one class.

    A batch holds `field` [batch, time, *space, channel], `label` [batch, time, *space] integers
    from 0 to classes - 1, or -1 where a cell is ignored, and optionally bool `example_mask`
    [batch]. Images and volumes have one time. Where it holds `usual` [batch, time, *space], the
    most frequent class of each cell in training, that is a rule to beat.
    """

    config: SegmentConfig

    def network(
        self, body: Backbone, backbone: BackboneConfig, shapes: Shapes, *, rngs: nnx.Rngs
    ) -> BackboneWithHead:
        """Puts a `DenseHead` on a backbone whose windows cover the field.

        Before training it says about the class frequencies of the training cells.
        """
        head = DenseHead(
            body.spec,
            body.out_features,
            shape=shapes["field"][1:-1],
            channels=len(self.class_counts),
            blend=self.config.blend,
            rngs=rngs,
            options=backbone.for_head,
        )
        shares = (np.asarray(self.class_counts) + 1) / (sum(self.class_counts) + 1)
        bias, cells = head.dense.bias, math.prod(head.patch_shape[:-1])
        assert bias is not None  # a DenseHead has one unless told otherwise
        # With weights of zero, training spends its first tens of steps before features matter.
        draw, kernel = nnx.initializers.lecun_normal(), head.dense.kernel
        kernel[...] = draw(rngs.params(), kernel.shape, kernel.dtype)
        bias[...] = jnp.tile(jnp.log(shares), cells).astype(bias.dtype)
        return BackboneWithHead(body, head)

    def check_batch(self, batch: Batch) -> None:
        """Refuses labels that are no class of this task, as in `Task.check_batch`."""
        label, field = np.asarray(batch["label"]), np.shape(batch["field"])
        require(
            label.shape == field[:-1],
            f"label must have the cells of the field, {field[:-1]}, got {label.shape}; give a "
            "class for each cell",
        )
        check_ids("label", label[label != IGNORED], len(self.class_counts))

    def loss(self, model: nnx.Module, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Computes the weighted sum of cross-entropy and Dice over a batch's real cells.

        The cross-entropy is the mean over all cells, weighed by their classes. The Dice loss is
        that of each example, and an example counts by what its cells weigh.

        Returns:
            The loss, a float32 scalar, and its metrics: those of `score`, and `weight`, what the
            loss was divided by.
        """
        label, mask = batch["label"], self._real(batch)
        logits = model(batch["field"])
        weights = weight_of_each(self.config.class_weights, self.class_counts)
        weighing: Any = {"mask": mask, "class_weights": weights}
        # What is ignored is no class.
        label = jnp.where(mask, label, 0)
        each = jnp.sum(losses.label_weights(label, **weighing), axis=tuple(range(1, label.ndim)))
        entropy = losses.cross_entropy(logits, label, **weighing)
        overlap = losses.dice(logits, label, mask=mask, weights=each)
        loss = self.config.cross_entropy * entropy + self.config.dice * overlap
        return loss, {**self.score(logits, batch), "weight": jnp.sum(each)}

    def predict(self, model: nnx.Module, batch: Batch) -> jax.Array:
        """Returns the probability of each class, [batch, time, *space, class] in float32."""
        return jax.nn.softmax(model(batch["field"]), axis=-1)

    def score(self, outputs: jax.Array, batch: Batch) -> Metrics:
        """Mean Dice and IoU over the classes, and accuracy, of probabilities or logits.

        They are those of all real cells of the batch together.
        """
        mask, classes = self._real(batch), len(self.class_counts)
        label = jnp.where(mask, batch["label"], 0)
        counts = Confusion.of(jnp.argmax(outputs, axis=-1), label, classes=classes, mask=mask)
        found = {"dice": counts.macro_f1(), "iou": counts.mean_iou(), "accuracy": counts.accuracy()}
        return {name: jnp.asarray(value) for name, value in found.items()}

    def baselines(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns what the naive rules say by name, [batch, time, *space, class] of 0 and 1.

        `majority` says the most frequent class of the training cells everywhere, `cell` the most
        frequent one of the same cell, where the batch tells that.
        """
        classes = len(self.class_counts)
        return {name: jax.nn.one_hot(label, classes) for name, label in self.rules(batch).items()}

    def rules(self, batch: Batch) -> dict[str, Any]:
        """The classes that the naive rules say, [batch, time, *space] by name."""
        majority = np.argmax(self.class_counts).astype(np.int32)
        naive = {"majority": np.broadcast_to(majority, np.shape(batch["label"]))}
        return {**naive, "cell": batch["usual"]} if "usual" in batch else naive

    def _real(self, batch: Batch) -> jax.Array:
        """Which cells count, bool [batch, time, *space]."""
        return real_entries(jnp.asarray(batch["label"]) != IGNORED, batch)
