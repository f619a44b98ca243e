"""Packing: every token exactly once, first fit, and clips come back as they were cut."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from stpatch_jax import WindowSpec, extract_patches, patchify
from stpatch_jax.errors import InputError
from stpatch_jax.nn import pack_clips

WINDOW = (2, 3, 2)


@st.composite
def clip_shapes(draw):
    """Shapes of up to a dozen small clips, and a row length that holds the largest."""
    sizes = st.tuples(st.integers(1, 7), st.integers(1, 8), st.integers(1, 6))
    shapes = draw(st.lists(sizes, min_size=1, max_size=12))
    longest = max(token_count(shape) for shape in shapes)
    return shapes, draw(st.integers(longest, 3 * longest))


def token_count(shape):
    return int(np.prod([-(-n // w) for n, w in zip(shape, WINDOW, strict=True)]))


def clips_of(shapes, channels=2):
    """Clips whose values are all different and none 0."""
    ends = np.cumsum([np.prod(shape) * channels for shape in shapes])
    values = np.split(np.arange(1, ends[-1] + 1), ends[:-1])
    return [v.reshape(*shape, channels) for v, shape in zip(values, shapes, strict=True)]


def naive_first_fit_decreasing(counts, row_length):
    """Row of every clip, by the textbook loop."""
    used, row_of = [], [0] * len(counts)
    for clip in sorted(range(len(counts)), key=lambda clip: (-counts[clip], clip)):
        row = next((r for r, n in enumerate(used) if n + counts[clip] <= row_length), len(used))
        if row == len(used):
            used.append(0)
        used[row] += counts[clip]
        row_of[clip] = row
    return row_of


@hypothesis.given(clip_shapes())
def test_every_token_stands_in_one_place_and_clips_come_back(case):
    shapes, row_length = case
    clips = clips_of(shapes)
    packed = pack_clips(clips, WINDOW, row_length=row_length)
    rows = packed.tokens.shape[0]
    assert packed.tokens.shape == (rows, row_length, np.prod(WINDOW) * 2)
    assert packed.positions.shape == (rows, row_length, 3)
    # All values differ: each cell of each clip stands in exactly one place, the rest is 0.
    there = np.sort(packed.tokens[packed.tokens != 0])
    np.testing.assert_array_equal(there, np.concatenate([clip.ravel() for clip in clips]))
    assert not packed.tokens[packed.segment_ids == 0].any()
    counts = [token_count(shape) for shape in shapes]
    assert packed.fill_rate == pytest.approx(sum(counts) / (rows * row_length))
    parts = (packed.tokens, packed.positions, packed.segment_ids)
    unpacked = zip(clips, packed.placements, *map(packed.unpack, parts), strict=True)
    for clip, place, tokens, positions, segments in unpacked:
        covered = np.pad(
            clip,
            [(0, -n % w) for n, w in zip(clip.shape, (*WINDOW, 1), strict=True)],
        )
        assert place.grid == tuple(n // w for n, w in zip(covered.shape, WINDOW, strict=False))
        t, h, w = np.array(place.grid) - 1
        last = covered[WINDOW[0] * t :, WINDOW[1] * h :, WINDOW[2] * w :]
        np.testing.assert_array_equal(tokens[t, h, w], last.ravel())
        np.testing.assert_array_equal(positions[t, h, w], [t, h, w])
        assert len(np.unique(positions.reshape(-1, 3), axis=0)) == positions[..., 0].size
        assert (segments == segments.flat[0]).all()
    # Segments of a row are counted from 1, in one piece, padding behind.
    for row in packed.segment_ids:
        steps = np.diff(row[row != 0])
        assert row[0] == 1
        assert set(steps.tolist()) <= {0, 1}
        assert not row[np.count_nonzero(row) :].any()


@hypothesis.given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=40), room=st.integers(12, 30)
)
def test_rows_are_those_of_textbook_first_fit_decreasing(counts, room):
    packed = pack_clips([np.ones((n, 1), np.uint8) for n in counts], (1,), row_length=room)
    rows = [place.row for place in packed.placements]
    assert rows == naive_first_fit_decreasing(counts, room)
    filled = np.bincount(rows, counts)
    assert (filled <= room).all()
    # Two rows that are at most half full would fit into one: first fit leaves one of them at most,
    # so the rows are on average more than half full, whatever came.
    assert sum(n <= room / 2 for n in filled) <= 1
    assert (len(filled) - 1) * room < 2 * sum(counts)


def test_tokens_are_those_of_patchify_and_of_cover_padding():
    values = np.random.default_rng(0).normal(size=(4, 6, 8, 3)).astype(np.float32)
    packed = pack_clips([values, values[:3, :5, :7]], WINDOW, row_length=20)
    whole, cut = packed.unpack(packed.tokens)
    np.testing.assert_array_equal(whole.reshape(-1, 36), patchify(values, WINDOW))
    covered = extract_patches(values[:3, :5, :7], WindowSpec(WINDOW, padding="COVER"))
    np.testing.assert_array_equal(cut, np.asarray(covered).reshape(2, 2, 4, 36))
    assert packed.tokens.dtype == np.float32
    assert packed.positions.dtype == packed.segment_ids.dtype == np.int32


def test_a_fixed_number_of_rows_keeps_the_shape_and_says_when_it_does_not_suffice():
    clips = [np.ones((n, 2), np.int8) for n in (3, 5, 4)]
    packed = pack_clips(clips, (1,), row_length=6, rows=4)
    assert packed.segment_ids.tolist() == [
        [1] * 5 + [0],
        [1] * 4 + [0] * 2,
        [1] * 3 + [0] * 3,
        [0] * 6,
    ]
    assert packed.fill_rate == 0.5
    assert [clip.shape for clip in packed.unpack(np.zeros((4, 6)))] == [(3,), (5,), (4,)]
    with pytest.raises(InputError, match=r"at least 3 for 3 clips in rows of 6 tokens, got 2"):
        pack_clips(clips, (1,), row_length=6, rows=2)
    with pytest.raises(
        InputError, match=r"values must have the axes \(4, 6\).*got shape \(3, 6, 1\)"
    ):
        packed.unpack(np.zeros((3, 6, 1)))


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        ([(2, 1), (9, 1)], {}, r"8 windows of \(1,\), got 9 in clip 1 of shape \(9, 1\)"),
        ([], {}, "at least one array, got none"),
        ([(2, 1), (2, 3, 1)], {}, r"0 space axes.*got shape \(2, 3, 1\) for clip 1"),
        ([(2, 1), (0, 1)], {}, r"not be empty, got shape \(0, 1\) for clip 1"),
        ([(2, 1), (2, 3)], {}, "got 3 channels of float64 in clip 1 and 1 of float64 in clip 0"),
        ([(2, 1)], {"window": (None,)}, r"window\[0\] must be a whole number >= 1, got None"),
        ([(2, 1)], {"row_length": 0}, "row_length must be a whole number >= 1, got 0"),
        ([(2, 1)], {"rows": 0}, r"at least 1 for 1 clips in rows of 8 tokens, got 0"),
    ],
)
def test_bad_input_is_refused(shapes, options, message):
    options = {"window": (1,), "row_length": 8, **options}
    with pytest.raises(InputError, match=message):
        pack_clips([np.zeros(shape) for shape in shapes], options.pop("window"), **options)
