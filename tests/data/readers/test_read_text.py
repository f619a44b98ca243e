"""Lines of text, their encoding, and the tokenizer."""

import gzip
import unicodedata

import numpy as np
import pytest

from stpatch_jax.data.readers import (
    read_labelled_lines,
    read_labelled_table,
    read_lines,
    words_of,
)
from stpatch_jax.errors import InputError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_at_line_ends_only_and_marks_tell_the_encoding(tmp_path, end, encoding):
    path = tmp_path / "lines.txt"
    lines = ["one\x85two", "", "three\u2028four\x0c", "voil\u00e0\u00a0!"]
    path.write_bytes(end.join(lines).encode(encoding))
    assert read_lines(path) == lines
    path.write_bytes((end.join(lines) + end).encode(encoding))
    assert read_lines(path) == lines
    # A mark says more than what the file is told to be.
    if encoding != "utf-8":
        assert read_lines(path, encoding="latin-1") == lines
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert read_lines(path) == lines


def test_another_encoding_tells_its_line(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes("plain\nplain\nna\u00efve\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"encoded as utf-8, got line 3"):
        read_lines(path)
    assert read_lines(path, encoding="latin-1")[2] == "na\u00efve"
    with pytest.raises(InputError, match="encoding must be one that Python knows, got 'latin-99'"):
        read_lines(path, encoding="latin-99")


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="there must be a text file at"):
        read_lines(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(InputError, match="must have lines, got none"):
        read_lines(tmp_path / "empty.txt")


def test_lines_have_the_label_of_their_file(tmp_path):
    (tmp_path / "a").write_text("x\ny\n")
    (tmp_path / "b").write_text("z\n")
    found = read_labelled_lines({"second": tmp_path / "b", "first": tmp_path / "a"})
    assert list(found.items) == ["z", "x", "y"]
    assert found.labels.tolist() == [0, 1, 1]
    assert found.classes == ("second", "first")


def test_reviews_are_read(data_dir):
    files = {name: data_dir / "text" / f"rt-polarity.{name}" for name in ("neg", "pos")}
    with pytest.raises(InputError, match=r"rt-polarity.neg must be text encoded as utf-8"):
        read_labelled_lines(files)
    reviews = read_labelled_lines(files, encoding="latin-1")
    assert np.bincount(reviews.labels).tolist() == [5331, 5331]


def test_words_are_the_same_however_their_letters_are_stored():
    whole = "\u00c9cole \u00e9cole VOIL\u00c0 voil\u00e0 na\u00efve"
    for form in ("NFC", "NFD"):
        words = words_of(unicodedata.normalize(form, whole))
        assert words == ["\u00e9cole"] * 2 + ["voil\u00e0"] * 2 + ["na\u00efve"]


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("a.csv", 'text,label\n"good, very",pos\nbad,neg\n', {}),
        ("a.TSV", "id\tReview\tSentiment\n7\tgood, very\tpos\n8\tbad\tneg\n", {}),
        ("a.csv", '\nbody;mark\n"good, very";pos\n\nbad;neg\n', {"text": "body", "label": "mark"}),
    ],
)
def test_texts_and_labels_of_a_table(tmp_path, name, text, options):
    (tmp_path / name).write_text(text)
    found = read_labelled_table(tmp_path / name, **options)
    assert list(found.items) == ["good, very", "bad"]
    assert [found.classes[label] for label in found.labels] == ["pos", "neg"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\nx,1\n", {}, "one column of the text, got none among a, b; name it with text="),
        ("text,b\nx,1\n", {}, "one column of the label, got none .* name it with label="),
        ("text,label,class\nx,1,2\n", {}, "the label, got label, class among"),
        ("text,label\nx,1\n", {"text": "review"}, "got none among text, label; name it with text="),
        ("text,label\nx,1\ny,\n", {}, "name a label in every row, got none in line 3"),
    ],
)
def test_columns_of_texts_that_are_not_clear_are_asked_for(tmp_path, text, options, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_labelled_table(tmp_path / "a.csv", **options)
