"""Self-attention over tokens: masks, segments, causality, and the transformer made of it.

Logits and softmax are float32 whatever `dtype` computes the rest; so is layer normalisation.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike

from stpatch_jax.errors import check_size, require
from stpatch_jax.nn.blocks import Block, run_blocks, stack_blocks
from stpatch_jax.nn.fused_attention import Seen, attend, attention_weights
from stpatch_jax.nn.layers import Dropout
from stpatch_jax.nn.mesh_axes import MODEL, SEQUENCE, extent, over_heads, split, split_tokens
from stpatch_jax.nn.options import FLOAT32, LayerOptions


def sinusoidal_positions(positions: ArrayLike, features: int) -> jax.Array:
    """Sines and cosines of the coordinates of tokens, on any grid and for packed tokens alike.

    The `features / 2` pairs are shared out evenly over the axes, the first axes taking what is
    left over. Pair i of an axis with n pairs is the sine and the cosine of
    `coordinate * 10000 ** (-i / n)`; an axis's n sines stand before its n cosines.

    Args:
        positions: [..., axes] integer coordinates in the patch grid, such as (t, h, w).
        features: Width of a token, even and at least 2 per axis; the result is [..., features].

    Examples:
        >>> features = sinusoidal_positions(jnp.array([[0, 0], [3, 0]]), 4)
        >>> np.asarray(features, float).round(2).tolist()
        [[0.0, 1.0, 0.0, 1.0], [0.14, -0.99, 0.0, 1.0]]

    References:
        Vaswani et al. (2017), "Attention is all you need", section 3.5.
    """
    positions = jnp.asarray(positions)
    parts = []
    for axis, pairs in enumerate(np.array_split(np.arange(features // 2), positions.shape[-1])):
        frequencies = 10000.0 ** (-np.arange(len(pairs)) / max(len(pairs), 1))
        frequencies = jnp.asarray(frequencies, jnp.float32)
        angles = positions[..., axis, None].astype(jnp.float32) * frequencies.reshape(
            (1,) * (positions.ndim - 1) + frequencies.shape
        )
        parts += [jnp.sin(angles), jnp.cos(angles)]
    return jnp.concatenate(parts, axis=-1)


class SelfAttention(nnx.Module):
    """Multi-head self-attention by `attend`.

    Under `nnx.capture(..., nnx.Intermediate)` it sows its weights, `weights` [batch, heads, tokens,
    tokens], query before key.

    Args:
        features: Width of a token, a multiple of `heads`.
        heads: Number of heads.

    Raises:
        InputError: If `features` is not a multiple of `heads`.

    References:
        Vaswani et al. (2017), "Attention is all you need".
    """

    def __init__(
        self, features: int, heads: int, *, options: LayerOptions = FLOAT32, rngs: nnx.Rngs
    ):
        check_size("features", features)
        check_size("heads", heads)
        require(
            features % heads == 0,
            f"features must be a multiple of heads, got {features} and {heads}; use for example "
            f"features={heads * max(1, features // heads)}",
        )
        self.heads = heads
        # Split over heads, its columns would not lie behind each other.
        self.qkv = options.linear(features, 3 * features, over_model=-2, rngs=rngs)
        self.out = options.linear(features, features, over_model=-2, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        times: jax.Array | None = None,
        causal: bool = False,
        along_sequence: bool = True,
    ) -> jax.Array:
        """Lets every token look at those that it may see; gives the shape of `x`.

        Args:
            x: [batch, *rows, tokens, features]; each row is one of its own.
            mask: Bool [batch or 1, tokens, tokens], query before key: what is seen at most.
            segment_ids: [batch, *rows, tokens] integers, see `attention_mask`.
            times: [batch or 1, tokens], see `attention_mask`.
            causal: Whether a token sees those before it in the row and itself only.
            along_sequence: Whether `tokens` is what lies split over a mesh axis `sequence`; the
                first axis of rows is, if not.

        Returns:
            [batch, *rows, tokens, features]; 0 for a token that may look at none.
        """
        qkv = self._project(x)
        seen = Seen(mask, segment_ids, times)
        run = functools.partial(_attend_rows, causal=causal)
        if extent(MODEL, SEQUENCE) > 1:
            run = functools.partial(over_heads, run, along_sequence=along_sequence)
        y = run(qkv, seen)
        # Only `nnx.capture` sets it; nobody else pays for the weights.
        if hasattr(self, "__captures__"):
            weights = attention_weights(*_in_one_row(qkv, seen), causal=causal)
            self.sow(nnx.Intermediate, "weights", weights)
        y = self.out(y.reshape(x.shape))
        sees = seen.any(causal=causal)
        return y if sees is None else jnp.where(sees[..., None], y, jnp.zeros((), y.dtype))

    def _project(self, x: jax.Array) -> jax.Array:
        """Queries, keys and values [batch, *rows, tokens, 3, heads, width]."""
        layer, features = self.qkv, x.shape[-1]
        shape = 3, self.heads, features // self.heads
        if extent(MODEL) == 1:
            return layer(x).reshape(*x.shape[:-1], *shape)
        # Of the weights each device gets the columns of its heads; of the rest nothing moves.
        dtype = layer.dtype or x.dtype
        kernel = layer.kernel[...].astype(dtype).reshape(features, *shape)
        kernel = jax.lax.with_sharding_constraint(kernel, PartitionSpec(None, None, MODEL))
        y = jnp.einsum("...f,fchw->...chw", x.astype(dtype), kernel)
        assert layer.bias is not None
        bias = layer.bias[...].astype(dtype).reshape((1,) * (x.ndim - 1) + shape)
        return y + bias


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerOptions(LayerOptions):
    """Settings of a `TransformerBlock` and of a `TransformerEncoder`.

    Attributes:
        features: Width of a token.
        heads: Number of heads, a divisor of `features`.
        hidden: Width of the MLP's hidden layer.
        axes: Axes of [batch, *tokens, features] attended over, one attention each: (1,) for
            tokens in one row; (2, 1) for [batch, time, cell, features] is space, then time.
        causal: Whether attention along axis 1, time, looks back only.
        dropout: Probability that a feature is dropped behind each attention and dense layer.
    """

    features: int
    heads: int
    hidden: int
    axes: tuple[int, ...] = (1,)
    causal: bool = False
    dropout: float = 0.0


class TransformerBlock(Block):
    """Pre-norm block: attention along one or more token axes in turn, then a GELU MLP.

    `x = x + attention(norm(x))` per axis, then `x = x + mlp(norm(x))`.
    """

    shared_over: ClassVar[tuple[str, ...]] = (SEQUENCE, MODEL)

    def __init__(self, options: TransformerOptions, *, rngs: nnx.Rngs):
        features = options.features
        self.options = options
        self.attentions = nnx.List(
            SelfAttention(features, options.heads, options=options, rngs=rngs) for _ in options.axes
        )
        self.norms = nnx.List(_norm(options, rngs) for _ in (*options.axes, "mlp"))
        self.expand = options.linear(features, options.hidden, over_model=-1, rngs=rngs)
        self.contract = options.linear(options.hidden, features, over_model=-2, rngs=rngs)
        self.dropout = Dropout(options.dropout, rngs=rngs)

    def __call__(
        self, x: jax.Array, *, segment_ids: jax.Array | None = None, times: jax.Array | None = None
    ) -> jax.Array:
        """Maps [batch, *tokens, features] to the same shape, in `dtype`.

        Args:
            x: [batch, *tokens, features].
            segment_ids: [batch, *tokens] integers, see `attention_mask`.
            times: [batch or 1, tokens] for tokens in one row: with `causal`, their times, where
                they do not stand one time after the other.
        """
        causal = self.options.causal
        for position, axis in enumerate(self.options.axes):
            y = jnp.moveaxis(self.norms[position](x).astype(self.options.dtype), axis, -2)
            segments = None if segment_ids is None else jnp.moveaxis(segment_ids, axis, -1)
            # Rows in the order of time need no times: kernels have a causal form.
            in_order = causal and axis == 1 and times is None
            y = self.attentions[position](
                y,
                segment_ids=segments,
                times=times if causal else None,
                causal=in_order,
                along_sequence=axis == 1,
            )
            x = split_tokens(x + self.dropout(jnp.moveaxis(y, -2, axis)))
        y = self.norms[-1](x).astype(self.options.dtype)
        y = split(self.expand(y), SEQUENCE, *[None] * (x.ndim - 3), MODEL)
        y = self.dropout(_gelu(y))
        return split_tokens(x + self.dropout(self.contract(y)))


class TransformerEncoder(nnx.Module):
    """Positions, `depth` blocks of the same settings, scanned or not, and a last normalisation."""

    def __init__(
        self, depth: int, options: TransformerOptions, *, scan: bool = False, rngs: nnx.Rngs
    ):
        self.dtype = options.dtype
        self.blocks: Any = stack_blocks(
            lambda rngs: TransformerBlock(options, rngs=rngs), depth, scan=scan, rngs=rngs
        )
        self.norm = _norm(options, rngs)
        self.dropout = Dropout(options.dropout, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        positions: jax.Array,
        *,
        segment_ids: jax.Array | None = None,
        times: jax.Array | None = None,
    ) -> jax.Array:
        """Maps [batch, *tokens, features] to the same shape, in `dtype`.

        Args:
            x: [batch, *tokens, features].
            positions: [batch, *tokens, coordinates] integers, 1 where an axis shares them.
            segment_ids: [batch, *tokens] integers; tokens of segment 0, padding, come out as 0.
            times: See `TransformerBlock`.
        """
        x = x.astype(self.dtype)
        x = x + sinusoidal_positions(positions, x.shape[-1]).astype(self.dtype)
        x = self.dropout(split_tokens(x))
        x = run_blocks(self.blocks, x, segment_ids=segment_ids, times=times)
        x = self.norm(x).astype(self.dtype)
        if segment_ids is None:
            return x
        return jnp.where(segment_ids[..., None] != 0, x, jnp.zeros((), x.dtype))


def _in_one_row(qkv: jax.Array, seen: Seen) -> tuple[jax.Array, Seen]:
    """All rows in the batch, [batch * rows, tokens, ...]."""
    ids = seen.segment_ids
    if ids is not None:
        seen = seen._replace(segment_ids=ids.reshape(-1, ids.shape[-1]))
    return qkv.reshape(-1, *qkv.shape[-4:]), seen


def _attend_rows(qkv: jax.Array, seen: Seen, *, causal: bool) -> jax.Array:
    """`attend` for [batch, *rows, tokens, 3, heads, width]."""
    rows, seen = _in_one_row(qkv, seen)
    y = attend(rows, seen=seen, causal=causal)
    return y.reshape(*qkv.shape[:-3], *qkv.shape[-2:])


def _gelu(x: jax.Array) -> jax.Array:
    """GELU; on GPUs, whose compiler would keep what is in between, anew for the gradient."""
    lean = jax.checkpoint(jax.nn.gelu)
    return jax.lax.platform_dependent(x, cuda=lean, rocm=lean, default=jax.nn.gelu)


def _norm(options: TransformerOptions, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A normalisation in float32, whatever computes around it: bfloat16 loses small variances."""
    return nnx.LayerNorm(
        options.features, dtype=jnp.float32, param_dtype=jnp.dtype(options.param_dtype), rngs=rngs
    )
