"""Blocks of a stack one at a time: what the backward pass keeps, and when weights are whole.

A training step says it around the call of the network, by `blockwise`; nobody else has to know.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stpatch_jax.nn.layers import LayerOptions

Remat = Literal["none", "dots", "block"]
"""What the backward pass recomputes: nothing, what lies between products, or whole blocks."""


class Block(nnx.Module):
    """Base of what a network stacks, such as a `TransformerBlock`; `run_block` calls it.

    Its `options`, `LayerOptions`, say how it computes; its kernels are gathered in their `dtype`.
    """


@dataclasses.dataclass(frozen=True)
class _How:
    remat: Remat
    mesh: Mesh
    split: Callable[[nnx.State], Any] | None


_HOW: contextvars.ContextVar[_How | None] = contextvars.ContextVar("blocks", default=None)


@contextlib.contextmanager
def blockwise(remat: Remat, mesh: Mesh, split: Callable[[nnx.State], Any] | None) -> Iterator[None]:
    """Lets `run_block` recompute blocks, and gather their weights as each of them runs.

    Args:
        remat: What is recomputed, not `none`.
        mesh: The mesh on which weights are whole.
        split: Where the parameters of a block lie otherwise, a `NamedSharding` in place of each;
            None where they are whole already.
    """
    token = _HOW.set(_How(remat, mesh, split))
    try:
        yield
    finally:
        _HOW.reset(token)


def stacks_blocks(network: nnx.Module) -> bool:
    """Whether there are blocks in a network."""
    return any(isinstance(part, Block) for _, part in nnx.iter_modules(network))


def kept_by_products(primitive: Any, *_: Any, **params: Any) -> bool:
    """Keeps for the backward pass what dense layers and convolutions made.

    Not what attention made of pairs of tokens, products with axes of a batch.
    """
    if primitive.name == "dot_general":
        return not params["dimension_numbers"][1][0]
    return primitive.name == "conv_general_dilated"


def run_block(block: Block, x: jax.Array, **seen: Any) -> jax.Array:
    """Calls a block as the training step around it wants: with `train.remat`, computed again.

    Where weights are split as well, those of the block are gathered here, in the forward pass and
    again in the backward pass, so that no other block's need be whole meanwhile; gradients are
    reduced onto the shares.

    Args:
        block: The block.
        x: What the block maps, such as [batch, tokens, features].
        **seen: What it is called with besides: arrays, or None.

    Returns:
        `block(x, **seen)`, in its shape and dtype.

    Examples:
        >>> class Doubled(Block):
        ...     options = LayerOptions()
        ...
        ...     def __call__(self, x):
        ...         return x + x
        >>> run_block(Doubled(), jax.numpy.ones(2)).tolist()
        [2.0, 2.0]
    """
    how = _HOW.get()
    if how is None:
        return block(x, **seen)

    known: Any = block
    options: LayerOptions = known.options

    def run(block: Block, x: jax.Array, seen: dict[str, Any]) -> jax.Array:
        weights = nnx.as_pure(nnx.state(block, nnx.Param))
        if how.split is not None:
            nnx.update(block, _gathered(nnx.state(block, nnx.Param), options.dtype, how))
        y = block(x, **seen)
        nnx.update(block, weights)
        return y

    policy = kept_by_products if how.remat == "dots" else None
    return nnx.remat(run, policy=policy)(block, x, seen)


def _gathered(weights: nnx.State, dtype: str, how: _How) -> Any:
    """The weights whole on every device, kernels in the dtype that computes."""
    assert how.split is not None
    whole = NamedSharding(how.mesh, PartitionSpec())

    def gather(value: jax.Array, share: NamedSharding) -> jax.Array:
        # Only kernels are cast by those that use them; scales of norms are float32 throughout.
        to = dtype if value.ndim > 1 else value.dtype

        def gathered(value: jax.Array) -> jax.Array:
            return jax.lax.with_sharding_constraint(value.astype(to), whole)

        def forward(value: jax.Array) -> tuple[jax.Array, None]:
            return gathered(value), None

        def backward(_: None, cotangent: jax.Array) -> tuple[jax.Array]:
            return (jax.lax.with_sharding_constraint(cotangent, share).astype(value.dtype),)

        by_shares = jax.custom_vjp(gathered)
        by_shares.defvjp(forward, backward)
        return by_shares(value)

    return jax.tree.map(gather, nnx.as_pure(weights), nnx.as_pure(how.split(weights)))
