"""Classify: one class for a whole field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.errors import require
from stpatch_jax.metrics import Confusion
from stpatch_jax.nn.heads import ClassificationHead, ClassificationReduce
from stpatch_jax.nn.layers import BackboneConfig, is_size
from stpatch_jax.tasks.common import (
    BackboneWithHead,
    Batch,
    Ensemble,
    TaskConfig,
    log_mean_probability,
)


@dataclasses.dataclass(frozen=True)
class ClassifyConfig(TaskConfig):
    """Settings of `Classify`.

    Attributes:
        class_counts: Number of training examples of each class: how many classes there are, which
            is the majority, and what "balanced" weights are. Empty: those of the data, which a run
            fills in.
        hidden: Width of each hidden layer of the head; empty for a linear one.
        reduce: "flatten" or "mean", see `ClassificationHead`.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        members: Number of networks, alike but for their random numbers, that are trained beside
            each other, each on its own loss, and whose mean probability is the answer: an
            `Ensemble`, for data so few that initial weights decide.
        class_weights: One weight per class; "balanced" for `n / (classes * count)`, under which all
            classes weigh the same in sum; None for 1.
    """

    class_counts: tuple[int, ...] = ()
    hidden: tuple[int, ...] = (64,)
    reduce: ClassificationReduce = "flatten"
    label_smoothing: float = 0.0
    members: int = 1
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None

    def __post_init__(self) -> None:
        for field in ("class_counts", "hidden", "class_weights"):
            value = getattr(self, field)
            if isinstance(value, list):
                object.__setattr__(self, field, tuple(value))
        require(
            not self.class_counts
            or (
                len(self.class_counts) > 1
                and all(isinstance(n, int) and n >= 0 for n in self.class_counts)
                and sum(self.class_counts) > 0
            ),
            "Classify needs class_counts, the number of training examples of each of at least 2 "
            f"classes, got {self.class_counts}",
        )
        require(
            0 <= self.label_smoothing < 1,
            f"Classify needs 0 <= label_smoothing < 1, got {self.label_smoothing}",
        )
        require(is_size(self.members), f"Classify needs members >= 1, got {self.members!r}")
        weights = self.class_weights
        require(
            weights != "balanced" or all(self.class_counts),
            "Classify needs training examples of every class for balanced class_weights, "
            f"got counts {self.class_counts}; drop the empty classes or give the weights",
        )
        require(
            weights in (None, "balanced")
            or not self.class_counts
            or (len(weights) == len(self.class_counts) and min(weights) >= 0),
            f"Classify needs one class weight >= 0 for each of {len(self.class_counts)} classes, "
            f'"balanced" or None, got {weights!r}',
        )

    def create(self) -> Classify:
        """Returns the task of these settings."""
        return Classify(self)

    def resolved_weights(self) -> tuple[float, ...] | None:
        """Returns the weights as numbers, or None for 1."""
        if self.class_weights != "balanced":
            return self.class_weights
        total = sum(self.class_counts)
        return tuple(total / (len(self.class_counts) * count) for count in self.class_counts)


class Classify:
    """Gives one class to a whole field, or to a text through a `TokenEmbeddingConfig`.

    A batch holds `field` [batch, time, *space, channel], `label` [batch] integers from 0 to
    classes - 1, and optionally bool `example_mask` [batch], False where an example only fills up
    the batch.

    Args:
        config: Settings.

    Raises:
        InputError: The class counts are empty.
    """

    def __init__(self, config: ClassifyConfig):
        require(
            bool(config.class_counts),
            "Classify needs class_counts, the number of training examples of each class, got none; "
            "count the labels",
        )
        self.config = config

    def build(
        self,
        backbone: BackboneConfig,
        shapes: Mapping[str, Sequence[int]],
        *,
        rngs: nnx.Rngs,
    ) -> BackboneWithHead | Ensemble:
        """Builds backbone and head for batches of the given shapes, or several of both.

        Args:
            backbone: Config of any backbone; its dropout and dtypes hold for the head too.
            shapes: Shape of `field` in a batch; the batch size does not matter.
            rngs: Streams `params` and `dropout`.

        Raises:
            InputError: If the field does not fit the backbone.
        """
        field = tuple(shapes["field"])
        require(
            len(field) >= 3,
            f"Classify needs a field (batch, time, *space, channel), got shape {field}",
        )
        if self.config.members > 1:
            return Ensemble(lambda: self._network(backbone, field, rngs), self.config.members)
        return self._network(backbone, field, rngs)

    def _network(
        self, backbone: BackboneConfig, field: tuple[int, ...], rngs: nnx.Rngs
    ) -> BackboneWithHead:
        body = backbone.build(field[-1], shape=field[1:-1], rngs=rngs)
        head = ClassificationHead(
            body.grid_shape(field[1:-1]),
            body.out_features,
            classes=len(self.config.class_counts),
            hidden=self.config.hidden,
            reduce=self.config.reduce,
            dropout=backbone.dropout,
            rngs=rngs,
            **backbone.dtypes,
        )
        return BackboneWithHead(body, head)

    def check_batch(self, batch: Batch) -> None:
        """Refuses labels that are no class of this task; for data on the host, before training.

        Raises:
            InputError: If a label is not an integer from 0 to classes - 1.
        """
        classes, label = len(self.config.class_counts), np.asarray(batch["label"])
        wrong = label[(label < 0) | (label >= classes) | (label != np.floor(label))]
        require(
            wrong.size == 0,
            f"Classify has {classes} classes and needs labels from 0 to {classes - 1}, "
            f"got {wrong[:1].tolist()}; relabel the data or give a class count for every class",
        )

    def loss(self, model: nnx.Module, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Computes the cross-entropy over a batch's real examples, the mean of all members'.

        Returns:
            The loss, a float32 scalar in nats, and its metrics `accuracy`, from 0 to 1 (NaN if no
            example is real), and `weight`, what the loss was divided by.
        """
        label = batch["label"]
        field = batch["field"]
        members = model.logits(field) if isinstance(model, Ensemble) else [model(field)]
        weighing: Any = {
            "mask": batch.get("example_mask"),
            "class_weights": self.config.resolved_weights(),
        }
        smoothing = self.config.label_smoothing
        each = [
            losses.cross_entropy(logits, label, label_smoothing=smoothing, **weighing)
            for logits in members
        ]
        loss = jnp.mean(jnp.stack(each))
        weight = jnp.sum(losses.label_weights(label, **weighing))
        accuracy = self.confusion(log_mean_probability(members), batch).accuracy()
        return loss, {"accuracy": jnp.asarray(accuracy), "weight": weight}

    def predict(self, model: nnx.Module, batch: Batch) -> jax.Array:
        """Returns the probability of each class, [batch, classes] in float32.

        Give `nnx.view(model, deterministic=True)` outside of training.
        """
        return jax.nn.softmax(model(batch["field"]), axis=-1)

    def confusion(self, prediction: jax.Array, batch: Batch) -> Confusion:
        """Counts true against predicted classes over a batch's real examples.

        Args:
            prediction: [batch, classes] probabilities or logits, the model's or a baseline's.
            batch: The batch.

        Returns:
            Counts; add those of all batches, then ask for accuracy, precision, recall, F1 or MCC.
            The AUC needs the probabilities of all examples at once: `metrics.roc_auc`.
        """
        return Confusion.of(
            jnp.argmax(prediction, axis=-1),
            batch["label"],
            classes=len(self.config.class_counts),
            mask=batch.get("example_mask"),
        )

    def baselines(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the naive predictions by name, each [batch, classes] probabilities.

        `majority` gives every example the class frequencies of the training data, so that it
        always says the most frequent class.
        """
        counts = jnp.asarray(self.config.class_counts, jnp.float32)
        frequencies = (counts / counts.sum()).reshape(1, -1)
        return {"majority": jnp.repeat(frequencies, len(batch["label"]), axis=0)}
