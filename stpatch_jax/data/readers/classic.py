"""How long a classic netCDF file must be: its library reads past the end of one that was cut."""

import math
from pathlib import Path
from typing import BinaryIO

from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.errors import InputError

# Bytes of one value of the types 1 to 11.
_BYTES = (0, 1, 1, 2, 4, 4, 8, 1, 2, 4, 8, 8)


def check_length(path: str | Path) -> None:
    """Refuses a file of the formats CDF-1, CDF-2 and CDF-5 that is shorter than its header says.

    Raises:
        InputError: It ends early.
    """
    file = Path(path)
    if not file.is_file():
        return
    with parsing(file, "netCDF file"), file.open("rb") as opened:
        needed, held = _needed(opened), file.stat().st_size
    if held < needed:
        raise InputError(
            f"{file} must be a whole netCDF file of {needed:,} bytes, got its first {held:,}; "
            "copy or download it again"
        )


def _needed(file: BinaryIO) -> int:
    """The end of the last value that the header tells of, 0 for other formats."""
    magic = file.read(4)
    if magic not in (b"CDF\1", b"CDF\2", b"CDF\5"):
        return 0
    count_bytes, offset_bytes = 4 + 4 * (magic[3] == 5), 8 - 4 * (magic[3] == 1)

    def number(size: int = count_bytes) -> int:
        if len(data := file.read(size)) < size:
            raise EOFError("a header that ends early")
        return int.from_bytes(data, "big")

    def skip(size: int) -> None:
        file.seek(-size % 4 + size, 1)

    def attributes() -> None:
        for _ in range(listed()):
            skip(number())
            kind = number(4)
            skip(_BYTES[kind] * number())

    def listed() -> int:
        number(4)  # The tag of the list.
        return number()

    records = number()
    if records == 256**count_bytes - 1:  # A stream, which ends where it ends.
        return 0
    lengths = []
    for _ in range(listed()):
        skip(number())
        lengths.append(number())
    attributes()
    fixed, over_records = [0], []
    for _ in range(listed()):
        skip(number())
        sizes = [lengths[number()] for _ in range(number())]
        attributes()
        one = _BYTES[number(4)]
        number()
        begin = number(offset_bytes)
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
