"""Reads boxes of a lazy field; chunks that were read stay in memory for a while."""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping

import numpy as np
import xarray as xr

CACHE_BYTES = 2**28


class SlabReader:
    """Boxes of a field (time, *space, channel) as NumPy arrays, reading no more than needed.

    Of a field that is stored in chunks, whole chunks are read and the last used ones are kept, so
    that windows that follow each other in time read every chunk once. Of any other field exactly
    the box is read. Safe to use from several threads.

    Args:
        field: The field, in memory or lazy (`xarray.open_zarr(path, chunks=None)`).
        chunks: Cells per chunk, by dim; by default as the field is stored.
        cache_bytes: Size of the chunks that are kept, in bytes; those of the last box always are.

    Attributes:
        bytes_read: Bytes of the chunks or boxes read so far, decompressed.
    """

    def __init__(
        self,
        field: xr.DataArray,
        *,
        chunks: Mapping[str, int] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.field = field
        self.bytes_read = 0
        self.chunks = _chunk_shape(field, chunks)
        self._cache_bytes = cache_bytes
        self._held = 0
        self._kept: OrderedDict[tuple[int, ...], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, *box: slice) -> np.ndarray:
        """Reads a box: one slice with step 1 per leading axis; axes that are left out are whole.

        Returns:
            Array [time, *space, channel] of the box; a view of a kept chunk where it lies in one,
            so it must not be written to.
        """
        whole = [slice(0, size) for size in self.field.shape[len(box) :]]
        spans = [
            part.indices(size)[:2]
            for part, size in zip([*box, *whole], self.field.shape, strict=True)
        ]
        if self.chunks is None:
            return self._load(spans)
        numbers = [
            range(start // chunk, -(-stop // chunk))
            for (start, stop), chunk in zip(spans, self.chunks, strict=True)
        ]
        with self._lock:
            parts = {at: self._chunk(at) for at in itertools.product(*numbers)}
            # What was just read stays, however large: the next box most often needs it again.
            while self._held > self._cache_bytes and len(self._kept) > len(parts):
                self._held -= self._kept.popitem(last=False)[1].nbytes
        if len(parts) == 1:
            ((at, part),) = parts.items()
            return part[self._inside(at, spans)[1]]
        result = np.empty([stop - start for start, stop in spans], self.field.dtype)
        for at, part in parts.items():
            to, source = self._inside(at, spans)
            result[to] = part[source]
        return result

    def _inside(
        self, at: tuple[int, ...], spans: list[tuple[int, int]]
    ) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where a chunk and a box meet: slices of the box, and of the chunk."""
        to, source = [], []
        for number, chunk, (start, stop) in zip(at, self.chunks or (), spans, strict=True):
            low, high = max(number * chunk, start), min((number + 1) * chunk, stop)
            to.append(slice(low - start, high - start))
            source.append(slice(low - number * chunk, high - number * chunk))
        return tuple(to), tuple(source)

    def _chunk(self, at: tuple[int, ...]) -> np.ndarray:
        if at in self._kept:
            self._kept.move_to_end(at)
            return self._kept[at]
        spans = [
            (number * chunk, min((number + 1) * chunk, size))
            for number, chunk, size in zip(at, self.chunks or (), self.field.shape, strict=True)
        ]
        values = self._load(spans)
        values.setflags(write=False)
        self._kept[at] = values
        self._held += values.nbytes
        return values

    def _load(self, spans: list[tuple[int, int]]) -> np.ndarray:
        # Of the array alone: cutting its coordinates too would cost more than a small box.
        values = self.field.variable[tuple(slice(*span) for span in spans)].values
        self.bytes_read += values.nbytes
        return values


def time_blocks(reader: SlabReader, rows: range, *, block_bytes: int) -> Iterator[slice]:
    """Cuts rows (in steps of 1) into slices of at most about `block_bytes`, along chunks if any.

    A block holds at least one row, or one chunk.
    """
    row_bytes = max(1, reader.field.nbytes // max(1, len(reader.field)))
    chunk = reader.chunks[0] if reader.chunks else 1
    length = max(1, block_bytes // row_bytes // chunk) * chunk
    start = rows.start
    while start < rows.stop:
        stop = min((start // length + 1) * length, rows.stop)
        yield slice(start, stop)
        start = stop


def cell_blocks(
    reader: SlabReader, rows: range, *, block_bytes: int
) -> Iterator[tuple[slice, ...]]:
    """Cuts space into tiles of which all rows together take at most about `block_bytes`.

    A tile is one slice per space axis, `()` where there are none; it holds at least one cell, or
    one chunk.
    """
    field = reader.field
    left = max(1, block_bytes // max(1, len(rows) * field.dtype.itemsize * field.shape[-1]))
    chunks = reader.chunks or (1,) * field.ndim
    axes: list[list[slice]] = []
    # Cells that lie side by side in the store are filled up first.
    for size, chunk in list(zip(field.shape, chunks, strict=True))[-2:0:-1]:
        cells = max(chunk, left // chunk * chunk)
        axes.insert(0, [slice(at, at + cells) for at in range(0, size, cells)])
        left = max(1, left // min(size, cells))
    yield from itertools.product(*axes)


def known_counts(
    reader: SlabReader,
    rows: range,
    *,
    enough: int = 1,
    among: np.ndarray | bool = True,
    block_bytes: int = 2**26,
) -> np.ndarray:
    """How many values of each series are finite in some rows [*space, channel], int64.

    It reads block by block and stops as soon as every series, `among` those asked for, has `enough`
    of them, so that what has few gaps costs one block.
    """
    counts = np.zeros(reader.field.shape[1:], np.int64)
    for block in time_blocks(reader, rows, block_bytes=block_bytes):
        counts += np.isfinite(reader.read(block)).sum(axis=0)
        if ((counts >= enough) | np.logical_not(among)).all():
            break
    return counts


def _chunk_shape(field: xr.DataArray, chunks: Mapping[str, int] | None) -> tuple[int, ...] | None:
    if chunks is None:
        chunks = {
            str(dim): sizes[0] for dim, sizes in (field.chunksizes or {}).items()
        } or field.encoding.get("preferred_chunks")
    if not chunks:
        return None
    return tuple(
        int(chunks.get(str(dim), size)) for dim, size in zip(field.dims, field.shape, strict=True)
    )
