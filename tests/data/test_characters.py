"""Text as characters: each scored once, none in two splits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stpatch_jax.data import CharactersConfig
from stpatch_jax.errors import InputError


def write(folder, lines, name="text.txt"):
    path = folder / name
    path.write_bytes(b"".join(line.encode("latin-1") + b"\n" for line in lines))
    return str(path)


@settings(max_examples=12)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=20, max_size=40),
    window=st.integers(1, 40),
    data=st.data(),
)
def test_each_character_is_scored_once_after_its_context(tmp_path_factory, lengths, window, data):
    context = data.draw(st.integers(0, window - 1))
    lines = [chr(97 + at % 26) * n for at, n in enumerate(lengths)]
    path = write(tmp_path_factory.mktemp("text"), lines)
    config = CharactersConfig(path, window, context, 0.2, 0.2)
    found = config.load()
    assert [len(texts) for texts in found.texts.values()] == [1, 1, 1]
    whole = b"".join(text[1:].tobytes() for texts in found.texts.values() for text in texts)
    assert whole == b"".join(line.encode() + b"\n" for line in lines)
    for split in ("validation", "test"):
        (text,), source, scored = found.texts[split], found.source(split), []
        for i in range(len(source)):
            example = source[i]
            tokens, mask = example["tokens"], example["token_mask"]
            assert tokens.shape == mask.shape == (window + 1,)
            position = sum(map(len, scored)) + 1
            scored.append(tokens[mask])
            # Before the first scored character lies all the context that there is.
            before = tokens[window + 1 - (window - context) - min(context + 1, position) :]
            begin = position - min(context + 1, position)
            np.testing.assert_array_equal(
                before[: min(context + 1, position)], text[begin:position]
            )
        np.testing.assert_array_equal(np.concatenate(scored), text[1:])
        assert found.report["splits"][split]["characters"] == len(text) - 1
    counts = np.bincount(np.concatenate(found.texts["train"]), minlength=256)
    assert found.token_counts == tuple(counts)


def test_both_files_of_a_pair_are_split(tmp_path):
    for name, letter in (("a.pos", "p"), ("a.neg", "n")):
        write(tmp_path, [letter * 5] * 20, name)
    found = CharactersConfig(str(tmp_path / "a.neg"), window=8, context=2).load()
    assert [len(texts) for texts in found.texts.values()] == [2, 2, 2]
    assert found.report["splits"]["test"] == {"lines": 2, "characters": 12}
    source = found.source("train")
    text = found.texts["train"][1]
    np.testing.assert_array_equal(source[len(source) - 1]["tokens"], text[-9:])
    assert source[0]["token_mask"].tolist() == [False] + [True] * 8
    assert found.decode(np.array([104, 233, 10, 104])) == "hé"


def test_a_short_text_is_filled_up(tmp_path):
    found = CharactersConfig(write(tmp_path, ["a"] * 3), 64, 0, 0.34, 0.34).load()
    example = found.source("train")[0]
    assert example["tokens"][:3].tolist() == [10, 97, 10]
    assert example["token_mask"].sum() == 2


def test_what_cannot_be_split_is_refused(tmp_path):
    path = write(tmp_path, ["one", "two"])
    with pytest.raises(InputError, match=r"the validation split of .* must have a line"):
        CharactersConfig(path).load()
    with pytest.raises(InputError, match="got 4"):
        CharactersConfig(path, window=4, context=4)
    with pytest.raises(InputError, match="below 1 together, got"):
        CharactersConfig(path, test_share=1.0)
    with pytest.raises(InputError, match="split must be 'train', 'validation' or 'test'"):
        CharactersConfig(write(tmp_path, ["x"] * 9), 8, 0, 0.3, 0.3).load().source("all")


def test_characters_are_those_of_latin_1_or_bytes_of_utf_8(tmp_path):
    path = tmp_path / "text.txt"
    for letter, symbols, count in (("\u00e9", "latin-1", 2), ("\u03b1", "utf-8", 3)):
        for encoding in ("utf-8", "utf-16"):
            path.write_bytes((f"{letter}\r\n" * 30).encode(encoding))
            found = CharactersConfig(str(path), window=4, context=0).load()
            assert found.report["symbols"] == symbols
            assert found.report["splits"]["train"]["characters"] == 27 * count
            text = found.texts["train"][0]
            assert found.decode(text[1:count]) == letter
    path.write_bytes(("\u00e9\n" * 30).encode("latin-1"))
    with pytest.raises(InputError, match="text encoded as utf-8, got line 1"):
        CharactersConfig(str(path)).load()
    assert CharactersConfig(str(path), encoding="latin-1").load().decode(text[1:1]) == ""
