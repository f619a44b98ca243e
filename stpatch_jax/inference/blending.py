"""How outputs of windows become one field: a running mean by weight, in the order of windows."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stpatch_jax.errors import InputError
from stpatch_jax.inference.tiles import Layout, ring_parts, without_padding
from stpatch_jax.patches.bits import accumulator
from stpatch_jax.patches.canonical import axis_name
from stpatch_jax.patches.folding import Blend, window_taper
from stpatch_jax.patches.lowerings import Axes
from stpatch_jax.patches.scattering import add_box
from stpatch_jax.patches.windows import AxisWindows

Weights = dict[str, list[np.ndarray]]
"""Factors that broadcast over (time, *space): `window`, the weights of a window; `total`, what they
add up to in the result, padding included. For a taper by name also, for each axis, `before`: what
windows before a window have added in its cells, `[number in the grid, window]`."""


def make_weights(layout: Layout, blend: Blend | np.ndarray, mask: np.ndarray | None) -> Weights:
    """The float64 weights of an output.

    `blend` may be weights of the shape of an output; `mask` is the input's footprint.
    """
    axes, window = layout.axes, tuple(axis.window for axis in layout.axes)
    if isinstance(blend, str) and mask is None:
        # One small factor per axis is all that a program has to hold.
        tapers = [window_taper(extent, blend) for extent in window]
        totals = [fold_weights((axis,), taper) for axis, taper in zip(axes, tapers, strict=True)]
        before = [_before(axis, taper) for axis, taper in zip(axes, tapers, strict=True)]
        return {"window": [*np.ix_(*tapers)], "total": [*np.ix_(*totals)], "before": before}
    if isinstance(blend, str):
        tapers = np.ix_(*(window_taper(extent, blend) for extent in window))
        weights = functools.reduce(np.multiply, tapers)
    else:
        weights = np.asarray(blend, np.float64)
        fits = weights.shape == window and np.isfinite(weights).all() and (weights >= 0).all()
        if not fits or not weights.any():
            raise InputError(
                f"weights must be an array of shape {window}, as the output of a window, finite "
                f"with none below zero, got shape {weights.shape}; give one weight per cell"
            )
    if mask is not None:
        weights = weights * _resized(mask, window)
    return {"window": [weights], "total": [fold_weights(axes, weights)]}


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


def fold_weights(axes: Axes, weights: np.ndarray) -> np.ndarray:
    """Adds the weights of every window up where its output lies, float64 `[*padded sizes]`.

    Example:
        >>> fold_weights((AxisWindows(6, 4, 2, 1, 0, 0, "constant"),), np.ones(4)).tolist()
        [1.0, 1.0, 2.0, 2.0, 1.0, 1.0]
    """
    total = np.zeros([axis.lo + axis.size + axis.hi for axis in axes])
    for cell in np.ndindex(*(axis.count for axis in axes)):
        first = [at * axis.stride for at, axis in zip(cell, axes, strict=True)]
        total[tuple(slice(f, f + a.window) for f, a in zip(first, axes, strict=True))] += weights
    return total


def _before(axis: AxisWindows, taper: np.ndarray) -> np.ndarray:
    """What the windows before a window add in its cells, for all that differ in it."""
    rows = min(axis.count, -(-axis.window // axis.stride))
    table = np.zeros((rows, axis.window))
    for row in range(1, rows):
        behind = row * axis.stride
        table[row] = table[row - 1]
        table[row, : axis.window - behind] += taper[behind:]
    return table


def wide_dtype(dtype: Any) -> jnp.dtype:
    """The dtype in which outputs are blended: at least float32."""
    dtype = jnp.dtype(dtype)
    return accumulator(dtype) if jnp.issubdtype(dtype, jnp.inexact) else jnp.dtype(jnp.float32)


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
) -> list[jax.Array]:
    """Moves the mean of the windows so far towards the next, `mean += w / sum w * (y - mean)`.

    In place, and exact where all windows agree. `fresh` is False for one that was there before.
    """
    mean = blend[0]
    at = _corner(place, layout, mean.ndim)
    old = lax.dynamic_slice(mean, at, (1, *layout.extent, mean.shape[-1]))
    weight = _outer(weights["window"], layout)
    if "before" in weights:
        total = weight + _weight_before(weights, layout, place)
    else:
        sums = lax.dynamic_slice(blend[1], at, (1, *layout.extent, 1))
        total = sums + (weight if fresh is None else jnp.where(fresh, weight, 0))
        blend = [mean, lax.dynamic_update_slice(blend[1], total, at)]
    step = output.astype(mean.dtype).reshape(old.shape) - old
    # Infinity less infinity is not a number, and where a weight is zero even a NaN counts nothing.
    moves = (weight > 0) & (output.reshape(old.shape) != old)
    moves = moves if fresh is None else moves & fresh
    new = old + jnp.where(moves, weight / total * step, 0)
    return [lax.dynamic_update_slice(mean, new, at), *blend[1:]]


def add_sum(
    blend: list[jax.Array],
    output: jax.Array,
    layout: Layout,
    weights: Weights,
    place: jax.Array,
    fresh: jax.Array | None,
) -> list[jax.Array]:
    """Adds the weighted output of one window, in place: linear, with a transpose as fast."""
    total = blend[0]
    update = output.astype(total.dtype).reshape(1, *layout.extent, total.shape[-1])
    for factor in weights["window"]:
        factor = _along(factor, layout)
        update = jnp.where(factor > 0, update * factor, 0)
    if fresh is not None:
        update = jnp.where(fresh, update, 0)
    at = jnp.stack(_corner(place, layout, total.ndim))
    return [add_box(total, update, at), *blend[1:]]


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


def _corner(place: jax.Array, layout: Layout, ndim: int) -> list[jax.Array]:
    """The first cell of a window in the result, from `[example, *place in the grid]`."""
    at = [jnp.zeros((), place.dtype)] * ndim
    at[0] = place[0]
    for position, cell, axis in zip(layout.places, place[1:], layout.axes, strict=True):
        at[position] = cell * np.asarray(axis.stride, np.int32)
    return at


def _weight_before(weights: Weights, layout: Layout, place: jax.Array) -> jax.Array:
    """What the windows before one have added in its cells, in the order of the grid."""
    # Before a window come all of earlier rows, and those of its own row that are before it.
    before, behind = None, None
    for position in reversed(range(len(layout.axes))):
        axis, table = layout.axes[position], jnp.asarray(weights["before"][position])
        shape = [1] * len(layout.axes)
        shape[position] = axis.window
        row = table[jnp.minimum(place[1 + position], len(table) - 1)].reshape(shape)
        first = place[1 + position] * np.asarray(axis.stride, np.int32)
        total = jnp.asarray(weights["total"][position])
        total = lax.dynamic_slice_in_dim(total, first, axis.window, position)
        if before is None or behind is None:
            before, behind = row, total
        else:
            before = row * behind + weights["window"][position] * before
            behind = total * behind
    assert before is not None  # a window has an axis
    return _along(before, layout)


def _outer(factors: list[Any], layout: Layout) -> Any:
    """The weight of every cell of a window."""
    return _along(functools.reduce(jnp.multiply, factors), layout)


def _along(values: Any, layout: Layout) -> Any:
    """Gives values over (time, *space) the axes of a result: example, lead time and channel."""
    if layout.lead is not None:
        values = values[:, None]
    return values[None, ..., None]
