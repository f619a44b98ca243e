"""Chronological splits: the laws of forecasting without leaks."""

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data.sampling.splits import (
    chronological_splits,
    split_by_rows,
    window_starts,
)
from stpatch_jax.errors import InputError


@st.composite
def problems(draw):
    """Random problems that fit; `first` as in the log-return representation."""
    horizon = draw(st.integers(1, 8))
    context = draw(st.integers(1, 20))
    # Each split holds at least one window: a tenth of these rows is a horizon, three tenths hold
    # the first context too.
    rows = draw(st.integers(max(11 * horizon, 4 * (context + horizon + 1)), 300))
    options = {
        "context": context,
        "horizon": horizon,
        "validation_share": draw(st.floats(0.1, 0.35)),
        "test_share": draw(st.floats(0.1, 0.35)),
        "first": draw(st.integers(0, 1)),
    }
    return rows, options, chronological_splits(rows, **options)


@given(problems())
def test_no_target_lies_in_two_splits_and_time_runs_forward(problem):
    rows, options, splits = problem
    targets = [row for split in splits.values() for row in split]
    assert list(splits) == ["train", "validation", "test"]
    assert targets == sorted(set(targets))
    # After the first context no row is left out.
    assert targets == list(range(options["first"] + options["context"], rows))


@given(problems())
def test_windows_tile_every_split_and_keep_their_targets_inside(problem):
    _, options, splits = problem
    for split in splits.values():
        starts = window_starts(split, horizon=options["horizon"])
        covered = {start + lead for start in starts for lead in range(options["horizon"])}
        assert covered == set(split)
        assert len(starts) == len(split) - options["horizon"] + 1 >= 1


@given(problems())
def test_contexts_lie_in_the_table_and_training_windows_before_validation(problem):
    _, options, splits = problem
    for split in splits.values():
        starts = window_starts(split, horizon=options["horizon"])
        assert starts[0] - options["context"] >= options["first"]
    last = window_starts(splits["train"], horizon=options["horizon"])[-1]
    assert last + options["horizon"] == splits["validation"].start


@given(problems())
def test_spans_have_their_share_of_the_rows(problem):
    rows, options, splits = problem
    assert abs(len(splits["test"]) - options["test_share"] * rows) <= 0.5
    assert abs(len(splits["validation"]) - options["validation_share"] * rows) <= 0.5


@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 15))
def test_a_problem_is_refused_exactly_when_a_split_cannot_hold_a_window(rows, context, horizon):
    span = round(0.25 * rows)
    fits = span >= horizon and rows - 2 * span >= context + horizon
    expected = nullcontext() if fits else pytest.raises(InputError)
    with expected:
        chronological_splits(
            rows, context=context, horizon=horizon, validation_share=0.25, test_share=0.25
        )


@pytest.mark.parametrize(
    ("rows", "first", "message"),
    [
        (29, 0, "train split must hold 6 target rows .* first context of 24, got 0 of 29 rows"),
        (60, 1, "train split must hold 6 target rows .* first context of 25, got 5 of 60 rows"),
        (50, 0, "validation split must hold 6 target rows .* got 5 of 50 rows"),
    ],
)
def test_messages_say_how_many_rows_there_are_and_are_needed(rows, first, message):
    fractions = (0.1, 0.2) if rows == 50 else (0.25, 0.25)
    with pytest.raises(InputError, match=message):
        chronological_splits(
            rows,
            context=24,
            horizon=6,
            validation_share=fractions[0],
            test_share=fractions[1],
            first=first,
        )


def test_fractions_that_leave_no_training_rows_are_refused():
    with pytest.raises(InputError, match="train split must lie in rows 0 to 100"):
        chronological_splits(100, context=4, horizon=2, validation_share=0.6, test_share=0.6)


@given(
    st.lists(st.integers(0, 60), min_size=4, max_size=4).map(sorted),
    st.integers(0, 9),
    st.integers(1, 9),
)
def test_official_spans_keep_their_targets(borders, context, horizon):
    spans = {"train": (borders[0], borders[1]), "test": (borders[2], borders[3])}
    fits = all(stop - max(start, context) >= horizon for start, stop in spans.values())
    options = {"context": context, "horizon": horizon}
    with nullcontext() if fits else pytest.raises(InputError, match="target rows"):
        splits = split_by_rows(60, spans, **options)
        assert splits["test"] == range(max(borders[2], context), borders[3])
        assert not set(splits["train"]) & set(splits["test"])


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ({"a": (0, 9), "b": (8, 12)}, "b split must lie in rows 9 to 20, .* got 8 to 12"),
        ({"a": (0, 21)}, "a split must lie in rows 0 to 20"),
    ],
)
def test_official_spans_that_overlap_or_leave_the_table_are_refused(spans, message):
    with pytest.raises(InputError, match=message):
        split_by_rows(20, spans, context=1, horizon=1)
