"""The models that tasks build: a backbone with a head, or several of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import require
from stpatch_jax.nn.layers import Backbone


class BackboneWithHead(nnx.Module):
    """A backbone and a head on its feature map."""

    def __init__(self, backbone: Backbone, head: Callable[[jax.Array], Any]):
        self.backbone = backbone
        self.head = head

    def __call__(self, x: jax.Array) -> Any:
        """Maps [batch, time, *space, channel] to the head's output."""
        return self.head(self.backbone(x))


class Ensemble(nnx.Module):
    """Networks with weights of their own that are trained beside each other, each on its own loss.

    References:
        Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep
        ensembles", NeurIPS 2017.
    """

    def __init__(self, members: Iterable[BackboneWithHead]):
        self.members = nnx.List(members)

    @property
    def backbone(self) -> Backbone:
        """The backbone of the first member; those of the others differ in their weights only."""
        return self.members[0].backbone


def members_of(model: Any) -> Sequence[Any]:
    """The networks of a model: the members of an `Ensemble`, of any other model itself."""
    return model.members if isinstance(model, Ensemble) else (model,)


def transfer_backbone(pretrained: nnx.Module, model: nnx.Module) -> None:
    """Copies the backbone of a trained model into another task's model, in place.

    Both are models that a task built, with the same backbone config; heads and PRNG keys stay as
    they are. The copies have the dtypes of `model` and share no memory with `pretrained`.

    Args:
        pretrained: The model to copy from, such as one of `Reconstruct`; of several members, the
            first.
        model: The model to copy into, such as one of `Forecast` or `Classify`; into all members.

    Raises:
        InputError: Naming the first parameter that does not fit, or a model has no `backbone`;
            nothing was copied then.
    """
    source = _backbone_state(pretrained)
    targets = [_backbone_state(member) for member in members_of(model)]
    for name in (*targets[0], *source):
        trained, other = (
            str(state[name].shape) if name in state else "no shape"
            for state in (source, targets[0])
        )
        require(
            trained == other,
            f"the two models must have the same backbone, got {name} with {trained} in the trained "
            f"model and {other} in the other; build both with one backbone config and as many "
            "channels",
        )
    for target in targets:
        for name, variable in target.items():
            variable[...] = jnp.array(source[name][...], variable.dtype)


def _backbone_state(model: Any) -> dict[str, nnx.Variable]:
    """The variables of a backbone but PRNG keys, by their dotted names."""
    require(
        hasattr(model, "backbone"),
        f"both models must have a backbone, got {type(model).__name__} without; name it backbone",
    )
    state = nnx.state(model.backbone, nnx.Not(nnx.RngState))
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}
