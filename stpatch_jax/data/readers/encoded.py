"""Text as it is stored: UTF-8, or what its mark or its owner says, packed by gzip or not."""

import codecs
import io
from pathlib import Path
from typing import TextIO

from stpatch_jax.data.readers.guard import HEAD, kind_of, parsing
from stpatch_jax.data.sizes import file_content
from stpatch_jax.errors import InputError

# That of UTF-16 begins that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def open_text(
    path: str | Path,
    *,
    kind: str = "text file",
    encoding: str | None = None,
    newline: str | None = None,
) -> TextIO:
    """Opens a text file, whose every character is known to be readable.

    A mark at its beginning tells UTF-8, UTF-16 or UTF-32. Without one it is in `encoding`, UTF-8 by
    default: bytes of another one are refused, as no one can tell what they mean. What is packed by
    gzip is unpacked. `newline` is that of `open`.

    Raises:
        InputError: If the file is missing or cannot be read, holds bytes of another encoding or no
            text (the line is told), or Python knows no such encoding.
    """
    if not Path(path).is_file():
        raise InputError(f"there must be a {kind} at {path}, got none; give an existing file")
    with parsing(path, kind):
        raw = file_content(path)
    if told := kind_of(raw[:HEAD], wanted="text"):
        raise InputError(f"{path} must be text, got {told[0]}; {told[1]}")
    chosen = next((name for mark, name in _MARKS if raw.startswith(mark)), encoding or "utf-8")
    try:
        text = raw.decode(chosen)
    except UnicodeError as error:
        start, reason = getattr(error, "start", 0), getattr(error, "reason", "no mark")
        raise InputError(
            f"{path} must be text encoded as {chosen.removesuffix('-sig')}, got line "
            f"{_line(raw[:start].decode(chosen, 'ignore'))} ({reason}); give its encoding, for "
            f'example encoding="{_likely(raw)}"'
        ) from error
    except (LookupError, ValueError) as error:
        raise InputError(
            f"encoding must be one that Python knows, got {encoding!r}; give one such as utf-8, "
            "latin-1 or cp1252"
        ) from error
    if (zero := text.find("\0")) >= 0:
        raise InputError(
            f"{path} must be text, got a zero byte in line {_line(text[:zero])}; save it as UTF-8, "
            f'or give its encoding, for example encoding="{_likely(raw)}"'
        )
    return io.TextIOWrapper(io.BytesIO(raw), encoding=chosen, newline=newline)


def _likely(raw: bytes) -> str:
    """An encoding for an example: in UTF-16 the zeros of plain letters tell the order of bytes."""
    if b"\0" not in raw:
        return "latin-1"
    return "utf-16-be" if raw[::2].count(0) > raw[1::2].count(0) else "utf-16-le"


def _line(before: str) -> int:
    """The number of the line that follows on some text."""
    return before.count("\n") + 1
