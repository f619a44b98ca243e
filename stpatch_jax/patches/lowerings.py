"""The ways to copy windows out of a padded array, every one of them bit-exact.

A lowering takes `(*batch, *padded, channel)` and the resolved axes, and returns
`(*batch, *grid, *window, channel)`. Which one is fastest depends on platform and shape;
`benchmarks/extract_patches.py` measures them, `benchmarks/compiled.py` reads what the compilers of
chips make of them, and `choose` holds what they found.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stpatch_jax.errors import InputError, check_choice
from stpatch_jax.patches.bits import accumulator, copy_by_kernel
from stpatch_jax.patches.windows import AxisWindows

Lowering = Literal["auto", "conv", "reshape", "blocks", "gather"]
Axes = tuple[AxisWindows, ...]

# Above this many slices per axis, windows are built from half windows instead: XLA's compile time
# grows with the number of operations (hundreds of slices take seconds, their gradient minutes).
_MAX_SLICES = 16
# Entries of the largest table that becomes a constant of a compiled program (1 MiB).
_MAX_CONSTANT = 1 << 18
# Numbers that a TPU holds side by side; for its kernels, most copies of rows, which its compiler
# takes 1 to 3 ms each for, and bytes of what lies beside the cores at a time.
_LANES, _MOST_COPIES, _ROOM = 128, 2304, 3 << 24


def choose(
    lowering: Lowering, axes: Axes, dtype: jnp.dtype, *, flat: bool
) -> Callable[[jax.Array], jax.Array]:
    """Returns the function of a lowering by name; `auto` picks by shape and platform.

    The platform is the one compiled for, whatever the process runs on.

    Args:
        lowering: The name.
        axes: The windows.
        dtype: Of the numbers, which may come as integers of their bits.
        flat: Whether nobody reads the axes of a window apart.
    """
    check_choice("lowering", lowering, get_args(Lowering))
    tiled = _is_tiled(axes)
    if lowering == "reshape" and not tiled:
        raise InputError(
            'lowering="reshape" must have stride = window and dilation 1 along every axis, got '
            f"{[(a.window, a.stride, a.dilation) for a in axes]} as (window, stride, dilation); "
            'use lowering="auto"'
        )
    if lowering == "auto":
        return functools.partial(_by_platform, axes=axes, dtype=dtype, flat=flat)
    cut = {"conv": by_conv, "gather": by_gather}.get(lowering, by_blocks)
    return functools.partial(cut, axes=axes)


def _is_tiled(axes: Axes) -> bool:
    return all(axis.stride == axis.window and axis.dilation == 1 for axis in axes)


def _by_platform(x: jax.Array, axes: Axes, dtype: jnp.dtype, *, flat: bool) -> jax.Array:
    """One gather, which on CPU is the fastest and on GPU one kernel without temporaries.

    Of windows side by side it is a reshape. A TPU's compiler takes up to half a minute for a
    gather, and 2 s for blocks. A kernel there moves a third to a twentieth of what blocks move as
    tokens, of the shapes that it takes.
    """
    blocks, gather = (functools.partial(cut, axes=axes) for cut in (by_blocks, by_gather))

    def copy(x: jax.Array) -> jax.Array:
        return lax.platform_dependent(x, tpu=blocks, default=gather)

    tiled = _is_tiled(axes)
    if not _fits_tpu(x, axes, flat=flat):
        return blocks(x) if tiled else copy(x)
    # As bits until here; a TPU copies to rename bfloat16, unless it is renamed back at once.
    own = dtype if dtype == jnp.bfloat16 else x.dtype
    kernel = functools.partial(_on_tpu, axes=axes, dtype=own)
    back = functools.partial(_fold_on_tpu, axes=axes, cells=x.shape[-1 - len(axes) :], dtype=own)
    kernels = kernel, back if x.dtype.itemsize == 4 else None
    return copy_by_kernel(kernels, blocks if tiled else copy, blocks, x)


def linear_copy(x: jax.Array, axes: Axes, dtype: jnp.dtype, *, flat: bool) -> jax.Array:
    """Windows by blocks, as `dtype`, whose transpose adds them up in the accumulator of `x`.

    On a TPU a kernel adds them up, of the shapes that it takes.
    """

    def blocks(x: jax.Array) -> jax.Array:
        return by_blocks(x.astype(accumulator(x.dtype)), axes).astype(dtype)

    if not (_fits_tpu(x, axes, flat=flat) and _is_moved(dtype)):
        return blocks(x)

    def kernel(x: jax.Array) -> jax.Array:
        return _on_tpu(x, axes, x.dtype).astype(dtype)

    cells = x.shape[-1 - len(axes) :]
    back = functools.partial(_fold_on_tpu, axes=axes, cells=cells, dtype=x.dtype)
    return copy_by_kernel((kernel, back), blocks, blocks, x)


def _along_three(cells: tuple[int, ...], axes: Axes) -> tuple[Any, Any]:
    """The same as (time, height, width, channel), axes in front that share no window left out.

    An axis alone is the height, whose cells are rows of channels. Four axes stay four.
    """
    spaced = [axis.window > 1 or axis.stride > 1 for axis in axes]
    first = spaced.index(True) if any(spaced) else len(axes) - 1
    kept, cells = axes[first:], cells[first:]
    one = AxisWindows(size=1, window=1, stride=1, dilation=1, lo=0, hi=0, mode="constant")
    if len(kept) == 1:
        return (1, cells[0], 1, cells[1]), (one, *kept, one)
    missing = 3 - len(kept)
    return (*(1,) * missing, *cells), (one,) * missing + kept


def _fits_tpu(x: jax.Array, axes: Axes, *, flat: bool) -> bool:
    """Whether the kernels take the shape and move less than blocks."""
    known = all(isinstance(extent, int) for extent in x.shape) and x.size > 0
    even = all(axis.dilation == 1 and not axis.back for axis in axes)
    explicit = jax.typeof(x).sharding.mesh.explicit_axes
    if not known or not even or explicit or not _is_moved(x.dtype):
        return False
    # With axes of their own, windows side by side move less by blocks.
    if _is_tiled(axes) and not flat:
        return False
    shape, three = _along_three(x.shape[-1 - len(axes) :], axes)
    if len(three) > 3:
        return False
    (_, rows, cells, channels), (time, height, width) = shape, three
    # By blocks channels that fill the lanes are as good, and windows that leave most empty.
    values = math.prod(axis.window for axis in three) * channels
    if channels >= _LANES or values < _LANES // 2:
        return False
    lanes, parts = (-(-cells * channels // _LANES) * part for part in (_LANES, 1))
    # The rows of the windows of a time, of planes of the field and of rows made of them.
    written = (values + _LANES) * width.count * (height.count + 7)
    plane = (channels, rows + 7, cells + _LANES)
    plane = (channels + 7, rows + _LANES) if cells == 1 else plane
    read = time.stride * math.prod(plane)
    held = (time.window + time.stride + 1) * (rows + _LANES) * lanes
    small = 2 * (written + read) * x.dtype.itemsize + 4 * held <= _ROOM
    copies = time.window * height.window * (width.count + parts) + 4 * time.window * channels
    return small and copies <= _MOST_COPIES


def _is_moved(dtype: jnp.dtype) -> bool:
    """Whether the kernels take numbers of a dtype."""
    whole = jnp.issubdtype(dtype, jnp.integer) and dtype.itemsize in (2, 4)
    return whole or dtype in (jnp.float32, jnp.bfloat16)


def _on_tpu(x: jax.Array, axes: Axes, dtype: jnp.dtype) -> jax.Array:
    """By the kernel that cuts, the numbers taken for `dtype` of as many bits."""
    # Pallas takes long to import and most processes never need it.
    from stpatch_jax.patches.tpu_windows import windows_on_tpu

    at = x.ndim - 1 - len(axes)
    cells, three = _along_three(x.shape[at:], axes)
    y = windows_on_tpu(_as(x, dtype).reshape(-1, *cells), three, False)
    grid, window = ([getattr(axis, name) for axis in axes] for name in ("count", "window"))
    return _as(y.reshape(*x.shape[:at], *grid, *window, x.shape[-1]), x.dtype)


def _fold_on_tpu(y: jax.Array, axes: Axes, cells: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """By the kernel that adds up, into fields (time, *space, channel) of `dtype`."""
    from stpatch_jax.patches.tpu_windows import fold_on_tpu

    batch = y.shape[: y.ndim - 1 - 2 * len(axes)]
    shape, three = _along_three(cells, axes)
    values = math.prod(axis.window for axis in axes) * cells[-1]
    y = y.reshape(-1, *(axis.count for axis in three), values)
    return fold_on_tpu(y, three, shape, dtype, False).reshape(*batch, *cells)


def _as(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return x if x.dtype == dtype else lax.bitcast_convert_type(x, dtype)


def by_gather(x: jax.Array, axes: Axes) -> jax.Array:
    """One gather of contiguous runs: the window's last axis together with the channels.

    XLA reads the start of a run once and copies the run in a vectorised loop.
    """
    batch = x.ndim - len(axes) - 1
    channels, padded = x.shape[-1], x.shape[batch:]
    # A channel axis of any length (`jax.export`), or split over devices, joins no run.
    known = all(isinstance(extent, int) for extent in x.shape) and not _is_split(x)
    # Beyond, starts would pass int32.
    if not known or x.size == 0 or math.prod(padded) > np.iinfo(np.int32).max:
        return by_blocks(x, axes)
    # With dilation the samples of the last axis do not touch, and a run is one sample.
    merged = axes[-1].dilation == 1
    starts = _run_starts(padded, axes, merged)
    # Field and channels become one row of numbers, of which a run is a piece. One axis at a time,
    # as in `by_blocks`.
    for _ in axes:
        x = x.reshape(*x.shape[:-2], -1)
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(*range(batch), batch + starts.ndim),
        collapsed_slice_dims=(),
        start_index_map=(batch,),
    )
    # The whole batch is part of every slice: no axis of it is indexed, so none is gathered.
    run = axes[-1].window * channels if merged else channels
    # Every start is inside; "clip" only spares the select that the default mode would add.
    x = lax.gather(x, starts[..., None], numbers, (*x.shape[:-1], run), mode="clip")
    return x.reshape(*x.shape[:-1], axes[-1].window, channels) if merged else x


def _run_starts(padded: tuple[int, ...], axes: Axes, merged: bool) -> jax.Array | np.ndarray:
    """Where runs start in a flat `(*padded, channel)`, `(*grid, *window less a merged axis)`."""
    # A start is a sum over the axes: the window's number in the grid and the sample's in the
    # window, each times how far apart two of them lie in the row. `padded` ends with the channels.
    pitched = [(axis, math.prod(padded[at + 1 :])) for at, axis in enumerate(axes)]
    steps = [axis.first(np.arange(axis.count)) * pitch for axis, pitch in pitched]
    samples = [np.arange(axis.window) * axis.dilation * pitch for axis, pitch in pitched]
    steps += samples[:-1] if merged else samples
    # Small tables are constants of the program; large ones it computes, to stay small itself.
    numbers = np if math.prod(map(len, steps)) <= _MAX_CONSTANT else jnp
    starts = numbers.zeros((1,) * len(steps), np.int32)
    for place, step in enumerate(steps):
        form = [1] * len(steps)
        form[place] = len(step)
        starts = starts + step.astype(np.int32).reshape(form)
    return starts


def by_blocks(x: jax.Array, axes: Axes) -> jax.Array:
    """Blocks of one stride per axis, widened to windows by concatenation, then one transpose.

    The last axis is merged with the channels throughout, so that every copy moves runs as long as
    they can be. It is linear and made of pads, slices, reshapes, concatenations and a transpose
    only, so its transpose is a sum of shifted pads in a fixed order: no scatter, no convolution.
    """
    rank = len(axes)
    batch = x.ndim - rank - 1
    channels = x.shape[-1]
    # With dilation the samples of the last axis are strided and cannot merge with the channels.
    merged = axes[-1].dilation == 1 and channels > 0 and not _is_split(x)
    # Whole blocks; what lies behind the last window is cut off or made up, and never read.
    sizes = [axis.size if axis.back else _cells_needed(axis) for axis in axes]
    x = _resize(x, sizes, batch)
    for position in reversed(range(rank)):
        last = position == rank - 1
        x = _unfold(x, axes[position], batch + position, merged=merged and last)
    grid = [batch + 2 * position for position in range(rank)]
    rest = range(batch + 2 * rank, x.ndim)
    x = x.transpose(*range(batch), *grid, *(axis + 1 for axis in grid), *rest)
    return x.reshape(*x.shape[:-1], axes[-1].window, channels) if merged else x


def _unfold(x: jax.Array, axis: AxisWindows, at: int, *, merged: bool) -> jax.Array:
    """Puts windows `(grid, window)` in place of an axis, where asked merged with the channels."""
    if axis.back:
        parts = [
            _unfold(_resize(part, [_cells_needed(own)], at), own, at, merged=merged)
            for part, own in _flush_parts(x, axis, at)
        ]
        return lax.concatenate(parts, at)
    # One axis at a time: arrays on a mesh of explicit axes allow no other reshape.
    x = x.reshape(*x.shape[:at], _blocks_needed(axis), axis.stride, *x.shape[at + 1 :])
    if not merged:
        return _widen(x, axis, at, at + 1, 1)
    unit = x.shape[-1]
    x = x.reshape(*x.shape[:-2], axis.stride * unit)
    return _widen(x, axis, at, at + 1, unit)


def _flush_parts(x: jax.Array, axis: AxisWindows, at: int) -> list[tuple[jax.Array, AxisWindows]]:
    """The windows that lie one stride apart, and the last one: cells and axis of each part."""
    start, cells = axis.first(axis.count - 1), axis.effective
    last = lax.slice_in_dim(x, start, start + cells, axis=at)
    one = dataclasses.replace(axis, size=cells, stride=cells, back=0)
    return [(x, dataclasses.replace(axis, back=0)), (last, one)]


def by_conv(x: jax.Array, axes: Axes) -> jax.Array:
    """`lax.conv_general_dilated_patches` on the bytes of `x`, the operator's specification.

    The lax operator is a convolution with an identity kernel, hence arithmetic: on the values
    themselves it spreads NaN, loses the sign of zero, flushes subnormals, and rounds at an
    accelerator's default precision. Bytes are whole numbers up to 255, exact even in bfloat16, so
    extracting byte planes and putting them together again is a copy.
    """
    if x.size == 0:  # the lax operator refuses a convolution of no features
        return by_gather(x, axes)
    if _is_split(x) or not all(isinstance(extent, int) for extent in x.shape):
        raise InputError(
            'lowering="conv" must have an input of known shape with its channels on one device, '
            f'got {jax.typeof(x)}; use lowering="auto"'
        )
    rank = len(axes)
    batch_shape = x.shape[: x.ndim - rank - 1]
    channels = x.shape[-1]
    for position, axis in enumerate(axes):
        if axis.back:
            at, before, behind = len(batch_shape) + position, axes[:position], axes[position + 1 :]
            parts = _flush_parts(x, axis, at)
            return lax.concatenate([by_conv(x, (*before, a, *behind)) for x, a in parts], at)
    planes = _to_bytes(x)
    bytes_each = planes.shape[-1]
    features = channels * bytes_each
    planes = planes.reshape(math.prod(batch_shape), *x.shape[len(batch_shape) : -1], features)
    spatial, window = "THWD"[:rank], [axis.window for axis in axes]
    patches = lax.conv_general_dilated_patches(
        planes.astype(jnp.float32),
        filter_shape=window,
        window_strides=[axis.stride for axis in axes],
        padding="VALID",
        rhs_dilation=[axis.dilation for axis in axes],
        dimension_numbers=(f"N{spatial}C", f"OI{spatial}", f"N{spatial}C"),
    )
    # The operator's features are channel-major: (channel, byte, *window).
    patches = patches.reshape(*patches.shape[:-1], channels, bytes_each, *window)
    patches = jnp.moveaxis(patches, (1 + rank, 2 + rank), (-2, -1)).astype(jnp.uint8)
    grid = [axis.count for axis in axes]
    return _from_bytes(patches, x.dtype).reshape(*batch_shape, *grid, *window, channels)


def _is_split(x: jax.Array) -> bool:
    """Whether the channels lie split on a mesh of explicit axes."""
    spec = jax.typeof(x).sharding.spec
    return len(spec) == x.ndim and spec[-1] is not None


def _resize(x: jax.Array, sizes: Sequence[int], first: int) -> jax.Array:
    """Crops or zero-pads the tails of consecutive axes; what is added is never read."""
    config = [(0, 0, 0)] * x.ndim
    for position, size in enumerate(sizes):
        config[first + position] = (0, size - x.shape[first + position], 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config) if any(hi for _, hi, _ in config) else x


def _slices(window: int, axis: AxisWindows) -> list[tuple[int, int, int]]:
    """The runs of window samples that lie in one block: `(block, first cell, one past last)`."""
    runs: dict[int, list[int]] = {}
    for sample in range(window):
        block, cell = divmod(sample * axis.dilation, axis.stride)
        runs.setdefault(block, []).append(cell)
    return [(block, run[0], run[-1] + 1) for block, run in runs.items()]


def _half(window: int, axis: AxisWindows) -> int:
    """Samples of the half window that a window is built from, or all of them to slice directly."""
    # Only at multiples of this many samples is one half whole blocks behind the other.
    aligned = axis.stride // math.gcd(axis.stride, axis.dilation)
    half = -(-window // (2 * aligned)) * aligned
    direct = window * min(axis.dilation, axis.stride) <= _MAX_SLICES * axis.stride
    return window if direct or half >= window else half


def _blocks_needed(axis: AxisWindows) -> int:
    """Blocks of one stride that `_widen` reads along an axis, with those past the last window."""

    def last_sample(window: int) -> int:
        half = _half(window, axis)
        return window - 1 if half == window else half + last_sample(half)

    return axis.count + last_sample(axis.window) * axis.dilation // axis.stride


def _cells_needed(axis: AxisWindows) -> int:
    """Cells of the blocks that `_widen` reads along an axis."""
    return _blocks_needed(axis) * axis.stride


def _widen(x: jax.Array, axis: AxisWindows, grid: int, cells: int, unit: int) -> jax.Array:
    """Turns blocks at array axes `(grid, cells)` into windows; each cell is `unit` numbers."""

    def windows(window: int, count: int) -> jax.Array:
        half = _half(window, axis)
        if half == window:
            parts = []
            for block, first, stop in _slices(window, axis):
                step = axis.dilation if stop - first > 1 else 1
                part = lax.slice_in_dim(x, block, block + count, axis=grid)
                parts.append(lax.slice_in_dim(part, first * unit, stop * unit, step, cells))
        else:
            # The second half is the first one, whole blocks later, cut where the window ends.
            shift = half * axis.dilation // axis.stride
            halves = windows(half, count + shift)
            first = lax.slice_in_dim(halves, 0, count, axis=grid)
            later = lax.slice_in_dim(halves, shift, shift + count, axis=grid)
            parts = [first, lax.slice_in_dim(later, 0, (window - half) * unit, axis=cells)]
        return parts[0] if len(parts) == 1 else lax.concatenate(parts, cells)

    return windows(axis.window, axis.count)


def _to_bytes(x: jax.Array) -> jax.Array:
    """The bytes of every number, `(*x.shape, bytes)` uint8."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):  # which XLA does not bitcast
        return jnp.concatenate([_to_bytes(x.real), _to_bytes(x.imag)], axis=-1)
    if (whole := _whole_bytes(x.dtype)) is not None:
        x = x if jnp.issubdtype(x.dtype, jnp.integer) else lax.bitcast_convert_type(x, whole)
        return x.astype(jnp.uint8)[..., None]
    if x.dtype == jnp.bool_ or x.dtype.itemsize == 1:
        x = x.astype(jnp.uint8) if x.dtype == jnp.bool_ else lax.bitcast_convert_type(x, jnp.uint8)
        return x[..., None]
    return lax.bitcast_convert_type(x, jnp.uint8)


def _from_bytes(planes: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """The inverse of `_to_bytes`."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        part = jnp.finfo(dtype).dtype
        real, imag = jnp.split(planes, 2, axis=-1)
        return lax.complex(_from_bytes(real, part), _from_bytes(imag, part))
    if dtype == jnp.bool_:
        return planes[..., 0].astype(jnp.bool_)
    if (whole := _whole_bytes(dtype)) is not None:
        x = planes[..., 0].astype(whole)
        return x.astype(dtype) if whole == dtype else lax.bitcast_convert_type(x, dtype)
    return lax.bitcast_convert_type(planes[..., 0] if dtype.itemsize == 1 else planes, dtype)


def _whole_bytes(dtype: jnp.dtype) -> jnp.dtype | None:
    """For numbers shorter than a byte the integers of as many bits, which a byte holds."""
    if not (jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)):
        return None
    info = jnp.iinfo if jnp.issubdtype(dtype, jnp.integer) else jnp.finfo
    bits = info(dtype).bits
    if bits >= 8:
        return None
    return dtype if jnp.issubdtype(dtype, jnp.integer) else jnp.dtype(f"uint{bits}")
