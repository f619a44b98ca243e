"""A network of one's own as a backbone: any callable that returns a module."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import InputError, require
from stpatch_jax.nn.layers import Backbone, BackboneConfig
from stpatch_jax.nn.options import LayerOptions
from stpatch_jax.patches.windows import WindowSpec


def as_backbone(given: Any) -> Any:
    """A `BackboneConfig` as it is, and of any other callable an `OwnBackbone`.

    >>> mine = as_backbone(lambda channels, *, rngs: nnx.Conv(channels, 8, (3, 3), rngs=rngs))
    >>> built = nnx.eval_shape(lambda: mine.build(2, shape=(6, 5), rngs=nnx.Rngs(0)))
    >>> built.spec.window, built.out_features
    ((1, 1), 8)
    """
    if isinstance(given, BackboneConfig | OwnBackbone):
        return given
    require(
        callable(given) and not isinstance(given, nnx.Module),
        f"the backbone must be a BackboneConfig or a callable that returns a module, got "
        f"{type(given).__name__}; give one, such as the class of the network",
    )
    network: Any = given
    return OwnBackbone(network=network)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnBackbone(LayerOptions):
    """Builds the network of a callable where a `BackboneConfig` builds that of its class.

    It cannot stand in the configuration of a run, as a callable does not go to JSON.

    Attributes:
        network: Called as `network(in_features, rngs=rngs)`, as the layers of Flax are. Its module
            maps [batch, time, *space, in_features] to [batch, *grid, features], where the cells of
            the grid divide each axis of the input; a `Backbone` tells them itself.
        dropout: As in `BackboneConfig`, of the head.
    """

    fixed: ClassVar[bool] = False
    network: Callable[..., nnx.Module]
    dropout: float = 0.0

    def settled(self, shape: Sequence[int], channels: int) -> tuple[Self, dict[str, str]]:
        """Nothing is left to the data, see `BackboneConfig.settled`."""
        return self, {}

    def build(self, in_features: int, *, shape: Sequence[int], rngs: nnx.Rngs) -> Backbone:
        """Builds the network for inputs of `(time, *space)`, see `BackboneConfig.build`.

        Raises:
            InputError: The callable takes other arguments, or returned no module, or one without a
                feature map.
        """
        try:
            inspect.signature(self.network).bind(in_features, rngs=rngs)
        except TypeError as error:
            raise InputError(
                f"the backbone must be called as backbone(in_features, rngs=rngs), got one that "
                f"takes {inspect.signature(self.network)}; let it take both, and give it the rest "
                "by functools.partial"
            ) from error
        except ValueError:
            pass  # Not every callable tells what it takes.
        module = self.network(in_features, rngs=rngs)
        require(
            isinstance(module, nnx.Module),
            f"the backbone must return an nnx.Module, got {type(module).__name__}; return the "
            "network that it builds",
        )
        return module if isinstance(module, Backbone) else _Own(module, in_features, shape)


class _Own(Backbone):
    """A module as a backbone whose windows are told by the shape of what it gives."""

    def __init__(self, network: Any, in_features: int, shape: Sequence[int]):
        graphdef, state = nnx.split(network)
        field = jax.ShapeDtypeStruct((1, *shape, in_features), jnp.float32)
        given = jax.eval_shape(lambda s, x: nnx.merge(graphdef, s)(x), state, field)
        cells: Any = getattr(given, "shape", ())
        grid = cells[1:-1]
        require(
            len(cells) == len(field.shape)
            and cells[0] == 1
            and all(m and n % m == 0 for n, m in zip(shape, grid, strict=True)),
            f"the module of the backbone must give (batch, *grid, features) with a grid that "
            f"divides {tuple(shape)}, got {cells or type(given).__name__} for {field.shape}; keep "
            "the axes, or inherit Backbone and tell its windows",
        )
        window = tuple(n // m for n, m in zip(shape, grid, strict=True))
        super().__init__(WindowSpec(window), in_features, cells[-1], shape=shape)
        self.network = network

    def __call__(self, x: jax.Array) -> jax.Array:
        self.check_input(x)
        return self.network(x)
