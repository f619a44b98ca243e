"""Blocks of a stack one at a time: what the backward pass keeps, and when weights are whole.

A training step says it around the call of the network, by `blockwise`; nobody else has to know.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from stpatch_jax.nn.gathering import gathered, run_ahead, share_of_one
from stpatch_jax.nn.options import LayerOptions

Remat = Literal["none", "dots", "block", "offload"]
"""What the backward pass recomputes: nothing, what lies between products, or whole blocks.

With the last their inputs wait in the memory of the host.
"""

_INPUT = "input of a block"
_POLICIES = {
    "block": None,
    "offload": jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=[_INPUT],
        offload_src="device",
        offload_dst="pinned_host",
    ),
}


class Block(nnx.Module):
    """Base of what a network stacks, such as a `TransformerBlock`; `run_blocks` calls it.

    Its `options`, `LayerOptions`, say how it computes; its kernels are gathered in their `dtype`.

    Attributes:
        shared_over: Axes of a mesh, `sequence` or `model`, over which devices can share its work on
            an example.
    """

    shared_over: ClassVar[tuple[str, ...]] = ()


@dataclasses.dataclass(frozen=True)
class _How:
    remat: Remat
    split: Callable[[nnx.State], Any] | None


_HOW: contextvars.ContextVar[_How | None] = contextvars.ContextVar("blocks", default=None)


@contextlib.contextmanager
def blockwise(remat: Remat, split: Callable[[nnx.State], Any] | None) -> Iterator[None]:
    """Lets `run_blocks` recompute blocks, and gather their weights as each of them runs.

    Args:
        remat: What is recomputed.
        split: Where the parameters of a block lie otherwise, a `NamedSharding` in place of each;
            None where they are whole already.
    """
    token = _HOW.set(_How(remat, split))
    try:
        yield
    finally:
        _HOW.reset(token)


def blocks_of(network: nnx.Module) -> list[tuple[Any, Block]]:
    """The blocks in a network and their paths."""
    return [(path, part) for path, part in nnx.iter_modules(network) if isinstance(part, Block)]


def kept_by_products(primitive: Any, *_: Any, **params: Any) -> bool:
    """Keeps for the backward pass what dense layers and convolutions made.

    Not what attention made of pairs of tokens, products with axes of a batch.
    """
    if primitive.name == "dot_general":
        return not params["dimension_numbers"][1][0]
    return primitive.name == "conv_general_dilated"


STACKED = "stacked"
"""Metadata of an array whose first axis is the block: the length of its path inside of one."""


def stack_blocks(
    create: Callable[[nnx.Rngs], Block], depth: int, *, scan: bool, rngs: nnx.Rngs
) -> nnx.List[Block] | Block:
    """Makes what `run_blocks` runs: a list of blocks or, to be scanned, one with all their arrays.

    Args:
        create: Makes a block; all are of the same settings.
        depth: How many blocks there are.
        scan: Whether all are one module, in whose arrays the block is the first axis. A program
            then does not grow with `depth`.
        rngs: Keys, from which each block draws its own.

    Returns:
        Blocks for `run_blocks`.

    Examples:
        >>> class Scaled(Block):
        ...     options = LayerOptions()
        ...
        ...     def __init__(self, rngs):
        ...         self.by = nnx.Param(2 * jax.numpy.ones(()))
        ...
        ...     def __call__(self, x):
        ...         return self.by * x
        >>> blocks = stack_blocks(Scaled, 3, scan=True, rngs=nnx.Rngs(0))
        >>> blocks.by.shape, run_blocks(blocks, jax.numpy.ones(2)).tolist()
        ((3,), [8.0, 8.0])
    """
    if not scan:
        return nnx.List(create(rngs) for _ in range(depth))
    block = nnx.split_rngs(splits=depth)(nnx.vmap(create))(rngs)
    for path, variable in nnx.to_flat_state(nnx.state(block)):
        variable.set_metadata(STACKED, len(path))
    return block


def is_stacked(leaf: Any) -> bool:
    """Whether the first axis of an array is the block, which nothing splits or counts as an axis.

    That of a Variable is told; of a bare array nothing is known.
    """
    return isinstance(leaf, nnx.Variable) and bool(leaf.get_metadata(STACKED, 0))


def paths_unrolled(path: tuple[Any, ...], variable: nnx.Variable) -> list[tuple[Any, ...]]:
    """Where the parts of an array would stand in a state with a list of blocks, if it is stacked.

    >>> one = nnx.Param(jax.numpy.zeros((2, 3)), **{STACKED: 2})
    >>> paths_unrolled(("blocks", "norm", "scale"), one)
    [('blocks', 0, 'norm', 'scale'), ('blocks', 1, 'norm', 'scale')]
    """
    if not is_stacked(variable):
        return [path]
    at = len(path) - variable.get_metadata(STACKED)
    return [(*path[:at], number, *path[at:]) for number in range(variable.shape[0])]


def run_blocks(blocks: nnx.List[Block] | Block, x: jax.Array, **seen: Any) -> jax.Array:
    """Calls blocks one after the other as the training step around them wants.

    With `train.remat` they are computed again. Where weights are split, those of a block are
    gathered as it runs, in the forward pass and again in a backward pass that recomputes it, so
    that no other block's need be whole meanwhile; gradients are reduced onto the shares.

    Args:
        blocks: A list of blocks, or one of `stack_blocks` with all their arrays.
        x: What the first maps, such as [batch, tokens, features]; all give its shape and dtype.
        **seen: What each is called with besides: arrays, or None.

    Returns:
        What the last gives.

    Examples:
        >>> class Doubled(Block):
        ...     options = LayerOptions()
        ...
        ...     def __call__(self, x):
        ...         return x + x
        >>> run_blocks(nnx.List([Doubled(), Doubled()]), jax.numpy.ones(2)).tolist()
        [4.0, 4.0]
    """
    if not isinstance(blocks, Block):
        for block in blocks:
            x = _run(block, x, seen=seen, shares=_shares(block), scanned=False)
        return x
    graphdef, weights, rest = nnx.split(blocks, nnx.Param, ...)
    shares = jax.tree.map(share_of_one, _shares(blocks))

    def one(weights: Any, rest: Any, x: jax.Array, run: Any) -> tuple[jax.Array, Any]:
        block = nnx.merge(graphdef, weights, rest)
        return run(block, x), nnx.as_pure(nnx.state(block, nnx.Not(nnx.Param)))

    own = (nnx.as_pure(weights), nnx.as_pure(rest))
    known: Any = blocks
    how = _HOW.get()
    if shares is not None and how is not None and how.remat == "block":

        def call(whole: Any, rest: Any, x: jax.Array, seen: dict[str, Any]) -> Any:
            return one(whole, rest, x, lambda block, x: block(x, **seen))

        x, after = run_ahead(call, own, x, seen, shares=shares, dtype=known.options.dtype)
    else:
        run = functools.partial(_run, seen=seen, shares=shares, scanned=True)
        x, after = jax.lax.scan(lambda x, own: one(*own, x, run), x, own)
    nnx.update(blocks, after)
    return x


def unrolled(blocks: nnx.List[Block] | Block) -> nnx.List[Block]:
    """The blocks one by one, with arrays of their own where they were stacked."""
    if not isinstance(blocks, Block):
        return blocks
    graphdef, state = nnx.split(blocks)
    depth = len(jax.tree.leaves(state)[0])
    one_by_one = (jax.tree.map(lambda x, at=at: x[at], state) for at in range(depth))
    return nnx.List(nnx.merge(graphdef, own) for own in one_by_one)


def _run(block: Block, x: jax.Array, *, seen: dict[str, Any], shares: Any, scanned: bool) -> Any:
    how = _HOW.get()
    if how is None:
        return block(x, **seen)

    known: Any = block
    options: LayerOptions = known.options

    def run(block: Block, x: jax.Array, seen: dict[str, Any]) -> jax.Array:
        weights = nnx.as_pure(nnx.state(block, nnx.Param))
        if shares is not None:
            nnx.update(block, gathered(weights, shares, options.dtype))
        y = block(checkpoint_name(x, _INPUT), **seen)
        nnx.update(block, weights)
        return y

    if how.remat == "none":
        return run(block, x, seen)
    policy = _POLICIES.get(how.remat, kept_by_products)
    # Between the rounds of a loop nothing is found to be equal.
    return nnx.remat(run, policy=policy, prevent_cse=not scanned)(block, x, seen)


def _shares(block: Block) -> Any:
    """Where the parameters of a block lie, None where they are whole."""
    how = _HOW.get()
    if how is None or how.split is None:
        return None
    return nnx.as_pure(how.split(nnx.state(block, nnx.Param)))
