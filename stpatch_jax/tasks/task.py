"""What a task is: a network to build, a loss to minimise, predictions, and the rules to beat."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import jax
import numpy as np
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import BackboneConfig

Batch = Mapping[str, Any]
"""Arrays by name, each [batch, ...]."""

Metrics = dict[str, jax.Array]
"""Scalars by name."""

Shapes = Mapping[str, Sequence[int]]
"""Shapes of the arrays of a batch, by name."""

Outputs = TypeVar("Outputs")


class Task(Protocol):
    """A kind of problem: what a run builds, trains and predicts with.

    A class of a user's own that has these members can be trained, searched, evaluated, explained
    and predicted with; inheriting `TaskBase` answers those that most tasks answer alike. What it
    is judged by is found by `stpatch_jax.runs.judging.judges`.
    """

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the arrays of a batch that `predict` reads, the field of the backbone first."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What `fitted` took from the data, JSON-able: `TaskConfig.create` takes it back."""
        ...

    def fitted(self, data: Any) -> "Task":
        """The task with what only its data know, such as how many classes there are.

        Raises:
            InputError: The data do not know it.
        """
        ...

    def build(self, backbone: BackboneConfig, shapes: Shapes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Builds the network for batches of the given shapes; the batch size does not matter.

        Raises:
            InputError: The shapes do not fit the backbone.
        """
        ...

    def check_batch(self, batch: Batch) -> None:
        """Refuses a batch that the task cannot learn from; for data on the host, before training.

        Raises:
            InputError: Saying what is wrong with it.
        """
        ...

    def loss(self, model: Any, batch: Batch) -> tuple[jax.Array, Metrics]:
        """The scalar to minimise, and metrics beside it; `weight` is what it was divided by."""
        ...

    def predict(self, model: Any, batch: Batch) -> Any:
        """What the model answers, a tree of [batch, ...]; reads `inputs` alone."""
        ...

    def baselines(self, batch: Batch) -> Mapping[str, Any]:
        """What the naive rules answer, by name: trees as `predict` gives."""
        ...

    def score(self, outputs: Any, batch: Batch) -> Metrics:
        """How good answers are, the model's or a rule's: means over the batch's real examples.

        The default judge prints these of the model beside those of the rules, weighed by `weight`
        where it is among them.
        """
        ...


class TaskBase:
    """What most tasks answer alike."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Nothing is taken from the data."""
        return {}

    def fitted(self, data: Any) -> Any:
        """The task as it is."""
        del data
        return self

    def check_batch(self, batch: Batch) -> None:
        """Takes every batch."""

    def baselines(self, batch: Batch) -> Mapping[str, Any]:
        """No naive rules."""
        del batch
        return {}

    def score(self, outputs: Any, batch: Batch) -> Metrics:
        """No metrics but those of the loss."""
        del outputs, batch
        return {}


@dataclasses.dataclass(frozen=True)
class TaskConfig(abc.ABC):
    """Base of all task configurations, the `--task.*` flags of a run."""

    @abc.abstractmethod
    def create(self, *, facts: Mapping[str, Any] | None = None) -> Task:
        """Returns the task of these settings.

        Args:
            facts: What only the data know, as `Task.facts` gave it; None for a task that is still
                to be `fitted`.
        """


def checked_counts(name: str, counts: Sequence[int], *, least: int) -> tuple[int, ...]:
    """Numbers of training examples by class, as a tuple of at least `least` of them, or of none.

    Raises:
        InputError: They are no counts, or there are too few of them.
    """
    counts = tuple(counts)
    whole = all(isinstance(n, int | np.integer) and n >= 0 for n in counts)
    require(
        not counts or (len(counts) >= least and whole and sum(counts) > 0),
        f"{name} must be whole numbers >= 0 of at least {least} kinds and not all 0, got {counts}; "
        "count the training examples of each",
    )
    return tuple(map(int, counts))


def known(name: str, fact: Sequence[Any]) -> None:
    """Refuses to go on without what only the data know.

    Raises:
        InputError: It is empty.
    """
    require(
        bool(fact),
        f"the task must know {name} of its data, got none; use task.fitted(data), or give "
        f"{name} where the task is created",
    )
