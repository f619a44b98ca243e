"""How long classic netCDF and GRIB files must be: libraries read past the end of a cut one."""

import math
from pathlib import Path
from typing import BinaryIO

from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.data.sizes import check_bytes
from stpatch_jax.errors import InputError

# Bytes of one value of the netCDF types 1 to 11.
_BYTES = (0, 1, 1, 2, 4, 4, 8, 1, 2, 4, 8, 8)


def check_length(path: str | Path, kind: str) -> None:
    """Refuses a netCDF file of the formats CDF-1, 2 and 5, or a GRIB file, that ends early.

    netCDF repeats what it last read, GRIB readers skip what is cut, and crash on what is damaged.
    """
    file = Path(path)
    if not file.is_file():
        return
    with parsing(file, f"{kind} file"), file.open("rb") as opened:
        needed, held = {"netcdf": _classic, "grib": _grib}[kind](opened), file.stat().st_size
    if held < needed:
        raise InputError(
            f"{file} must be a whole {kind} file of {needed:,} bytes, got its first {held:,}; copy "
            "or download it again"
        )


def _number(file: BinaryIO, size: int) -> int:
    if len(data := file.read(size)) < size:
        raise EOFError("a header that ends early")
    return int.from_bytes(data, "big")


def _grib(file: BinaryIO) -> int:
    """The end of the last message, each of which is a chain of sections; others may lie between."""
    held, end = file.seek(0, 2), 0
    while (start := _found(file, end)) is not None:
        file.seek(start + 4)
        head = _number(file, 4)
        # Lengths of edition 1 above 8 MiB are told in a way of their own; its 8 bytes are there.
        size = _number(file, 8) if head & 255 == 2 else 8 if head >> 31 else head >> 8
        end = start + max(size, 8)
        if head & 255 == 2 and end <= held:
            _check_sections(file, start + 16, end)
    return end


def _found(file: BinaryIO, at: int) -> int | None:
    """The place of the next message from a place on."""
    file.seek(at)
    before = b""
    while block := file.read(2**16):
        if (place := (before + block).find(b"GRIB")) >= 0:
            return at + place - len(before)
        at, before = at + len(block), (before + block)[-3:]
    return None


def _check_sections(file: BinaryIO, at: int, end: int) -> None:
    while at < end - 4:
        file.seek(at)
        size, section = _number(file, 4), _number(file, 1)
        if size < 5 or not 1 <= section <= 7:
            raise ValueError(f"section {section} of {size} bytes at byte {at}")
        if section == 3:  # Of a constant field nothing but their number is stored.
            file.seek(at + 6)
            check_bytes(8 * _number(file, 4), "the points of a message")
        at += size
    file.seek(at)
    if at != end - 4 or file.read(4) != b"7777":
        raise ValueError(f"a message that does not end at byte {end}")


def _classic(file: BinaryIO) -> int:
    """The end of the last value that the header tells of, 0 for other formats."""
    magic = file.read(4)
    if magic not in (b"CDF\1", b"CDF\2", b"CDF\5"):
        return 0
    count_bytes, offset_bytes = 4 + 4 * (magic[3] == 5), 8 - 4 * (magic[3] == 1)

    def count() -> int:
        return _number(file, count_bytes)

    def skip(size: int) -> None:
        file.seek(-size % 4 + size, 1)

    def attributes() -> None:
        for _ in range(listed()):
            skip(count())
            skip(_BYTES[_number(file, 4)] * count())

    def listed() -> int:
        _number(file, 4)  # The tag of the list.
        return count()

    records = count()
    if records == 256**count_bytes - 1:  # A stream, which ends where it ends.
        return 0
    lengths = []
    for _ in range(listed()):
        skip(count())
        lengths.append(count())
    attributes()
    fixed, over_records = [0], []
    for _ in range(listed()):
        skip(count())
        sizes = [lengths[count()] for _ in range(count())]
        attributes()
        one = _BYTES[_number(file, 4)]
        count()
        begin = _number(file, offset_bytes)
        if sizes[:1] == [0]:
            over_records.append((begin, one * math.prod(sizes[1:])))
        else:
            fixed.append(begin + one * math.prod(sizes))
    if not records or not over_records:
        return max(fixed)
    # The values of one record are padded, unless they are those of one variable alone.
    pad = 4 if len(over_records) > 1 else 1
    record = sum(-size % pad + size for _, size in over_records)
    return max(*fixed, *(begin + (records - 1) * record + size for begin, size in over_records))
