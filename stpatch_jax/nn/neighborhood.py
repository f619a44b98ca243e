"""NeighborhoodOperator: the next value of a cell from the past of the cell and its neighbours."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import MOST, check_choice, require
from stpatch_jax.nn.layers import (
    Backbone,
    BackboneConfig,
    Dropout,
    Fields,
    Shape,
    Windows,
    check_sizes,
)
from stpatch_jax.patches.canonical import PADDING_MODES, PaddingMode
from stpatch_jax.patches.windows import WindowSpec

Offset = tuple[int, ...]


class NeighborhoodOperator(Backbone):
    """A strictly causal operator over the past of a cell and its neighbours.

    For two space axes, `offsets=((0, 0), (1, 0), (0, 1))` and n lags it is
    `X[i, j, k] = f(x[i-1..i-n, j, k], x[i-1..i-n, j+1, k], x[i-1..i-n, j, k+1])`, with one f,
    linear or an MLP, for all cells and steps.

    Maps [batch, time, *space, channel] to [batch, time - lags + 1, *space, features] in `dtype`.
    Output g is X at time step `g + lags`: the first that has all its lags, up to the one after the
    last input, so that the last output already looks ahead. It stands for the window of the `lags`
    steps before it, and nothing at step `g + lags` or later changes it. Dropout acts on the hidden
    layers only.
    """

    def __init__(
        self, config: NeighborhoodConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs
    ):
        window = (config.lags, *[1] * len(config.offsets[0]))
        super().__init__(WindowSpec(window, stride=1), in_features, config.features, shape=shape)
        self.config = config
        inputs = config.lags * len(config.offsets) * in_features
        widths = (inputs, *config.hidden, config.features)
        self.layers = nnx.List(
            config.linear(*width, rngs=rngs) for width in itertools.pairwise(widths)
        )
        self.dropout = Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, time - lags + 1, *space, features]."""
        self.check_input(x)
        return self.combine(self.neighbors(x.astype(self.config.dtype)))

    def coefficients(self) -> jax.Array:
        """Returns the weights of a linear f, [lags, offsets, in_features, features], lag 1 first.

        Raises:
            InputError: If f has hidden layers.
        """
        require(
            not self.config.hidden,
            "NeighborhoodOperator must be linear to have coefficients, got hidden layers "
            f"{self.config.hidden}; build it with hidden=()",
        )
        shape = (self.config.lags, len(self.config.offsets), self.in_features, self.out_features)
        return self.layers[0].kernel[...].reshape(shape)

    def combine(self, neighbors: jax.Array) -> jax.Array:
        """Applies f: [..., lags * offsets * in_features] to [..., features]."""
        y = neighbors
        for layer in self.layers[:-1]:
            y = self.dropout(jax.nn.relu(layer(y)))
        return self.layers[-1](y)

    def neighbors(self, x: jax.Array) -> jax.Array:
        """Stacks what f sees of a field [batch, time, *space, channel], the latest lag first.

        That is [batch, time - lags + 1, *space, lags * offsets * in_features].
        """
        offsets, lags = self.config.offsets, self.config.lags
        reach = [(max(0, -min(along)), max(0, *along)) for along in zip(*offsets, strict=True)]
        widths = [(0, 0), (0, 0), *reach, (0, 0)]
        padded = jnp.pad(x, widths, mode=self.config.padding_mode)
        shifted = []
        for offset in offsets:
            starts = [along + before for along, (before, _) in zip(offset, reach, strict=True)]
            cells = [slice(at, at + n) for at, n in zip(starts, x.shape[2:-1], strict=True)]
            shifted.append(padded[:, :, *cells])
        neighbors = jnp.concatenate(shifted, axis=-1)
        steps = x.shape[1] - lags + 1
        past = [neighbors[:, lags - lag : lags - lag + steps] for lag in range(1, lags + 1)]
        return jnp.concatenate(past, axis=-1)


@dataclasses.dataclass(frozen=True)
class NeighborhoodConfig(BackboneConfig[NeighborhoodOperator]):
    """Settings of `NeighborhoodOperator`.

    Attributes:
        offsets: Which cells count, as displacements along the space axes: `((0,), (1,))` is the
            cell itself and the next one along the only space axis, `((),)` the cell itself where
            there is no space axis.
        lags: Number of past time steps that count.
        features: Number of output channels.
        hidden: Width of each hidden layer of f, with ReLU behind it; empty makes f linear.
        padding_mode: What a neighbour outside the grid holds: "constant" (0), "edge", "reflect" or
            "wrap".
    """

    tiny_fields: ClassVar[Fields] = {"lags": 2}
    base_fields: ClassVar[Fields] = {"lags": 8, "features": 64, "hidden": (64,)}
    large_fields: ClassVar[Fields] = {"lags": 16, "features": 128, "hidden": (256, 256)}
    offsets: tuple[Offset, ...]
    lags: int = 4
    features: int = 1
    hidden: tuple[int, ...] = ()
    padding_mode: PaddingMode = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "offsets", tuple(tuple(offset) for offset in self.offsets))
        require(
            len({len(offset) for offset in self.offsets}) == 1
            and len(self.offsets[0]) <= 3
            and len(set(self.offsets)) == len(self.offsets)
            and all(isinstance(o, int) and abs(o) <= MOST for o in itertools.chain(*self.offsets)),
            "offsets must be distinct, with one whole number of cells per space axis (0 to 3), got "
            f"{self.offsets}; use for example ((0, 0), (1, 0), (0, 1))",
        )
        self.check(sizes=("lags", "features"))
        check_sizes(self.name_of("hidden"), self.hidden, least=0)
        check_choice(self.name_of("padding_mode"), self.padding_mode, PADDING_MODES)

    @classmethod
    def forward(cls, space_axes: int, *, axes: Sequence[int] | None = None, **fields: Any) -> Self:
        """The cell itself and the next one along each of the given space axes.

        Of `axes`, counted from 0, () is time only and None all of them.
        """
        ahead = range(space_axes) if axes is None else axes
        require(
            all(0 <= axis < space_axes for axis in ahead),
            f"axes must be space axes from 0 to {space_axes - 1}, got {axes}; leave out the others",
        )
        unit = [tuple(int(a == axis) for a in range(space_axes)) for axis in ahead]
        return cls(((0,) * space_axes, *unit), **fields)

    @classmethod
    def for_windows(cls, spec: Windows, **fields: Any) -> Self:
        """As in `BackboneConfig.for_windows`, of the `forward` neighbours."""
        space_axes = spec if isinstance(spec, int) else WindowSpec.of(spec).rank - 1
        return cls.forward(space_axes, **fields)
