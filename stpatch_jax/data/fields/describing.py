"""The figures of a field and of its patches."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data import SlabReader
from stpatch_jax.data.readers.conventions import channel_units, notes_of
from stpatch_jax.data.sampling.spacing import gap_text, gaps_report
from stpatch_jax.data.times import TimeAxis, time_text
from stpatch_jax.errors import require
from stpatch_jax.escapes import printable
from stpatch_jax.patches.folding import cover_count
from stpatch_jax.patches.windows import AxisWindows, WindowSpec

# Missing values are counted in no more bytes than these, boxes spread evenly over the field.
_COUNTED_BYTES = 2**30
_BOX_BYTES = 2**26
_MOST_GAPS = 20


def patch_summary(field: xr.DataArray, spec: WindowSpec) -> dict[str, Any]:
    """The figures of a field (time, *space, channel), lazy or in memory, and of its patches.

    Of the values, only missing ones are counted.

    Returns:
        JSON-able: `source`, `dims`, `dtype`, `units` of the channels, `coordinates` (`first`,
        `last`, `step`, which may be "uneven", `units`) of each dim but the channel, `gaps` in time
        (`after`, `before`, `missing` rows), over which patches reach, `notes`,
        `missing_share` and the `counted_share` of the values that it was counted in, `window`,
        `patch_grid`, `patches`, `values_per_patch`, `cover_count` (`min`, `max`,
        `uncovered_share`), and the bytes of field and patches in float32, `field_bytes` and
        `patch_bytes`.

    Raises:
        InputError: If the windows do not fit the field, or it cannot be read.

    >>> field = xr.DataArray(
    ...     np.zeros((8, 6, 1), np.float32), dims=("time", "company", "channel"),
    ...     coords={"time": np.arange(8), "company": list("ABCDEF"), "channel": ["close"]},
    ... )
    >>> summary = patch_summary(field, WindowSpec((4, 3), stride=(2, 3)))
    >>> summary["patch_grid"], summary["patch_bytes"], summary["cover_count"]["max"]
    ([3, 2], 288, 2)
    """
    axes = fitting_axes(field, spec)
    grid = [axis.count for axis in axes]
    values = math.prod(axis.window for axis in axes) * field.sizes["channel"]
    missing, counted = _missing_share(field)
    units = channel_units(field)
    return {
        "source": str(field.attrs.get("source", "")),
        "dims": {str(dim): size for dim, size in field.sizes.items()},
        "dtype": str(field.dtype),
        "units": {str(name): units.get(str(name), "") for name in field.channel.values},
        "coordinates": {str(dim): _span(field, dim) for dim in field.dims[:-1]},
        "gaps": gaps_report(TimeAxis.of(field.time.values))["gaps"],
        "notes": list(notes_of(field)),
        "missing_share": missing,
        "counted_share": counted,
        "window": [axis.window for axis in axes],
        "patch_grid": grid,
        "patches": math.prod(grid),
        "values_per_patch": values,
        "cover_count": _cover(spec, field.shape[:-1]),
        "field_bytes": 4 * field.size,
        "patch_bytes": 4 * math.prod(grid) * values,
    }


def describe_patches(summary: dict[str, Any]) -> str:
    """The figures of `patch_summary` as aligned lines of text."""
    named = [name + (f" ({unit})" if unit else "") for name, unit in summary["units"].items()]
    more = f" and {len(named) - 8} more" if len(named) > 8 else ""
    missing = _percent(summary["missing_share"])
    if summary["counted_share"] < 1:
        missing += f", counted in {_percent(summary['counted_share'])} of the values"
    cover, grid = summary["cover_count"], summary["patch_grid"]
    size, patches = summary["field_bytes"], summary["patch_bytes"]
    per_time = summary["patches"] // grid[0]
    lines = {
        **({"file": summary["source"]} if summary["source"] else {}),
        "dims": ", ".join(f"{dim} {n}" for dim, n in summary["dims"].items()),
        "values": f"{summary['dtype']}, {', '.join(named[:8])}{more}",
        **{dim: _told_span(span) for dim, span in summary["coordinates"].items()},
        "missing": missing,
        "window": product(summary["window"]),
        "patch grid": f"{product(grid)}, {summary['patches']:,} patches",
        "cover count": f"{cover['min']} to {cover['max']} windows a cell, "
        f"{_percent(cover['uncovered_share'])} of the cells in none",
        "tokens": f"{summary['patches']:,} of {summary['values_per_patch']:,} values, "
        f"{per_time:,} at each of {grid[0]:,} times",
        "memory": f"{patches:,} bytes as float32 ({binary(patches)}), {patches / size:.2f} times "
        f"the field",
    }
    width = max(map(len, lines)) + 3
    gaps = [f"{gap_text(gap)}, which patches reach over" for gap in summary["gaps"]]
    if len(gaps) > _MOST_GAPS:
        gaps[_MOST_GAPS:] = [f"and {len(gaps) - _MOST_GAPS} more"]
    notes = [*(("gap", text) for text in gaps), *(("note", note) for note in summary["notes"])]
    rows = (f"{name:{max(width, 16)}}{text}" for name, text in (*lines.items(), *notes))
    return "\n".join(map(printable, rows))


def fitting_axes(field: xr.DataArray, spec: WindowSpec) -> tuple[AxisWindows, ...]:
    """The windows along each axis of a field (time, *space, channel)."""
    dims = field.dims[:-1]
    many = len(dims) > spec.rank
    choose = ", or choose one position of an axis too many with select=" if many else ""
    require(
        len(dims) == spec.rank,
        f"the window must have one entry for each of {', '.join(map(str, dims))} "
        f"({product(field.shape[:-1])} cells), got {product(spec.window)}; give "
        f"{len(dims)} of them, None for a whole axis{choose}",
    )
    return spec.axes(field.shape[:-1])


def _along(spec: WindowSpec, axis: int) -> WindowSpec:
    names = ("window", "stride", "dilation", "padding", "padding_mode")
    settings: dict[str, Any] = {name: (getattr(spec, name)[axis],) for name in names}
    return WindowSpec(**settings)


def _cover(spec: WindowSpec, shape: Sequence[int]) -> dict[str, Any]:
    """Least, largest and no cover; without a footprint these are products over the axes."""
    if spec.footprint is None:
        # The counts of all cells would be as large as the field.
        counts = [cover_count(_along(spec, axis), (size,)) for axis, size in enumerate(shape)]
    else:
        counts = [cover_count(spec, shape)]
    return {
        "min": math.prod(int(count.min()) for count in counts),
        "max": math.prod(int(count.max()) for count in counts),
        "uncovered_share": 1 - math.prod(float(np.mean(count > 0)) for count in counts),
    }


def _missing_share(field: xr.DataArray) -> tuple[float, float]:
    """The share of values that are NaN, and the share of all values that it was counted in."""
    if field.dtype.kind not in "fc" or not field.size:
        return 0.0, 1.0
    reader = SlabReader(field, cache_bytes=0)
    row = max(1, field.nbytes // len(field))
    chunks = reader.chunks or (max(1, _BOX_BYTES // row), *field.shape[1:])
    counts = [-(-size // chunk) for size, chunk in zip(field.shape, chunks, strict=True)]
    total = math.prod(counts)
    box_bytes = max(1, math.prod(chunks) * field.dtype.itemsize)
    taken = min(total, max(1, _COUNTED_BYTES // box_bytes))
    missing = counted = 0
    for number in range(taken):
        at = np.unravel_index(number * total // taken, counts)
        box = [slice(int(n) * c, (int(n) + 1) * c) for n, c in zip(at, chunks, strict=True)]
        values = reader.read(*box)
        missing += int(np.count_nonzero(np.isnan(values)))
        counted += values.size
    return missing / counted, counted / field.size


def _span(field: xr.DataArray, dim: Any) -> dict[str, Any]:
    if dim not in field.coords:
        return {"first": "0", "last": str(field.sizes[dim] - 1), "step": "1", "units": "cells"}
    values = field[dim].values
    step = ""
    if dim == "time" and (axis := TimeAxis.of(values)).step is not None and not axis.uneven:
        step = str(axis.step)
    elif len(values) > 1 and values.dtype.kind in "Miuf":
        gaps = np.diff(values)
        even = gaps == gaps[0] if values.dtype.kind == "M" else np.isclose(gaps, gaps[0])
        step = told(gaps[0]) if even.all() else "uneven"
    units = str(field[dim].attrs.get("units", ""))
    return {"first": told(values[0]), "last": told(values[-1]), "step": step, "units": units}


def told(value: Any) -> str:
    """A coordinate without the digits that say nothing."""
    if isinstance(value, np.timedelta64):
        seconds = value / np.timedelta64(1, "s")
        for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
            if seconds % size == 0:
                return f"{seconds / size:g} {unit}"
        return f"{seconds:g} s"
    return time_text(value)


def _told_span(span: dict[str, str]) -> str:
    units = f" {span['units']}" if span["units"] else ""
    step = f", every {span['step']}{units}" if span["step"] else ""
    if span["step"] == "uneven":
        step = ", in uneven steps"
    return f"{span['first']} to {span['last']}{units}{step}"


def product(numbers: Sequence[int | None]) -> str:
    """Numbers of cells along each axis, for people."""
    return " x ".join(map(str, numbers))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def binary(size: float) -> str:
    """Bytes in the unit that suits them.

    >>> binary(1536)
    '1.5 KiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"
