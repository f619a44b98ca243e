"""What the tasks share: their batches and the model that they train."""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import Backbone
from stpatch_jax.tasks.task import Batch


class BackboneWithHead(nnx.Module):
    """What a task trains: a backbone and a head on its feature map."""

    def __init__(self, backbone: Backbone, head: Callable[[jax.Array], jax.Array]):
        self.backbone = backbone
        self.head = head

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to the head's output."""
        return self.head(self.backbone(x))


class Ensemble(nnx.Module):
    """Classifiers of one kind with weights of their own: their mean probability is the answer.

    Args:
        create: Makes one member; called once for each, so that it draws weights of its own.
        members: Number of members.

    References:
        Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep
        ensembles", NeurIPS 2017.
    """

    def __init__(self, create: Callable[[], BackboneWithHead], members: int):
        self.members = nnx.List(create() for _ in range(members))

    @property
    def backbone(self) -> Backbone:
        """The backbone of the first member; those of the others differ in their weights only."""
        return self.members[0].backbone

    def logits(self, x: jax.Array) -> list[jax.Array]:
        """Maps [batch, time, *space, channel] to the logits of each member [batch, classes]."""
        return [member(x) for member in self.members]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to the log of the mean probability of each class."""
        return log_mean_probability(self.logits(x))


def log_mean_probability(logits: Sequence[jax.Array]) -> jax.Array:
    """Returns the log of the mean of several classifiers' probabilities [batch, classes]."""
    each = jnp.stack([jax.nn.log_softmax(values) for values in logits])
    return jax.nn.logsumexp(each, axis=0) - math.log(len(logits))


def real_targets(batch: Batch) -> jax.Array:
    """Returns where targets are real: `target_mask`, False in examples that only fill a batch."""
    mask = batch["target_mask"]
    if "example_mask" not in batch:
        return mask
    examples = batch["example_mask"]
    return mask & examples.reshape(examples.shape + (1,) * (mask.ndim - 1))


class Model(Protocol):
    """A model with a backbone, as every task builds."""

    @property
    def backbone(self) -> Backbone:
        """What turns a field into a feature map."""
        ...


def transfer_backbone(pretrained: Model, model: Model) -> None:
    """Copies the backbone of a trained model into another task's model, in place.

    Both are models that a task built, with the same backbone config; heads and PRNG keys stay as
    they are. The copies have the dtypes of `model` and share no memory with `pretrained`.

    Args:
        pretrained: The model to copy from, such as one of `Reconstruct`.
        model: The model to copy into, such as one of `Forecast` or `Classify`; into each member of
            an `Ensemble`.

    Raises:
        InputError: Naming the first parameter that does not fit; nothing was copied then.
    """
    source = _backbone_state(pretrained)
    targets = [_backbone_state(member) for member in getattr(model, "members", [model])]
    for name in (*targets[0], *source):
        trained, other = (
            str(state[name].shape) if name in state else "no shape"
            for state in (source, targets[0])
        )
        require(
            trained == other,
            f"transfer_backbone needs two models with the same backbone, but its parameter {name} "
            f"has {trained} in the trained model and {other} in the other; build both with one "
            "backbone config and as many channels",
        )
    for target in targets:
        for name, variable in target.items():
            variable[...] = jnp.array(source[name][...], variable.dtype)


def _backbone_state(model: Model) -> dict[str, nnx.Variable]:
    """The variables of a backbone but PRNG keys, by their dotted names."""
    state = nnx.state(model.backbone, nnx.Not(nnx.RngState))
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}
