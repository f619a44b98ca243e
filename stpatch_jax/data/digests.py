"""Short names of data, by which a run knows them again: SHA-256 of what was read."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stpatch_jax.data.sampling.batches import Source

MOST_BYTES = 2**30
"""Of so many bytes of a split each one counts, of more a sample; see `Data.digest`."""
MOST_EXAMPLES = 4096
"""Of so many examples made by Python code each one counts, of more so many of them."""

_BLOCK = 2**20


def digest_of(tree: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a tree.

    Its leaves are arrays, JSON values, and iterators of arrays or bytes, which count as the one
    array that they make up. The order of bytes in memory and the unit of dates do not count.

    >>> digest_of({"mean": np.zeros(2)}) == digest_of({"mean": np.zeros(2, ">f8")})
    True
    >>> digest_of({"mean": np.zeros(2)}) == digest_of({"mean": np.ones(2)})
    False
    """
    checksum = hashlib.sha256()
    for part in _parts("", tree):
        checksum.update(part)
    return checksum.hexdigest()[:16]


def _parts(name: str, value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _parts(f"{name}/{key}", value[key])
    elif isinstance(value, np.ndarray | jax.Array):
        array = _plain(np.asarray(value))
        yield f"{name}:{array.dtype}{array.shape}".encode()
        yield _bytes(array)
    elif isinstance(value, Iterator):
        yield f"{name}...".encode()
        yield from (part if isinstance(part, bytes) else _bytes(_plain(part)) for part in value)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for at, entry in enumerate(value):
            yield from _parts(f"{name}[{at}]", entry)
    else:
        value = value.item() if isinstance(value, np.generic) else value
        yield f"{name}={value!r}".encode()


def _plain(array: np.ndarray) -> np.ndarray:
    """Equal arrays of equal values, however they are stored."""
    if array.dtype.kind in "mM":
        # Libraries differ in the unit that they give dates; in microseconds all years have room.
        array = array.astype(f"{array.dtype.kind}8[us]")
    elif array.dtype.kind in "OUT":
        array = np.char.encode(array.astype(str), "utf-8", "surrogatepass")
    return np.asarray(array, array.dtype.newbyteorder("="))


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def example_arrays(source: Source) -> Iterator[np.ndarray]:
    """The arrays of the examples of a source in order, of many of them of those evenly spread."""
    count = len(source)
    yield np.asarray(count)
    if not count:
        return
    size = sum(np.asarray(values).nbytes for values in source[0].values())
    most = min(count, MOST_EXAMPLES, max(1, MOST_BYTES // max(1, size)))
    for at in np.unique(np.linspace(0, count - 1, most).round().astype(np.int64)):
        example = source[int(at)]
        yield from (np.asarray(example[name]) for name in sorted(example))


def file_bytes(files: Sequence[Path]) -> Iterator[bytes]:
    """The sizes and the bytes of files in order; of large ones blocks evenly spread."""
    share = max(_BLOCK, MOST_BYTES // max(1, len(files)))
    for path in files:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            yield f"{size};".encode()
            count = -(-min(size, share) // _BLOCK)
            for at in np.linspace(0, max(0, size - _BLOCK), count).astype(np.int64):
                file.seek(int(at))
                yield file.read(_BLOCK)
