"""Lines of text with labels, and a tokenizer that learns its words from training lines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stpatch_jax.data.libraries import one_line, require_library
from stpatch_jax.data.protocols import located
from stpatch_jax.data.readers.items import LabelledItems
from stpatch_jax.errors import InputError

PADDING, UNKNOWN = "[PAD]", "[UNK]"


def read_lines(path: str | Path, *, encoding: str = "utf-8") -> list[str]:
    r"""Reads the lines of a text file, which end at "\n" only.

    Args:
        path: The file.
        encoding: How its characters are stored, as "latin-1".

    Raises:
        InputError: If the file is missing or empty, or holds bytes of another encoding.
    """
    try:
        text = Path(path).read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} must be text encoded as {encoding}, but line {line} is not ({error.reason}); "
            'give its encoding, for example encoding="latin-1"'
        ) from error
    except (OSError, LookupError) as error:
        raise InputError(
            f"{path} must be a readable text file with a known encoding, but reading it gave: "
            f"{one_line(error)}; give an existing file and its encoding"
        ) from error
    # Not splitlines, which ends lines at characters such as "\x85" too.
    lines = text.removesuffix("\n").split("\n")
    if lines == [""]:
        raise InputError(f"{path} must have lines, but it is empty; give another file")
    return lines


def read_labelled_lines(
    files: Mapping[str, str | Path], *, encoding: str = "utf-8"
) -> LabelledItems:
    """Reads one text file for each class.

    Args:
        files: File of each class, in the order of the labels 0, 1, ...
        encoding: How the characters of the files are stored.

    Returns:
        The lines and their labels.

    Raises:
        InputError: If a file is missing, empty, or of another encoding.
    """
    lines = {name: read_lines(path, encoding=encoding) for name, path in files.items()}
    counts = [len(found) for found in lines.values()]
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return LabelledItems([line for found in lines.values() for line in found], labels, tuple(files))


class Tokenizer:
    """Turns lines into token ids; 0 pads and 1 stands for what the training lines had not.

    Made by `train_tokenizer`, or from the text that `to_json` gave.
    """

    def __init__(self, text: str):
        self._tokenizer = _library().Tokenizer.from_str(text)

    @property
    def size(self) -> int:
        """Number of ids, padding and unknown included."""
        return self._tokenizer.get_vocab_size()

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of every token."""
        return self._tokenizer.get_vocab()

    def to_json(self) -> str:
        """The tokenizer as text, to save with a run."""
        return self._tokenizer.to_str()

    def encode(self, lines: Sequence[str], *, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of lines, cut or padded at their end to one length.

        Args:
            lines: The lines.
            length: Number of tokens of every line.

        Returns:
            Ids [line, length], int32, and a mask [line, length], True where a token is no padding.

        Raises:
            InputError: If the length is below 1.
        """
        if length < 1:
            raise InputError(f"length must be at least 1 token, got {length}; give a longer one")
        ids = np.zeros((len(lines), length), np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, found in enumerate(self._tokenizer.encode_batch(list(lines))):
            kept = found.ids[:length]
            ids[row, : len(kept)], mask[row, : len(kept)] = kept, True
        return ids, mask

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of one line of ids, without padding."""
        return self._tokenizer.decode([int(at) for at in ids if at != 0])


def train_tokenizer(
    lines: Sequence[str], *, vocabulary: int, level: Literal["word", "character"] = "word"
) -> Tokenizer:
    """Learns the most frequent tokens of lines; give it the lines of the training split only.

    Args:
        lines: The training lines.
        vocabulary: Largest number of ids, padding and unknown included; rarer tokens are unknown.
        level: "word" for lower-case words between white space, "character" for single characters
            as they are.

    Returns:
        The tokenizer.

    Raises:
        InputError: If the library `tokenizers` is missing, there are no lines, the vocabulary
            leaves no room for a token, or the level is another one.

    References:
        Kim, Convolutional Neural Networks for Sentence Classification, 2014 (lower-case words).
    """
    if not any(lines) or vocabulary < 3:
        raise InputError(
            f"a tokenizer must have training lines and a vocabulary of at least 3, got "
            f"{len(lines)} lines and {vocabulary}; give more"
        )
    if level not in ("word", "character"):
        raise InputError(f'level must be "word" or "character", got {level!r}; choose one')
    library = _library()
    tokenizer = library.Tokenizer(library.models.WordLevel(unk_token=UNKNOWN))
    if level == "word":
        tokenizer.normalizer = library.normalizers.Lowercase()
        tokenizer.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    else:
        one = library.Regex(r"[\s\S]")
        tokenizer.pre_tokenizer = library.pre_tokenizers.Split(one, "isolated")
        tokenizer.decoder = library.decoders.Fuse()
    trainer = library.trainers.WordLevelTrainer(
        vocab_size=vocabulary, special_tokens=[PADDING, UNKNOWN], show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    return Tokenizer(tokenizer.to_str())


def _library() -> Any:
    return require_library(
        "tokenizers", purpose="turning text into tokens", install="stpatch_jax[text]"
    )


_OPPOSITES = (("positive", "negative"), (".pos", ".neg"), ("_pos", "_neg"))


def text_pair(path: str) -> dict[str, str]:
    """The files of both classes, where a file is one of a pair.

    Args:
        path: One of two files whose names differ in `positive` and `negative`, or in `pos` and
            `neg` behind a dot or an underscore; also as `catalog:NAME`.

    Returns:
        The files of `negative` and `positive` lines; empty where the name is none of a pair.

    >>> text_pair("reviews/movies.pos")
    {'negative': 'reviews/movies.neg', 'positive': 'reviews/movies.pos'}
    """
    folder, slash, name = path.rpartition("/")
    for positive, negative in _OPPOSITES:
        if positive in name or negative in name:
            pair = {
                "negative": name.replace(positive, negative),
                "positive": name.replace(negative, positive),
            }
            return {label: located(folder + slash + file) for label, file in pair.items()}
    return {}
