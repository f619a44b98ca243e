"""Orders of examples for training: which example stands at which position of an endless order.

A sampler is a function of seed and position alone, so that every restart, on any number of
processes, goes on with the same examples.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from stpatch_jax.errors import check_size, require


@dataclass(frozen=True, eq=False)
class BlockShuffle:
    """Passes over all examples in which blocks of neighbours stay together, for slow stores.

    Every pass visits each example once. The blocks come in random order, `mixed` of them are
    shuffled into each other, and reading needs the chunks of these blocks only.

    Attributes:
        order: All examples so that neighbours share chunks, e.g. `FieldWindows.chunk_order()`.
        block: Examples per block.
        mixed: Number of blocks that are shuffled into each other.

    Raises:
        InputError: There is no example, or fewer than one example or block is mixed.
    """

    order: np.ndarray
    block: int
    mixed: int = 4

    def __post_init__(self) -> None:
        check_size("block", self.block)
        check_size("mixed", self.mixed)
        require(len(self.order) > 0, "the order must name examples, got none; add some")

    def example(self, position: int, *, seed: int, examples: int) -> int:
        """See `sampling.Sampler.example`."""
        require(
            len(self.order) == examples,
            f"the order must name each example once, got {len(self.order)} for {examples}; take "
            "it from the same source",
        )
        number, at = divmod(position, examples)
        return int(_shuffled_blocks(self, seed, number)[at])


# Two passes: a batch may hold the end of one and the start of the next.
@lru_cache(maxsize=2)
def _shuffled_blocks(sampler: BlockShuffle, seed: int, number: int) -> np.ndarray:
    # The pass is the counter's second word: a stream would need 2**64 draws to reach the next.
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, number, 0, 0]))
    count = -(-len(sampler.order) // sampler.block)
    blocks = generator.permutation(count)
    parts = []
    for first in range(0, count, sampler.mixed):
        starts = blocks[first : first + sampler.mixed] * sampler.block
        examples = np.concatenate([sampler.order[at : at + sampler.block] for at in starts])
        parts.append(generator.permutation(examples))
    return np.concatenate(parts)
