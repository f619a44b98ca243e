"""A kernel for TPUs: windows of a field, each written once, a row of it at a time."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from stpatch_jax.patches.windows import AxisWindows

# Of the memory beside the cores: blocks of the field and of the windows, twice.
_VMEM_BYTES = 2**26


def windows_on_tpu(x: jax.Array, axes: tuple[AxisWindows, ...], interpret: Any) -> jax.Array:
    """Copies windows along three axes; rows of a window are pieces of rows of the field.

    Args:
        x: [batch, time, height, width, channel], whole blocks of one stride along time and height.
        axes: Of time, height and width, without dilation.
        interpret: Whether to run it step by step on any platform.

    Returns:
        [batch, *grid, window * channel].
    """
    time, height, width = axes
    batch, times, rows, *row = x.shape
    # Else XLA splits the rows while the channels still lie apart, and moves ten times as much.
    x = lax.optimization_barrier(x.reshape(batch, times, rows, math.prod(row)))
    # The rows of one phase of the stride are neighbours: a window's rows of all windows are a run.
    shape = (times // time.stride, time.stride, rows // height.stride, height.stride)
    x = x.reshape(batch, *shape, -1).transpose(0, 1, 2, 4, 3, 5)
    values = math.prod(axis.window for axis in axes) * row[-1]
    blocks = [
        pl.BlockSpec((1, 1, *x.shape[2:]), lambda b, t, later=later: (b, t + later, 0, 0, 0, 0))
        for later in range(-(-time.window // time.stride))
    ]
    y = pl.pallas_call(
        functools.partial(_kernel, axes=axes, channels=row[-1]),
        grid=(batch, time.count),
        in_specs=blocks,
        out_specs=pl.BlockSpec(
            (1, 1, width.count, height.count, values), lambda b, t: (b, t, 0, 0, 0)
        ),
        out_shape=jax.ShapeDtypeStruct(
            (batch, time.count, width.count, height.count, values),
            x.dtype,
            manual_axis_type=jax.typeof(x).manual_axis_type,
        ),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel"), vmem_limit_bytes=_VMEM_BYTES
        ),
        interpret=interpret,
        name="windows",
    )(*[x] * len(blocks))
    return jnp.swapaxes(y, 2, 3)


def _kernel(*refs: Any, axes: tuple[AxisWindows, ...], channels: int) -> None:
    """All windows of a time: each of their rows goes to its lanes."""
    *blocks, out = refs
    time, height, width = axes
    run = width.window * channels
    for sample in range(time.window * height.window):
        later, frame = divmod(sample // height.window, time.stride)
        first, phase = divmod(sample % height.window, height.stride)
        rows = blocks[later][0, 0, frame, phase, first : first + height.count, :]
        for window in range(width.count):
            start = window * width.stride * channels
            out[0, 0, window, :, sample * run : (sample + 1) * run] = rows[:, start : start + run]
