"""A kernel for TPUs: attention of a block of queries to all keys, forwards and backwards."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

# Of the memory beside the cores, for blocks, sums and logits.
_VMEM_BYTES = 2**26
_LOWEST = -0.7 * float(jnp.finfo("float32").max)


class Blocks(NamedTuple):
    """What the kernel takes at a time: so many queries and so many of their numbers."""

    queries: int
    lanes: int


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def attention_on_tpu(
    qkv: jax.Array, ids: jax.Array | None, heads: int, blocks: Blocks, interpret: Any
) -> jax.Array:
    """Attention of a block of queries to all keys at once, its weights computed anew backwards.

    Args:
        qkv: [batch, tokens, 3 * heads * width], queries, keys and values side by side, as a dense
            layer makes them: they are read and their gradient is written in place, uncopied.
        ids: Segment and time of each, int32 [batch, tokens, 2]: a query sees the keys of its
            segment that are of no later time. None: it sees all.
        heads: Number of heads; their widths divide the lanes of a block or are one.
        blocks: What is taken at a time.
        interpret: Whether to run it step by step on any platform.

    Returns:
        [batch, tokens, heads * width].
    """
    return _call(qkv, ids, None, heads, blocks, interpret)


def _forward(qkv: jax.Array, ids: Any, *options: Any) -> tuple[jax.Array, Any]:
    return _call(qkv, ids, None, *options), (qkv, ids)


def _backward(heads: int, blocks: Blocks, interpret: Any, saved: Any, dy: jax.Array) -> Any:
    return _call(*saved, dy, heads, blocks, interpret), None


attention_on_tpu.defvjp(_forward, _backward)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _call(
    qkv: jax.Array,
    ids: jax.Array | None,
    dy: jax.Array | None,
    heads: int,
    blocks: Blocks,
    interpret: Any,
) -> jax.Array:
    """Runs the kernel forwards, or given the gradient of its result backwards."""
    batch, length, features = qkv.shape
    width = features // 3 // heads
    block, lanes = blocks
    groups, tail = heads * width // lanes, -length % block
    tokens = length + tail
    if tail:
        ids = jnp.zeros((batch, length, 2), jnp.int32) if ids is None else ids
        pad = functools.partial(jnp.pad, pad_width=((0, 0), (0, tail), (0, 0)))
        qkv, dy = pad(qkv), None if dy is None else pad(dy)
        # Of a segment of their own, what is behind the end is seen by nothing.
        ids = pad(ids, constant_values=-1)
    here = pl.BlockSpec((1, block, lanes), lambda b, g, i: (b, i, g))
    of_keys, of_values = (
        pl.BlockSpec((1, tokens, lanes), lambda b, g, _, part=part: (b, 0, part * groups + g))
        for part in (1, 2)
    )
    arguments, specs = [qkv] * 3, [here, of_keys, of_values]
    if ids is not None:
        arguments += [ids, jnp.swapaxes(ids, 1, 2)]
        specs.append(pl.BlockSpec((1, block, 2), lambda b, g, i: (b, i, 0)))
        specs.append(pl.BlockSpec((1, 2, tokens), lambda b, g, i: (b, 0, 0)))
    backward = dy is not None
    if backward:
        arguments.append(dy)
        specs.append(here)
        out_spec = pl.BlockSpec(memory_space=pl.ANY)
        sums = pltpu.VMEM((tokens, lanes), jnp.float32)
        scratch = [pltpu.VMEM((3, tokens, lanes), qkv.dtype), sums, sums]
    else:
        out_spec, scratch = here, []
    shape = (batch, tokens, features if backward else features // 3)
    products = (5 if backward else 2) * 2 * batch * tokens**2 * features // 3
    moved = sum(x.size * x.dtype.itemsize for x in (arguments[0], *arguments[3:]))
    y = pl.pallas_call(
        functools.partial(_kernel, width=width, masked=ids is not None, backward=backward),
        grid=(batch, groups, tokens // block),
        in_specs=specs,
        out_specs=out_spec,
        out_shape=jax.ShapeDtypeStruct(shape, qkv.dtype),
        scratch_shapes=scratch,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"),
            vmem_limit_bytes=_VMEM_BYTES,
        ),
        cost_estimate=pl.CostEstimate(
            flops=products,
            bytes_accessed=moved + math.prod(shape) * qkv.dtype.itemsize,
            transcendentals=batch * heads * tokens**2,
        ),
        interpret=interpret,
        name="attention_backward" if backward else "attention",
    )(*arguments)
    return y[:, :length] if tail else y


def _kernel(
    q_ref: Any, k_ref: Any, v_ref: Any, *refs: Any, width: int, masked: bool, backward: bool
):
    """One block of queries of the heads that share the lanes of a row.

    A head's queries, all other lanes zero, multiply the keys of all: products over rows of 128 cost
    the same, and nothing is moved between lanes.
    """
    q, k, v = q_ref[0], k_ref[0], v_ref[0]
    seen = None
    if masked:
        (rows, columns), refs = (refs[0][0], refs[1][0]), refs[2:]
        seen = (rows[:, :1] == columns[:1]) & (rows[:, 1:] >= columns[1:])
    lane = jax.lax.broadcasted_iota(jnp.int32, q.shape, 1)
    heads = [(lane >= at) & (lane < at + width) for at in range(0, q.shape[1], width)]
    scale = width**-0.5
    if not backward:
        (out_ref,) = refs
        y = jnp.zeros(q.shape, jnp.float32)
        for own in heads:
            p = _weights(_only(own, q), k, seen, scale)
            y = jnp.where(own, _product(p.astype(v.dtype), v, (1, 0)), y)
        out_ref[0] = y.astype(out_ref.dtype)
        return
    dy_ref, out_ref, stage, dk_ref, dv_ref = refs
    batch, group, at = (pl.program_id(axis) for axis in range(3))
    groups, last = pl.num_programs(1), pl.num_programs(2) - 1

    @pl.when(at == 0)
    def _() -> None:
        dk_ref[...] = jnp.zeros_like(dk_ref)
        dv_ref[...] = jnp.zeros_like(dv_ref)

    dq = jnp.zeros(q.shape, jnp.float32)
    for own in heads:
        mine, dy = _only(own, q), _only(own, dy_ref[0])
        p = _weights(mine, k, seen, scale)
        dp = _product(dy, v, (1, 1))
        ds = (p * (dp - (p * dp).sum(-1, keepdims=True)) * scale).astype(q.dtype)
        dq = jnp.where(own, _product(ds, k, (1, 0)), dq)
        dk_ref[...] += _product(ds, mine, (0, 0))
        dv_ref[...] += _product(p.astype(q.dtype), dy, (0, 0))
    rows = q.shape[0]
    stage[0, pl.ds(at * rows, rows)] = dq.astype(stage.dtype)

    @pl.when(at == last)
    def _() -> None:
        stage[1] = dk_ref[...].astype(stage.dtype)
        stage[2] = dv_ref[...].astype(stage.dtype)
        for part in range(3):
            place = pl.ds((part * groups + group) * q.shape[1], q.shape[1])
            pltpu.sync_copy(stage.at[part], out_ref.at[batch, :, place])


def _only(own: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.where(own, x, jnp.zeros((), x.dtype))


def _weights(q: jax.Array, k: jax.Array, seen: jax.Array | None, scale: float) -> jax.Array:
    logits = _product(q, k, (1, 1)) * scale
    if seen is not None:
        logits = jnp.where(seen, logits, _LOWEST)
    p = jnp.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def _product(a: jax.Array, b: jax.Array, over: tuple[int, int]) -> jax.Array:
    dimensions = (((over[0],), (over[1],)), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)
