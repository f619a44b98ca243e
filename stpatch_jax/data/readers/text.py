"""Lines of text with labels."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stpatch_jax.data.protocols import located
from stpatch_jax.data.readers.columns import plain_name
from stpatch_jax.data.readers.delimited import read_cells
from stpatch_jax.data.readers.encoded import open_text
from stpatch_jax.data.readers.items import LabelledItems
from stpatch_jax.data.readers.labels import numbered
from stpatch_jax.errors import InputError, listed, require

_TEXT_WORDS = ("text", "review", "sentence", "comment", "content", "message", "tweet", "phrase")
_LABEL_WORDS = ("label", "class", "sentiment", "target", "category", "polarity")


def read_lines(path: str | Path, *, encoding: str | None = None) -> list[str]:
    r"""Reads the lines of a text file, which end at "\n", "\r\n" or "\r".

    Raises:
        InputError: If the file is missing or empty, or holds bytes of another encoding, see
            `open_text`.
    """
    with open_text(path, encoding=encoding) as text:
        # Not splitlines, which ends lines at characters such as "\x85" too.
        lines = text.read().removesuffix("\n").split("\n")
    if lines == [""]:
        raise InputError(f"{path} must have lines, got none; give another file")
    return lines


def words_of(line: str) -> list[str]:
    r"""The words of a line: what lies between white space, in lower case.

    Letters that are stored as a letter and its accent are the same as those stored as one.

    >>> words_of("\u00c9cole E\u0301cole") == ["\u00e9cole", "\u00e9cole"]
    True
    """
    return unicodedata.normalize("NFC", line.lower()).split()


def read_labelled_lines(
    files: Mapping[str, str | Path], *, encoding: str | None = None
) -> LabelledItems:
    """Reads one text file for each class, in the order of the labels 0, 1, ...

    Raises:
        InputError: If a file is missing, empty, or of another encoding.
    """
    lines = {name: read_lines(path, encoding=encoding) for name, path in files.items()}
    counts = [len(part) for part in lines.values()]
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return LabelledItems([line for part in lines.values() for line in part], labels, tuple(files))


def read_labelled_table(
    path: str | Path,
    *,
    text: str | None = None,
    label: str | None = None,
    classes: Sequence[str] | None = None,
    encoding: str | None = None,
) -> LabelledItems:
    """Reads texts and their labels from two columns of a table, see `read_cells`.

    Args:
        path: A text table with a header.
        text: Column of the texts; by default the one called text, review, sentence, comment, ...
        label: Column of the labels; by default the one called label, class, sentiment, target, ...
        classes: Names of the classes, in the order of their numbers; those found by default.
        encoding: See `open_text`.

    Raises:
        InputError: If the file cannot be read, a column is not found, or a cell of one is empty.
    """
    cells = read_cells(
        Path(path), lambda head: range(len(head.header)), kind="table of texts", encoding=encoding
    )
    columns = {}
    for role, told, words in (("text", text, _TEXT_WORDS), ("label", label, _LABEL_WORDS)):
        wanted = [name for name in cells.header if name == told or (plain_name(name) in words)]
        wanted = [told] if told in cells.header else wanted if told is None else []
        require(
            len(wanted) == 1,
            f"the table {cells.name} must have one column of the {role}, got {listed(wanted)} "
            f"among {listed(cells.header)}; name it with {role}=",
        )
        columns[role] = cells.header.index(wanted[0])
    rows = cells.frame.index[~cells.blank_rows]
    texts = cells.names(columns["text"], rows, noun="text").tolist()
    labels = cells.names(columns["label"], rows, noun="label").to_numpy(str)
    whole = cells.whole(columns["label"])
    numbers, names = numbered(
        labels if whole is None else whole, classes, str(path), first_line=cells.first_line
    )
    return LabelledItems(texts, numbers, names)


_OPPOSITES = (("positive", "negative"), (".pos", ".neg"), ("_pos", "_neg"), (".POS", ".NEG"))


def text_pair(path: str) -> dict[str, str]:
    """The files of `negative` and `positive` lines, where a file is one of a pair; else none.

    Their names, or those of `catalog:NAME`, differ in `positive` and `negative`, or in `pos` and
    `neg` behind a dot or an underscore.

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
