"""Patch extraction: exact, differentiable, and the same function on every layout."""

import cmath
import contextlib
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from stpatch_jax.errors import InputError
from stpatch_jax.patches.bits import accumulator, exact_copy
from stpatch_jax.patches.lowerings import Axes, Lowering, choose, linear_copy
from stpatch_jax.patches.windows import AxisWindows, Windows, WindowSpec, ring_of, source_cell

Spec = WindowSpec | int | Sequence[int | None]


def extract_patches(
    x: ArrayLike, spec: Spec, *, flat: bool = False, lowering: Lowering = "auto"
) -> jax.Array:
    """Cuts a field into its windows: `(*batch, *grid, *window, channel)`.

    `out[..., g, i, c] = x[..., g * stride + i * dilation - lo, c]` per axis, where `lo` is the
    leading padding (with FLUSH the last window starts earlier, where it ends with the axis); cells
    outside the field come from the padding mode, samples outside the footprint are the fill value.
    Also known as im2col, unfold, view_as_windows, sliding_window_view, patchify, tubelets.

    The result equals `jax.lax.conv_general_dilated_patches` with its channel-major features
    rearranged, and is a bit-exact copy for every dtype: NaN and Inf stay in their places, -0.0
    and subnormals survive. Derivatives of any order and mode work; the gradient is a sum of
    shifted pads (no scatter), accumulated in float32 for 8- and 16-bit floats. One exception is
    the compiler's: on CPU, bfloat16 subnormals may become 0 and the bits of a NaN change (it
    stays a NaN), because there XLA itself moves bfloat16 through float32 registers.

    Args:
        x: Field `[*batch, time, *space, channel]`, any dtype.
        spec: A `WindowSpec`, or a bare window `(time, *space)` (stride = window, VALID).
        flat: Whether window and channel become one axis, channel fastest. A TPU moves a third to a
            sixth as many bytes so: the last axes of other patches are padded to 128 numbers.
        lowering: How the copy is made: `conv` (the lax operator on bytes), `reshape` (stride =
            window only), `blocks` (concatenated shifted blocks), `gather` (one gather of runs), or
            `auto` (the fastest measured). The result does not depend on it.

    Returns:
        Patches `[*batch, nt, *ns, *window, channel]` of the dtype of `x`, where the patch grid is
        `spec.grid_shape((time, *space))`; flat ones `[*batch, nt, *ns, window * channel]`.

    Raises:
        InputError: `x` has too few axes, a window does not fit, or a name is not known.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.arange(2 * 6 * 8 * 3).reshape(2, 6, 8, 3)  # batch, time, company, channel
        >>> extract_patches(x, (3, 4)).shape  # stride = window
        (2, 2, 2, 3, 4, 3)
        >>> spec = WindowSpec((3, None), stride=(1, None), padding=("CAUSAL", "VALID"))
        >>> extract_patches(x, spec).shape
        (2, 6, 1, 3, 8, 3)
        >>> extract_patches(x, spec, flat=True).shape
        (2, 6, 1, 72)

    References:
        `jax.lax.conv_general_dilated_patches`; `numpy.lib.stride_tricks.sliding_window_view`.
    """
    return _extract(as_field(x), WindowSpec.of(spec), flat=flat, lowering=lowering)


def as_field(x: ArrayLike) -> jax.Array:
    """The array of JAX, refused where it is none."""
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the input must be an array of numbers, got {type(x).__name__}; convert it with "
            "np.asarray"
        ) from error


@functools.partial(jax.jit, static_argnames=("spec", "flat", "lowering"), inline=True)
def _extract(x: jax.Array, spec: WindowSpec, *, flat: bool, lowering: Lowering) -> jax.Array:
    windows = windows_of(x.shape, spec)
    fill = fill_scalar(spec.fill_value, x.dtype)
    axes, cut = windows.axes, choose(lowering, windows.axes, x.dtype, flat=flat)

    def copy(x: jax.Array, fill: np.ndarray) -> jax.Array:
        return masked(cut(padded(x, axes, fill)), windows.mask, fill)

    patches = exact_copy(copy, lambda x: linear_extract(x, windows, flat=flat), x, fill)
    # One axis at a time: arrays on a mesh of explicit axes allow no other reshape.
    for _ in axes if flat else ():
        patches = patches.reshape(*patches.shape[:-2], -1)
    # A TPU's compiler would take the axes apart again for a product with weights that have them.
    whole = functools.partial(lax.platform_dependent, tpu=lax.optimization_barrier)
    return whole(patches, default=lambda patches: patches) if flat else patches


def linear_extract(x: jax.Array, windows: Windows, *, flat: bool = False) -> jax.Array:
    """The linear part of extraction (fill value 0), in the form whose transpose is `fold`.

    16-bit floats pass through float32, exactly, so that the transpose accumulates in float32.
    """
    zero, dtype = np.zeros((), accumulator(x.dtype)), x.dtype
    if any(axis.lo or axis.hi for axis in windows.axes):
        x = padded(x.astype(zero.dtype), windows.axes, zero)
    patches = linear_copy(x, windows.axes, dtype, flat=flat)
    return masked(patches, windows.mask, zero.astype(dtype))


def padded(x: jax.Array, axes: Axes, fill: np.ndarray) -> jax.Array:
    """Pads every axis in its own mode; a copy, also of the values it repeats."""
    first = x.ndim - len(axes) - 1
    for position, axis in enumerate(axes, first):
        if not (axis.lo or axis.hi):
            continue
        if axis.mode == "constant":
            widths = [(0, 0, 0)] * x.ndim
            widths[position] = (axis.lo, axis.hi, 0)
            x = lax.pad(x, jnp.asarray(fill, x.dtype), widths)
        else:
            x = _extended(x, axis, position)
    return x


def _extended(x: jax.Array, axis: AxisWindows, position: int) -> jax.Array:
    """Pads one axis with copies of its own cells (`jnp.pad` slices the other axes too)."""

    def part(first: int, last: int) -> jax.Array:
        return lax.slice_in_dim(x, first, last, axis=position)

    def repeated(cell: jax.Array, times: int) -> jax.Array:
        shape = (*x.shape[:position], times, *x.shape[position + 1 :])
        return lax.broadcast_in_dim(cell, shape, range(x.ndim))

    size, lo, hi = axis.size, axis.lo, axis.hi
    if axis.mode == "edge":
        before, after = repeated(part(0, 1), lo), repeated(part(size - 1, size), hi)
    elif axis.mode == "reflect" and max(lo, hi) < size:
        before = lax.rev(part(1, lo + 1), [position])
        after = lax.rev(part(size - 1 - hi, size - 1), [position])
    elif axis.mode == "reflect" or max(lo, hi) > size:
        # Whole turns of the ring: one copy, however many there are.
        if axis.mode == "reflect" and size > 2:
            x = lax.concatenate([x, lax.rev(part(1, size - 1), [position])], position)
        period = x.shape[position]
        turns = -(-lo // period) + -(-(size + hi) // period)
        shape = (*x.shape[:position], turns, *x.shape[position:])
        ring = lax.broadcast_in_dim(jnp.expand_dims(x, position), shape, range(len(shape)))
        ring = ring.reshape(*x.shape[:position], turns * period, *x.shape[position + 1 :])
        start = -lo % period
        return lax.slice_in_dim(ring, start, start + lo + size + hi, axis=position)
    else:
        before, after = part(size - lo, size), part(0, hi)
    parts = [one for one, cells in ((before, lo), (x, size), (after, hi)) if cells]
    return lax.concatenate(parts, position)


def masked(patches: jax.Array, mask: np.ndarray | None, fill: np.ndarray) -> jax.Array:
    """Puts the fill value where a sample lies outside the footprint."""
    if mask is None:
        return patches
    return jnp.where(along_channels(mask, patches.ndim), patches, fill)


def along_channels(values: Any, ndim: int) -> Any:
    """Gives values over the last axes before the channels the rank they broadcast with."""
    return values.reshape((1,) * (ndim - values.ndim - 1) + values.shape + (1,))


def windows_of(shape: tuple[int, ...], spec: WindowSpec) -> Windows:
    """The windows of a spec on an array `(*batch, time, *space, channel)`."""
    if len(shape) < spec.rank + 1:
        raise InputError(
            f"the input must have the axes (*batch, time, *space, channel) with {spec.rank} for "
            f"the window {spec.window}, got shape {shape}; add the missing axes (x[..., None] "
            "adds a channel)"
        )
    return spec.resolve(shape[-1 - spec.rank : -1])


def fill_scalar(value: bool | int | float | complex, dtype: jnp.dtype) -> np.ndarray:
    """The fill value in the field's dtype, refused where the dtype cannot hold it.

    Floats may round it, but not to or from NaN or infinity; whole numbers must be exact.
    """
    held = None
    complex_field = jnp.issubdtype(dtype, jnp.complexfloating)
    if complex_field or value.imag == 0:
        number = value.real if isinstance(value, complex) and not complex_field else value
        # A whole number too long for any machine integer cannot be cast at all.
        with np.errstate(all="ignore"), contextlib.suppress(OverflowError):
            held = np.asarray(number).astype(dtype)
    if held is None or not _stands_for(held.item(), value, dtype):
        raise InputError(
            f"fill_value must be a value of the input's dtype {dtype}, got {value!r}; convert the "
            "input or choose another fill value"
        )
    return held


def _stands_for(held: Any, value: Any, dtype: jnp.dtype) -> bool:
    if not jnp.issubdtype(dtype, jnp.inexact):
        return held == value
    return all(kind(held) == kind(value) for kind in (cmath.isnan, cmath.isinf))


def patchify(x: ArrayLike, window: Spec) -> jax.Array:
    """Cuts a field into non-overlapping windows and flattens each to a token.

    `(*batch, time, *space, channel)` becomes `(*batch, tokens, features)` with
    `tokens = prod(size / window)` in grid order and `features = prod(window) * channel`, channel
    fastest; `unpatchify` is the inverse. Also known as space-to-depth, tubelet flattening.

    Args:
        x: Field `[*batch, time, *space, channel]`; every axis a multiple of its window.
        window: The window `(time, *space)`; None for the whole axis.

    Returns:
        Tokens `[*batch, tokens, features]` of the dtype of `x`.

    Raises:
        InputError: An axis is not a multiple of its window, or the windows overlap.

    Examples:
        >>> import jax.numpy as jnp
        >>> tokens = patchify(jnp.zeros((8, 4, 32, 32, 3)), (2, 16, 16))
        >>> tokens.shape
        (8, 8, 1536)
        >>> unpatchify(tokens, (2, 16, 16), (4, 32, 32)).shape
        (8, 4, 32, 32, 3)
    """
    x = as_field(x)
    spec = _tiling(window)
    windows = _tiled(windows_of(x.shape, spec))
    patches = _extract(x, spec, flat=True, lowering="auto")
    return patches.reshape(*patches.shape[: x.ndim - spec.rank - 1], math.prod(windows.grid), -1)


def unpatchify(tokens: ArrayLike, window: Spec, shape: Sequence[int]) -> jax.Array:
    """Puts the tokens of `patchify` back into the field they came from, exactly.

    Args:
        tokens: Tokens `[*batch, tokens, prod(window) * channel]`, any dtype.
        window: The window that `patchify` was given.
        shape: The field's `(time, *space)`.

    Returns:
        Field `[*batch, time, *space, channel]` of the dtype of `tokens`.

    Raises:
        InputError: The tokens do not fit the window and shape.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.arange(12.0).reshape(4, 3, 1)
        >>> bool((unpatchify(patchify(x, (2, 3)), (2, 3), (4, 3)) == x).all())
        True
    """
    tokens = as_field(tokens)
    windows = _tiled(_tiling(window).resolve(shape))
    grid, cells = windows.grid, windows.window
    count, samples = math.prod(grid), math.prod(cells)
    if tokens.ndim < 2 or tokens.shape[-2] != count or tokens.shape[-1] % samples:
        raise InputError(
            f"tokens must have the axes (*batch, {count}, a multiple of {samples}) for window "
            f"{cells} and shape {windows.shape}, got {tokens.shape}; give the window and shape "
            "that patchify had"
        )
    batch = tokens.shape[:-2]
    first, rank = len(batch), len(grid)
    x = tokens.reshape(*batch, *grid, tokens.shape[-1])
    x = x.reshape(*batch, *grid, *cells, tokens.shape[-1] // samples)
    pairs = [first + offset + position for position in range(rank) for offset in (0, rank)]
    x = x.transpose(*range(first), *pairs, x.ndim - 1)
    for at, size in enumerate(windows.shape, first):
        x = x.reshape(*x.shape[:at], size, *x.shape[at + 2 :])
    return x


def _tiling(window: Spec) -> WindowSpec:
    """The plain non-overlapping spec of a window; refuses one that says anything else."""
    spec = WindowSpec.of(window)
    plain = WindowSpec(spec.window)
    if spec not in (plain, WindowSpec(spec.window, stride=spec.window)):
        raise InputError(
            "patchify must have non-overlapping windows (stride = window, dilation 1, no padding, "
            f"no footprint), got {spec}; use extract_patches and fold_patches"
        )
    return plain


def _tiled(windows: Windows) -> Windows:
    if any(axis.size % axis.window for axis in windows.axes):
        raise InputError(
            f"every axis must be a multiple of its window, got (time, *space) {windows.shape} for "
            f"window {windows.window}; crop or pad the field, or use extract_patches"
        )
    return windows


def gather_patches(x: ArrayLike, starts: ArrayLike, spec: Spec) -> jax.Array:
    """Cuts windows at given, possibly traced, starts: for samplers that live on the device.

    Window, dilation, padding mode, fill value and footprint are the spec's; its stride and
    padding are not used, because the starts say where windows lie. Cells outside the field come
    from the padding mode, however far outside. At the starts of the patch grid the result is
    `extract_patches`, bit for bit. The gradient is a scatter-add, since starts may repeat.

    Args:
        x: Field `[*batch, time, *space, channel]`, any dtype.
        starts: First cells `[n, 1 + space axes]` in field coordinates, integers, of any size.
        spec: A `WindowSpec` or a bare window.

    Returns:
        Patches `[*batch, n, *window, channel]` of the dtype of `x`.

    Raises:
        InputError: The starts are not integers `[n, window axes]`, or a window does not fit.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.arange(12.0).reshape(4, 3, 1)  # time, company, channel
        >>> gather_patches(x, jnp.array([[0, 0], [2, 1]]), (2, 2))[..., 0].tolist()
        [[[0.0, 1.0], [3.0, 4.0]], [[7.0, 8.0], [10.0, 11.0]]]
    """
    x, spec = as_field(x), WindowSpec.of(spec)
    starts = starts_of(starts, spec)
    return _gather(x, near_starts(starts, windows_of(x.shape, spec).axes), spec)


def starts_of(starts: ArrayLike, spec: WindowSpec) -> Any:
    """First cells of windows, refused unless they are integers `[n, window axes]`."""
    # NumPy's 64 bits are kept until the starts lie near the field.
    starts = starts if isinstance(starts, jax.Array) else np.asarray(starts)
    if starts.shape[1:] != (spec.rank,) or not jnp.issubdtype(starts.dtype, jnp.integer):
        raise InputError(
            f"starts must be integers of shape (n, {spec.rank}) for the window {spec.window}, got "
            f"{starts.dtype} {starts.shape}; give one (time, *space) start per window"
        )
    return starts


def near_starts(starts: Any, axes: Axes) -> jax.Array:
    """The same windows from int32 starts near the field, so that no sample passes 2^31."""
    if starts.dtype.itemsize < 4:  # too small to hold the numbers below
        starts = starts.astype(np.int32)
    unsigned, near = np.issubdtype(starts.dtype, np.unsignedinteger), []
    for position, axis in enumerate(axes):
        start, period = starts[:, position], ring_of(axis.size, axis.mode)
        if period is not None:
            near.append(start % starts.dtype.type(period))
        else:
            # One window before the first cell, or behind the last, is as far outside as any.
            near.append(start.clip(0 if unsigned else -axis.effective, axis.size))
    return jnp.stack([jnp.asarray(start).astype(jnp.int32) for start in near], axis=1)


@functools.partial(jax.jit, static_argnames=("spec",), inline=True)
def _gather(x: jax.Array, starts: jax.Array, spec: WindowSpec) -> jax.Array:
    windows = windows_of(x.shape, spec)

    def copy(x: jax.Array, fill: np.ndarray, starts: jax.Array) -> jax.Array:
        index, inside = window_cells(starts, windows.axes)
        patches = x[(..., *index, slice(None))]
        if inside:
            everywhere = functools.reduce(jnp.logical_and, inside)[..., None]
            leading = (1,) * (patches.ndim - everywhere.ndim)
            patches = jnp.where(everywhere.reshape(leading + everywhere.shape), patches, fill)
        return masked(patches, windows.mask, fill)

    def linear(tangent: jax.Array, starts: jax.Array) -> jax.Array:
        wide = accumulator(tangent.dtype)
        return copy(tangent.astype(wide), np.zeros((), wide), starts).astype(tangent.dtype)

    return exact_copy(copy, linear, x, fill_scalar(spec.fill_value, x.dtype), starts)


def window_cells(starts: jax.Array, axes: Axes) -> tuple[list[jax.Array], list[jax.Array]]:
    """The cell that every sample of every window reads, per axis, and whether it is inside.

    Each is `(n, *window)` with 1 in place of the other axes; only constant padding has an outside.
    """
    index, inside = [], []
    for position, axis in enumerate(axes):
        samples = np.arange(axis.window, dtype=starts.dtype)[None] * axis.dilation
        samples = starts[:, position, None] + samples
        cells = source_cell(samples, axis.size, axis.mode)
        form = [samples.shape[0], *(1,) * len(axes)]
        form[1 + position] = axis.window
        index.append(cells.reshape(form))
        if axis.mode == "constant":
            inside.append((cells == samples).reshape(form))
    return index, inside


def valid_share(valid: ArrayLike, spec: Spec) -> jax.Array:
    """The share of every window that holds data.

    The mean of `valid` over the samples of the footprint. Constant padding holds no data; the
    other padding modes hold what they copy.

    Args:
        valid: Boolean `[*batch, time, *space, channel]`, True where there is data
            (`jnp.isfinite(x)` for fields with NaN gaps).
        spec: A `WindowSpec` or a bare window.

    Returns:
        Float32 `[*batch, nt, *ns, channel]` from 0 to 1.

    Raises:
        InputError: `valid` is not boolean, or a window does not fit.

    Examples:
        >>> import jax.numpy as jnp
        >>> valid = jnp.isfinite(jnp.array([1.0, jnp.nan, 2.0, 3.0]))[:, None]
        >>> valid_share(valid, (2,))[:, 0].tolist()
        [0.5, 1.0]
    """
    valid, spec = as_field(valid), WindowSpec.of(spec)
    if valid.dtype != jnp.bool_:
        raise InputError(
            f"valid must be boolean, got {valid.dtype}; pass jnp.isfinite(x) for a field with NaN"
        )
    windows = windows_of(valid.shape, spec)
    patches = _extract(valid, spec.replace(fill_value=False), flat=False, lowering="auto")
    inside = tuple(range(patches.ndim - 1 - spec.rank, patches.ndim - 1))
    samples = math.prod(windows.window) if windows.mask is None else windows.mask.sum()
    return patches.sum(inside, dtype=jnp.float32) / np.float32(samples)
