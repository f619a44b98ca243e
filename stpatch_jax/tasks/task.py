"""What a task is: a network to build, a loss to minimise, predictions, and the rules to beat."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, Self

import jax
import numpy as np
from flax import nnx

from stpatch_jax.errors import check_size, require, require_members
from stpatch_jax.nn.layers import Backbone, BackboneConfig
from stpatch_jax.tasks.models import Ensemble

Batch = Mapping[str, Any]  # arrays by name, each [batch, ...]
Metrics = dict[str, jax.Array]  # scalars by name
Shapes = Mapping[str, Sequence[int]]  # of the arrays of a batch, by name


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
        """What the model answers, a tree of [batch, ...]; reads `inputs` alone.

        Give `nnx.view(model, deterministic=True)` outside of training.
        """
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
    """What most tasks answer alike; a task that inherits it writes `network`, `loss`, `predict`.

    Args:
        config: Settings.
        **facts: What only the data know, see `Task.facts`; those that are empty are left out.
    """

    inputs: tuple[str, ...] = ("field",)
    config: Any = None
    # The attributes of this protocol are the facts that `fitted` takes from the data.
    asks: type | None = None
    _facts: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, config: Any, **facts: Any):
        self.config = config
        self._facts = {name: fact for name, fact in facts.items() if fact not in (None, ())}

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was taken from the data, JSON-able."""
        return {
            name: list(fact) if isinstance(fact, tuple) else fact
            for name, fact in self._facts.items()
        }

    def fact(self, name: str) -> Any:
        """What the data told.

        Raises:
            InputError: The task was not `fitted`.
        """
        require(
            name in self._facts,
            f"the task must know {name} from its data, got none; use task.fitted(data), or give "
            f"{name} where the task is created",
        )
        return self._facts[name]

    def fitted(self, data: Any) -> Self:
        """The task with what it `asks` of the data; as it is, where that is nothing.

        Raises:
            InputError: The data do not know it, or it does not fit the config.
        """
        if self.asks is None:
            return self
        require_members(data, self.asks, what=f"the data of {type(self).__name__}")
        asked = (*vars(self.asks), *self.asks.__annotations__)
        facts = {name: getattr(data, name) for name in asked if not name.startswith("_")}
        return type(self)(self.config, **facts)

    @property
    def networks(self) -> int:
        """Number of networks in a model; several are the members of an `Ensemble`."""
        return 1

    def build(self, backbone: BackboneConfig, shapes: Shapes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Builds backbone and head for batches of the given shapes, or several of both.

        The backbone's dropout and dtypes hold for the head too; `rngs` has the streams `params` and
        `dropout`, and those of the task.

        Raises:
            InputError: The shapes do not fit each other, the backbone or the task; or the task was
                not `fitted`.
        """
        self.check_shapes(backbone, shapes)
        field = self.field_shape(shapes)
        require(
            len(field) >= 3,
            f"{self.inputs[0]} must have the axes (batch, time, *space, channel), got shape "
            f"{field}; give an axis of length 1 to what has none",
        )
        built: list[Any] = []
        for _ in range(self.networks):
            body = backbone.build(field[-1], shape=field[1:-1], rngs=rngs)
            built.append(self.network(body, backbone, shapes, rngs=rngs))
        return built[0] if len(built) == 1 else Ensemble(built)

    def check_shapes(self, backbone: BackboneConfig, shapes: Shapes) -> None:
        """Takes all shapes that fit the backbone."""

    def field_shape(self, shapes: Shapes) -> tuple[int, ...]:
        """Shape of what the backbone sees, (batch, time, *space, channel)."""
        return tuple(shapes[self.inputs[0]])

    def network(
        self, body: Backbone, backbone: BackboneConfig, shapes: Shapes, *, rngs: nnx.Rngs
    ) -> nnx.Module:
        """Puts the head on a backbone that was built of its config, as a `BackboneWithHead`."""
        raise NotImplementedError

    def check_batch(self, batch: Batch) -> None:
        """Takes every batch."""

    def baselines(self, batch: Batch) -> Mapping[str, Any]:
        """No naive rules."""
        return {}

    def score(self, outputs: Any, batch: Batch) -> Metrics:
        """No metrics but those of the loss."""
        return {}


@dataclasses.dataclass(frozen=True)
class TaskConfig(abc.ABC):
    """Base of all task configurations, the `--task.*` flags of a run.

    Raises:
        InputError: A setting is out of range, or does not fit the others.
    """

    def __post_init__(self) -> None:
        # JSON has lists only, and a config must be hashable.
        for field in dataclasses.fields(self):
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the facts that validation tells of a trained network, as metrics."""
        return ()

    def rivals(self) -> tuple[Mapping[str, BackboneConfig], Self] | None:
        """Backbones to be compared with that of a run, and the settings once that is done.

        They are by the layout of the items; None where nothing is compared.
        """
        return None

    @abc.abstractmethod
    def create(self, *, facts: Mapping[str, Any] | None = None) -> Task:
        """Returns the task of these settings.

        Args:
            facts: What only the data know, as `Task.facts` gave it; None for a task that is still
                to be `fitted`.
        """


def real_entries(mask: Any, batch: Batch) -> Any:
    """A mask [batch, ...] without the examples that only fill up a batch: see `example_mask`."""
    if "example_mask" not in batch:
        return mask
    examples = batch["example_mask"]
    return mask & examples.reshape(examples.shape + (1,) * (mask.ndim - 1))


def checked_counts(name: str, counts: Sequence[int], *, least: int) -> tuple[int, ...]:
    """Numbers of training examples of each class, as a tuple; none are taken, too.

    Raises:
        InputError: They are no counts, or there are fewer than `least`.
    """
    counts = tuple(counts)
    for count in counts:
        check_size(name, count, least=0)
    require(
        not counts or (len(counts) >= least and sum(counts) > 0),
        f"{name} must be of {least} kinds at least and not all 0, got {counts}; count the training "
        "examples of each",
    )
    return tuple(map(int, counts))


def check_ids(name: str, ids: Any, count: int) -> None:
    """Refuses what is no integer from 0 to `count` - 1, on the host."""
    ids = np.asarray(ids)
    wrong = ids[(ids < 0) | (ids >= count) | (ids != np.floor(ids))]
    require(
        wrong.size == 0,
        f"{name} must be whole numbers from 0 to {count - 1}, got {wrong[:1].tolist()}; number "
        "them anew, or count every one in the training data",
    )
