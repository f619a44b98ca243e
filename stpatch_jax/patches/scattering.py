"""Putting windows back where they were cut at free places: the adjoint of `gather_patches`."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from stpatch_jax.errors import InputError, check_choice
from stpatch_jax.patches.bits import accumulator
from stpatch_jax.patches.blends import Blend, Weighting, nearest_first
from stpatch_jax.patches.extraction import (
    Spec,
    along_channels,
    as_field,
    near_starts,
    padded,
    starts_of,
    window_cells,
)
from stpatch_jax.patches.folding import Reduce, folded_dtype, weighted
from stpatch_jax.patches.lowerings import Axes
from stpatch_jax.patches.windows import AxisWindows, Windows, WindowSpec, ring_of


def scatter_patches(
    patches: ArrayLike,
    starts: ArrayLike,
    spec: Spec,
    shape: Sequence[int],
    *,
    reduce: Reduce = "mean",
    blend: Blend = "uniform",
) -> jax.Array:
    """Puts windows at given, possibly traced, starts into a field, added or averaged.

    With `reduce="sum"` and a uniform blend it is the adjoint of `gather_patches`, `<gather(x), p>
    == <x, scatter(p)>`, padding mode included. Another blend multiplies the windows by its weights
    first; a mean divides by what the weights add up to, and is 0 where none reaches. At the starts
    of the patch grid it is `fold_patches`. Windows are added one by one in their order, so that
    the result is the same on every device. Also known as the merge or aggregation of patches.

    Args:
        patches: Windows `[*batch, n, *window, channel]`, any dtype.
        starts: First cells `[n, 1 + space axes]` in field coordinates, integers of any size.
        spec: The `WindowSpec` (or bare window) they were cut with; its stride and padding are not
            used.
        shape: The field's `(time, *space)`.
        reduce: `sum` or `mean`.
        blend: What a window's samples count (see `fold_patches`).

    Returns:
        Field `[*batch, time, *space, channel]`, of the dtypes of `fold_patches`.

    Raises:
        InputError: Windows and starts do not fit spec and shape, or reduce or blend is not known.

    Examples:
        >>> import jax.numpy as jnp
        >>> windows = jnp.array([[1.0, 2.0], [3.0, 4.0]])[..., None]
        >>> scatter_patches(windows, jnp.array([[0], [1]]), (2,), (4,))[:, 0].tolist()
        [1.0, 2.5, 4.0, 0.0]
    """
    check_choice("reduce", reduce, get_args(Reduce))
    patches, spec = as_field(patches), WindowSpec.of(spec)
    windows = spec.resolve(shape)
    weighting = Weighting.of(blend, windows.window)
    near = near_starts(starts_of(starts, spec), windows.axes)
    fits = (len(near), *windows.window)
    if patches.ndim < len(fits) + 1 or patches.shape[-1 - len(fits) : -1] != fits:
        raise InputError(
            f"patches must have the axes (*batch, n, *window, channel) = (*batch, "
            f"{', '.join(map(str, fits))}, channel) for {len(near)} starts, got {patches.shape}; "
            "give one window for each start"
        )
    return _scatter(patches, near, windows, reduce=reduce, weighting=weighting)


@functools.partial(jax.jit, static_argnames=("windows", "reduce", "weighting"), inline=True)
def _scatter(
    patches: jax.Array,
    starts: jax.Array,
    windows: Windows,
    *,
    reduce: Reduce,
    weighting: Weighting,
) -> jax.Array:
    dtype = folded_dtype(patches.dtype, exact=reduce == "sum" and weighting.is_whole)
    wide = accumulator(dtype)
    patches = patches.astype(wide)
    if weighting.name == "crop":
        weights = _nearest(starts, windows)
    else:
        (weights,) = weighting.factors(windows)
        weights = weights.reshape(1, *windows.window)
    weights = weights if windows.mask is None else weights * windows.mask
    total = _added(weighted(patches, along_channels(weights, patches.ndim)), starts, windows.axes)
    # Of cropped windows every cell gets one value.
    if reduce == "mean" and weighting.name != "crop":
        each = jnp.asarray(weights, wide)[..., None]
        each = jnp.broadcast_to(each, (len(starts), *each.shape[1:]))
        reached = _added(each, starts, windows.axes)
        reached = reached.reshape((1,) * (total.ndim - reached.ndim) + reached.shape)
        total = jnp.where(reached != 0, total / jnp.where(reached == 0, 1, reached), 0)
    return total.astype(dtype)


def _nearest(starts: jax.Array, windows: Windows) -> jax.Array:
    """1 for the sample nearest to its window's centre that reads a cell, int32 `[n, *window]`."""
    index, inside = window_cells(starts, windows.axes)
    shape = (len(starts), *windows.window)
    own = functools.reduce(jnp.logical_and, inside, jnp.ones(shape, bool))
    number = lax.broadcasted_iota(jnp.int32, shape, 0)
    # Of equally near samples that of the first window; least numbers do not depend on an order.
    for place in (nearest_first(windows.window), number):
        place = jnp.where(own, place, np.iinfo(np.int32).max)
        least = jnp.full(windows.shape, np.iinfo(np.int32).max).at[tuple(index)].min(place)
        own = own & (place == least[tuple(index)])
    return own.astype(jnp.int32)


def _added(patches: jax.Array, starts: jax.Array, axes: Axes) -> jax.Array:
    """Adds windows `(*batch, n, *window, channel)` up in a field with room for all of them."""
    wide = [_with_room(axis) for axis in axes]
    batch = patches.shape[: patches.ndim - len(axes) - 2]
    # Between the samples of a dilated window lie zeros: every window is a box of cells.
    gaps = [(0, 0, axis.dilation - 1) for axis in axes]
    boxes = patches.reshape(math.prod(batch), *patches.shape[len(batch) :])
    boxes = jnp.moveaxis(boxes, 1, 0)
    boxes = lax.pad(boxes, jnp.zeros((), boxes.dtype), [(0, 0, 0)] * 2 + gaps + [(0, 0, 0)])
    corners = starts + np.asarray([[axis.lo for axis in wide]], np.int32)
    extents = [axis.lo + axis.size + axis.hi for axis in wide]
    total = jnp.zeros((boxes.shape[1], *extents, boxes.shape[-1]), boxes.dtype)

    def add(total: jax.Array, one: Any) -> tuple[jax.Array, None]:
        box, corner = one
        return add_box(total, box, jnp.pad(corner, (1, 1))), None

    total, _ = lax.scan(add, total, (boxes, corners))
    first = (0,) * total.ndim
    sizes = [axis.size for axis in axes]
    inside = lax.slice(total, first, (total.shape[0], *sizes, total.shape[-1]))
    zero = np.zeros((), total.dtype)
    (field,) = jax.linear_transpose(lambda x: padded(x, tuple(wide), zero), inside)(total)
    return field.reshape(*batch, *field.shape[1:])


def _with_room(axis: AxisWindows) -> AxisWindows:
    """The axis padded so far that it holds a window at every start of `near_starts`."""
    period = ring_of(axis.size, axis.mode)
    if period is None:
        return dataclasses.replace(axis, lo=axis.effective, hi=axis.effective)
    return dataclasses.replace(axis, lo=0, hi=period - axis.size + axis.effective)


def add_box(total: jax.Array, box: jax.Array, corner: jax.Array) -> jax.Array:
    """Adds a box of values in place, at a traced corner inside of an array of as many axes."""
    every = tuple(range(total.ndim))
    numbers = lax.ScatterDimensionNumbers(every, (), every)
    # One box at a time has every index once: no atomics, and a gradient that is a copy, where
    # that of dynamic_update_slice would pass over the whole array.
    once: dict[str, Any] = {"indices_are_sorted": True, "unique_indices": True}
    once["mode"] = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return lax.scatter_add(total, corner, box, numbers, **once)
