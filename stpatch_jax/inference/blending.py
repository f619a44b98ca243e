"""How outputs of windows become one field: a running mean by weight, in the order of windows."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stpatch_jax.errors import InputError
from stpatch_jax.inference.tiles import Layout, ring_parts, without_padding
from stpatch_jax.patches.bits import accumulator
from stpatch_jax.patches.blends import Blend, Weighting, folded
from stpatch_jax.patches.canonical import axis_name
from stpatch_jax.patches.scattering import add_box
from stpatch_jax.patches.windows import AxisWindows

Weights = dict[str, list[np.ndarray]]
"""Factors that broadcast over (time, *space): `window`, the weights of a window, where all have the
same, and `total`, what they add up to in the result, padding included. `tables` are for each axis
those of every window, `[number in the grid, window]`, where they differ. Where a weight is a
product over the axes also, for each, `before`: what windows before a window have added in its
cells, in weights of its own there; empty where no two of them share a cell."""


def make_weights(layout: Layout, blend: Blend, mask: np.ndarray | None) -> Weights:
    """The float64 weights of an output; `mask` is the input's footprint."""
    window = tuple(axis.window for axis in layout.axes)
    weighting = Weighting.of(blend, window)
    tables = weighting.tables(layout.axes)
    core = weighting.core(None if mask is None else _resized(mask, window))
    # Counted in padded cells, which a ring adds to its own in the end.
    axes = [
        dataclasses.replace(axis, size=axis.lo + axis.size + axis.hi, lo=0, hi=0, mode="constant")
        for axis in layout.axes
    ]
    weights = {"total": folded(tuple(axes), tables, core)}
    if weighting.name == "crop":
        weights |= {"window": [], "tables": tables}
        before = []
    else:
        # One small factor per axis is all that a program has to hold.
        tapers = [table[0] for table in tables]
        weights["window"] = [*np.ix_(*tapers)]
        pairs = zip(layout.axes, tapers, strict=True)
        before = [_before(axis, taper) / taper for axis, taper in pairs]
    if core is None:
        return weights | {"before": before}
    return weights | {"window": [functools.reduce(np.multiply, [*weights["window"], core])]}


def require_cover(layout: Layout, weights: Weights, region: np.ndarray | None) -> None:
    """Refuses a result with cells, in its region, that no window gives a weight."""
    totals = weights["total"]
    for position, axis in enumerate(layout.axes):
        padded = axis.lo + axis.size + axis.hi
        totals = [
            without_padding(total, axis, position) if total.shape[position] == padded else total
            for total in totals
        ]
    if all(total.all() for total in totals):
        return
    bare = functools.reduce(np.multiply, totals) == 0
    if region is not None:
        bare = bare & region
    if not bare.any():
        return
    cell = tuple(int(at[0]) for at in np.nonzero(bare))
    if "before" in weights:
        position = next(at for at, total in enumerate(totals) if not total.all())
        raise InputError(
            f"every cell must lie in a window, got none for cell {cell[position]} of the result "
            f'along {axis_name(position)}; use padding="COVER", another stride, or fill=nan'
        )
    raise InputError(
        f"every cell must get a weight above zero, got none for {int(bare.sum())} of the result, "
        f"the first at {cell}; use weights without zeros, windows that overlap more, or fill=nan"
    )


def _resized(mask: np.ndarray, window: tuple[int, ...]) -> np.ndarray:
    """A footprint in output cells, by the nearest input cell."""
    for position, (cells, wanted) in enumerate(zip(mask.shape, window, strict=True)):
        nearest = (np.arange(wanted) * cells + cells // 2) // wanted
        mask = mask.take(np.minimum(nearest, cells - 1), position)
    return mask


def _before(axis: AxisWindows, taper: np.ndarray) -> np.ndarray:
    """What the windows before a window add in its cells, for all that differ in it.

    One row for each number in the grid up to that from which on all are alike; with FLUSH, behind
    them, one for the last window.
    """
    rows = min(axis.count, -(-axis.window // axis.stride))
    table = np.zeros((rows, axis.window))
    for row in range(1, rows):
        behind = row * axis.stride
        table[row] = table[row - 1]
        table[row, : axis.window - behind] += taper[behind:]
    if not axis.back:
        return table
    own = np.zeros(axis.window)
    for behind in range(axis.stride - axis.back, axis.window, axis.stride)[: axis.count - 1]:
        own[: axis.window - behind] += taper[behind:]
    return np.concatenate([table, [own]])


def wide_dtype(dtype: Any) -> jnp.dtype:
    """The dtype in which outputs are blended: at least float32."""
    dtype = jnp.dtype(dtype)
    return accumulator(dtype) if jnp.issubdtype(dtype, jnp.inexact) else jnp.dtype(jnp.float32)


def blended_dtype(dtype: Any) -> jnp.dtype:
    """What an output becomes: floats keep their dtype, whole numbers become float32."""
    return jnp.dtype(dtype) if jnp.issubdtype(dtype, jnp.inexact) else wide_dtype(dtype)


def real_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype of weights for values of a dtype."""
    return jnp.finfo(dtype).dtype


def start(layout: Layout, weights: Weights, examples: int, output: Any) -> list[jax.Array]:
    """The blend of no window; behind it the weights so far, where no table tells them."""
    shape, dtype = (examples, *layout.shape(padded=True)), wide_dtype(output.dtype)
    blend = [jnp.zeros((*shape, output.shape[-1]), dtype)]
    if "before" in weights:
        return blend
    return [*blend, jnp.zeros((*shape, 1), real_dtype(dtype))]


def add_mean(
    blend: list[jax.Array],
    output: jax.Array,
    layout: Layout,
    weights: Weights,
    place: jax.Array,
    fresh: jax.Array | None,
    at: Sequence[Any],
) -> list[jax.Array]:
    """Moves the mean of the windows so far towards the next, `mean += w / sum w * (y - mean)`.

    In place, and exact where all windows agree. `fresh` is False for one that was there before, and
    `at` is the first cell in what is held.
    """
    mean = blend[0]
    old = lax.dynamic_slice(mean, at, (1, *layout.extent, mean.shape[-1]))
    counts = True if fresh is None else fresh
    if weights.get("before"):
        share = _share_by_axes(weights, layout, place)
    else:
        total = weight = functools.reduce(jnp.multiply, _of_window(weights, layout, place))
        if "before" not in weights:
            sums = lax.dynamic_slice(blend[1], at, (1, *layout.extent, 1))
            total = sums + jnp.where(counts, weight, 0)
            blend = [mean, lax.dynamic_update_slice(blend[1], total, at)]
        share, counts = weight / total, (weight > 0) & counts
    step = output.astype(mean.dtype).reshape(old.shape) - old
    # Infinity less infinity is not a number, and where a weight is zero even a NaN counts nothing.
    moves = (output.reshape(old.shape) != old) & counts
    new = old + jnp.where(moves, share * step, 0)
    return [lax.dynamic_update_slice(mean, new, at), *blend[1:]]


def add_sum(
    blend: list[jax.Array],
    output: jax.Array,
    layout: Layout,
    weights: Weights,
    place: jax.Array,
    fresh: jax.Array | None,
    at: Sequence[Any],
) -> list[jax.Array]:
    """Adds the weighted output of one window, in place: linear, with a transpose as fast."""
    total = blend[0]
    update = output.astype(total.dtype).reshape(1, *layout.extent, total.shape[-1])
    for factor in _of_window(weights, layout, place):
        update = jnp.where(factor > 0, update * factor, 0)
    if fresh is not None:
        update = jnp.where(fresh, update, 0)
    return [add_box(total, update, jnp.stack(at)), *blend[1:]]


def finished(
    blend: list[jax.Array], layout: Layout, weights: Weights, fill: Any, *, mean: bool
) -> jax.Array:
    """Takes the padding off, divides sums by their weights, and fills cells without any."""
    values, factors = blend[0], list(weights["total"])
    separate = len(factors) > 1 or len(layout.axes) == 1
    for position, (place, axis) in enumerate(zip(layout.places, layout.axes, strict=True)):
        which = position if separate else 0
        parts = ring_parts(factors[which], axis, position)
        factors[which] = functools.reduce(jnp.add, parts)
        if mean:
            values = _merged(ring_parts(values, axis, place), [_along(w, layout) for w in parts])
        else:
            values = without_padding(values, axis, place)
    for factor in factors:
        factor = _along(factor, layout)
        values = values if mean else values / jnp.where(factor > 0, factor, 1)
        values = jnp.where(factor > 0, values, fill.astype(values.dtype))
    return values


def _merged(means: list[jax.Array], weights: list[Any]) -> jax.Array:
    """The mean of means by weight, where the ends of a ring meet."""
    value, total = means[0], weights[0]
    for mean, weight in zip(means[1:], weights[1:], strict=True):
        total = total + weight
        moves = (weight > 0) & (mean != value)
        share = weight / jnp.where(total > 0, total, 1)
        value = value + jnp.where(moves, share * (mean - value), 0)
    return value


def corner(place: jax.Array, layout: Layout, ndim: int) -> list[jax.Array]:
    """The first cell of a window in the result, from `[example, *place in the grid]`."""
    at = [jnp.zeros((), place.dtype)] * ndim
    at[0] = place[0]
    for position, cell, axis in zip(layout.places, place[1:], layout.axes, strict=True):
        at[position] = axis.first(cell)
    return at


def _share_by_axes(weights: Weights, layout: Layout, place: jax.Array) -> jax.Array:
    """The weight of a window in its cells, of what it and all windows before it add there."""
    before = None
    for position, axis in enumerate(layout.axes):
        table = jnp.asarray(weights["before"][position])
        shape = [1] * len(layout.axes)
        shape[position] = axis.window
        number = place[1 + position]
        row = jnp.minimum(number, len(table) - 1 - bool(axis.back))
        if axis.back:
            row = jnp.where(number == axis.count - 1, len(table) - 1, row)
        row, first = table[row].reshape(shape), axis.first(number)
        total = jnp.asarray(weights["total"][position])
        total = lax.dynamic_slice_in_dim(total, first, axis.window, position)
        # Before a window come all of earlier rows, and those of its own row that are before it.
        before = row if before is None else row + total / weights["window"][position] * before
    assert before is not None  # a window has an axis
    return _along(1 / (1 + before), layout)


def _of_window(weights: Weights, layout: Layout, place: jax.Array) -> list[Any]:
    """The factors of the weights of a window."""
    factors: list[Any] = list(weights["window"])
    for position, table in enumerate(weights.get("tables", [])):
        shape = [1] * len(layout.axes)
        shape[position] = table.shape[1]
        factors.append(jnp.asarray(table)[place[1 + position]].reshape(shape))
    return [_along(factor, layout) for factor in factors]


def _along(values: Any, layout: Layout) -> Any:
    """Gives values over (time, *space) the axes of a result: example, lead time and channel."""
    if layout.lead is not None:
        values = values[:, None]
    return values[None, ..., None]
