"""Pooling of pairs of neighbours."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

Pooling = Literal["max", "average"]


def pool(x: jax.Array, axes: Sequence[int], *, reduce: Pooling) -> jax.Array:
    """Halves the given axes by pooling pairs of neighbours; an axis of size 1 stays as it is.

    The last cell of an odd axis is paired with itself, so no cell is dropped and size n becomes
    `ceil(n / 2)`.

    Args:
        x: Any shape.
        axes: Axes to halve, non-negative.
        reduce: "max", or "average".

    >>> pool(jnp.array([1.0, 5.0, 2.0]), (0,), reduce="average").tolist()
    [3.0, 2.0]
    """
    axes = [axis for axis in sorted(axes) if x.shape[axis] > 1]
    if not axes:
        return x
    for axis in axes:
        if x.shape[axis] % 2:
            last = jax.lax.slice_in_dim(x, x.shape[axis] - 1, x.shape[axis], axis=axis)
            x = jnp.concatenate([x, last], axis=axis)
    paired = [(n // 2, 2) if axis in axes else (n,) for axis, n in enumerate(x.shape)]
    pairs = tuple(axis + position + 1 for position, axis in enumerate(axes))

    def by_reshape(x: jax.Array) -> jax.Array:
        x = x.reshape([n for group in paired for n in group])
        return _paired_max(x, pairs) if reduce == "max" else x.mean(pairs)

    if reduce == "average" or not jnp.issubdtype(x.dtype, jnp.floating):
        return by_reshape(x)
    # The gradient of the windowed maximum is one pass of a TPU in place of four; it is slow on CPU.
    by_window = functools.partial(_windowed_max, axes=axes)
    return jax.lax.platform_dependent(x, tpu=by_window, default=by_reshape)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _paired_max(x: jax.Array, pairs: tuple[int, ...]) -> jax.Array:
    """The maxima over axes of two cells; the first of equal ones has the gradient."""
    return x.max(pairs)


@_paired_max.defjvp
def _(pairs: Any, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    # That of JAX asks which cells equal the maximum: none, where a compiler computes them twice
    # with other roundings.
    (x,), (dx,) = primals, tangents
    places = list(itertools.product(range(2), repeat=len(pairs)))
    cells = [x[_at(place, pairs, x.ndim)] for place in places]
    best, winner = cells[0], jnp.zeros(cells[0].shape, jnp.int32)
    for number, others in enumerate(cells[1:], 1):
        better = others > best
        best, winner = jnp.where(better, others, best), jnp.where(better, number, winner)
    numbers = jnp.arange(len(places)).reshape([2 if axis in pairs else 1 for axis in range(x.ndim)])
    won = jnp.expand_dims(winner, pairs) == numbers
    return _paired_max(x, pairs), jnp.where(won, dx, jnp.zeros_like(dx)).sum(pairs)


def _at(place: Sequence[int], pairs: Sequence[int], rank: int) -> tuple[Any, ...]:
    """Where the cells of a place in each pair stand."""
    return tuple(place[pairs.index(at)] if at in pairs else slice(None) for at in range(rank))


def _windowed_max(x: jax.Array, axes: Sequence[int]) -> jax.Array:
    """The maxima of pairs along even axes."""
    extents = [2 if axis in axes else 1 for axis in range(x.ndim)]
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, extents, extents, "VALID")
