"""Weights of blocks that lie split over a mesh, whole as they compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from stpatch_jax.nn.mesh_axes import gathered_sharding

Call = Callable[[Any, Any, jax.Array, dict[str, Any]], tuple[jax.Array, Any]]
"""A block as a function, `(weights, rest, x, seen) -> (y, rest after)`."""


def gathered(weights: Any, shares: Any, dtype: str) -> Any:
    """The weights whole but over `model`, kernels in `dtype`; gradients are reduced onto shares."""

    def forward(weights: Any) -> tuple[Any, None]:
        return _whole(weights, shares, dtype), None

    def backward(_: None, cotangents: Any) -> tuple[Any]:
        return (_reduced(cotangents, shares, weights),)

    by_shares = jax.custom_vjp(lambda weights: forward(weights)[0])
    by_shares.defvjp(forward, backward)
    return by_shares(weights)


def run_ahead(
    call: Call,
    own: tuple[Any, Any],
    x: jax.Array,
    seen: dict[str, Any],
    *,
    shares: Any,
    dtype: str,
) -> tuple[jax.Array, Any]:
    """Runs stacked blocks, gathering the weights of the next beside the work of each, both ways.

    Two blocks are whole at a time, and at the end of either pass one is gathered in vain. The
    backward pass computes each block again from its input.

    Args:
        call: A block.
        own: Their weights and the rest of their state; in each array the first axis is the block.
        x: What the first maps.
        seen: What each is called with besides.
        shares: Where the weights of one block lie.
        dtype: In which kernels are gathered.

    Returns:
        What the last gives, and the rest of their state after it.
    """
    last = len(jax.tree.leaves(own)[0]) - 1

    def whole_at(weights: Any, at: Any) -> Any:
        one = jax.tree.map(lambda w: jax.lax.dynamic_index_in_dim(w, at, keepdims=False), weights)
        return _whole(one, shares, dtype)

    def forward(weights: Any, rest: Any, x: jax.Array, seen: dict[str, Any]) -> Any:
        def one(carry: tuple[jax.Array, Any], own: tuple[Any, Any]) -> Any:
            (x, whole), (at, rest) = carry, own
            ahead = whole_at(weights, jnp.minimum(at + 1, last))
            y, after = call(whole, rest, x, seen)
            return (y, ahead), (x, after)

        start = (x, whole_at(weights, 0))
        (y, _), (inputs, after) = jax.lax.scan(one, start, (jnp.arange(last + 1), rest))
        return (y, after), (weights, rest, inputs, seen)

    def backward(kept: Any, cotangents: Any) -> tuple[Any, None, jax.Array, dict[str, Any]]:
        weights, rest, inputs, seen = kept
        numbers = {name: value for name, value in seen.items() if _is_number(value)}

        def one(carry: tuple[jax.Array, Any, Any], own: tuple[Any, Any, jax.Array]) -> Any:
            (dy, dseen, whole), (at, rest, x) = carry, own
            ahead = whole_at(weights, jnp.maximum(at - 1, 0))

            def again(whole: Any, x: jax.Array, numbers: dict[str, Any]) -> jax.Array:
                return call(whole, rest, x, seen | numbers)[0]

            dwhole, dx, more = jax.vjp(again, whole, x, numbers)[1](dy)
            dseen = jax.tree.map(jnp.add, dseen, more)
            return (dx, dseen, ahead), _reduced(dwhole, shares, weights)

        start = (cotangents[0], jax.tree.map(jnp.zeros_like, numbers), whole_at(weights, last))
        by_block = (jnp.arange(last + 1), rest, inputs)
        (dx, dseen, _), dweights = jax.lax.scan(one, start, by_block, reverse=True)
        return dweights, None, dx, {name: dseen.get(name) for name in seen}

    run = jax.custom_vjp(lambda *given: forward(*given)[0])
    run.defvjp(forward, backward)
    return run(*own, x, seen)


def share_of_one(share: NamedSharding) -> NamedSharding:
    """How one of the blocks lies whose stacked arrays lie so."""
    return NamedSharding(share.mesh, PartitionSpec(*share.spec[1:]))


def _whole(weights: Any, shares: Any, dtype: str) -> Any:
    def whole(value: jax.Array, share: NamedSharding) -> jax.Array:
        # Only kernels are cast by those that use them; scales of norms are float32 throughout.
        to = dtype if value.ndim > 1 else value.dtype
        return jax.lax.with_sharding_constraint(value.astype(to), gathered_sharding(share))

    return jax.tree.map(whole, weights, shares)


def _reduced(cotangents: Any, shares: Any, like: Any) -> Any:
    def reduced(cotangent: jax.Array, share: NamedSharding, value: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(cotangent, share).astype(value.dtype)

    return jax.tree.map(reduced, cotangents, shares, like)


def _is_number(value: Any) -> bool:
    return value is not None and jnp.issubdtype(value.dtype, jnp.inexact)
