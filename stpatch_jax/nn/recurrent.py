"""Recurrence over the time of a patch grid: LSTM and GRU, per grid cell or with its neighbours."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.nn.layers import (
    Backbone,
    BackboneConfig,
    DTypeName,
    convolve,
    is_size,
    require,
)
from stpatch_jax.windows import WindowSpec

Cell = Literal["lstm", "gru"]


@dataclasses.dataclass(frozen=True)
class SpaceTimeRNNConfig(BackboneConfig):
    """Settings of `SpaceTimeRNN`.

    Attributes:
        space_axes: Number of space axes, 0 to 3.
        cell: "lstm" or "gru".
        features: Width of every layer.
        depth: Number of stacked layers.
        spatial_kernel_size: Odd extent along each space axis of what a step looks at. 1: every grid
            cell for itself; 3 and more: ConvLSTM and ConvGRU, which look at neighbours, whose order
            in a panel of companies is arbitrary.
    """

    space_axes: int
    cell: Cell = "lstm"
    features: int = 128
    depth: int = 1
    spatial_kernel_size: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.space_axes in (0, 1, 2, 3),
            f"SpaceTimeRNN needs 0 to 3 space axes, got {self.space_axes!r}",
        )
        require(
            self.cell in get_args(Cell),
            f'SpaceTimeRNN needs cell "lstm" or "gru", got {self.cell!r}',
        )
        for field in ("features", "depth", "spatial_kernel_size"):
            require(
                is_size(getattr(self, field)),
                f"SpaceTimeRNN needs {field} to be a positive integer, "
                f"got {getattr(self, field)!r}",
            )
        require(
            self.spatial_kernel_size % 2 == 1,
            "SpaceTimeRNN needs an odd spatial_kernel_size, which has a centre, "
            f"got {self.spatial_kernel_size}",
        )

    @classmethod
    def tiny(cls, space_axes: int) -> SpaceTimeRNNConfig:
        """One LSTM layer of width 8, for tests and first trials."""
        return cls(space_axes, features=8)

    @classmethod
    def base(cls, space_axes: int) -> SpaceTimeRNNConfig:
        """One LSTM layer of width 128."""
        return cls(space_axes)

    def build(
        self, in_features: int, *, shape: Sequence[int] | None = None, rngs: nnx.Rngs
    ) -> SpaceTimeRNN:
        """Builds the module."""
        return SpaceTimeRNN(self, in_features, shape=shape, rngs=rngs)


class SpaceTimeRNN(Backbone):
    """Stacked LSTM or GRU over time in every cell of the grid, weights shared by all cells.

    Maps [batch, time, *space, channel] to [batch, time, *space, features] in `dtype`; the output at
    a step depends on that step and earlier ones only: of its own grid cell, or, where
    `spatial_kernel_size` is above 1, of neighbours too. Memory starts at zero and dropout acts on
    the output of each layer.

    Args:
        config: Settings.
        in_features: Number of input channels.
        shape: `(time, *space)` of the inputs to come, checked if given.
        rngs: Streams `params` and `dropout`.
    """

    def __init__(
        self,
        config: SpaceTimeRNNConfig,
        in_features: int,
        *,
        shape: Sequence[int] | None = None,
        rngs: nnx.Rngs,
    ):
        spec = WindowSpec((1,) * (config.space_axes + 1))
        super().__init__(spec, in_features, config.features, shape=shape)
        self.config = config
        widths = (in_features, *[config.features] * (config.depth - 1))
        cell = {"lstm": ConvLSTMCell, "gru": ConvGRUCell}[config.cell]
        extents = (config.spatial_kernel_size,) * config.space_axes
        self.cells = nnx.List(
            cell(extents, width, config.features, rngs=rngs, **config.dtypes) for width in widths
        )
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, time, *space, features]."""
        self.check_input(x)
        y = jnp.moveaxis(x, 1, 0)
        for cell in self.cells:
            y = self.dropout(scan_time(cell, y))
        return jnp.moveaxis(y, 0, 1)


class RecurrentCell(nnx.Module):
    """What `ConvLSTMCell` and `ConvGRUCell` share: weights, and how a step splits in two."""

    gates: int

    def __init__(
        self,
        extents: Sequence[int],
        in_features: int,
        features: int,
        *,
        dtype: DTypeName = "float32",
        param_dtype: DTypeName = "float32",
        rngs: nnx.Rngs,
    ):
        self.features = features
        self.dtype = dtype
        stored, width = jnp.dtype(param_dtype), self.gates * features
        taps = math.prod(extents)
        init = nnx.initializers.lecun_normal()
        kernel = init(rngs.params(), (taps * in_features, width), stored)
        self.kernel = nnx.Param(kernel.reshape(*extents, in_features, width))
        if taps == 1:
            recurrent = _orthogonal_blocks(rngs.params(), features, self.gates)
        else:
            recurrent = init(rngs.params(), (taps * features, width))
        recurrent = recurrent.astype(stored).reshape(*extents, features, width)
        self.recurrent_kernel = nnx.Param(recurrent)
        self.bias = nnx.Param(jnp.zeros(width, stored))

    def gate_inputs(self, x: jax.Array) -> jax.Array:
        """Maps [batch, *space, in] to what the input adds to the gates, `W * x + b`."""
        bias = self.bias[...].astype(self.dtype)
        y = convolve(x.astype(self.dtype), self.kernel[...])
        return y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)

    def recur(self, h: jax.Array) -> jax.Array:
        """Maps the last output [batch, *space, features] to its part of the gates, `U * h`."""
        return convolve(h.astype(self.dtype), self.recurrent_kernel[...])

    def initial_carry(self, lead: Sequence[int]) -> Any:
        """Returns a memory of zeros for `lead = (batch, *space)`."""
        raise NotImplementedError

    def advance(self, carry: Any, gate_inputs: jax.Array) -> tuple[Any, jax.Array]:
        """Takes one step, given `gate_inputs(x)`; returns the new carry and the output."""
        raise NotImplementedError

    def __call__(self, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        """Takes one step: carry and [batch, *space, in] to carry and [batch, *space, features]."""
        return self.advance(carry, self.gate_inputs(x))


class ConvLSTMCell(RecurrentCell):
    """LSTM whose products are convolutions over space; with extents of 1, a plain LSTM.

    With gates in the order i, f, g, o and `z_t = W * x_t + b + U * h_{t-1}` (`*` convolves over
    space, zeros outside):
    `c_t = sigmoid(z_f) c_{t-1} + sigmoid(z_i) tanh(z_g)`, `h_t = sigmoid(z_o) tanh(c_t)`.

    Products are in `dtype`; c, to which every step adds, stays in float32. The forget gate's bias
    starts at 1 (Jozefowicz et al., "An empirical exploration of recurrent network architectures",
    ICML 2015); U starts orthogonal per gate where all extents are 1.

    Args:
        extents: Odd extent of the kernels along each space axis; empty without space.
        in_features: Number of input channels.
        features: Number of output channels.
        dtype: Name of the dtype that computes, and of the output.
        param_dtype: Name of the dtype that stores.
        rngs: Stream `params`.

    References:
        Shi et al., "Convolutional LSTM network", NeurIPS 2015, without its peephole connections.
    """

    gates = 4

    def __init__(self, extents: Sequence[int], in_features: int, features: int, **options: Any):
        super().__init__(extents, in_features, features, **options)
        self.bias[...] = self.bias[...].at[features : 2 * features].set(1)

    def initial_carry(self, lead: Sequence[int]) -> tuple[jax.Array, jax.Array]:
        """Returns `(c, h)`, zeros [*lead, features]: c in float32, h in `dtype`."""
        shape = (*lead, self.features)
        return jnp.zeros(shape, jnp.float32), jnp.zeros(shape, self.dtype)

    def advance(
        self, carry: tuple[jax.Array, jax.Array], gate_inputs: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        """Takes one step, given `gate_inputs(x)`; returns the new carry and the output."""
        c, h = carry
        gates = (gate_inputs + self.recur(h)).astype(jnp.float32)
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = (jax.nn.sigmoid(o) * jnp.tanh(c)).astype(self.dtype)
        return (c, h), h


class ConvGRUCell(RecurrentCell):
    """GRU whose products are convolutions over space; with extents of 1, a plain GRU.

    With gates in the order r, z, n (`*` convolves over space, zeros outside):
    `n_t = tanh((W * x_t + b)_n + r (U * h_{t-1})_n)`, `h_t = (1 - z) n_t + z h_{t-1}`,
    where r and z are the sigmoid of `W * x_t + b + U * h_{t-1}`. As in `nnx.GRUCell` the reset gate
    acts on the product and not before it, so one convolution of h serves all gates.

    Products are in `dtype`; h, to which every step adds, stays in float32 between steps. U starts
    orthogonal per gate where all extents are 1.

    Args:
        extents: Odd extent of the kernels along each space axis; empty without space.
        in_features: Number of input channels.
        features: Number of output channels.
        dtype: Name of the dtype that computes, and of the output.
        param_dtype: Name of the dtype that stores.
        rngs: Stream `params`.

    References:
        Ballas et al., "Delving deeper into convolutional networks for learning video
        representations", ICLR 2016, with the reset gate behind the product.
    """

    gates = 3

    def initial_carry(self, lead: Sequence[int]) -> jax.Array:
        """Returns h, zeros [*lead, features] in float32."""
        return jnp.zeros((*lead, self.features), jnp.float32)

    def advance(self, carry: jax.Array, gate_inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Takes one step, given `gate_inputs(x)`; returns the new carry and the output."""
        h = carry
        input_r, input_z, input_n = jnp.split(gate_inputs.astype(jnp.float32), 3, axis=-1)
        recurrent = jnp.split(self.recur(h).astype(jnp.float32), 3, axis=-1)
        r = jax.nn.sigmoid(input_r + recurrent[0])
        z = jax.nn.sigmoid(input_z + recurrent[1])
        n = jnp.tanh(input_n + r * recurrent[2])
        h = (1 - z) * n + z * h
        return h, h.astype(self.dtype)


def scan_time(cell: RecurrentCell, x: jax.Array) -> jax.Array:
    """Runs a cell over the first axis, from a memory of zeros.

    The input's part of the gates is one convolution for all steps, outside the recurrence.

    Args:
        cell: The cell, any of this module's.
        x: [time, batch, *space, in].

    Returns:
        [time, batch, *space, features] in the cell's dtype.
    """
    inputs = cell.gate_inputs(x.reshape(-1, *x.shape[2:]))
    inputs = inputs.reshape(*x.shape[:-1], -1)
    return jax.lax.scan(cell.advance, cell.initial_carry(x.shape[1:-1]), inputs)[1]


def _orthogonal_blocks(key: jax.Array, features: int, blocks: int) -> jax.Array:
    """Draws orthogonal matrices side by side, uniformly (Mezzadri 2007), in float32."""
    normal = jax.random.normal(key, (blocks * features, features))
    q, r = jnp.linalg.qr(normal.reshape(blocks, features, features))
    q = q * jnp.sign(jnp.diagonal(r, axis1=1, axis2=2))[:, None, :]
    return jnp.moveaxis(q, 0, 1).reshape(features, blocks * features)
