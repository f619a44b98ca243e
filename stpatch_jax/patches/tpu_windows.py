"""Kernels for TPUs: windows of a field, each written once, a row of it at a time, and back."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from stpatch_jax.patches.bits import accumulator
from stpatch_jax.patches.windows import AxisWindows

Axes = tuple[AxisWindows, AxisWindows, AxisWindows]

# Of the memory beside the cores: blocks of the field and of the windows, twice.
_VMEM_BYTES = 2**26
# Numbers side by side: only rows of so many are read or written at a stride.
_LANES = 128


def windows_on_tpu(x: jax.Array, axes: Axes, interpret: Any) -> jax.Array:
    """Copies windows along three axes; rows of a window are pieces of rows of the field.

    Args:
        x: [batch, time, height, width, channel], of 2 or 4 bytes each.
        axes: Of time, height and width, without dilation.
        interpret: Whether to run it step by step on any platform.

    Returns:
        [batch, *grid, window * channel].
    """
    time, height, width = axes
    planes, blocks = _planes(x), _blocks(time)
    batch, *_, channels = x.shape
    values = time.window * height.window * width.window * channels
    shape = (batch, time.count, width.count, height.count, values)
    wide = x.dtype if x.dtype.itemsize == 4 else jnp.int32
    # The field is read once: what of it later windows hold as well stays beside the cores.
    y = pl.pallas_call(
        functools.partial(_cut, axes=axes, cells=x.shape[3:]),
        grid=(batch, time.count + blocks - 1),
        in_specs=[pl.BlockSpec((1, time.stride, *planes.shape[2:]), lambda b, t: (b, t, 0, 0, 0))],
        out_specs=pl.BlockSpec(
            (1, 1, *shape[2:]), lambda b, t: (b, jnp.maximum(t - blocks + 1, 0), 0, 0, 0)
        ),
        out_shape=_result(shape, x.dtype, x),
        scratch_shapes=_room(x.shape[1:], blocks * time.stride, wide),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel" if blocks == 1 else "arbitrary"),
            vmem_limit_bytes=_VMEM_BYTES,
        ),
        interpret=interpret,
        name="windows",
    )(planes)
    return jnp.swapaxes(y, 2, 3)


def fold_on_tpu(
    y: jax.Array, axes: Axes, cells: tuple[int, ...], dtype: jnp.dtype, interpret: Any
) -> jax.Array:
    """Adds windows up where `windows_on_tpu` cuts them: its transpose.

    Args:
        y: [batch, *grid, window * channel], of 4 bytes each or bfloat16, which adds up in float32.
        axes: Of time, height and width, without dilation.
        cells: (time, height, width, channel) of the result.
        dtype: Of the result.
        interpret: Whether to run it step by step on any platform.

    Returns:
        [batch, time, height, width, channel].
    """
    time = axes[0]
    y = jnp.swapaxes(y, 2, 3)
    batch, wide = len(y), accumulator(y.dtype)
    planes = jax.eval_shape(_planes, jax.ShapeDtypeStruct((batch, *cells), dtype)).shape
    # Behind the last windows the field may go on.
    block, last = (1, 1, *y.shape[2:]), time.count - 1
    x = pl.pallas_call(
        functools.partial(_add, axes=axes, cells=cells[2:]),
        grid=(batch, -(-cells[0] // time.stride)),
        in_specs=[pl.BlockSpec(block, lambda b, t: (b, jnp.minimum(t, last), 0, 0, 0))],
        out_specs=pl.BlockSpec((1, time.stride, *planes[2:]), lambda b, t: (b, t, 0, 0, 0)),
        out_shape=_result(planes, dtype, y),
        scratch_shapes=_room(cells, max(time.window, time.stride), wide),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=_VMEM_BYTES
        ),
        interpret=interpret,
        name="fold",
    )(y)
    return x.transpose(0, 1, 4, 2, 3) if cells[2] == 1 else x.transpose(0, 1, 3, 4, 2)


def _planes(x: jax.Array) -> jax.Array:
    """The field as a TPU lays it out, channels apart; of rows of one cell a single plane."""
    return x.transpose(0, 1, 3, 4, 2) if x.shape[3] == 1 else x.transpose(0, 1, 4, 2, 3)


def _blocks(time: AxisWindows) -> int:
    """Blocks of one stride that a window reaches over."""
    return -(-time.window // time.stride)


def _result(shape: tuple[int, ...], dtype: jnp.dtype, like: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=jax.typeof(like).manual_axis_type)


def _parts(cells: int) -> list[tuple[int, int, int]]:
    """Parts of a row of cells: the number, the first cell, and how many."""
    firsts = range(0, cells, _LANES)
    return [(part, first, min(_LANES, cells - first)) for part, first in enumerate(firsts)]


def _room(cells: tuple[int, ...], frames: int, dtype: Any) -> list[Any]:
    """For rows of frames, and for columns of one while channels come together."""
    _, height, width, channels = cells
    rows = (frames, len(_parts(width * channels)), height, _LANES)
    columns = (len(_parts(height)), width * channels, _LANES)
    return [pltpu.VMEM(shape, dtype) for shape in (rows, columns)]


def _together(parts: list[jax.Array], axis: int) -> jax.Array:
    return jnp.concatenate(parts, axis) if len(parts) > 1 else parts[0]


def _cut(
    planes: Any, out: Any, held: Any, columns: Any, *, axes: Axes, cells: tuple[int, ...]
) -> None:
    """Holds the frames of a block and cuts the windows that end with it, each of their rows."""
    time, height, width = axes
    channels, blocks, step = cells[1], _blocks(time), pl.program_id(1)
    run = width.window * channels
    for at in range(min(time.stride, time.window)):
        rows = _rows(planes.at[0, at], columns, cells)
        frame = held.at[lax.rem(step, blocks) * time.stride + at]
        for part, first, count in _parts(rows.shape[1]):
            frame[part, :, :count] = rows[:, first : first + count]

    @pl.when(step >= blocks - 1)
    def _() -> None:
        for sample in range(time.window * height.window):
            later, first = divmod(sample, height.window)
            block, at = divmod(later, time.stride)
            frame = held.at[lax.rem(step + 1 + block, blocks) * time.stride + at]
            cut = pl.ds(first, height.count, stride=height.stride)
            rows = _together([frame.at[part][cut, :] for part in range(held.shape[1])], 1)
            rows = _from_bits(rows, out.dtype)
            for window in range(width.count):
                start = window * width.stride * channels
                lanes = slice(sample * run, (sample + 1) * run)
                out[0, 0, window, :, lanes] = rows[:, start : start + run]


def _rows(planes: Any, columns: Any, cells: tuple[int, ...]) -> jax.Array:
    """Rows of a frame, the channels of a cell side by side."""
    width, channels = cells
    if width == 1 or channels == 1:
        return _bits(planes[0]).T if width == 1 else _bits(planes[0])
    height = planes.shape[1]
    for channel in range(channels):
        plane = _bits(planes[channel]).T
        cut = pl.ds(channel, width, stride=channels)
        for part, first, count in _parts(height):
            columns.at[part][cut, :count] = plane[:, first : first + count]
    return _together([columns[part].T[:count] for part, _, count in _parts(height)], 0)


def _bits(x: jax.Array) -> jax.Array:
    """Numbers of 32 bits, as a stride takes no others."""
    if x.dtype.itemsize == 4:
        return x
    return lax.bitcast_convert_type(x, jnp.uint16).astype(jnp.int32)


def _from_bits(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    if dtype.itemsize == 4:
        return x
    return lax.bitcast_convert_type(x.astype(jnp.uint16), dtype)


def _add(y: Any, out: Any, held: Any, columns: Any, *, axes: Axes, cells: tuple[int, ...]) -> None:
    """Adds the windows of a time to frames that are held, and gives those that no more reach."""
    time, height, width = axes
    run, step = width.window * cells[1], pl.program_id(1)

    @pl.when(step == 0)
    def _() -> None:
        held[...] = jnp.zeros(held.shape, held.dtype)

    @pl.when(step < time.count)
    def _() -> None:
        for sample in range(time.window * height.window):
            frame, first = divmod(sample, height.window)
            lanes = slice(sample * run, (sample + 1) * run)
            pieces = [y[0, 0, at, :, lanes].astype(held.dtype) for at in range(width.count)]
            row = _row(pieces, width.stride * cells[1], held.shape[1] * _LANES)
            cut = pl.ds(first, height.count, stride=height.stride)
            for part, start, _ in _parts(row.shape[1]):
                held.at[frame, part][cut, :] += row[:, start : start + _LANES]

    for frame in range(time.stride):
        _give(held.at[frame], columns, out.at[0, frame], cells)
    for frame in range(len(held)):
        later = frame + time.stride
        held[frame] = held[later] if later < len(held) else jnp.zeros(held.shape[1:], held.dtype)


def _row(pieces: list[jax.Array], step: int, lanes: int) -> jax.Array:
    """The sum of pieces of a row that begin `step` apart; every so many lie side by side."""
    run, apart = pieces[0].shape[1], -(-pieces[0].shape[1] // step)
    total = None
    for first in range(min(apart, len(pieces))):
        parts, end = [], 0
        for at in range(first, len(pieces), apart):
            parts += [_zeros(pieces[0], at * step - end), pieces[at]]
            end = at * step + run
        parts.append(_zeros(pieces[0], lanes - end))
        row = _together([part for part in parts if part.shape[1]], 1)
        total = row if total is None else total + row
    assert total is not None
    return total


def _zeros(like: jax.Array, lanes: int) -> jax.Array:
    return jnp.zeros((len(like), lanes), like.dtype)


def _give(held: Any, columns: Any, planes: Any, cells: tuple[int, ...]) -> None:
    """Puts rows of a frame back into planes of a channel each: the inverse of `_rows`."""
    width, channels = cells
    for part, first, count in _parts(width * channels):
        rows = held[part]
        if width == 1:
            planes[0, first : first + count, :] = rows.T[:count].astype(planes.dtype)
        elif channels == 1:
            planes[0, :, first : first + count] = rows[:, :count].astype(planes.dtype)
        else:
            turned = rows.T
            for piece, start, many in _parts(len(rows)):
                columns[piece, first : first + count, :many] = turned[:count, start : start + many]
    if width == 1 or channels == 1:
        return
    for channel in range(channels):
        cut = pl.ds(channel, width, stride=channels)
        for piece, start, many in _parts(planes.shape[1]):
            plane = columns.at[piece][cut, :].T[:many]
            planes[channel, start : start + many, :] = plane.astype(planes.dtype)
