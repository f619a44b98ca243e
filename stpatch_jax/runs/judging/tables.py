"""Reports, their tables and their pictures, as Markdown."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from stpatch_jax.escapes import markdown


class _Whole(str):
    """A line of a table or a picture, in which names are escaped already."""

    __slots__ = ()


def document(lines: Iterable[str]) -> str:
    r"""A text of lines, in which names out of files are no Markdown, nor lines of their own.

    Tables of `markdown_table` and `pictures` stay as they are.

    >>> print(document(["# run", *markdown_table(["", "error"], [("a|b", 1)]), "- <b>\n# x"]))
    # run
    | | error |
    |---|---:|
    | a\|b | 1 |
    - \<b>\n# x
    """
    return "\n".join(line if isinstance(line, _Whole) else markdown(line) for line in lines)


def markdown_table(
    heads: Sequence[str], rows: Iterable[Sequence[Any]], *, texts: int = 1
) -> list[str]:
    r"""The lines of a table; the first `texts` columns are text, the others are numbers.

    Floats have four digits, None is "-"; signs of Markdown in a text are escaped.

    >>> markdown_table(["", "error"], [("model", 0.123456), ("a|b", None)])
    ['| | error |', '|---|---:|', '| model | 0.1235 |', '| a\\|b | - |']
    """
    body = [" | ".join(cell(value) for value in row) for row in rows]
    lines = [
        f"| {' | '.join(map(cell, heads))} |".replace("|  |", "| |", 1),
        f"|{'---|' * texts}{'---:|' * (len(heads) - texts)}",
        *(f"| {line} |" for line in body),
    ]
    return list(map(_Whole, lines))


def metric_table(head: str, metrics: Mapping[str, str], rows: Mapping[str, Any]) -> list[str]:
    """A table of some metrics, under their headings, of each row by its name; then a blank line."""
    cells = ([name, *(of[metric] for metric in metrics)] for name, of in rows.items())
    return [*markdown_table([head, *metrics.values()], cells), ""]


def pictures(shown: Mapping[str, str]) -> list[str]:
    r"""The lines of pictures: the file of each, and what it shows.

    >>> pictures({"plots/a b.png": "the error"})
    ['![the error](plots/a%20b.png)', '']
    """
    lines = (f"![{markdown(words)}]({quote(file)})" for file, words in shown.items())
    return [part for line in lines for part in (_Whole(line), "")]


def cell(value: Any, *, form: str = ".4g") -> str:
    """A value in a table: a float in a format, "-" where it is none, any other one as text."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return f"{value:{form}}" if isinstance(value, float) else markdown(value, cell=True)
