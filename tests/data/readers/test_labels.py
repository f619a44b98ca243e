"""Labels as classes: of any dtype and form, and by item and value where one is no class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stpatch_jax.data.readers.items import read_series
from stpatch_jax.data.readers.labels import numbered
from stpatch_jax.errors import InputError

CODES = arrays(np.int64, st.integers(3, 20), elements=st.integers(0, 2))
KINDS = ("u1", "i2", "i8", "f4", "f8", "U3", "S3")


@given(CODES, st.integers(0, 40), st.sampled_from(KINDS), st.booleans())
def test_a_label_is_the_name_of_its_class_whatever_its_dtype(codes, first, kind, column):
    codes = np.concatenate([[0, 1, 2], codes]) + first
    stored = codes.astype(kind)
    numbers, classes = numbered(stored[:, None] if column else stored, None, "labels")
    assert numbers.dtype == np.int32
    assert [int(classes[number]) for number in numbers] == codes.tolist()
    assert sorted(classes) == sorted(str(first + at) for at in range(3))
    again, same = numbered(stored[::-1], classes, "labels")
    assert same == classes
    np.testing.assert_array_equal(again, numbers[::-1])


@given(CODES)
def test_rows_with_a_single_one_are_the_number_of_its_column(codes):
    numbers, classes = numbered(np.eye(4)[codes], None, "labels")
    np.testing.assert_array_equal(numbers, codes)
    assert classes == ("0", "1", "2", "3")
    numbers, classes = numbered(np.eye(4, dtype=bool)[codes], list("abcd"), "labels")
    np.testing.assert_array_equal(numbers, codes)
    assert classes == ("a", "b", "c", "d")


def test_words_and_truth_are_classes():
    numbers, classes = numbered(np.asarray(["dog", "cat ", "dog"]), None, "labels")
    assert (numbers.tolist(), classes) == ([1, 0, 1], ("cat", "dog"))
    numbers, classes = numbered(np.asarray([True, False]), None, "labels")
    assert (numbers.tolist(), classes) == ([1, 0], ("0", "1"))
    numbers, classes = numbered(np.asarray(["1.0", "2", "1"]), None, "labels")
    assert (numbers.tolist(), classes) == ([0, 1, 0], ("1", "2"))


def test_classes_that_are_declared_are_names_or_places():
    marks = np.asarray([0, 255, 1])
    assert numbered(marks, ("0", "1", "255"), "labels")[0].tolist() == [0, 2, 1]
    assert numbered(np.asarray([-1, 1]), ("-1", "1"), "labels")[0].tolist() == [0, 1]
    assert numbered(np.asarray([0, 1]), ("benign", "malign"), "labels")[0].tolist() == [0, 1]
    # The classes of training labels from 1 are no places.
    with pytest.raises(InputError, match="one of the classes 1, 2, got 0 for item 0"):
        numbered(np.asarray([0, 0]), ("1", "2"), "labels")


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize(
    ("odd", "kind"),
    [(np.nan, "f8"), (np.inf, "f4"), (0.5, "f8"), (255, "i8"), (255, "u1"), (-1, "i8"), (-1, "f4")],
)
def test_what_is_no_class_is_told_by_item_and_value(odd, kind, column):
    labels = np.tile([0, 1], 6).astype(kind)
    labels[3] = odd
    message = rf"label of train_labels must be one of the classes 0, 1, got {odd}[.0]* for item 3;"
    with pytest.raises(InputError, match=message):
        numbered(labels[:, None] if column else labels, None, "train_labels")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.asarray(["a", "", "b"]), "got none for item 1"),
        (np.asarray(["1", "?", "2"]), r"got \? for item 1"),
        (np.asarray(["1", "NaN", "2"]), "got NaN for item 1"),
        (np.asarray([[1, 0], [1, 1]]), "must be one label for each item, got 1, 1 for item 1"),
        (np.asarray([[1, 0], [0.5, 0.5]]), r"got 0\.5, 0\.5 for item 1"),
        (np.asarray(["2020-01-01"], "M8[D]"), "must be names or whole numbers, got datetime64"),
        (np.full(3, np.nan), "one of the classes none, got nan for item 0"),
    ],
)
def test_labels_of_other_forms_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        numbered(labels, None, "labels")


@pytest.mark.parametrize("mark", ["\t", ",", "  "])
def test_series_of_the_archive_keep_their_labels(tmp_path, mark):
    lines = ["-1 0.5 2", "1.0000000e+00 1e-1 NaN", "10 3 4"]
    path = tmp_path / "series.txt"
    path.write_text("\ufeff" + "\r\n".join(line.replace(" ", mark) for line in lines) + "\n")
    series, labels = read_series(path)
    assert numbered(labels, None, "labels")[1] == ("-1", "1", "10")
    np.testing.assert_array_equal(
        series[:2, :, 0], np.asarray([[0.5, 2], [0.1, np.nan]], np.float32)
    )
    path.write_text("1\t0.5\t2\n2\t1\tinf\n")
    with pytest.raises(InputError, match="got line 2 with 'inf'; correct it"):
        read_series(path)
