"""Recurrence over the time of a patch grid: LSTM and GRU, per grid cell or with its neighbours."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from stpatch_jax.errors import check_choice
from stpatch_jax.nn.layers import (
    FLOAT32,
    Backbone,
    BackboneConfig,
    Dropout,
    Fields,
    LayerOptions,
    Shape,
    add_bias,
    convolve,
)
from stpatch_jax.patches.windows import WindowSpec

Cell = Literal["lstm", "gru"]
Carry = tuple[jax.Array, jax.Array]
Advance = Callable[[jax.Array, jax.Array, jax.Array], Carry]


class SpaceTimeRNN(Backbone):
    """Stacked LSTM or GRU over time in every cell of the grid, weights shared by all cells.

    Maps [batch, time, *space, channel] to [batch, time, *space, features] in `dtype`; the output at
    a step depends on that step and earlier ones only: of its own grid cell, or, where
    `spatial_kernel_size` is above 1, of neighbours too. Memory starts at zero and dropout acts on
    the output of each layer.
    """

    def __init__(
        self, config: SpaceTimeRNNConfig, in_features: int, *, shape: Shape, rngs: nnx.Rngs
    ):
        spec = WindowSpec((1,) * (config.space_axes + 1))
        super().__init__(spec, in_features, config.features, shape=shape)
        self.config = config
        widths = (in_features, *[config.features] * (config.depth - 1))
        cell = {"lstm": ConvLSTMCell, "gru": ConvGRUCell}[config.cell]
        extents = (config.spatial_kernel_size,) * config.space_axes
        self.cells = nnx.List(
            cell(extents, width, config.features, options=config, rngs=rngs) for width in widths
        )
        self.dropout = Dropout(config.dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, time, *space, channel] to [batch, time, *space, features]."""
        self.check_input(x)
        for cell in self.cells:
            x = self.dropout(scan_time(cell, x))
        return x


@dataclasses.dataclass(frozen=True)
class SpaceTimeRNNConfig(BackboneConfig[SpaceTimeRNN]):
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

    tiny_fields: ClassVar[Fields] = {"features": 8}
    large_fields: ClassVar[Fields] = {"features": 512, "depth": 2}
    space_axes: int
    cell: Cell = "lstm"
    features: int = 128
    depth: int = 1
    spatial_kernel_size: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name_of("cell"), self.cell, get_args(Cell))
        self.check(sizes=("features", "depth"), odd=("spatial_kernel_size",))


class RecurrentCell(nnx.Module):
    """What `ConvLSTMCell` and `ConvGRUCell` share: weights, and how a step splits in two.

    Products are in `dtype`; memory, to which every step adds, stays in float32. The weights U of
    the last output start orthogonal per gate where all extents are 1.

    Args:
        extents: Odd extent of the kernels along each space axis; empty without space.
        in_features: Number of input channels.
        features: Number of output channels.
    """

    gates: int
    # Those whose bias starts at 1.
    open_gates: tuple[int, ...] = ()

    def __init__(
        self,
        extents: Sequence[int],
        in_features: int,
        features: int,
        *,
        options: LayerOptions = FLOAT32,
        rngs: nnx.Rngs,
    ):
        self.features = features
        self.dtype = options.dtype
        stored, width = jnp.dtype(options.param_dtype), self.gates * features
        taps = math.prod(extents)
        init = nnx.initializers.lecun_normal()
        kernel = init(rngs.params(), (taps * in_features, width), stored)
        self.kernel = options.kernel(kernel.reshape(*extents, in_features, width))
        if taps == 1:
            recurrent = _orthogonal_blocks(rngs.params(), features, self.gates)
        else:
            recurrent = init(rngs.params(), (taps * features, width))
        recurrent = recurrent.astype(stored).reshape(*extents, features, width)
        self.recurrent_kernel = options.kernel(recurrent)
        self.bias = options.bias(width)
        for gate in self.open_gates:
            own = slice(gate * features, (gate + 1) * features)
            self.bias[...] = self.bias[...].at[own].set(1)

    def gate_inputs(self, x: jax.Array) -> jax.Array:
        """Maps [batch, *space, in] to what the input adds to the gates, `W * x + b`."""
        return add_bias(convolve(x.astype(self.dtype), self.kernel[...]), self.bias)

    def initial_carry(self, lead: Sequence[int]) -> Carry:
        """Returns `(memory, output)`, zeros [*lead, features], for `lead = (batch, *space)`."""
        return _zeros((*lead, self.features), self.dtype)

    @staticmethod
    def advance(memory: jax.Array, inputs: jax.Array, recurrent: jax.Array) -> Carry:
        """Returns the new memory and output, given what input and last output add to the gates."""
        raise NotImplementedError

    def __call__(self, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """Takes one step: carry and [batch, *space, in] to carry and [batch, *space, features]."""
        memory, h = carry
        recurrent = convolve(h, self.recurrent_kernel[...])
        carry = self.advance(memory, self.gate_inputs(x), recurrent)
        return carry, carry[1]


class ConvLSTMCell(RecurrentCell):
    """LSTM whose products are convolutions over space; with extents of 1, a plain LSTM.

    With gates in the order i, f, g, o and `z_t = W * x_t + b + U * h_{t-1}` (`*` convolves over
    space, zeros outside):
    `c_t = sigmoid(z_f) c_{t-1} + sigmoid(z_i) tanh(z_g)`, `h_t = sigmoid(z_o) tanh(c_t)`.

    The forget gate's bias starts at 1 (Jozefowicz et al., "An empirical exploration of recurrent
    network architectures", ICML 2015). Arguments as in `RecurrentCell`.

    References:
        Shi et al., "Convolutional LSTM network", NeurIPS 2015, without its peephole connections.
    """

    gates = 4
    open_gates = (1,)

    @staticmethod
    def advance(memory: jax.Array, inputs: jax.Array, recurrent: jax.Array) -> Carry:
        """Returns c and h, given what input and last output add to the gates."""
        i, f, g, o = jnp.split((inputs + recurrent).astype(jnp.float32), 4, axis=-1)
        c = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
        return c, (jax.nn.sigmoid(o) * jnp.tanh(c)).astype(inputs.dtype)


class ConvGRUCell(RecurrentCell):
    """GRU whose products are convolutions over space; with extents of 1, a plain GRU.

    With gates in the order r, z, n (`*` convolves over space, zeros outside):
    `n_t = tanh((W * x_t + b)_n + r (U * h_{t-1})_n)`, `h_t = (1 - z) n_t + z h_{t-1}`,
    where r and z are the sigmoid of `W * x_t + b + U * h_{t-1}`. As in `nnx.GRUCell` the reset gate
    acts on the product and not before it, so one convolution of h serves all gates. Arguments as in
    `RecurrentCell`.

    References:
        Ballas et al., "Delving deeper into convolutional networks for learning video
        representations", ICLR 2016, with the reset gate behind the product.
    """

    gates = 3

    @staticmethod
    def advance(memory: jax.Array, inputs: jax.Array, recurrent: jax.Array) -> Carry:
        """Returns h in float32 and in `dtype`, given what adds to the gates."""
        input_r, input_z, input_n = jnp.split(inputs.astype(jnp.float32), 3, axis=-1)
        last_r, last_z, last_n = jnp.split(recurrent.astype(jnp.float32), 3, axis=-1)
        r = jax.nn.sigmoid(input_r + last_r)
        z = jax.nn.sigmoid(input_z + last_z)
        n = jnp.tanh(input_n + r * last_n)
        h = (1 - z) * n + z * memory
        return h, h.astype(inputs.dtype)


def scan_time(cell: RecurrentCell, x: jax.Array) -> jax.Array:
    """Runs a cell over time, from a memory of zeros.

    Maps [batch, time, *space, in] to [batch, time, *space, features] in the cell's dtype. The
    input's part of the gates is one convolution for all steps, outside the recurrence; so is the
    derivative with respect to the recurrent weights.

    >>> cell = ConvLSTMCell((1,), 3, 8, rngs=nnx.Rngs(0))
    >>> scan_time(cell, jnp.zeros((1, 4, 5, 3))).shape
    (1, 4, 5, 8)
    """
    inputs = _at_all_steps(cell.gate_inputs, x)
    kernel = cell.recurrent_kernel[...].astype(inputs.dtype)
    y = _scan(cell.advance, kernel, jnp.moveaxis(inputs, 1, 0))
    return jnp.moveaxis(y, 0, 1)


def _at_all_steps(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Applies a function of [batch, *space, channel] to every step of [batch, time, ...]."""
    # Steps join the batch behind it: in front of it they would scatter a sharded batch.
    y = function(x.reshape(-1, *x.shape[2:]))
    return y.reshape(*x.shape[:2], *y.shape[1:])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _scan(advance: Advance, kernel: jax.Array, inputs: jax.Array) -> jax.Array:
    """Outputs of all steps, time first, of gate inputs [time, batch, *space, gates]."""
    return _scan_pushed(advance, kernel, inputs, None)


def _scan_pushed(
    advance: Advance, kernel: jax.Array, inputs: jax.Array, push: jax.Array | None
) -> jax.Array:
    """As `_scan`, with `push` added to the recurrent part of the gates."""

    def step(carry: Carry, now: tuple[jax.Array, jax.Array | None]) -> tuple[Carry, jax.Array]:
        inputs, push = now
        recurrent = convolve(carry[1], kernel)
        carry = advance(carry[0], inputs, recurrent if push is None else recurrent + push)
        return carry, carry[1]

    carry = _zeros((*inputs.shape[1:-1], kernel.shape[-2]), inputs.dtype)
    # A loop, not unrolled: a program that grows with the series compiles too long.
    return jax.lax.scan(step, carry, (inputs, push))[1]


@_scan.defjvp
def _scan_jvp(advance: Advance, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """Moves the product with the kernel's tangent out of the loop: all outputs are known by then.

    Left to itself, the gradient of the weights would be summed up inside the loop: slower, and with
    a sharded batch one all-reduce for every time step.
    """
    kernel, inputs = primals
    kernel_tangent, inputs_tangent = tangents
    # One linear map for both tangents: `push` stands where the kernel's would add to the gates, so
    # that its transpose runs one loop back and hands out the cotangents of all steps at once.
    y, linear = jax.linearize(
        functools.partial(_scan_pushed, advance, kernel), inputs, jnp.zeros_like(inputs)
    )
    # The output that each step saw: that of the step before, zeros at the first.
    last = jnp.moveaxis(jnp.concatenate([jnp.zeros_like(y[:1]), y[:-1]]), 0, 1)
    push = _at_all_steps(lambda h: convolve(h, kernel_tangent), last)
    return y, linear(inputs_tangent, jnp.moveaxis(push, 1, 0))


def _zeros(shape: Sequence[int], dtype: jax.typing.DTypeLike) -> Carry:
    return jnp.zeros(shape, jnp.float32), jnp.zeros(shape, dtype)


def _orthogonal_blocks(key: jax.Array, features: int, blocks: int) -> jax.Array:
    """Draws orthogonal matrices side by side, uniformly (Mezzadri 2007), in float32."""
    normal = jax.random.normal(key, (blocks * features, features))
    q, r = jnp.linalg.qr(normal.reshape(blocks, features, features))
    # Without the signs of r the result would depend on how QR is computed, and not be uniform.
    q = q * jnp.sign(jnp.diagonal(r, axis1=1, axis2=2))[:, None, :]
    return jnp.moveaxis(q, 0, 1).reshape(features, blocks * features)
