"""Folds: every item is tested once, and classes keep their shares."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data.labelled.fields import k_fold
from stpatch_jax.errors import InputError

labels = st.lists(st.integers(0, 2), min_size=4, max_size=30).filter(
    lambda given: min(np.unique(given, return_counts=True)[1]) >= 4
)


@given(labels, st.integers(2, 4), st.integers(0, 99), st.booleans())
def test_every_item_is_tested_once_and_trained_on_in_the_other_folds(
    given, folds, seed, stratified
):
    splits = k_fold(given, folds, seed=seed, stratified=stratified)
    tested = np.concatenate([test for _, test in splits])
    assert sorted(tested.tolist()) == list(range(len(given)))
    for train, test in splits:
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(given)))
        assert len(test) in (len(given) // folds, -(-len(given) // folds)) or stratified
        if stratified:
            counts = np.bincount(np.asarray(given)[test], minlength=3)
            share = np.bincount(given, minlength=3) / folds
            assert (np.abs(counts - share) < 1).all()
    again = k_fold(given, folds, seed=seed, stratified=stratified)
    assert all((a[1] == b[1]).all() for a, b in zip(splits, again, strict=True))


@pytest.mark.parametrize(
    ("given_labels", "folds", "seed", "message"),
    [
        (["a", None, "b"], 2, 0, "got none for item 1"),
        ([0.0, 1.0, np.nan], 2, 0, "got none for item 2"),
        ([0, 1], 3, 0, r"must be in \[2, 2\], got 3"),
        ([0, 1, 1], 2, 0, "at least 2 items for 2 stratified folds, got 1 of 0"),
        ([0, 0], 2, -1, "seed must be a whole number >= 0, got -1"),
    ],
)
def test_labels_that_do_not_serve_are_refused(given_labels, folds, seed, message):
    with pytest.raises(InputError, match=message):
        k_fold(given_labels, folds, seed=seed)
