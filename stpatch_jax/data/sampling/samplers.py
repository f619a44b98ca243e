"""Orders of examples for training: which example stands at which position of an endless order.

A sampler is a function of seed and position alone, so that every restart, on any number of
processes, goes on with the same examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from stpatch_jax.data.sampling.batches import Source
from stpatch_jax.errors import require


@dataclass(frozen=True)
class UniformSampler:
    """Every example with the same probability, with replacement.

    Example:
        >>> UniformSampler().example(3, seed=0, examples=10) < 10
        True
    """

    def example(self, position: int, *, seed: int, examples: int) -> int:
        """See `sampling.Sampler.example`."""
        return int(_generator(seed, position).integers(examples))


@dataclass(frozen=True, eq=False)
class WeightedSampler:
    """Examples in proportion to their weights, with replacement: for events and rare classes.

    Attributes:
        weights: A weight for each example [examples], not negative, not all 0. An example of
            weight 0 is never drawn, e.g. `valid_shares(source) >= 0.5`.

    Raises:
        InputError: If the weights are none.

    Example:
        >>> WeightedSampler(np.array([0.0, 1.0])).example(0, seed=0, examples=2)
        1
    """

    weights: np.ndarray

    def __post_init__(self) -> None:
        weights = np.asarray(self.weights, np.float64)
        fine = weights.ndim == 1 and np.isfinite(weights).all() and (weights >= 0).all()
        require(
            bool(fine and weights.sum() > 0),
            "weights must be finite numbers, one per example, not negative and not all 0, but "
            f"they are {np.array2string(weights, threshold=6)}; correct them",
        )

    @cached_property
    def _bounds(self) -> np.ndarray:
        bounds = np.cumsum(np.asarray(self.weights, np.float64))
        return bounds / bounds[-1]

    def example(self, position: int, *, seed: int, examples: int) -> int:
        """See `sampling.Sampler.example`."""
        require(
            len(self._bounds) == examples,
            f"there must be one weight per example, but there are {len(self._bounds)} for "
            f"{examples}; compute them from the same source",
        )
        draw = _generator(seed, position).random()
        return int(np.searchsorted(self._bounds, draw, side="right"))


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
        InputError: If a number is below 1 or the order is empty.
    """

    order: np.ndarray
    block: int
    mixed: int = 4

    def __post_init__(self) -> None:
        for name in ("block", "mixed"):
            require(
                getattr(self, name) >= 1,
                f"{name} must be at least 1, but it is {getattr(self, name)}; use 1 or more",
            )
        require(len(self.order) > 0, "a block shuffle needs examples, but there are none; add some")

    def example(self, position: int, *, seed: int, examples: int) -> int:
        """See `sampling.Sampler.example`."""
        require(
            len(self.order) == examples,
            f"the order must name each example once, but it has {len(self.order)} for {examples}; "
            "take it from the same source",
        )
        number, at = divmod(position, examples)
        return int(_shuffled_blocks(self, seed, number)[at])


# Two passes: a batch may hold the end of one and the start of the next.
@lru_cache(maxsize=2)
def _shuffled_blocks(sampler: BlockShuffle, seed: int, number: int) -> np.ndarray:
    """The order of one pass."""
    generator = _generator(seed, number)
    count = -(-len(sampler.order) // sampler.block)
    blocks = generator.permutation(count)
    parts = []
    for first in range(0, count, sampler.mixed):
        chosen = blocks[first : first + sampler.mixed]
        starts = chosen * sampler.block
        examples = np.concatenate([sampler.order[at : at + sampler.block] for at in starts])
        parts.append(generator.permutation(examples))
    return np.concatenate(parts)


def class_weights(labels: Sequence[object] | np.ndarray) -> np.ndarray:
    """Weights with which every class is drawn equally often: one over the size of its class.

    Args:
        labels: The class of each example [examples].

    Returns:
        float64 [examples].

    Example:
        >>> class_weights([0, 0, 1]).tolist()
        [0.5, 0.5, 1.0]
    """
    _, numbers, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    return 1.0 / counts[numbers]


def valid_shares(source: Source) -> np.ndarray:
    """The `valid_share` of every example, read once in order.

    Args:
        source: A source whose examples tell it, such as `FieldWindows`.

    Returns:
        float32 [examples].
    """
    return np.array([source[i]["valid_share"] for i in range(len(source))], np.float32)


def _generator(seed: int, position: int) -> np.random.Generator:
    """Random numbers of one position; those of different positions do not overlap."""
    # The position is the counter's second word: a stream would need 2**64 draws to reach the next.
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, position, 0, 0]))
