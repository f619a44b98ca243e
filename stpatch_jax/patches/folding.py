"""Folding: put patches back, summed or blended where they overlap."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from stpatch_jax.errors import InputError, check_choice
from stpatch_jax.patches.bits import accumulator
from stpatch_jax.patches.blends import Blend, Weighting, folded
from stpatch_jax.patches.extraction import Spec, along_channels, as_field, linear_extract
from stpatch_jax.patches.windows import Windows, WindowSpec

Reduce = Literal["sum", "mean"]


def fold_patches(
    patches: ArrayLike,
    spec: Spec,
    shape: Sequence[int],
    *,
    flat: bool = False,
    reduce: Reduce = "mean",
    blend: Blend = "uniform",
) -> jax.Array:
    """Puts patches back into a field: the inverse of extraction, or its exact transpose.

    With `reduce="sum"` and a uniform blend this is the adjoint of `extract_patches`,
    `<extract(x), p> == <x, fold(p)>`, padding mode included: wrap goes round the ring, edge and
    reflect back to the cell they came from, constant padding is dropped. Another blend multiplies
    the patches by its weights first. `reduce="mean"` divides by the folded weights, so that
    `fold(extract(x))` is `x` wherever a weight reaches; cells that none reaches are 0 and
    `cover_count` tells them. Also known as overlap-add, col2im, torch's `fold`.

    A sum of shifted pads in a fixed order: deterministic on every device, no scatter, no
    transposed convolution. Derivatives of any order and mode work. Where windows agree a mean is
    their value but for rounding, a relative error of at most `(n + 3 r + 2) / 2` epsilons with `n`
    the windows over a cell, counted along each of the `r` axes and added up; `crop`, and the
    running mean of `sliding_window_apply`, give the value itself.

    Args:
        patches: Patches `[*batch, nt, *ns, *window, channel]`, any dtype.
        spec: The `WindowSpec` (or bare window) they were cut with.
        shape: The field's `(time, *space)`, without batch and channel.
        flat: Whether the patches are `[*batch, nt, *ns, window * channel]`, as those of
            `extract_patches(..., flat=True)`.
        reduce: `sum` or `mean`.
        blend: What a window's samples count: `uniform`; `linear`, `hann`, `gaussian` or
            `("gaussian", width)`, which weigh its centre more than its rim; `crop`, which takes
            every cell from the window whose centre is nearest; or an array of its shape, not
            negative, of which a zero leaves a sample out (see `blend_weights`).

    Returns:
        Field `[*batch, time, *space, channel]`. Floats keep their dtype (16-bit floats are
        accumulated in float32); integers and booleans give int32 for a uniform or cropped sum
        (int64 stays int64) and float32 otherwise.

    Raises:
        InputError: The patches do not fit spec and shape, or reduce or blend is not known.

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
    check_choice("reduce", reduce, get_args(Reduce))
    windows = WindowSpec.of(spec).resolve(shape)
    weighting = Weighting.of(blend, windows.window)
    return _fold(as_field(patches), windows, flat=flat, reduce=reduce, weighting=weighting)


@functools.partial(jax.jit, static_argnames=("windows", "flat", "reduce", "weighting"), inline=True)
def _fold(
    patches: jax.Array, windows: Windows, *, flat: bool, reduce: Reduce, weighting: Weighting
) -> jax.Array:
    if flat:
        patches = _with_windows(patches, windows)
    require_fit(patches.shape, windows)

    def add(patches: jax.Array) -> jax.Array:
        return transposed(lambda x: linear_extract(x, windows, flat=flat), patches, windows.shape)

    def totals(dtype: jnp.dtype) -> list[np.ndarray]:
        divisors = (np.where(total > 0, total, 1) for total in weighting.totals(windows))
        return [total.astype(dtype) for total in divisors if (total != 1).any()]

    if reduce == "sum" and weighting.name == "uniform":
        # Rounded once, as the gradient of extraction is.
        return add(patches.astype(folded_dtype(patches.dtype, exact=True)))
    factors = weighting.factors(windows)
    return blended(patches, weighting, factors, add, totals, reduce=reduce)


def _with_windows(patches: jax.Array, windows: Windows) -> jax.Array:
    """Flat patches with the axes of their windows apart."""
    grid, samples = windows.grid, math.prod(windows.window)
    if patches.shape[-1 - len(grid) : -1] != grid or patches.shape[-1] % samples:
        raise InputError(
            f"flat patches must have the axes (*batch, {', '.join(map(str, grid))}, a multiple of "
            f"{samples}) for windows {windows.window} of a field of (time, *space) "
            f"{windows.shape}, got {patches.shape}; give the spec and shape that the patches were "
            "cut with"
        )
    channels = patches.shape[-1] // samples
    # One axis at a time: arrays on a mesh of explicit axes allow no other reshape.
    for cells in windows.window:
        samples //= cells
        patches = patches.reshape(*patches.shape[:-1], cells, samples * channels)
    return patches


def blended(
    patches: jax.Array,
    weighting: Weighting,
    factors: Sequence[np.ndarray | jax.Array],
    add: Callable[[jax.Array], jax.Array],
    totals: Callable[[jnp.dtype], Sequence[np.ndarray | jax.Array]],
    *,
    reduce: Reduce,
) -> jax.Array:
    """Folds by `add`, the transpose of extraction, with the dtypes of `fold_patches`.

    The patches are weighted by `factors` `(*grid, *window)`; for a mean, `totals(dtype)` gives the
    factors `(time, *space)` to divide by.
    """
    dtype = folded_dtype(patches.dtype, exact=reduce == "sum" and weighting.is_whole)
    wide = accumulator(dtype)
    patches = patches.astype(wide)
    if weighting.name != "uniform":
        for factor in factors:
            patches = weighted(patches, along_channels(factor, patches.ndim))
    total = add(patches)
    if reduce == "mean" and weighting.name != "crop":  # of which each cell has one sample
        for weight in totals(wide):
            total = total / along_channels(weight, total.ndim)
    return total.astype(dtype)


def weighted(values: jax.Array, weights: np.ndarray | jax.Array) -> jax.Array:
    """Values times weights; where a weight is zero even a NaN counts nothing."""
    product = values * weights.astype(values.dtype)
    positive = isinstance(weights, np.ndarray) and weights.all()
    return product if positive else jnp.where(weights > 0, product, 0)


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
    ones = [np.ones((1, cells), np.int64) for cells in windows.window]
    mask = None if windows.mask is None else windows.mask.astype(np.int64)
    return functools.reduce(np.multiply, folded(windows.axes, ones, mask))


def blend_weights(spec: Spec, shape: Sequence[int], *, blend: Blend = "hann") -> np.ndarray:
    """The weight of every patch sample in the blended mean; they sum to one where covered.

    `fold_patches(p, blend=b)` equals the summed fold of `p * blend_weights(blend=b)`. Per axis,
    with window `w` and sample `i`, the weights are, before normalisation,

    * `uniform`: 1
    * `linear`: `min(i + 1, w - i)`
    * `hann`: `sin^2(pi (i + 1/2) / w)`
    * `gaussian`: `exp(-x^2 / 2)` with `x = (i - (w - 1) / 2) / (w / 8)`, at least 1e-3;
      `("gaussian", width)` has `w * width` in place of `w / 8`
    * `crop`: 1 for the sample nearest to its window's centre among those that read its cell (the
      first of equally near ones), else 0: nothing is averaged, and the first and last windows
      reach to the border

    multiplied over the axes; or an array `[*window]` of your own, finite and not negative. They are
    0 outside the footprint, and divided by their own fold.

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
    weighting = Weighting.of(blend, windows.window)
    total = functools.reduce(np.multiply, weighting.totals(windows))
    share = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    rank = len(windows.axes)
    index, inside = [], np.ones((1,) * (2 * rank), bool)
    for position, axis in enumerate(windows.axes):
        source, form = axis.source_cells(), [1] * (2 * rank)
        form[position], form[rank + position] = source.shape
        index.append(source.reshape(form))
        inside = inside & (source >= 0).reshape(form)
    inside = inside if windows.mask is None else inside & windows.mask
    weights = functools.reduce(np.multiply, weighting.factors(windows))
    return (np.where(inside, share[tuple(index)], 0) * weights).astype(np.float32)
