"""What a window spec makes of a file, before anything is trained: `stpatch patches`."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import xarray as xr
from matplotlib.figure import Figure

from stpatch_jax import plotting
from stpatch_jax.canonical import PaddingName
from stpatch_jax.data import SlabReader, open_field
from stpatch_jax.data.writers import channel_units
from stpatch_jax.errors import InputError, require
from stpatch_jax.folding import cover_count
from stpatch_jax.windows import AxisWindows, WindowSpec

# Missing values are counted in no more bytes than these, boxes spread evenly over the field.
_COUNTED_BYTES = 2**30
_BOX_BYTES = 2**26
# More windows than these along an axis of a picture would run into each other.
_SHOWN = 64
_DPI = 120


@dataclass(frozen=True)
class PatchesConfig:
    """Tells what a window spec makes of a file, reading no more of it than it must.

    Attributes:
        file: A file, folder or URL that `stpatch_jax.data.open_field` opens.
        window: Samples along time and each space axis; None for the whole axis.
        stride: Cells between window starts, one for all axes or one each; by default the window.
        dilation: Cells between samples of a window, one for all axes or one each.
        padding: VALID, SAME, CAUSAL or COVER, one for all axes or one each.
        variable: The one variable to look at; all that fit by default.
        dims: Names of the axes of a .npy or .npz file that does not tell them, e.g. time z y x.
        output: Picture of the patch grid to write, e.g. patches.png.
    """

    file: tyro.conf.Positional[str]
    window: tuple[int | None, ...]
    stride: tuple[int | None, ...] | None = None
    dilation: tuple[int, ...] = (1,)
    padding: tuple[PaddingName, ...] = ("VALID",)
    variable: str | None = None
    dims: tuple[str, ...] = ()
    output: Path | None = None


def inspect_patches(config: PatchesConfig) -> str:
    """Describes the patches of a file, and draws them where an output is given.

    Raises:
        InputError: If the file cannot be read, the windows do not fit it, or the picture cannot be
            written; then nothing is.
    """
    spec = WindowSpec(
        config.window,
        stride=_one_or_each(config.stride),
        dilation=_one_or_each(config.dilation),
        padding=_one_or_each(config.padding),
    )
    options: dict[str, Any] = {"dims": config.dims} if config.dims else {}
    field = open_field(
        config.file, variables=None if config.variable is None else [config.variable], **options
    )
    lines = describe_patches(patch_summary(field, spec))
    if config.output is not None:
        _write(draw_patches(field, spec), config.output)
        lines += f"\n{'picture':16}{config.output}"
    return lines


def patch_summary(field: xr.DataArray, spec: WindowSpec) -> dict[str, Any]:
    """The figures of a field and of its patches; of the values, only missing ones are counted.

    Args:
        field: The field (time, *space, channel), lazy or in memory.
        spec: The windows.

    Returns:
        JSON-able: `source`, `dims`, `dtype`, `units` of the channels, `coordinates` (`first`,
        `last`, `step`, which may be "uneven", `units`) of each dim but the channel,
        `missing_share` and the `counted_share` of the values that it was counted in, `window`,
        `patch_grid`, `patches`, `values_per_patch`, `cover_count` (`min`, `max`,
        `uncovered_share`), and the bytes of field and patches in float32, `field_bytes` and
        `patch_bytes`.

    Raises:
        InputError: If the windows do not fit the field, or it cannot be read.

    Example:
        >>> field = xr.DataArray(
        ...     np.zeros((8, 6, 1), np.float32), dims=("time", "company", "channel"),
        ...     coords={"time": np.arange(8), "company": list("ABCDEF"), "channel": ["close"]},
        ... )
        >>> summary = patch_summary(field, WindowSpec((4, 3), stride=(2, 3)))
        >>> summary["patch_grid"], summary["patch_bytes"], summary["cover_count"]["max"]
        ([3, 2], 288, 2)
    """
    axes = _fitting_axes(field, spec)
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
        "window": _product(summary["window"]),
        "patch grid": f"{_product(grid)}, {summary['patches']:,} patches",
        "cover count": f"{cover['min']} to {cover['max']} windows a cell, "
        f"{_percent(cover['uncovered_share'])} of the cells in none",
        "tokens": f"{summary['patches']:,} of {summary['values_per_patch']:,} values, "
        f"{per_time:,} at each of {grid[0]:,} times",
        "memory": f"{patches:,} bytes as float32 ({_binary(patches)}), {patches / size:.2f} times "
        f"the field",
    }
    width = max(map(len, lines)) + 3
    return "\n".join(f"{name:{max(width, 16)}}{text}" for name, text in lines.items())


def draw_patches(field: xr.DataArray, spec: WindowSpec) -> Figure:
    """Draws the patch grid over a part of the field that shows single windows.

    Over a series without space, over time and space of a panel, over a frame of a map or video, and
    over a plane of a volume, in the middle of the axes that the picture has not. Only what is drawn
    is read.

    Args:
        field: The field (time, *space, channel), lazy or in memory.
        spec: The windows.

    Raises:
        InputError: If the windows do not fit the field, or it cannot be read.
    """
    axes = _fitting_axes(field, spec)
    # Time runs from left to right where it is drawn.
    drawn = {1: (0,), 2: (1, 0)}.get(len(axes), (len(axes) - 2, len(axes) - 1))
    shown = [_first_windows(axes[axis]) for axis in drawn]
    where: dict[Any, Any] = {}
    for axis, dim in enumerate(field.dims[:-1]):
        where[dim] = slice(shown[drawn.index(axis)].size) if axis in drawn else _middle(axes[axis])
    part = field.isel(where)
    picture = field.dtype == np.uint8 and field.sizes["channel"] == 3 and len(axes) > 2
    part = part if picture else part.isel(channel=0)
    values = part.transpose(*(field.dims[axis] for axis in drawn), ...).values
    unit = channel_units(field).get(str(field.channel.values[0]), "")
    if len(axes) == 2:
        values, unit = _standardised(values), "standard deviations from the row's mean"
    figure = plotting.new_figure(1, 1, size=_size(values, shown))
    plotting.patch_grid(
        values,
        shown,
        ax=figure.axes[0],
        labels=[f"{field.dims[axis]} ({'time steps' if axis == 0 else 'cells'})" for axis in drawn],
        unit="" if picture else unit,
        title=_title(field, axes, drawn, picture=picture),
    )
    return figure


def _one_or_each(values: Sequence[Any] | None) -> Any:
    return values[0] if values is not None and len(values) == 1 else values


def _fitting_axes(field: xr.DataArray, spec: WindowSpec) -> tuple[AxisWindows, ...]:
    dims = field.dims[:-1]
    require(
        len(dims) == spec.rank,
        f"the window must have one entry for each of {', '.join(map(str, dims))} "
        f"({_product(field.shape[:-1])} cells), got {_product(spec.window)}; give "
        f"{len(dims)} of them, None for a whole axis",
    )
    return spec.axes(field.shape[:-1])


def _cover(spec: WindowSpec, shape: Sequence[int]) -> dict[str, Any]:
    """Least, largest and no cover; without a footprint these are products over the axes."""
    counts = [
        cover_count(
            WindowSpec(
                (spec.window[axis],),
                stride=(spec.stride[axis],),
                dilation=(spec.dilation[axis],),
                padding=(spec.padding[axis],),
                padding_mode=(spec.padding_mode[axis],),
            ),
            (size,),
        )
        for axis, size in enumerate(shape)
    ]
    if spec.footprint is not None:
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
    """First and last coordinate of a dim, and their step where they have one."""
    if dim not in field.coords:
        return {"first": "0", "last": str(field.sizes[dim] - 1), "step": "1", "units": "cells"}
    values = field[dim].values
    step = ""
    if len(values) > 1 and values.dtype.kind in "Miuf":
        gaps = np.diff(values)
        even = gaps == gaps[0] if values.dtype.kind == "M" else np.isclose(gaps, gaps[0])
        step = _told(gaps[0]) if even.all() else "uneven"
    units = str(field[dim].attrs.get("units", ""))
    return {"first": _told(values[0]), "last": _told(values[-1]), "step": step, "units": units}


def _told(value: Any) -> str:
    """A coordinate without the digits that say nothing."""
    if isinstance(value, np.datetime64):
        text = np.datetime_as_string(value, unit="s")
        return text.removesuffix(":00").removesuffix("T00:00")
    if isinstance(value, np.timedelta64):
        seconds = value / np.timedelta64(1, "s")
        for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
            if seconds % size == 0:
                return f"{seconds / size:g} {unit}"
        return f"{seconds:g} s"
    return f"{value:.6g}" if isinstance(value, np.floating) else str(value)


def _told_span(span: dict[str, str]) -> str:
    units = f" {span['units']}" if span["units"] else ""
    step = f", every {span['step']}{units}" if span["step"] else ""
    if span["step"] == "uneven":
        step = ", in uneven steps"
    return f"{span['first']} to {span['last']}{units}{step}"


def _product(numbers: Sequence[int | None]) -> str:
    return " x ".join(map(str, numbers))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _binary(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


def _first_windows(axis: AxisWindows) -> AxisWindows:
    """The axis as if it ended behind the last window that is shown."""
    if axis.count <= _SHOWN:
        return axis
    end = axis.starts[_SHOWN - 1] + axis.effective
    size = min(max(end, 1), axis.size)
    return dataclasses.replace(axis, size=size, hi=max(end - size, 0))


def _middle(axis: AxisWindows) -> int:
    """The middle sample of the middle window, where it lies inside the field."""
    cell = axis.starts[axis.count // 2] + axis.window // 2 * axis.dilation
    return min(max(cell, 0), axis.size - 1)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Each row minus its mean, over its standard deviation; NaN stays NaN."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    mean = np.where(known, values, 0.0).sum(axis=1, keepdims=True) / count
    deviation = np.where(known, values - mean, 0.0)
    std = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / count)
    return np.where(known, deviation / np.where(std > 0, std, 1.0), np.nan)


def _size(values: np.ndarray, shown: Sequence[AxisWindows]) -> tuple[float, float]:
    """Inches of a picture; one of rows and columns keeps the shape of its cells."""
    if len(shown) == 1:
        return 9.0, 4.0
    rows, columns = values.shape[:2]
    return 8.0, min(max(7.0 * rows / columns, 3.5), 9.0) + 0.9


def _title(
    field: xr.DataArray, axes: Sequence[AxisWindows], drawn: Sequence[int], *, picture: bool
) -> str:
    """What is drawn, where the rest of the field lies, and how much of the grid is left out."""
    planes = [
        f"{dim} {_place(field, dim, _middle(axis))}"
        for number, (dim, axis) in enumerate(zip(field.dims, axes, strict=False))
        if number not in drawn
    ]
    name = "" if picture else str(field.channel.values[0])
    parts = [f"patch grid {_product([axis.count for axis in axes])}"]
    parts += [
        f"first {_SHOWN} of {axes[number].count} windows along {field.dims[number]}"
        for number in drawn
        if axes[number].count > _SHOWN
    ]
    return ", ".join(filter(None, [name, *planes])) + "\n" + ", ".join(parts)


def _place(field: xr.DataArray, dim: Any, at: int) -> str:
    """A position along a dim by its coordinate."""
    if dim not in field.coords:
        return str(at)
    return f"{_told(field[dim].values[at])} {field[dim].attrs.get('units', '')}".strip()


def _write(figure: Figure, path: Path) -> None:
    """Writes a picture under a temporary name and renames it."""
    kinds = figure.canvas.get_supported_filetypes()
    require(
        path.suffix[1:].lower() in kinds,
        f"the picture must be a file of one of the types {', '.join(sorted(kinds))}, got "
        f"{path.name}; name it patches.png",
    )
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        figure.savefig(part, dpi=_DPI)
        part.replace(path)
    except OSError as error:
        raise InputError(
            f"the picture {path} must be writable, but writing gave: {error.strerror or error}; "
            "give a path in an existing folder with room"
        ) from error
    finally:
        if part.exists():
            part.unlink()
