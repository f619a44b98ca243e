"""Tables of reports, as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    r"""The lines of a table; the first column is text, the others are numbers.

    Floats have four digits, None is "-"; a bar in a text is escaped.

    >>> markdown_table(["", "error"], [("model", 0.123456), ("a|b", None)])
    ['| | error |', '|---|---:|', '| model | 0.1235 |', '| a\\|b | - |']
    """
    body = [" | ".join(_cell(value) for value in row) for row in rows]
    return [
        f"| {' | '.join(map(_cell, heads))} |".replace("|  |", "| |", 1),
        "|---|" + "---:|" * (len(heads) - 1),
        *(f"| {line} |" for line in body),
    ]


def metric_table(head: str, metrics: Mapping[str, str], rows: Mapping[str, Any]) -> list[str]:
    """A table of some metrics, under their headings, of each row by its name; then a blank line."""
    cells = ([name, *(of[metric] for metric in metrics)] for name, of in rows.items())
    return [*markdown_table([head, *metrics.values()], cells), ""]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", r"\|")
