"""A function of windows seen from several sides: mirrored, turned, and averaged."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from stpatch_jax.errors import InputError
from stpatch_jax.inference.blending import blended_dtype, wide_dtype

Pair = tuple[Callable[[jax.Array], jax.Array], Callable[[Any], Any]]
"""What is done to windows `[window, time, *space, channel]`, and what undoes it in outputs."""


@functools.cache
def flips(*axes: int) -> tuple[Pair, ...]:
    """All mirror images along some axes of windows, for `augment` of `sliding_window_apply`.

    Args:
        axes: Window axes, 0 for time and 1 for the first of space.

    Returns:
        A pair of functions for every set of axes but the empty one.

    Example:
        >>> len(flips(1, 2))
        3
    """
    sets = (itertools.combinations(axes, number + 1) for number in range(len(axes)))
    return tuple((one, one) for one in map(_flip, itertools.chain.from_iterable(sets)))


@functools.cache
def rotations(first: int, second: int) -> tuple[Pair, ...]:
    """The turns by 90, 180 and 270 degrees in the plane of two axes of equal extent, as `flips`.

    Example:
        >>> turn, back = rotations(1, 2)[0]
        >>> x = jnp.arange(4).reshape(1, 1, 2, 2, 1)
        >>> turn(x).ravel().tolist(), back(turn(x)).ravel().tolist()
        ([1, 3, 0, 2], [0, 1, 2, 3])
    """
    return tuple((_turn(turns, first, second), _turn(-turns, first, second)) for turns in (1, 2, 3))


@functools.cache
def shifts(axis: int, *cells: int) -> tuple[Pair, ...]:
    """Windows moved round along an axis by so many cells each, as `flips`.

    What leaves at one end of `[*batch, time, *space, channel]` comes in at the other; outputs are
    as fine as windows along the axis.

    Example:
        >>> there, back = shifts(0, 1)[0]
        >>> x = jnp.arange(3).reshape(1, 3, 1)
        >>> there(x).ravel().tolist(), back(there(x)).ravel().tolist()
        ([2, 0, 1], [0, 1, 2])
    """
    return tuple((_shift(by, axis), _shift(-by, axis)) for by in cells)


def _shift(cells: int, axis: int) -> Callable[[Any], Any]:
    return functools.partial(jax.tree.map, functools.partial(jnp.roll, shift=cells, axis=axis + 1))


def _flip(axes: tuple[int, ...]) -> Callable[[Any], Any]:
    behind_windows = tuple(axis + 1 for axis in axes)
    return functools.partial(jax.tree.map, functools.partial(jnp.flip, axis=behind_windows))


def _turn(turns: int, first: int, second: int) -> Callable[[Any], Any]:
    plane = (first + 1, second + 1)
    return functools.partial(jax.tree.map, functools.partial(jnp.rot90, k=turns, axes=plane))


def augmented(fn: Callable[[jax.Array], Any], pairs: Sequence[Pair]) -> Callable[[jax.Array], Any]:
    """The mean of a function of windows as they are and of what it says by way of every pair.

    A running mean in at least float32, exact where all agree; one loop, which holds `fn` once.
    """

    def mean(windows: jax.Array) -> Any:
        outputs = jax.eval_shape(fn, windows)
        there = [lambda x: x, *(forward for forward, _ in pairs)]
        back = [lambda y: y, *(inverse for _, inverse in pairs)]
        for forward, inverse in pairs:
            _require_like(jax.eval_shape(forward, windows), windows, "windows")
            _require_like(jax.eval_shape(inverse, outputs), outputs, "outputs")

        def step(means: Any, number: jax.Array) -> tuple[Any, None]:
            values = lax.switch(number, back, fn(lax.switch(number, there, windows)))

            def moved(mean: jax.Array, value: jax.Array) -> jax.Array:
                # Infinity less infinity is not a number.
                far = (value.astype(mean.dtype) - mean) / (number + 1).astype(mean.real.dtype)
                return mean + jnp.where(value == mean, 0, far)

            return jax.tree.map(moved, means, values), None

        zeros = jax.tree.map(lambda y: jnp.zeros(y.shape, wide_dtype(y.dtype)), outputs)
        means, _ = lax.scan(step, zeros, jnp.arange(len(there), dtype=jnp.int32))
        return jax.tree.map(lambda mean, y: mean.astype(blended_dtype(y.dtype)), means, outputs)

    return mean


def _require_like(found: Any, wanted: Any, what: str) -> None:
    shapes = [jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree) for tree in (found, wanted)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"augment must keep the shape and dtype of {what}, {shapes[1]}, got {shapes[0]}; turn "
            "only axes of equal extent"
        )
