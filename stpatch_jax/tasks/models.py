"""The models that tasks build: a backbone with a head, or several of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax.data import Source
from stpatch_jax.errors import require
from stpatch_jax.nn.blocks import is_stacked, paths_unrolled
from stpatch_jax.nn.heads import RidgeFieldHead, RidgeHead
from stpatch_jax.nn.layers import Backbone

_BATCH = 64


class BackboneWithHead(nnx.Module):
    """A backbone and a head on its feature map."""

    def __init__(self, backbone: Backbone, head: Callable[[jax.Array], Any]):
        self.backbone = backbone
        self.head = head

    def __call__(self, x: jax.Array) -> Any:
        """Maps [batch, time, *space, channel] to the head's output."""
        return self.head(self.backbone(x))


@nnx.jit
def _run(backbone: Backbone, x: jax.Array) -> jax.Array:
    return backbone(x)


class FixedModel(BackboneWithHead):
    """A backbone of which nothing is learnt and a head of ridge regression, fitted at once.

    Args:
        backbone: The backbone, whose config is `fixed`.
        head: The head.
        answers: Name of the array of an example that the head is fitted to.
        class_weights: Weight of each class; None for 1.
    """

    backbone: Any
    head: RidgeHead | RidgeFieldHead

    def __init__(
        self,
        backbone: Backbone,
        head: RidgeHead | RidgeFieldHead,
        *,
        answers: str,
        class_weights: Sequence[float] | None = None,
    ):
        super().__init__(backbone, head)
        self.answers = answers
        self.class_weights = None if class_weights is None else tuple(class_weights)

    def fit(self, source: Source, *, seed: int) -> None:
        """Fits it to all examples of a source, which hold `field` and the answers.

        What is random in it follows from the seed.
        """
        examples = [source[number] for number in range(len(source))]
        fields, of = (np.stack([e[name] for e in examples]) for name in ("field", self.answers))
        self.backbone.fit(fields, seed=seed)
        self.head.fit(self.features(fields), of, weights=self.weights_of(of))

    def weights_of(self, answers: np.ndarray) -> np.ndarray | None:
        """The weight of each example of classes [example]; None for 1."""
        return None if self.class_weights is None else np.take(self.class_weights, answers)

    def features(self, fields: np.ndarray) -> np.ndarray:
        """The features of fields [example, ...], computed in batches of one shape."""
        size = min(len(fields), _BATCH)
        backbone, parts = nnx.view(self.backbone, deterministic=True), []
        for start in range(0, len(fields), size):
            rows = np.arange(start, start + size) % len(fields)
            parts.append(jax.device_get(_run(backbone, jnp.asarray(fields[rows]))))
        return np.concatenate(parts)[: len(fields)]


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

    Both are models that a task built, with the same backbone config, but that the blocks of one
    may be scanned and not those of the other; heads and PRNG keys stay as they are. The copies
    have the dtypes of `model` and share no memory with `pretrained`.

    Args:
        pretrained: The model to copy from, such as one of `Reconstruct`; of several members, the
            first.
        model: The model to copy into, such as one of `Forecast` or `Classify`; into all members.

    Raises:
        InputError: Naming the first parameter that does not fit, or a model has no `backbone`;
            nothing was copied then.
    """
    source = _values(pretrained)
    members = members_of(model)
    target = _values(members[0])
    for name in (*target, *source):
        trained, other = (
            str(values[name].shape) if name in values else "no shape" for values in (source, target)
        )
        require(
            trained == other,
            f"the two models must have the same backbone, got {name} with {trained} in the trained "
            f"model and {other} in the other; build both with one backbone config and as many "
            "channels",
        )
    for member in members:
        for names, variable in _variables(member):
            values = [source[name] for name in names]
            value = jnp.stack(values) if is_stacked(variable) else values[0]
            variable[...] = jnp.array(value, variable.dtype)


def _values(model: Any) -> dict[str, jax.Array]:
    """The arrays of a backbone but PRNG keys by their names, those of stacked blocks singly."""
    found = {}
    for names, variable in _variables(model):
        value = variable.get_value()
        found |= dict(zip(names, value if is_stacked(variable) else [value], strict=True))
    return found


def _variables(model: Any) -> list[tuple[list[str], nnx.Variable]]:
    """The variables of a backbone but PRNG keys, each with the dotted names of what it holds."""
    require(
        hasattr(model, "backbone"),
        f"both models must have a backbone, got {type(model).__name__} without; name it backbone",
    )
    state = nnx.to_flat_state(nnx.state(model.backbone, nnx.Not(nnx.RngState)))
    return [
        ([".".join(map(str, one)) for one in paths_unrolled(path, variable)], variable)
        for path, variable in state
    ]
