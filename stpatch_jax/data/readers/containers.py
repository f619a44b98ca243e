"""How long the containers of video say that they are, to know one that was cut."""

import struct
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof")


def declared_bytes(path: str | Path) -> int | None:
    """Number of bytes that an MP4, AVI or Matroska file should have by its own word.

    None of other kinds, and where the file was written as a stream, which does not tell.
    """
    with Path(path).open("rb") as file:
        head = file.read(8)
        file.seek(0)
        if head[:4] == _EBML:
            return _matroska(file)
        if head[:4] == b"RIFF":
            return _chunks(file, "<4sI", name=0, added=8)
        if head[4:] in _BOXES:
            return _chunks(file, ">I4s", name=1, added=0)
    return None


def _chunks(file: BinaryIO, layout: str, *, name: int, added: int) -> int | None:
    """The end of the last chunk, each of a name and a length; `added` is not counted in it."""
    end = 0
    while len(head := file.read(8)) == 8:
        values = struct.unpack(layout, head)
        length = values[1 - name] + added
        if length == 1:
            length = struct.unpack(">Q", file.read(8).rjust(8, b"\0"))[0]
        # A length of 0 reaches to the end; what has no name is no chunk but lies behind the last.
        if length < 8 or not values[name].strip().isalnum():
            break
        end += length
        file.seek(end)
    return end


def _matroska(file: BinaryIO) -> int | None:
    file.read(4)
    length = _number(file)
    file.seek(length or 0, 1)
    if length is None or file.read(4) != _SEGMENT:
        return None
    length = _number(file)
    return None if length is None else file.tell() + length


def _number(file: BinaryIO) -> int | None:
    """A length of EBML; None where it is not known."""
    first = file.read(1)
    size = 9 - first[0].bit_length() if first and first[0] else 0
    if not size:
        return None
    bits = 7 * size
    value = int.from_bytes(first + file.read(size - 1)) & ((1 << bits) - 1)
    return None if value == (1 << bits) - 1 else value
