"""What the tasks share: their batches and the model that they train."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import Backbone

Batch = Mapping[str, Any]
"""Arrays by name, each [batch, ...]."""


@dataclasses.dataclass(frozen=True)
class TaskConfig(abc.ABC):
    """Base of all task configurations, the `--task.*` flags of a run."""

    @abc.abstractmethod
    def create(self) -> Any:
        """Returns the task of these settings."""


class BackboneWithHead(nnx.Module):
    """What a task trains: a backbone and a head on its feature map."""

    def __init__(self, backbone: Backbone, head: Callable[[jax.Array], jax.Array]):
        self.backbone = backbone
        self.head = head

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to the head's output."""
        return self.head(self.backbone(x))


def real_targets(batch: Batch) -> jax.Array:
    """Returns where targets are real: `target_mask`, False in examples that only fill a batch."""
    mask = batch["target_mask"]
    if "example_mask" not in batch:
        return mask
    examples = batch["example_mask"]
    return mask & examples.reshape(examples.shape + (1,) * (mask.ndim - 1))


class Model(Protocol):
    """A model with a backbone, as every task builds."""

    backbone: Backbone


def hand_on(pretrained: Model, model: Model) -> None:
    """Copies the backbone of a trained model into another task's model, in place.

    Both are models that a task built, with the same backbone config; heads and PRNG keys stay as
    they are. The copies have the dtypes of `model` and share no memory with `pretrained`.

    Args:
        pretrained: The model to copy from, such as one of `Reconstruct`.
        model: The model to copy into, such as one of `Forecast` or `Classify`.

    Raises:
        InputError: Naming the first parameter that does not fit; nothing was copied then.
    """
    source, target = _backbone_state(pretrained), _backbone_state(model)
    for name in (*target, *source):
        trained, other = (
            str(state[name].shape) if name in state else "no shape" for state in (source, target)
        )
        require(
            trained == other,
            f"hand_on needs two models with the same backbone, but its parameter {name} has "
            f"{trained} in the trained model and {other} in the other; build both with one "
            "backbone config and as many channels",
        )
    for name, variable in target.items():
        variable[...] = jnp.array(source[name][...], variable.dtype)


def _backbone_state(model: Model) -> dict[str, nnx.Variable]:
    """The variables of a backbone but PRNG keys, by their dotted names."""
    state = nnx.state(model.backbone, nnx.Not(nnx.RngState))
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}
