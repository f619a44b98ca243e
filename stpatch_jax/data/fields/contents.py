"""What a field holds: told in a report, and what the digest of a part of it is of."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.digests import MOST_BYTES
from stpatch_jax.data.fields.slabs import SlabReader, time_blocks
from stpatch_jax.data.readers.conventions import notes_of
from stpatch_jax.data.sampling.spacing import gaps_report
from stpatch_jax.data.times import TimeAxis

_BLOCK = 2**20
_SAMPLED, _LEAST, _MOST = 2**28, 8, 256
"""Bytes of a sample, and least and largest number of its blocks."""


def field_report(source: Any, field: xr.DataArray) -> dict[str, Any]:
    """What was read of a field, for the report of its data."""
    dims = {str(name): size for name, size in field.sizes.items()}
    notes = list(notes_of(field))
    report = {"source": str(source), "rows": len(field), "dims": dims, "notes": notes, "splits": {}}
    return report | gaps_report(TimeAxis.of(field.time.values))


def field_content(field: xr.DataArray, rows: slice) -> dict[str, Any]:
    """The values, times, coordinates, units and names of some rows of a field, see `Data.digest`.

    All values count, of more than 1 GiB those of some hundred chunks, or blocks of rows, whose
    places the shape decides.
    """
    rows = slice(*rows.indices(len(field))[:2])
    coords = {
        str(name): coord.values for name, coord in field.coords.items() if "time" not in coord.dims
    }
    units = {str(name): str(coord.attrs.get("units", "")) for name, coord in field.coords.items()}
    return {
        "times": field.time.values[rows],
        "dims": [str(dim) for dim in field.dims],
        "coords": coords,
        "units": {name: unit for name, unit in units.items() if name in coords},
        "values": _blocks(SlabReader(field, cache_bytes=0), range(rows.start, rows.stop)),
    }


def _blocks(reader: SlabReader, rows: range) -> Iterator[np.ndarray]:
    """The rows block by block, or a sample of them."""
    field = reader.field
    row_bytes = max(1, field.nbytes // max(1, len(field)))
    yield np.asarray([len(rows), *field.shape[1:]])
    if len(rows) * row_bytes <= MOST_BYTES:
        # In one piece, however small the chunks are that it ends between.
        yield from (field[at].values for at in time_blocks(reader, rows, block_bytes=2**26))
        return
    size = reader.chunks or (max(1, _BLOCK // row_bytes), *field.shape[1:])
    stops = (rows.stop, *field.shape[1:])
    grids = [range(rows.start, rows.stop, size[0])]
    grids += [range(0, stop, by) for stop, by in zip(stops[1:], size[1:], strict=True)]
    nbytes = math.prod(size) * field.dtype.itemsize
    count = min(max(_SAMPLED // nbytes, _LEAST), _MOST)
    # Multiples of powers of one irrational number fill a box evenly, however its sides divide.
    steps = 0.5 ** (np.arange(1, len(grids) + 1) / (len(grids) + 1)) % 1
    for shares in np.arange(count)[:, None] * steps % 1:
        at = [grid[int(share * len(grid))] for share, grid in zip(shares, grids, strict=True)]
        yield reader.read(
            *(slice(i, min(i + by, n)) for i, by, n in zip(at, size, stops, strict=True))
        )
