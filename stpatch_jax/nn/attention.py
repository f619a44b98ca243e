"""Self-attention over tokens: masks, segments, causality, and the transformer made of it.

Logits and softmax are float32 whatever `dtype` computes the rest; so is layer normalisation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from stpatch_jax.errors import check_size, require
from stpatch_jax.nn.layers import FLOAT32, LayerOptions

# Tokens from which the flash kernel is asked for: with fewer, the logits it saves are small.
_FLASH_TOKENS = 256


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


def attention_mask(
    *, segment_ids: jax.Array | None = None, times: jax.Array | None = None
) -> jax.Array | None:
    """Which token may look at which: those of its own segment, and none of a later time.

    Args:
        segment_ids: [batch, tokens] integers; tokens look at equal ids only, and a token of
            segment 0 (padding) looks at nothing and is seen by nothing.
        times: [batch, tokens], with batch or 1 rows; a token sees those of at most its own time.

    Returns:
        Bool [batch, tokens, tokens], query before key; None if nothing is given.

    Examples:
        >>> mask = attention_mask(segment_ids=jnp.array([[1, 1, 2, 0]]))
        >>> mask[0].astype(int).tolist()
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    """
    mask = None
    if segment_ids is not None:
        query, keys = segment_ids[:, :, None], segment_ids[:, None, :]
        mask = (query == keys) & (query != 0)
    if times is not None:
        seen = times[:, :, None] >= times[:, None, :]
        mask = seen if mask is None else mask & seen
    return mask


class SelfAttention(nnx.Module):
    """Multi-head self-attention by `jax.nn.dot_product_attention`, softmax in float32.

    On NVIDIA GPUs, 16-bit attention over many tokens runs as cuDNN's flash kernel, which never
    holds the logits in memory. Under `nnx.capture(..., nnx.Intermediate)` it sows its weights,
    `weights` [batch, heads, tokens, tokens], query before key.

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
        self.qkv = options.linear(features, 3 * features, rngs=rngs)
        self.out = options.linear(features, features, rngs=rngs)

    def __call__(
        self, x: jax.Array, *, mask: jax.Array | None = None, causal: bool = False
    ) -> jax.Array:
        """Lets every token look at the tokens that the mask allows; gives the shape of `x`.

        Args:
            x: [batch, tokens, features].
            mask: Bool [batch, tokens, tokens], query before key, with batch or 1 rows; a token
                that may look at none comes out as 0.
            causal: Whether a token sees those before it in the row and itself only.
        """
        batch, tokens, features = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, features // self.heads)
        query, keys, values = (qkv[:, :, part] for part in range(3))
        masked, device = mask is not None, jax.devices()[0]
        kernel = attention_kernel(device, query.shape, query.dtype, masked=masked)
        per_head = None if mask is None else mask[:, None]
        y = jax.nn.dot_product_attention(
            query, keys, values, mask=per_head, is_causal=causal, implementation=kernel
        )
        # Only `nnx.capture` sets it; nobody else pays for the weights.
        if hasattr(self, "__captures__"):
            self.sow(nnx.Intermediate, "weights", _weights(query, keys, mask, causal))
        y = self.out(y.reshape(batch, tokens, features))
        if mask is None:
            return y
        # What a kernel makes of a token that may look at none is the kernel's own.
        seen = mask & jnp.tri(tokens, dtype=bool)[None] if causal else mask
        return jnp.where(seen.any(-1)[..., None], y, jnp.zeros((), y.dtype))


def _weights(query: jax.Array, keys: jax.Array, mask: jax.Array | None, causal: bool) -> jax.Array:
    """The weights of an attention [batch, heads, tokens, tokens], rows of 1, or 0 if all masked."""
    logits = jnp.einsum("bqhf,bkhf->bhqk", query, keys, preferred_element_type=jnp.float32)
    tokens = logits.shape[-1]
    seen = jnp.ones((1, 1, tokens, tokens), bool) if mask is None else mask[:, None]
    if causal:
        seen = seen & jnp.tri(tokens, dtype=bool)[None, None]
    seen = jnp.broadcast_to(seen, logits.shape)
    return jax.nn.softmax(logits / query.shape[-1] ** 0.5, axis=-1, where=seen)


def attention_kernel(
    device: Any, shape: Sequence[int], dtype: Any, *, masked: bool
) -> Literal["xla", "cudnn"]:
    """Which kernel runs an attention: `jax.nn.dot_product_attention` itself never picks cuDNN's.

    "cudnn" for 16-bit floats on an NVIDIA GPU of compute capability 8 or later, where the queries'
    shape `(batch, tokens, heads, head width)` is one that its flash kernel takes, which with a mask
    trains on even lengths only; "xla" otherwise.
    """
    _, tokens, _, width = shape
    if device.platform != "gpu" or "cuda" not in device.client.platform_version.lower():
        return "xla"
    recent = float(device.compute_capability) >= 8.0
    short = jnp.dtype(dtype).itemsize == 2
    # The limits of cuDNN's flash kernel; beyond them `dot_product_attention` would raise.
    fits = width % 8 == 0 and width <= 128 and not (masked and tokens % 2)
    return "cudnn" if recent and short and fits and tokens >= _FLASH_TOKENS else "xla"


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


class TransformerBlock(nnx.Module):
    """Pre-norm block: attention along one or more token axes in turn, then a GELU MLP.

    `x = x + attention(norm(x))` per axis, then `x = x + mlp(norm(x))`.
    """

    def __init__(self, options: TransformerOptions, *, rngs: nnx.Rngs):
        features = options.features
        self.options = options
        self.attentions = nnx.List(
            SelfAttention(features, options.heads, options=options, rngs=rngs) for _ in options.axes
        )
        self.norms = nnx.List(_norm(options, rngs) for _ in (*options.axes, "mlp"))
        self.expand = options.linear(features, options.hidden, rngs=rngs)
        self.contract = options.linear(options.hidden, features, rngs=rngs)
        self.dropout = nnx.Dropout(options.dropout, rngs=rngs)

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
            # The other token axes are folded into the batch.
            y = jnp.moveaxis(self.norms[position](x).astype(self.options.dtype), axis, -2)
            rows, segments = y.reshape(-1, *y.shape[-2:]), segment_ids
            if segments is not None:
                segments = jnp.moveaxis(segments, axis, -1).reshape(rows.shape[:2])
            # Rows in the order of time need no mask of times: the kernel has a causal form.
            in_order = causal and axis == 1 and times is None
            mask = attention_mask(segment_ids=segments, times=times if causal else None)
            rows = self.attentions[position](rows, mask=mask, causal=in_order)
            x = x + self.dropout(jnp.moveaxis(rows.reshape(y.shape), -2, axis))
        y = self.norms[-1](x).astype(self.options.dtype)
        y = self.dropout(jax.nn.gelu(self.expand(y)))
        return x + self.dropout(self.contract(y))


class TransformerEncoder(nnx.Module):
    """Positions, `depth` blocks of the same settings, and a last normalisation."""

    def __init__(self, depth: int, options: TransformerOptions, *, rngs: nnx.Rngs):
        self.dtype = options.dtype
        self.blocks = nnx.List(TransformerBlock(options, rngs=rngs) for _ in range(depth))
        self.norm = _norm(options, rngs)
        self.dropout = nnx.Dropout(options.dropout, rngs=rngs)

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
        x = self.dropout(x + sinusoidal_positions(positions, x.shape[-1]).astype(self.dtype))
        for block in self.blocks:
            x = block(x, segment_ids=segment_ids, times=times)
        x = self.norm(x).astype(self.dtype)
        if segment_ids is None:
            return x
        return jnp.where(segment_ids[..., None] != 0, x, jnp.zeros((), x.dtype))


def _norm(options: TransformerOptions, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A normalisation in float32, whatever computes around it: bfloat16 loses small variances."""
    return nnx.LayerNorm(
        options.features, dtype=jnp.float32, param_dtype=jnp.dtype(options.param_dtype), rngs=rngs
    )
