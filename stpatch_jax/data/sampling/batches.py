"""Step-indexed global batches on grain: the position in the data is the step."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import grain
import jax
import numpy as np

from stpatch_jax.errors import InputError, check_range, check_size, require

Batch = dict[str, np.ndarray]

# Batches made ahead, in one thread: enough to overlap with the device, few enough for videos.
_PREFETCH = 2


class Source(Protocol):
    """Examples by number: what every data set offers to sampling."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def __getitem__(self, i: int, /) -> Batch:
        """Example `i`: arrays whose shapes and dtypes are the same for every `i`."""
        ...


@runtime_checkable
class AugmentedSource(Source, Protocol):
    """A source whose examples are changed at random each time they are trained on.

    `batch_iterator` draws its examples, `sequential_batches` takes them as they are.
    """

    def drawn(self, i: int, random: np.random.Generator, /) -> Batch:
        """Example `i`, changed at random: arrays of the same shapes and dtypes as `self[i]`.

        What it is drawn from depends on the position in training alone.
        """
        ...


@dataclass(frozen=True, eq=False)
class MadeExamples:
    """As many `examples` as wanted, each made by `example(number)` when it is asked for.

    >>> MadeExamples(lambda i: {"x": np.array(2 * i)}, 3)[-1]
    {'x': array(4)}
    """

    example: Callable[[int], Batch]
    examples: int

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, i: int, /) -> Batch:
        if not -len(self) <= i < len(self):
            raise IndexError(f"example {i} of {len(self)}")
        return self.example(int(i) % len(self))


class Sampler(Protocol):
    """An endless order of examples, in place of the global shuffle; see `samplers`."""

    def example(self, position: int, *, seed: int, examples: int) -> int:
        """The number of the example at a position, from 0, of the endless order of a seed.

        Raises:
            InputError: If the sampler does not fit a source of so many `examples`.
        """
        ...


def batch_iterator(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    sampler: Sampler | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
) -> Iterator[Batch]:
    """Endless batches for training; step `s` always has the same global batch.

    Each pass over the source has one global shuffle of its own, derived from the seed; passes
    follow without a gap, so a batch may hold the end of one pass and the start of the next, and a
    source may be smaller than the batch. Of the endless order `ds`, process `p` of `P` takes
    `ds[p::P]`, so at any step the local batches of all processes together are the global batch.
    Nothing is replayed: starting at a late step costs no more than starting at 0. How an
    `AugmentedSource` changes its examples depends on nothing but seed and position either.

    Args:
        source: The examples. It is read from one background thread.
        batch_size: Size of the global batch, in examples; a multiple of `process_count`.
        seed: Decides the order, not negative.
        start_step: First step to yield, i.e. the number of steps already taken.
        sampler: Another endless order than that of the shuffles, see `samplers`; it too depends on
            nothing but seed and position.
        process_index: This process, `jax.process_index()` by default.
        process_count: Number of processes, `jax.process_count()` by default.

    Returns:
        An iterator over batches, the examples' arrays stacked to [batch_size / process_count, ...].

    Raises:
        InputError: If the source is empty, a number is out of range, or the batch does not divide
            by the processes.

    >>> source = [{"x": np.array(i)} for i in range(4)]
    >>> batches = batch_iterator(source, batch_size=4, seed=0, start_step=7)
    >>> np.sort(next(batches)["x"])
    array([0, 1, 2, 3])
    """
    _check_size(source, batch_size)
    index = jax.process_index() if process_index is None else process_index
    count = jax.process_count() if process_count is None else process_count
    check_range("process_index", index, 0, count, bounds="[)")
    if batch_size % count:
        raise InputError(
            f"batch_size must be a multiple of the number of processes, got {batch_size} for "
            f"{count}; use {-(-batch_size // count) * count}"
        )
    check_size("seed", seed, least=0, most=2**63 - 1)
    check_size("start_step", start_step, least=0, most=2**63 - 1)
    # Sliced after the endless shuffle: sliced before it, or before repeating, the global order
    # would depend on the number of processes.
    if sampler is None:
        numbers = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    else:
        sampler.example(0, seed=seed, examples=len(source))
        sampled = cast("Sequence[int]", _Sampled(len(source), sampler, seed))
        numbers = grain.MapDataset.source(sampled).seed(seed)
    if isinstance(source, AugmentedSource):
        endless = numbers.random_map(source.drawn)
    else:
        endless = numbers.map(source.__getitem__)
    local = endless[index::count]
    # Nothing remains of an endless order, but grain 0.2.18 rounds its length up beyond the largest
    # integer unless told to drop what remains.
    batches = local.batch(batch_size // count, drop_remainder=True, batch_fn=_stack)
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_PREFETCH)
    return iter(batches[start_step:].to_iter_dataset(options))


def sequential_batches(
    source: Source, *, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Iterator[Batch]:
    """Batches for evaluation: every example once, in order; arguments as in `batch_iterator`.

    All batches have one shape: the last one is filled up with its last example. Of each global
    batch process `p` of `P` reads and yields the p-th part, so the processes share the work.

    Returns:
        An iterator over `ceil(len(source) / batch_size)` batches, the examples' arrays stacked to
        [batch_size / process_count, ...], with `example_mask`, bool, False for the filling, and
        `example_number`, int64.

    Raises:
        InputError: The source is empty, or the batch size does not fit.

    >>> source = [{"x": np.array(i)} for i in range(3)]
    >>> [batch["x"].tolist() for batch in sequential_batches(source, batch_size=2)]
    [[0, 1], [2, 2]]
    """
    _check_size(source, batch_size)
    require(
        batch_size % process_count == 0,
        f"batch_size must be a multiple of the number of processes, {process_count}, got "
        f"{batch_size}; use {-(-batch_size // process_count) * process_count}",
    )
    local = batch_size // process_count
    starts = range(process_index * local, len(source) + process_index * local, batch_size)
    return (_part(source, start, local) for start in starts)


def _part(source: Source, start: int, size: int) -> Batch:
    numbers = np.arange(start, start + size)
    real = numbers < len(source)
    # Filling repeats an example of this part, which is read anyway, where it has one.
    read = [source[int(number)] for number in numbers[real]] or [source[len(source) - 1]]
    batch = _stack([*read, *[read[-1]] * (size - len(read))])
    return {**batch, "example_mask": real, "example_number": numbers}


@dataclass(frozen=True, eq=False)
class _Sampled:
    """The numbers of examples in the endless order of a sampler."""

    examples: int
    sampler: Sampler
    seed: int

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, position: int, /) -> int:
        return self.sampler.example(position, seed=self.seed, examples=self.examples)


def _check_size(source: Source, batch_size: int) -> None:
    check_size("batch_size", batch_size)
    if len(source) == 0:
        raise InputError("a source must have examples, got none; use more data")


def _stack(examples: Sequence[Batch]) -> Batch:
    try:
        return {name: np.stack([example[name] for example in examples]) for name in examples[0]}
    except (KeyError, ValueError) as error:
        shapes = [{name: np.shape(x) for name, x in example.items()} for example in examples]
        other = next((of for of in shapes if of != shapes[0]), None)
        if other is None:
            raise
        raise InputError(
            f"all examples must have the same arrays of the same shapes, got {shapes[0]} and "
            f"{other}; cut or fill them up, or leave some out"
        ) from error
