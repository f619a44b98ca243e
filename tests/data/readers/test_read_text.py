"""Lines of text, their encoding, and the tokenizer."""

import numpy as np
import pytest

from stpatch_jax.data.readers import (
    Tokenizer,
    read_labelled_lines,
    read_lines,
    train_tokenizer,
)
from stpatch_jax.errors import InputError


def test_lines_end_at_line_feeds_only(tmp_path):
    path = tmp_path / "lines.txt"
    lines = ["one\x85two", "", "three\u2028four\x0c", "five\r"]
    path.write_bytes("\n".join(lines).encode())
    assert read_lines(path) == lines
    path.write_bytes(("\n".join(lines) + "\n").encode())
    assert read_lines(path) == lines


def test_another_encoding_tells_its_line(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes("plain\nplain\nna\u00efve\n".encode("latin-1"))
    with pytest.raises(InputError, match=r'encoded as utf-8, but line 3 is not .*"latin-1"'):
        read_lines(path)
    assert read_lines(path, encoding="latin-1")[2] == "na\u00efve"
    with pytest.raises(InputError, match="unknown encoding: latin-99"):
        read_lines(path, encoding="latin-99")


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="must be a readable text file"):
        read_lines(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(InputError, match="must have lines, but it is empty"):
        read_lines(tmp_path / "empty.txt")


def test_lines_have_the_label_of_their_file(tmp_path):
    (tmp_path / "a").write_text("x\ny\n")
    (tmp_path / "b").write_text("z\n")
    found = read_labelled_lines({"second": tmp_path / "b", "first": tmp_path / "a"})
    assert list(found.items) == ["z", "x", "y"]
    assert found.labels.tolist() == [0, 1, 1]
    assert found.classes == ("second", "first")


def test_words_are_learnt_from_training_lines_only():
    pytest.importorskip("tokenizers")
    tokenizer = train_tokenizer(["A good film .", "a bad film"], vocabulary=100)
    assert set(tokenizer.vocabulary) == {"[PAD]", "[UNK]", "a", "good", "film", ".", "bad"}
    ids, mask = tokenizer.encode(["a GOOD story", "bad film a a a"], length=4)
    words = tokenizer.vocabulary
    assert ids.tolist() == [
        [words["a"], words["good"], 1, 0],
        [words[w] for w in ("bad", "film", "a", "a")],
    ]
    assert mask.tolist() == [[True, True, True, False], [True] * 4]
    assert (ids.dtype, mask.dtype) == (np.int32, bool)
    assert tokenizer.decode(ids[1]) == "bad film a a"


def test_a_vocabulary_keeps_the_most_frequent_words():
    pytest.importorskip("tokenizers")
    tokenizer = train_tokenizer(["a a a b b c"], vocabulary=4)
    assert tokenizer.vocabulary == {"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3}
    assert tokenizer.size == 4


def test_characters_come_back_as_they_were():
    pytest.importorskip("tokenizers")
    text = "A b\n\tB\u00e9  \U0001f600!"
    tokenizer = train_tokenizer([text], vocabulary=50, level="character")
    ids, mask = tokenizer.encode([text], length=20)
    assert mask.sum() == len(text)
    assert tokenizer.decode(ids[0]) == text


def test_a_tokenizer_goes_to_json_and_back():
    pytest.importorskip("tokenizers")
    lines = ["some words", "more words here"]
    tokenizer = train_tokenizer(lines, vocabulary=100)
    again = Tokenizer(tokenizer.to_json())
    for a, b in zip(tokenizer.encode(lines, length=3), again.encode(lines, length=3), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_lines_no_room_and_no_length_are_refused():
    pytest.importorskip("tokenizers")
    for lines, vocabulary in (([], 10), ([""], 10), (["a"], 2)):
        with pytest.raises(InputError, match="a vocabulary of at least 3"):
            train_tokenizer(lines, vocabulary=vocabulary)
    with pytest.raises(InputError, match="length must be at least 1 token, got 0"):
        train_tokenizer(["a"], vocabulary=10).encode(["a"], length=0)
    with pytest.raises(InputError, match='level must be "word" or "character"'):
        train_tokenizer(["a"], vocabulary=10, level="byte")  # type: ignore[arg-type]


def test_reviews_are_read(data_dir):
    pytest.importorskip("tokenizers")
    files = {name: data_dir / "text" / f"rt-polarity.{name}" for name in ("neg", "pos")}
    with pytest.raises(InputError, match=r"rt-polarity.neg must be text encoded as utf-8"):
        read_labelled_lines(files)
    reviews = read_labelled_lines(files, encoding="latin-1")
    assert np.bincount(reviews.labels).tolist() == [5331, 5331]
    tokenizer = train_tokenizer(reviews.items[::2], vocabulary=30_000)
    ids, mask = tokenizer.encode(reviews.items[1::2], length=56)
    assert ids.shape == (5331, 56)
    # Words of the other half that training never saw are unknown, and only those.
    assert 0.02 < (ids[mask] == 1).mean() < 0.2
    assert not (tokenizer.encode(reviews.items[::2], length=56)[0] == 1).any()
