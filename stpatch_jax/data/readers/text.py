"""Lines of text with labels."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stpatch_jax.data.libraries import one_line
from stpatch_jax.data.protocols import located
from stpatch_jax.data.readers.items import LabelledItems
from stpatch_jax.errors import InputError


def read_lines(path: str | Path, *, encoding: str = "utf-8") -> list[str]:
    r"""Reads the lines of a text file, which end at "\n" only, in an encoding such as "latin-1".

    Raises:
        InputError: If the file is missing or empty, or holds bytes of another encoding.
    """
    try:
        text = Path(path).read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} must be text encoded as {encoding}, got line {line} ({error.reason}); give "
            'its encoding, for example encoding="latin-1"'
        ) from error
    except (OSError, LookupError) as error:
        raise InputError(
            f"{path} must be a readable text file with a known encoding, got {one_line(error)}; "
            "give an existing file and its encoding"
        ) from error
    # Not splitlines, which ends lines at characters such as "\x85" too.
    lines = text.removesuffix("\n").split("\n")
    if lines == [""]:
        raise InputError(f"{path} must have lines, got none; give another file")
    return lines


def read_labelled_lines(
    files: Mapping[str, str | Path], *, encoding: str = "utf-8"
) -> LabelledItems:
    """Reads one text file for each class, in the order of the labels 0, 1, ...

    Raises:
        InputError: If a file is missing, empty, or of another encoding.
    """
    lines = {name: read_lines(path, encoding=encoding) for name, path in files.items()}
    counts = [len(part) for part in lines.values()]
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return LabelledItems([line for part in lines.values() for line in part], labels, tuple(files))


_OPPOSITES = (("positive", "negative"), (".pos", ".neg"), ("_pos", "_neg"))


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
