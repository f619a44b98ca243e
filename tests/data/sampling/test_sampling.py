"""Step-indexed batches: the order depends on seed and step, not on restarts or processes."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice

import grain
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stpatch_jax.data.sampling.batches import Batch, batch_iterator, sequential_batches
from stpatch_jax.errors import InputError


class Numbers:
    """Example `i` is `i` in two shapes; counts what is read."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int, /) -> Batch:
        self.read.append(int(i))
        return {"x": np.full((2, 3), i, np.float32), "index": np.asarray(i, np.int64)}


def indices(batches: Iterator[Batch], count: int) -> np.ndarray:
    return np.stack([batch["index"] for batch in islice(batches, count)])


sizes = st.integers(1, 12)
few = settings(max_examples=10, deadline=None)


@few
@given(sizes, sizes, st.integers(0, 2**40), st.integers(0, 9))
def test_any_start_is_the_tail_of_the_run_from_step_zero(length, size, seed, start):
    options = {"batch_size": size, "seed": seed}
    whole = indices(batch_iterator(Numbers(length), start_step=0, **options), start + 4)
    tail = indices(batch_iterator(Numbers(length), start_step=start, **options), 4)
    np.testing.assert_array_equal(tail, whole[start:])


@few
@given(sizes, st.integers(1, 3), st.integers(1, 4), st.integers(0, 9), st.integers(0, 5))
def test_processes_together_make_the_same_global_batches(length, each, count, seed, start):
    options = {"batch_size": each * count, "seed": seed, "start_step": start}
    alone = indices(batch_iterator(Numbers(length), **options), 4)
    shares = [
        indices(batch_iterator(Numbers(length), process_index=p, process_count=count, **options), 4)
        for p in range(count)
    ]
    for p, share in enumerate(shares):
        np.testing.assert_array_equal(share, alone[:, p::count])


@few
@given(sizes, sizes, st.integers(0, 9))
def test_each_pass_visits_every_example_once(length, size, seed):
    batches = batch_iterator(Numbers(length), batch_size=size, seed=seed, start_step=0)
    order = indices(batches, -(-3 * length // size)).ravel()[: 3 * length]
    for one_pass in order.reshape(3, length):
        assert Counter(one_pass.tolist()) == Counter(range(length))


def test_passes_and_seeds_have_orders_of_their_own():
    def order(seed: int, passes: int) -> list[list[int]]:
        batches = batch_iterator(Numbers(20), batch_size=20, seed=seed, start_step=0)
        return indices(batches, passes).tolist()

    orders = [*order(0, 3), *order(1, 3)]
    assert len({tuple(one) for one in orders}) == 6
    assert orders[0] != list(range(20))


def test_a_late_start_reads_no_earlier_example():
    source = Numbers(10)
    batches = batch_iterator(source, batch_size=5, seed=0, start_step=10**12)
    next(batches)
    # One batch and at most three made ahead.
    assert len(source.read) <= 20


def test_batches_stack_examples_and_keep_dtypes():
    batch = next(batch_iterator(Numbers(3), batch_size=4, seed=0, start_step=0))
    assert batch["x"].shape == (4, 2, 3)
    assert batch["x"].dtype == np.float32
    assert batch["index"].dtype == np.int64
    np.testing.assert_array_equal(batch["x"][:, 0, 0], batch["index"])


def test_grain_agrees_that_the_order_is_reproducible():
    batches = batch_iterator(Numbers(7), batch_size=3, seed=0, start_step=2)
    assert isinstance(batches, grain.DatasetIterator)
    state = batches.get_state()
    first = indices(batches, 3)
    batches.set_state(state)
    np.testing.assert_array_equal(indices(batches, 3), first)


@given(sizes, sizes)
def test_sequential_batches_visit_every_example_in_order(length, size):
    batches = list(sequential_batches(Numbers(length), batch_size=size))
    assert {batch["index"].shape for batch in batches} == {(size,)}
    assert len(batches) == -(-length // size)
    index = np.concatenate([batch["index"] for batch in batches])
    mask = np.concatenate([batch["example_mask"] for batch in batches])
    assert mask.dtype == bool
    np.testing.assert_array_equal(index[mask], np.arange(length))
    np.testing.assert_array_equal(index[~mask], np.full(len(mask) - length, length - 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": Numbers(0)}, "a source must have examples"),
        ({"batch_size": 0}, r"batch_size must .*, got 0"),
        (
            {"batch_size": 5, "process_index": 0, "process_count": 2},
            r"processes, got 5 for 2",
        ),
        ({"process_index": 2, "process_count": 2}, "process_index must be in"),
        ({"seed": -1}, r"seed must .*, got -1"),
        ({"start_step": -2}, r"start_step must .*, got -2"),
    ],
)
def test_bad_numbers_are_refused_before_the_first_batch(changes, message):
    options = {"source": Numbers(4), "batch_size": 4, "seed": 0, "start_step": 0} | changes
    with pytest.raises(InputError, match=message):
        batch_iterator(options.pop("source"), **options)


def test_sequential_batches_refuse_at_the_call():
    with pytest.raises(InputError, match="got 0"):
        sequential_batches(Numbers(4), batch_size=0)
    with pytest.raises(InputError, match="must have examples"):
        sequential_batches(Numbers(0), batch_size=4)


def test_an_error_of_the_source_reaches_the_caller():
    class Broken(Numbers):
        def __getitem__(self, i: int, /) -> Batch:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        next(batch_iterator(Broken(3), batch_size=2, seed=0, start_step=0))


@pytest.mark.parametrize("other", [{"x": np.zeros(3)}, {"y": np.zeros(2)}])
def test_examples_of_different_arrays_are_refused_in_one_sentence(other):
    source = [{"x": np.zeros(2)}, other]
    with pytest.raises(InputError, match="all examples must have the same arrays"):
        next(sequential_batches(source, batch_size=2))
    with pytest.raises(InputError, match="all examples must have the same arrays"):
        next(batch_iterator(source, batch_size=2, seed=0, start_step=0))
