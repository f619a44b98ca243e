r"""Names out of files on their way to a terminal, to Markdown and to tables.

Whoever made a file chose the names in it: of columns, classes, companies, of the file itself. In
reports for machines (`report.json`, netCDF, zarr) they stand as they are; where people read, what
would steer a terminal, a page or a spreadsheet is written out.
"""

import re
from typing import Any

# What steers a terminal, turns the order of writing, ends a line, or cannot be encoded.
_CONTROLS = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
# Wide signs are those of East Asia; a quote before one is kept apart from one that is added.
_FORMULA = re.compile("'*[-=+@\t\n\uff0b\uff0d\uff1d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
# Code, tags of HTML, links and pictures, and what would escape a sign; in a table the bar as well.
_MARKS = re.compile(r"`|<(?=[a-z/!?])|\](?=\()|\\(?=[!-/:-@[-`{-~]|$)", re.IGNORECASE)
_MARKS_OF_CELLS = re.compile(rf"{_MARKS.pattern}|\|", re.IGNORECASE)


def printable(value: Any, *, keep: str = "") -> str:
    r"""A text with its control characters as Python writes them, such as `\x1b` or `\u202e`.

    Those in `keep` stay. Nothing else is changed, whatever the script.

    >>> printable("a\x1b[31mb\n"), printable("a\nb", keep="\n"), printable("Zürich 東京")
    ('a\\x1b[31mb\\n', 'a\nb', 'Zürich 東京')
    """

    def escaped(match: re.Match[str]) -> str:
        sign = match.group()
        return sign if sign in keep else ascii(sign)[1:-1]

    return _CONTROLS.sub(escaped, str(value))


def markdown(value: Any, *, cell: bool = False) -> str:
    r"""A text as one line of Markdown that shows it; of a table's `cell` also its bars.

    >>> markdown("`a` <b> 1 < 2 [x](y)"), markdown("a|b", cell=True)
    ('\\`a\\` \\<b> 1 < 2 [x\\](y)', 'a\\|b')
    """
    marks = _MARKS_OF_CELLS if cell else _MARKS
    return marks.sub(r"\\\g<0>", printable(value))


def table_text(value: Any) -> Any:
    r"""A text as a cell of a CSV file which no spreadsheet takes for a formula; others stay.

    One that begins with `=`, `+`, `-`, `@`, a tab or a new line, behind quotes or not, and is no
    number, has one quote `'` more before it, which whoever reads it takes away.

    >>> table_text("=1+1"), table_text("-1"), table_text("'=a"), table_text("'s"), table_text(-1.5)
    ("'=1+1", '-1', "''=a", "'s", -1.5)
    """
    if not isinstance(value, str):
        return value
    text = printable(value, keep="\n\t")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
