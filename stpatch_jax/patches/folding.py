"""Folding: put patches back, summed or blended where they overlap."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from stpatch_jax.errors import InputError, check_choice
from stpatch_jax.patches.bits import accumulator
from stpatch_jax.patches.extraction import Spec, along_channels, as_field, linear_extract
from stpatch_jax.patches.windows import AxisWindows, Windows, WindowSpec

Reduce = Literal["sum", "mean"]
Blend = Literal["uniform", "linear", "hann", "gaussian"]
BLEND_NAMES: tuple[str, ...] = get_args(Blend)


def fold_patches(
    patches: ArrayLike,
    spec: Spec,
    shape: Sequence[int],
    *,
    reduce: Reduce = "mean",
    blend: Blend = "uniform",
) -> jax.Array:
    """Puts patches back into a field: the inverse of extraction, or its exact transpose.

    With `reduce="sum"` and a uniform blend this is the adjoint of `extract_patches`,
    `<extract(x), p> == <x, fold(p)>`, padding mode included: wrap goes round the ring, edge and
    reflect back to the cell they came from, constant padding is dropped. Another blend multiplies
    the patches by its taper first. `reduce="mean"` divides by the folded taper, so that
    `fold(extract(x))` is `x` wherever a window reaches; cells that none reaches are 0 and
    `cover_count` tells them. Also known as overlap-add, col2im, torch's `fold`.

    A sum of shifted pads in a fixed order: deterministic on every device, no scatter, no
    transposed convolution. Derivatives of any order and mode work.

    Args:
        patches: Patches `[*batch, nt, *ns, *window, channel]`, any dtype.
        spec: The `WindowSpec` (or bare window) they were cut with.
        shape: The field's `(time, *space)`, without batch and channel.
        reduce: `sum` or `mean`.
        blend: The taper of a window: `uniform`, or `linear`, `hann`, `gaussian`, which weigh its
            centre more than its rim (see `blend_weights`).

    Returns:
        Field `[*batch, time, *space, channel]`. Floats keep their dtype (16-bit floats are
        accumulated in float32); integers and booleans give int32 for a uniform sum (int64 stays
        int64) and float32 otherwise.

    Raises:
        InputError: The patches do not fit spec and shape, or a name is not known.

    Examples:
        >>> import jax.numpy as jnp
        >>> from stpatch_jax.patches.extraction import extract_patches
        >>> spec = WindowSpec((4,), stride=2)
        >>> x = jnp.arange(8.0)[:, None]
        >>> y = fold_patches(extract_patches(x, spec), spec, (8,), blend="hann")
        >>> bool(jnp.allclose(y, x))
        True

    References:
        Overlap-add: Allen and Rabiner, "A unified approach to short-time Fourier analysis and
        synthesis", Proc. IEEE 65, 1977.
    """
    check_names(reduce, blend)
    windows = WindowSpec.of(spec).resolve(shape)
    return _fold(as_field(patches), windows, reduce=reduce, blend=blend)


def check_names(reduce: Any, blend: Any) -> None:
    """Refuses what names no reduction or taper, before a compiler is asked to hash it."""
    check_choice("reduce", reduce, get_args(Reduce))
    check_choice("blend", blend, BLEND_NAMES)


@functools.partial(jax.jit, static_argnames=("windows", "reduce", "blend"), inline=True)
def _fold(patches: jax.Array, windows: Windows, *, reduce: Reduce, blend: Blend) -> jax.Array:
    require_fit(patches.shape, windows)

    def add(patches: jax.Array) -> jax.Array:
        return transposed(lambda x: linear_extract(x, windows), patches, windows.shape)

    def weights(tapers: Sequence[np.ndarray], dtype: jnp.dtype) -> list[np.ndarray]:
        return [weight.astype(dtype) for weight in divisors(windows, tapers)]

    return blended(patches, windows, add, weights, reduce=reduce, blend=blend)


def blended(
    patches: jax.Array,
    windows: Windows,
    add: Callable[[jax.Array], jax.Array],
    weights: Callable[[Sequence[np.ndarray], jnp.dtype], Sequence[np.ndarray | jax.Array]],
    *,
    reduce: Reduce,
    blend: Blend,
) -> jax.Array:
    """Folds by `add`, the transpose of extraction, with the dtypes of `fold_patches`.

    For a mean, `weights(tapers, dtype)` gives the factors `(time, *space)` to divide by.
    """
    tapers = [window_taper(cells, blend) for cells in windows.window]
    dtype = folded_dtype(patches.dtype, exact=reduce == "sum" and blend == "uniform")
    wide = accumulator(dtype)
    patches = patches.astype(wide)
    if blend != "uniform":
        patches = patches * along_channels(outer(tapers), patches.ndim).astype(wide)
    total = add(patches)
    if reduce == "mean":
        for weight in weights(tapers, wide):
            total = total / along_channels(weight, total.ndim)
    return total.astype(dtype)


def folded_dtype(dtype: jnp.dtype, *, exact: bool) -> jnp.dtype:
    """Inexact dtypes stay; whole numbers are counted in int32 (int64) or averaged in float32."""
    if jnp.issubdtype(dtype, jnp.inexact):
        return dtype
    if not exact:
        return jnp.dtype(jnp.float32)
    return dtype if dtype in (jnp.int64, jnp.uint64) else jnp.dtype(jnp.int32)


def transposed(
    extract: Callable[[jax.Array], jax.Array], patches: jax.Array, shape: Sequence[int]
) -> jax.Array:
    """The transpose of a linear extraction from `(time, *space)` `shape`, taken by JAX: exact."""
    rank = len(shape)
    # Only the type of the field is used. It is made from the patches so that it has theirs inside
    # shard_map and on a mesh of explicit axes, where sharding is part of the type.
    corner = patches[(..., *(0,) * 2 * rank, slice(None))]
    field = (*corner.shape[:-1], *shape, corner.shape[-1])
    kept = (*range(corner.ndim - 1), corner.ndim - 1 + rank)
    field = lax.broadcast_in_dim(corner, field, kept)
    return jax.linear_transpose(extract, field)(patches)[0]


def require_fit(patches: tuple[int, ...], windows: Windows) -> None:
    """Refuses patches of another shape than the field is cut into."""
    fits = (*windows.grid, *windows.window)
    if len(patches) < len(fits) + 1 or patches[-1 - len(fits) : -1] != fits:
        raise InputError(
            f"patches must have the axes (*batch, *grid, *window, channel) = (*batch, "
            f"{', '.join(map(str, fits))}, channel) for a field of (time, *space) {windows.shape}, "
            f"got {patches}; give the spec and shape that the patches were cut with"
        )


def cover_count(spec: Spec, shape: Sequence[int]) -> np.ndarray:
    """How many window samples read each cell: `(time, *space)`, NumPy int64.

    It is the fold (sum) of ones, so a cell that edge, reflect or wrap padding repeats counts as
    often as it is read; with VALID and constant padding it is the number of windows that hit the
    cell, and the gradient of `extract_patches(x).sum()`.

    Returns:
        Counts `[time, *space]`, 0 where no window reaches.

    Raises:
        InputError: A window does not fit the shape.

    Examples:
        >>> cover_count(WindowSpec((3,), stride=1), (6,)).tolist()
        [1, 2, 3, 3, 2, 1]
    """
    windows = WindowSpec.of(spec).resolve(shape)
    ones = [np.ones(cells, np.int64) for cells in windows.window]
    return functools.reduce(np.multiply, _folded_weights(windows, ones))


def blend_weights(spec: Spec, shape: Sequence[int], *, blend: Blend = "hann") -> np.ndarray:
    """The weight of every patch sample in the blended mean; they sum to one where covered.

    `fold_patches(p, blend=b)` equals the summed fold of `p * blend_weights(blend=b)`. Per axis,
    with window `w` and sample `i`, the tapers are, before normalisation,

    * `uniform`: 1
    * `linear`: `min(i + 1, w - i)`
    * `hann`: `sin^2(pi (i + 1/2) / w)`
    * `gaussian`: `exp(-x^2 / 2)` with `x = (i - (w - 1) / 2) / (w / 8)`, at least 1e-3

    all strictly positive, multiplied over the axes, and divided by their own fold.

    Returns:
        Float32 `[nt, *ns, *window]`; 0 outside the footprint and in constant padding.

    Raises:
        InputError: A window does not fit the shape, or the blend is not known.

    Examples:
        >>> blend_weights(WindowSpec((2,), stride=1), (3,), blend="uniform").tolist()
        [[1.0, 0.5], [0.5, 1.0]]

    References:
        F. J. Harris, "On the use of windows for harmonic analysis with the discrete Fourier
        transform", Proc. IEEE 66, 1978. The Gaussian's width (window / 8) is that of nnU-Net.
    """
    windows = WindowSpec.of(spec).resolve(shape)
    tapers = [window_taper(cells, blend) for cells in windows.window]
    field = functools.reduce(np.multiply, _folded_weights(windows, tapers))
    share = np.divide(1.0, field, out=np.zeros_like(field), where=field > 0)
    rank = len(windows.axes)
    index, inside = [], np.ones((1,) * (2 * rank), bool)
    for position, axis in enumerate(windows.axes):
        source, form = axis.source_cells(), [1] * (2 * rank)
        form[position], form[rank + position] = source.shape
        index.append(source.reshape(form))
        inside = inside & (source >= 0).reshape(form)
    taper = outer(tapers) if windows.mask is None else outer(tapers) * windows.mask
    return (np.where(inside, share[tuple(index)], 0) * taper).astype(np.float32)


def window_taper(window: int, blend: Blend) -> np.ndarray:
    """The taper of one axis before normalisation, float64 `[window]` (see `blend_weights`)."""
    check_choice("blend", blend, BLEND_NAMES)
    sample = np.arange(window)
    if blend == "uniform":
        return np.ones(window)
    if blend == "linear":
        return np.minimum(sample + 1.0, window - sample)
    if blend == "hann":
        return np.sin(np.pi * (sample + 0.5) / window) ** 2
    # Without a floor, far samples would weigh less than the rounding of the others.
    return np.maximum(np.exp(-0.5 * ((sample - (window - 1) / 2) / (window / 8)) ** 2), 1e-3)


def outer(factors: Sequence[np.ndarray]) -> np.ndarray:
    """The product of one factor per axis, `(len(factors[0]), len(factors[1]), ...)`."""
    return functools.reduce(np.multiply, np.ix_(*factors))


def divisors(windows: Windows, tapers: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Factors of the folded taper with 1 where no window reaches, to divide a sum by."""
    return [np.where(weight > 0, weight, 1) for weight in _folded_weights(windows, tapers)]


def _folded_weights(windows: Windows, tapers: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Factors, broadcastable to `(time, *space)`, whose product is the folded taper."""
    # Without a footprint the fold separates: a compiled program holds one small factor per axis.
    if windows.mask is None:
        return list(np.ix_(*map(fold_axis, windows.axes, tapers)))
    weights = outer(tapers) * windows.mask
    cells = [axis.source_cells() for axis in windows.axes]
    field = np.zeros(windows.shape, weights.dtype)
    for sample in zip(*np.nonzero(windows.mask), strict=True):
        reads = [source[:, i] for source, i in zip(cells, sample, strict=True)]
        np.add.at(field, np.ix_(*(cell[cell >= 0] for cell in reads)), weights[sample])
    return [field]


def fold_axis(axis: AxisWindows, taper: np.ndarray) -> np.ndarray:
    """Adds the taper of every window along one axis to the cells it reads."""
    cells = axis.source_cells()
    inside = cells >= 0
    folded = np.zeros(axis.size, taper.dtype)
    np.add.at(folded, cells[inside], np.broadcast_to(taper, cells.shape)[inside])
    return folded
