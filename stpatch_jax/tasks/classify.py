"""Classify: one class for a whole field."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.errors import check_choice, check_range, check_size
from stpatch_jax.metrics import Confusion
from stpatch_jax.nn.heads import ClassificationHead, ClassificationReduce, RidgeHead
from stpatch_jax.nn.layers import Backbone, BackboneConfig, check_sizes
from stpatch_jax.tasks.models import BackboneWithHead, FixedModel, members_of
from stpatch_jax.tasks.rivals import COMPARED, RIVALS, Compared
from stpatch_jax.tasks.task import Batch, Metrics, Shapes, TaskConfig, check_ids
from stpatch_jax.tasks.weighing import (
    ClassWeights,
    WeighedClasses,
    check_class_weights,
    weight_of_each,
)


@dataclasses.dataclass(frozen=True)
class ClassifyConfig(TaskConfig):
    """Settings of `Classify`.

    Attributes:
        hidden: Width of each hidden layer of the head; empty for a linear one.
        reduce: "flatten" or "mean", see `ClassificationHead`.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        members: Number of networks, alike but for their random numbers, that are trained beside
            each other, each on its own loss, and whose mean probability is the answer: an
            `Ensemble`, for data so few that initial weights decide.
        class_weights: One weight per class; "balanced" for `n / (classes * count)`, under which all
            classes weigh the same in sum; None for 1.
        compare: "random_features" and ridge regression are compared with the network on folds of
            the training examples, and take its place where it is not surely better: for series
            `RandomKernels`, for rows and texts `RandomUnits`; None compares nothing.
    """

    hidden: tuple[int, ...] = (64,)
    reduce: ClassificationReduce = "flatten"
    label_smoothing: float = 0.0
    members: int = 1
    class_weights: ClassWeights = None
    compare: Compared = dataclasses.field(default=None, metadata={"added": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("label_smoothing", self.label_smoothing, 0, 1, bounds="[)")
        check_size("members", self.members)
        check_sizes("hidden", self.hidden, least=0)
        check_class_weights(self.class_weights, ())
        check_choice("compare", self.compare, COMPARED)

    def rivals(self) -> tuple[Mapping[str, BackboneConfig], Self] | None:
        """Random features, where they are to be compared, as in `TaskConfig.rivals`."""
        return None if self.compare is None else (RIVALS, dataclasses.replace(self, compare=None))

    def create(self, *, facts: Mapping[str, Any] | None = None) -> Classify:
        """The task of these settings, as in `TaskConfig.create`."""
        return Classify(self, **(facts or {}))


class Classify(WeighedClasses):
    """Gives one class to a whole field, or to a text through a `TokenEmbeddingConfig`.

    A batch holds `field` [batch, time, *space, channel], `label` [batch] integers from 0 to
    classes - 1, and optionally bool `example_mask` [batch], False where an example only fills up
    the batch.
    """

    config: ClassifyConfig

    @property
    def networks(self) -> int:
        """Number of members."""
        return self.config.members

    def network(
        self, body: Backbone, backbone: BackboneConfig, shapes: Shapes, *, rngs: nnx.Rngs
    ) -> BackboneWithHead:
        """Puts a `ClassificationHead` on a backbone, or a `RidgeHead` where that is `fixed`."""
        grid, classes = body.grid_shape(shapes["field"][1:-1]), len(self.class_counts)
        if backbone.fixed:
            weights = weight_of_each(self.config.class_weights, self.class_counts)
            ridge = RidgeHead(grid, body.out_features, classes=classes)
            return FixedModel(body, ridge, answers="label", class_weights=weights)
        head = ClassificationHead(
            grid,
            body.out_features,
            classes=classes,
            hidden=self.config.hidden,
            reduce=self.config.reduce,
            dropout=backbone.dropout,
            rngs=rngs,
            options=backbone.for_head,
        )
        return BackboneWithHead(body, head)

    def check_batch(self, batch: Batch) -> None:
        """Refuses labels that are no class of this task, as in `Task.check_batch`."""
        check_ids("label", batch["label"], len(self.class_counts))

    def loss(self, model: nnx.Module, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Computes the cross-entropy over a batch's real examples, the mean of all members'.

        Returns:
            The loss, a float32 scalar in nats, and its metrics `accuracy`, from 0 to 1 (NaN if no
            example is real), and `weight`, what the loss was divided by.
        """
        label = batch["label"]
        weights = weight_of_each(self.config.class_weights, self.class_counts)
        weighing: Any = {"mask": batch.get("example_mask"), "class_weights": weights}
        options = {"label_smoothing": self.config.label_smoothing, **weighing}
        members = [member(batch["field"]) for member in members_of(model)]
        each = [losses.cross_entropy(logits, label, **options) for logits in members]
        weight = jnp.sum(losses.label_weights(label, **weighing))
        metrics = {**self.score(_together(members), batch), "weight": weight}
        return jnp.mean(jnp.stack(each)), metrics

    def predict(self, model: nnx.Module, batch: Batch) -> jax.Array:
        """Returns the probability of each class, [batch, classes] in float32."""
        members = [member(batch["field"]) for member in members_of(model)]
        return jax.nn.softmax(_together(members), axis=-1)

    def score(self, outputs: jax.Array, batch: Batch) -> Metrics:
        """The accuracy of probabilities or logits [batch, classes]."""
        label, mask, classes = batch["label"], batch.get("example_mask"), len(self.class_counts)
        counts = Confusion.of(jnp.argmax(outputs, axis=-1), label, classes=classes, mask=mask)
        return {"accuracy": jnp.asarray(counts.accuracy())}

    def baselines(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the naive predictions by name, each [batch, classes] probabilities.

        `majority` gives every example the class frequencies of the training data, so that it
        always says the most frequent class.
        """
        counts = jnp.asarray(self.class_counts, jnp.float32)
        frequencies = (counts / counts.sum()).reshape(1, -1)
        return {"majority": jnp.repeat(frequencies, len(batch["label"]), axis=0)}


def _together(logits: Sequence[jax.Array]) -> jax.Array:
    """Logits whose softmax is the mean of the members' probabilities, [batch, classes] each."""
    if len(logits) == 1:
        return logits[0]
    each = jnp.stack([jax.nn.log_softmax(values) for values in logits])
    return jax.nn.logsumexp(each, axis=0) - math.log(len(logits))
