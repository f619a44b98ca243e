"""Classify: one class for a whole field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.errors import require, require_members
from stpatch_jax.metrics import Confusion
from stpatch_jax.nn.heads import ClassificationHead, ClassificationReduce
from stpatch_jax.nn.layers import BackboneConfig, is_size
from stpatch_jax.tasks.common import BackboneWithHead, Ensemble, log_mean_probability
from stpatch_jax.tasks.task import Batch, TaskBase, TaskConfig, checked_counts, known


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
    """

    hidden: tuple[int, ...] = (64,)
    reduce: ClassificationReduce = "flatten"
    label_smoothing: float = 0.0
    members: int = 1
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None

    def __post_init__(self) -> None:
        for field in ("hidden", "class_weights"):
            value = getattr(self, field)
            if isinstance(value, list):
                object.__setattr__(self, field, tuple(value))
        require(
            0 <= self.label_smoothing < 1,
            f"Classify needs 0 <= label_smoothing < 1, got {self.label_smoothing}",
        )
        require(is_size(self.members), f"Classify needs members >= 1, got {self.members!r}")

    def create(self, *, facts: Mapping[str, Any] | None = None) -> Classify:
        """Returns the task of these settings, as in `TaskConfig.create`."""
        return Classify(self, **(facts or {}))


class CountedClasses(Protocol):
    """What `Classify` asks of its data."""

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of training examples of each class."""
        ...


class Classify(TaskBase):
    """Gives one class to a whole field, or to a text through a `TokenEmbeddingConfig`.

    A batch holds `field` [batch, time, *space, channel], `label` [batch] integers from 0 to
    classes - 1, and optionally bool `example_mask` [batch], False where an example only fills up
    the batch.

    Args:
        config: Settings.
        class_counts: Number of training examples of each class: how many classes there are, which
            is the majority, and what "balanced" weights are. Empty until `fitted`.

    Raises:
        InputError: The counts are none, or the class weights do not fit them.
    """

    inputs = ("field",)

    def __init__(self, config: ClassifyConfig, *, class_counts: Sequence[int] = ()):
        self.config = config
        self.class_counts = checked_counts("class_counts", class_counts, least=2)
        weights, count = config.class_weights, len(self.class_counts)
        require(
            weights != "balanced" or all(self.class_counts),
            "class_counts must be above 0 for class_weights balanced, got "
            f"{self.class_counts}; drop the empty classes or give the weights",
        )
        require(
            weights in (None, "balanced")
            or not count
            or (isinstance(weights, tuple) and len(weights) == count and min(weights) >= 0),
            f"class_weights must be one number >= 0 for each of {count} classes, balanced or None, "
            f"got {weights!r}; give one for each class",
        )

    @property
    def facts(self) -> Mapping[str, Any]:
        """The class counts, JSON-able."""
        return {"class_counts": list(self.class_counts)}

    def fitted(self, data: CountedClasses) -> Classify:
        """The task with the class counts of the data.

        Raises:
            InputError: The data have none, or they do not fit the class weights.
        """
        require_members(data, CountedClasses, what="the data of Classify")
        return Classify(self.config, class_counts=data.class_counts)

    @property
    def classes(self) -> int:
        """Number of classes.

        Raises:
            InputError: The task was not `fitted`.
        """
        known("class_counts", self.class_counts)
        return len(self.class_counts)

    def class_weights(self) -> tuple[float, ...] | None:
        """The weights of the classes as numbers; None for 1."""
        if self.config.class_weights != "balanced":
            return self.config.class_weights
        total = sum(self.class_counts)
        return tuple(total / (self.classes * count) for count in self.class_counts)

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
            classes=self.classes,
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
        classes, label = self.classes, np.asarray(batch["label"])
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
        known("class_counts", self.class_counts)
        label, field = batch["label"], batch["field"]
        members = model.logits(field) if isinstance(model, Ensemble) else [model(field)]
        weighing: Any = {
            "mask": batch.get("example_mask"),
            "class_weights": self.class_weights(),
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
            classes=self.classes,
            mask=batch.get("example_mask"),
        )

    def baselines(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the naive predictions by name, each [batch, classes] probabilities.

        `majority` gives every example the class frequencies of the training data, so that it
        always says the most frequent class.
        """
        known("class_counts", self.class_counts)
        counts = jnp.asarray(self.class_counts, jnp.float32)
        frequencies = (counts / counts.sum()).reshape(1, -1)
        return {"majority": jnp.repeat(frequencies, len(batch["label"]), axis=0)}
