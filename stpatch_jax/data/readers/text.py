"""Lines of text with labels."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stpatch_jax.data.protocols import located
from stpatch_jax.data.readers.cells import Cells
from stpatch_jax.data.readers.columns import plain_name
from stpatch_jax.data.readers.delimited import read_cells
from stpatch_jax.data.readers.encoded import open_text
from stpatch_jax.data.readers.items import LabelledItems
from stpatch_jax.data.readers.labels import numbered
from stpatch_jax.errors import InputError, listed, require, shortened, spelt
from stpatch_jax.files import has_suffix

TEXT_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
TEXT_WORDS = ("text", "review", "sentence", "comment", "content", "message", "tweet", "phrase")
LABEL_WORDS = ("label", "class", "sentiment", "target", "category", "polarity")


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
    cells = _table(path, encoding)
    columns = [_column(cells, "text", text), _column(cells, "label", label)]
    rows = cells.frame.index[~cells.blank_rows]
    texts = cells.names(columns[0], rows, noun="text").tolist()
    labels = cells.names(columns[1], rows, noun="label").to_numpy(object)
    whole = cells.whole(columns[1])
    numbers, names = numbered(
        labels if whole is None else whole, classes, str(path), first_line=cells.first_line
    )
    return LabelledItems(texts, numbers, names)


def read_texts(
    path: str | Path, *, text: str | None = None, encoding: str | None = None
) -> tuple[np.ndarray, list[str], list[str]]:
    """Reads texts without labels: one a line, or those of a column of a table.

    A table is what ends with .csv or .tsv, packed by gzip or not, a file of which `text` names the
    column of the texts, and one whose first line holds such a name between tabs or alone, see
    `read_labelled_table`. Empty texts are left out.

    Returns:
        Numbers of the lines on which the texts begin, from 1, int64, the texts, and notes.

    Raises:
        InputError: If the file cannot be read, the column is not found, or there is no text.
    """
    table, notes = text is not None or has_suffix(path, *TEXT_TABLES), []
    texts = [] if table else [line.strip() for line in read_lines(path, encoding=encoding)]
    require(
        not (texts and texts[0].startswith(('{"', "[{", "<?xml", "<!"))),
        f"{path} must hold a text a line or be a table, got marked-up data; save its texts as such",
    )
    lines = np.arange(1, len(texts) + 1)
    if texts and any(plain_name(name) in TEXT_WORDS for name in texts[0].split("\t")):
        table, notes = True, [f"The first line, {shortened(texts[0])}, was read as a header."]
    if table:
        cells = _table(path, encoding)
        texts, lines = cells.texts(_column(cells, "text", text)).tolist(), cells.lines
    filled = np.asarray([bool(text) for text in texts])
    require(bool(filled.any()), f"{path} must have texts, got empty ones alone; give another file")
    if count := int((~filled).sum()):
        notes.append(f"{count:,} empty text{'s were' if count > 1 else ' was'} left out.")
    return lines[filled], [text for text in texts if text], notes


def _table(path: str | Path, encoding: str | None) -> Cells:
    def words(head: Cells) -> range:
        return range(len(head.header))

    return read_cells(Path(path), words, kind="table of texts", encoding=encoding, fewest=1)


def _column(cells: Cells, role: str, told: str | None) -> int:
    words = {"text": TEXT_WORDS, "label": LABEL_WORDS}[role]
    found = [name for name in cells.header if plain_name(name) in words]
    asked = spelt([told] if told else [], cells.header)
    wanted = [name for name in asked if name in cells.header] if told else found
    require(
        len(wanted) == 1,
        f"the table {cells.name} must have one column of the {role}, got {listed(wanted)} "
        f"among {listed(cells.header)}; name it with {role}=",
    )
    return cells.header.index(wanted[0])


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
