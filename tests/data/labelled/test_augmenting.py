"""Augmentation: shapes and values are kept, the draws decide everything, nothing means nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data import Augmentation
from stpatch_jax.data.sampling.batches import Batch, batch_iterator, sequential_batches
from stpatch_jax.errors import InputError

CUBE = np.random.default_rng(0).normal(size=(2, 3, 3, 3, 2)).astype(np.float32)
seeds = st.integers(0, 2**40)
flips = st.sets(st.integers(0, 2)).map(tuple)
augmentations = st.builds(
    Augmentation,
    turn=st.booleans(),
    flip=flips,
    shift=st.integers(0, 4),
    contrast=st.floats(0, 0.9),
    brightness=st.floats(0, 2),
    noise=st.floats(0, 2),
)


@given(augmentations, seeds)
def test_shape_and_dtype_stay_and_the_generator_decides(augment, seed):
    augment.check(CUBE.shape)
    before = CUBE.copy()
    one, two = (augment(CUBE, np.random.default_rng(seed)) for _ in range(2))
    assert one.shape == CUBE.shape
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(CUBE, before)


@given(st.booleans(), flips, seeds)
def test_symmetries_move_cells_and_leave_time_and_channels(turn, flip, seed):
    changed = Augmentation(turn=turn, flip=flip)(CUBE, np.random.default_rng(seed))
    for time in range(2):
        cells, others = changed[time].reshape(-1, 2), CUBE[time].reshape(-1, 2)
        np.testing.assert_array_equal(np.sort(cells, axis=0), np.sort(others, axis=0))
    # Both times by the same symmetry: the pairs of values of a cell stay together.
    pairs, before = (np.moveaxis(x, 0, -2).reshape(-1, 4) for x in (changed, CUBE))
    assert {tuple(row) for row in pairs.tolist()} == {tuple(row) for row in before.tolist()}


@given(st.integers(0, 4), seeds)
def test_a_shift_is_the_field_elsewhere(shift, seed):
    places = np.indices((3, 4, 5)).transpose(1, 2, 3, 0)[None].astype(np.float32)
    changed = Augmentation(shift=shift)(places, np.random.default_rng(seed))
    for axis in range(3):
        # A cell holds where it came from: the same distance everywhere, but for the edge.
        came = changed[..., axis] - places[..., axis]
        length = places.shape[axis + 1]
        allowed = [
            np.clip(places[..., axis] + by, 0, length - 1) - places[..., axis]
            for by in range(-shift, shift + 1)
        ]
        assert any(np.array_equal(came, one) for one in allowed)


def test_chances_are_those_that_are_stated():
    draws = np.random.default_rng(0)
    same = [np.array_equal(Augmentation(flip=(0, 2))(CUBE, draws), CUBE) for _ in range(400)]
    # No flip along either axis: 1/4, within four standard errors.
    assert np.mean(same) == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 400))
    orders = {Augmentation(turn=True)(CUBE, draws).tobytes() for _ in range(100)}
    assert len(orders) == 6
    both = Augmentation(turn=True, flip=(0, 1, 2))
    assert len({both(CUBE, draws).tobytes() for _ in range(600)}) == 48
    values = np.stack([Augmentation(noise=0.5)(CUBE, draws) - CUBE for _ in range(50)])
    assert values.std() == pytest.approx(0.5, rel=0.05)
    ratios = np.array([Augmentation(contrast=0.3)(CUBE, draws)[0, 0] / CUBE[0, 0]] * 2)
    assert np.ptp(ratios) < 1e-5
    assert 0.7 <= ratios.min() <= ratios.max() <= 1.3
    assert Augmentation()(CUBE, draws) is CUBE


class Marked:
    """Example `i` is `i`; drawn, it is followed by what was drawn for it."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, i: int, /) -> Batch:
        return {"x": np.array([i, -1.0])}

    def drawn(self, i: int, random: np.random.Generator, /) -> Batch:
        return {"x": np.array([i, random.random()])}


@pytest.mark.parametrize("sampled", [False, True])
def test_draws_depend_on_seed_and_position_alone(sampled):
    class Backwards:
        def example(self, position: int, *, seed: int, examples: int) -> int:
            return -position % examples

    def values(count, start=0, index=0, processes=1, seed=3):
        batches = batch_iterator(
            Marked(),
            batch_size=4,
            seed=seed,
            start_step=start,
            sampler=Backwards() if sampled else None,
            process_index=index,
            process_count=processes,
        )
        return np.stack([next(batches)["x"] for _ in range(count)])

    whole = values(6)
    np.testing.assert_array_equal(values(4, start=2), whole[2:])
    for index in range(2):
        np.testing.assert_array_equal(values(6, index=index, processes=2), whole[:, index::2])
    # The second pass draws anew, and so does another seed.
    assert len(np.unique(whole[..., 1])) == 24
    assert not np.array_equal(values(6, seed=4)[..., 1], whole[..., 1])


def test_evaluation_takes_examples_as_they_are():
    (batch,) = sequential_batches(Marked(), batch_size=5)
    np.testing.assert_array_equal(batch["x"], [[i, -1.0] for i in range(5)])


def test_mistakes_are_told_in_one_sentence():
    with pytest.raises(InputError, match=r"flip must name space axes from 0, .* \(1, 1\)"):
        Augmentation(flip=(1, 1))
    with pytest.raises(InputError, match="shift must be a whole number >= 0, got -1"):
        Augmentation(shift=-1)
    with pytest.raises(InputError, match=r"contrast must be in \[0, 1\), got 1"):
        Augmentation(contrast=1.0)
    with pytest.raises(InputError, match="axes of the 1 space axes"):
        Augmentation(flip=(1,)).check((4, 3, 1))
    with pytest.raises(InputError, match=r"one length for .*, got \(3, 4\)"):
        Augmentation(turn=True).check((4, 3, 4, 1))
