"""Samplers: functions of seed and position, exact on any number of processes."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from small_fields import small_field

from stpatch_jax.data.fields.cleaning import Cleaner, CleaningConfig
from stpatch_jax.data.fields.windows import FieldWindows
from stpatch_jax.data.sampling.batches import batch_iterator
from stpatch_jax.data.sampling.samplers import (
    BlockShuffle,
    UniformSampler,
    WeightedSampler,
    class_weights,
    valid_shares,
)
from stpatch_jax.errors import InputError

N = 11
NUMBERS = [{"index": np.asarray(i)} for i in range(N)]
WEIGHTS = np.array([0, 1, 0, 0, 4, 2, 1, 0, 0, 2, 0], np.float64)
SAMPLERS = {
    "uniform": UniformSampler(),
    "weighted": WeightedSampler(WEIGHTS),
    "blocks": BlockShuffle(np.arange(N)[::-1], block=3, mixed=2),
}


def drawn(sampler, count, *, seed=0, examples=N):
    return [sampler.example(at, seed=seed, examples=examples) for at in range(count)]


@pytest.mark.parametrize("name", SAMPLERS)
@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**40), st.integers(0, 9))
def test_restarts_and_processes_go_on_with_the_same_global_batches(name, each, count, seed, start):
    sampler = SAMPLERS[name]
    order = drawn(sampler, (start + 3) * each * count, seed=seed)
    expected = np.reshape(order, (-1, each * count))[start:]
    for p in range(count):
        batches = batch_iterator(
            NUMBERS, batch_size=each * count, seed=seed, start_step=start, sampler=sampler,
            process_index=p, process_count=count,
        )  # fmt: skip
        local = np.stack([batch["index"] for batch in islice(batches, 3)])
        np.testing.assert_array_equal(local, expected[:, p::count])


@pytest.mark.parametrize("name", ["uniform", "weighted"])
def test_draws_have_the_right_frequencies(name):
    weights = WEIGHTS if name == "weighted" else np.ones(N)
    counts = np.bincount(drawn(SAMPLERS[name], 4000), minlength=N)
    assert (counts[weights == 0] == 0).all()
    expected = 4000 * weights[weights > 0] / weights.sum()
    assert chisquare(counts[weights > 0], expected).pvalue > 1e-3


@pytest.mark.parametrize("name", SAMPLERS)
def test_seeds_have_orders_of_their_own_and_late_positions_work(name):
    sampler = SAMPLERS[name]
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


def test_classes_are_drawn_equally_often():
    weights = class_weights(["a", "b", "a", "a", "c"])
    np.testing.assert_allclose(weights, [1 / 3, 1, 1 / 3, 1 / 3, 1])


def test_windows_over_land_are_never_drawn():
    field = small_field()
    field[:, :3] = np.nan
    cleaner = Cleaner.fit(field, range(24), CleaningConfig())
    source = FieldWindows(field, range(24, 40), cleaner, context=6, horizon=3, tile=(2, 5))
    fractions = valid_shares(source)
    assert fractions[:3].tolist() == [0, 0.5, 1]
    sampler = WeightedSampler(fractions >= 0.5)
    assert {at % 3 for at in drawn(sampler, 60, examples=len(source))} == {1, 2}


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0], [np.nan, 1.0], [[1.0]]])
def test_weights_must_be_weights(weights):
    with pytest.raises(InputError, match="weights must be finite numbers, one per example"):
        WeightedSampler(np.array(weights))


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (WeightedSampler(np.ones(3)), "one weight per example, but there are 3 for 11"),
        (BlockShuffle(np.arange(4), block=2), "name each example once, but it has 4 for 11"),
    ],
)
def test_samplers_of_another_source_are_refused_before_the_first_batch(sampler, message):
    with pytest.raises(InputError, match=message):
        batch_iterator(NUMBERS, batch_size=2, seed=0, start_step=0, sampler=sampler)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": 0}, "block must be at least 1"),
        ({"block": 2, "mixed": 0}, "mixed must be at least 1"),
        ({"order": np.arange(0), "block": 2}, "needs examples"),
    ],
)
def test_blocks_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        BlockShuffle(**{"order": np.arange(4)} | options)
