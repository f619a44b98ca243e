"""Samplers: functions of seed and position, exact on any number of processes."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stpatch_jax.data.sampling.batches import batch_iterator
from stpatch_jax.data.sampling.samplers import BlockShuffle
from stpatch_jax.errors import InputError

N = 11
NUMBERS = [{"index": np.asarray(i)} for i in range(N)]
SAMPLER = BlockShuffle(np.arange(N)[::-1], block=3, mixed=2)


def drawn(sampler, count, *, seed=0, examples=N):
    return [sampler.example(at, seed=seed, examples=examples) for at in range(count)]


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**40), st.integers(0, 9))
def test_restarts_and_processes_go_on_with_the_same_global_batches(each, count, seed, start):
    sampler = SAMPLER
    order = drawn(sampler, (start + 3) * each * count, seed=seed)
    expected = np.reshape(order, (-1, each * count))[start:]
    for p in range(count):
        batches = batch_iterator(
            NUMBERS, batch_size=each * count, seed=seed, start_step=start, sampler=sampler,
            process_index=p, process_count=count,
        )  # fmt: skip
        local = np.stack([batch["index"] for batch in islice(batches, 3)])
        np.testing.assert_array_equal(local, expected[:, p::count])


def test_seeds_have_orders_of_their_own_and_late_positions_work():
    sampler = SAMPLER
    assert drawn(sampler, 40, seed=1) != drawn(sampler, 40, seed=2)
    assert drawn(sampler, 40, seed=1) == drawn(sampler, 40, seed=1)
    assert 0 <= sampler.example(2**62, seed=3, examples=N) < N


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), st.integers(0, 9))
def test_blocks_come_whole_and_every_pass_visits_each_example_once(examples, block, mixed, seed):
    order = np.random.default_rng(0).permutation(examples)
    sampler = BlockShuffle(order, block=block, mixed=mixed)
    for one_pass in np.reshape(drawn(sampler, 2 * examples, seed=seed, examples=examples), (2, -1)):
        assert Counter(one_pass.tolist()) == Counter(range(examples))
        block_of = {int(example): at // block for at, example in enumerate(order)}
        blocks = [block_of[example] for example in one_pass.tolist()]
        # A block is read within the span of the blocks that it is mixed with.
        for number in set(blocks):
            where = [at for at, other in enumerate(blocks) if other == number]
            assert where[-1] - where[0] < block * mixed


def test_a_sampler_of_another_source_is_refused_before_the_first_batch():
    sampler = BlockShuffle(np.arange(4), block=2)
    with pytest.raises(InputError, match="name each example once, got 4 for 11"):
        batch_iterator(NUMBERS, batch_size=2, seed=0, start_step=0, sampler=sampler)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": 0}, "block must be a whole number >= 1"),
        ({"block": 2, "mixed": 0}, "mixed must be a whole number >= 1"),
        ({"order": np.arange(0), "block": 2}, "must name examples"),
    ],
)
def test_blocks_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        BlockShuffle(**{"order": np.arange(4)} | options)
