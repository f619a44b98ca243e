"""Attention of many tokens without their weights in memory, as each platform does it best."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from stpatch_jax.nn.mesh_axes import batch_axes

# Tokens from which weights are kept out of memory: with fewer they are small.
_MANY = 256
# And by blocks on a GPU, which take 1.4 to 1.6 times as long as the library there (H200).
_MANY_ON_GPU = 1024
# Tokens whose keys, values and gradients fit into the memory beside a TPU's cores; and queries at a
# time of so many, and of half of them.
_MOST_ON_TPU, _FEWEST, _FEW = 2**14, 48, 128
# Logits of a block of queries there: 2 MiB, and several times that in what is made of them.
_LOGITS = 2**19
# Numbers that a TPU holds side by side.
_LANES = 128


class Seen(NamedTuple):
    """What tokens may see, each None where it says nothing.

    Attributes:
        mask: Bool [batch or 1, tokens, tokens], query before key.
        segment_ids: [batch, tokens] integers, see `attention_mask`.
        times: [batch or 1, tokens]; none of a later time is seen.
    """

    mask: jax.Array | None = None
    segment_ids: jax.Array | None = None
    times: jax.Array | None = None

    def joined(self, rows: Seen) -> jax.Array | None:
        """All in one mask [batch or 1, rows, tokens], of some queries, or the same for all."""
        mask = rows.mask
        if rows.segment_ids is not None and self.segment_ids is not None:
            query, keys = rows.segment_ids[:, :, None], self.segment_ids[:, None, :]
            own = (query == keys) & (query != 0)
            mask = own if mask is None else mask & own
        if rows.times is not None and self.times is not None:
            past = rows.times[:, :, None] >= self.times[:, None, :]
            mask = past if mask is None else mask & past
        return mask

    def any(self, *, causal: bool) -> jax.Array | None:
        """Whether a token may look at any [batch or 1, tokens]; None if all may."""
        if self.mask is None:  # A token is of its own segment and time.
            return None if self.segment_ids is None else self.segment_ids != 0
        mask = _mask(_in_order(self, self.mask.shape[-1], causal))
        return None if mask is None else mask.any(-1)


_ALL = Seen()


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
    return _mask(Seen(None, segment_ids, times))


def attend(qkv: jax.Array, *, seen: Seen = _ALL, causal: bool = False) -> jax.Array:
    """Lets every token look at those that it may see; logits and softmax are float32.

    Up to 255 tokens, and on a CPU, it is `jax.nn.dot_product_attention`. Of more, the weights,
    tokens times tokens for each head, never stand in memory, nor for the gradient: a TPU runs a
    kernel that reads and writes what a dense layer makes as it lies (several of them under
    `jax.set_mesh`, whose axes but `space`, `sequence` and `model` share the batch), a CUDA GPU
    cuDNN's where that is at hand; elsewhere, and for a mask, queries come in blocks whose weights
    are computed anew (on GPUs from 1,024 tokens on). Exported for a TPU from elsewhere, JAX from
    0.12 on wants to know which (`jax.sharding.use_abstract_mesh`), as it says.

    Args:
        qkv: [batch, tokens, 3, heads, width], queries, keys and values.
        seen: What tokens may see; by default all.
        causal: Whether a token sees those before it in the row and itself only.

    Returns:
        [batch, tokens, heads, width]; of a token that may look at none, anything finite.

    Examples:
        >>> qkv = jnp.array([[[1.0], [1.0], [5.0]], [[1.0], [1.0], [7.0]]]).reshape(1, 2, 3, 1, 1)
        >>> attend(qkv, causal=True).ravel().tolist()
        [5.0, 6.0]

    References:
        Rabe and Staats (2021), "Self-attention does not need O(n^2) memory".
    """
    masked = any(one is not None for one in seen)
    plain = functools.partial(_plain, causal=causal)
    if qkv.shape[1] < _MANY:
        return plain(qkv, seen)
    blocks, tpu = (functools.partial(form, causal=causal) for form in (_by_blocks, _on_tpu))
    on_gpu = blocks if qkv.shape[1] >= _MANY_ON_GPU else plain
    return jax.lax.platform_dependent(
        qkv,
        seen,
        tpu=tpu if seen.mask is None and _fits_tpu(qkv) else blocks,
        cuda=functools.partial(plain, kernel="cudnn") if _fits_cudnn(qkv, masked) else on_gpu,
        rocm=on_gpu,
        default=plain,
    )


def attention_weights(qkv: jax.Array, seen: Seen, *, causal: bool) -> jax.Array:
    """The weights of `attend` [batch, heads, tokens, tokens], rows of 1, or 0 if all masked."""
    query, keys = qkv[:, :, 0], qkv[:, :, 1]
    logits = jnp.einsum("bqhf,bkhf->bhqk", query, keys, preferred_element_type=jnp.float32)
    mask = _mask(_in_order(seen, qkv.shape[1], causal))
    mask = jnp.ones((1, 1, 1, 1), bool) if mask is None else mask[:, None]
    mask = jnp.broadcast_to(mask, logits.shape)
    return jax.nn.softmax(logits / query.shape[-1] ** 0.5, axis=-1, where=mask)


def _mask(seen: Seen) -> jax.Array | None:
    return seen.joined(seen)


def _in_order(seen: Seen, tokens: int, causal: bool) -> Seen:
    """The same, with the order of the row as times if that counts."""
    if not causal:
        return seen
    order = jnp.arange(tokens)[None]
    if seen.times is None:
        return seen._replace(times=order)
    return seen._replace(mask=_mask(seen._replace(segment_ids=None, times=order)))


def _plain(qkv: jax.Array, seen: Seen, *, causal: bool, kernel: Any = "xla") -> jax.Array:
    """By the library, whose own kernel keeps the weights."""
    mask = _mask(seen)
    return jax.nn.dot_product_attention(
        *(qkv[:, :, part] for part in range(3)),
        mask=None if mask is None else mask[:, None],
        is_causal=causal,
        implementation=kernel,
    )


def _fits_cudnn(qkv: jax.Array, masked: bool) -> bool:
    """Whether cuDNN is here, and its flash kernel takes the shape and trains on it."""
    # The limits of the kernel; beyond them `dot_product_attention` would raise.
    if qkv.dtype.itemsize != 2 or qkv.shape[-1] % 8 or qkv.shape[-1] > 128:
        return False
    try:
        kernel = functools.partial(_plain, seen=_ALL, causal=False, kernel="cudnn")
        jax.eval_shape(kernel, jax.ShapeDtypeStruct(qkv.shape, qkv.dtype))
    except (RuntimeError, ValueError, NotImplementedError):
        return False
    return not (masked and qkv.shape[1] % 2)


def _by_blocks(qkv: jax.Array, seen: Seen, *, causal: bool) -> jax.Array:
    """One block of queries after the other, its weights computed anew for the gradient."""
    batch, tokens, _, *rest = qkv.shape
    block, seen = _block_size(tokens, _MANY), _in_order(seen, qkv.shape[1], causal)

    def cut(x: jax.Array) -> jax.Array:
        """[batch, tokens, ...] as [blocks, batch, block, ...]."""
        x = jnp.pad(x, ((0, 0), (0, -tokens % block)) + ((0, 0),) * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(x.shape[0], -1, block, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def of_block(now: tuple[jax.Array, Seen]) -> jax.Array:
        mask = seen.joined(now[1])
        mask = None if mask is None else mask[:, None]
        return jax.nn.dot_product_attention(now[0], qkv[:, :, 1], qkv[:, :, 2], mask=mask)

    y = jax.lax.map(of_block, jax.tree.map(cut, (qkv[:, :, 0], seen)))
    return jnp.moveaxis(y, 0, 1).reshape(batch, -1, *rest)[:, :tokens]


def _block_size(tokens: int, most: int) -> int:
    """Queries at a time: up to so many, what pads least, the most of that."""
    return min(
        range(most, min(most, _LANES) - 1, -16), key=lambda block: -(-tokens // block) * block
    )


def _fits_tpu(qkv: jax.Array) -> bool:
    """Whether heads fill rows of 128 lanes, or are of several, and not too many tokens."""
    _, tokens, _, heads, width = qkv.shape
    whole = _LANES % width == 0 or width % _LANES == 0
    return whole and heads * width % _LANES == 0 and tokens <= _MOST_ON_TPU


def _on_tpu(qkv: jax.Array, seen: Seen, *, causal: bool) -> jax.Array:
    """By the kernel, on each device its part of the batch: no compiler can split a kernel."""
    batch, tokens, _, heads, width = qkv.shape
    # Pallas takes long to import and most networks never need it.
    from stpatch_jax.nn.tpu_attention import Blocks, attention_on_tpu

    ids, (_, segment_ids, times) = None, _in_order(seen, qkv.shape[1], causal)
    if segment_ids is not None or times is not None:
        zeros = jnp.zeros((1, tokens), jnp.int32)
        given = (zeros if one is None else one.astype(jnp.int32) for one in (segment_ids, times))
        ids = jnp.stack([jnp.broadcast_to(one, (batch, tokens)) for one in given], -1)

    fewest = _FEW if tokens <= _MOST_ON_TPU // 2 else _FEWEST
    most = max(fewest, min(4 * _LANES, _LOGITS // tokens // 16 * 16))
    blocks = Blocks(_block_size(tokens, most), max(_LANES, width))

    def run(qkv: jax.Array, ids: jax.Array | None) -> jax.Array:
        return attention_on_tpu(qkv, ids, heads, blocks, False)

    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size > 1 and AxisType.Manual not in mesh.axis_types:
        names = batch_axes()
        shares = math.prod(mesh.shape[name] for name in names)
        spec = PartitionSpec(names if batch % shares == 0 else None)
        run = jax.shard_map(run, in_specs=spec, out_specs=spec, check_vma=False)
    return run(qkv.reshape(batch, tokens, -1), ids).reshape(batch, tokens, heads, width)
