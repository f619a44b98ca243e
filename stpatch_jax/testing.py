"""Helpers for tests: plain NumPy versions of the operators, and a check of adjoint pairs.

The references share no index arithmetic with the operators: windows come from
`numpy.lib.stride_tricks.sliding_window_view`, padding from `numpy.pad`, footprints from a loop.
They are slow and meant for small arrays.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import jax
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stpatch_jax.patches.extraction import Spec
from stpatch_jax.patches.windows import WindowSpec


def reference_extract_patches(x: jax.Array | np.ndarray, spec: Spec) -> np.ndarray:
    """Patches by NumPy: pad every axis, view its windows, copy; equals `extract_patches` exactly.

    Args:
        x: Field `[*batch, time, *space, channel]`, any dtype.
        spec: A `WindowSpec` or a bare window.

    Returns:
        Patches `[*batch, nt, *ns, *window, channel]` of the dtype of `x`.

    Raises:
        InputError: The spec does not fit the field.

    Examples:
        >>> x = np.arange(4.0)[:, None]
        >>> reference_extract_patches(x, WindowSpec((2,), stride=1))[..., 0].tolist()
        [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    """
    x, spec = np.asarray(x), WindowSpec.of(spec)
    first = x.ndim - spec.rank - 1
    spec.resolve(x.shape[max(first, 0) : -1])  # only to refuse what does not fit
    fill = np.asarray(spec.fill_value).astype(x.dtype)
    window, stride = [], []
    for position in range(spec.rank):
        size = x.shape[first + position]
        window.append(spec.window[position] or size)
        stride.append(spec.stride[position] or window[-1])
        widths = [(0, 0)] * x.ndim
        widths[first + position] = _pad_widths(spec, position, size)
        mode: Any = spec.padding_mode[position]
        x = np.pad(x, widths, mode, **({"constant_values": fill} if mode == "constant" else {}))
    effective = [(extent - 1) * gap + 1 for extent, gap in zip(window, spec.dilation, strict=True)]
    # The view is (*batch, *starts, channel, *effective).
    view = sliding_window_view(x, effective, axis=tuple(range(first, first + spec.rank)))
    samples = tuple(slice(None, None, gap) for gap in spec.dilation)
    patches = np.moveaxis(view[(..., slice(None), *samples)], first + spec.rank, -1)
    for position, (step, name) in enumerate(zip(stride, spec.padding, strict=True)):
        starts = list(range(0, patches.shape[first + position], step))
        if name == "FLUSH":
            starts = sorted({*starts, patches.shape[first + position] - 1})
        patches = patches.take(starts, first + position)
    if spec.footprint is not None:
        patches[..., ~_footprint(spec, window), :] = fill
    return patches


def reference_fold_patches(
    patches: jax.Array | np.ndarray, spec: Spec, shape: Sequence[int]
) -> np.ndarray:
    """Folded sum by NumPy: every patch sample is added to the cell that it was read from.

    Equals `fold_patches(patches, spec, shape, reduce="sum")` up to rounding.

    Args:
        patches: Patches `[*batch, nt, *ns, *window, channel]`, any dtype.
        spec: A `WindowSpec` or a bare window.
        shape: The field's `(time, *space)`.

    Returns:
        Field `[*batch, time, *space, channel]`, summed in float64, complex128 or int64.

    Raises:
        InputError: The spec does not fit the shape.

    Examples:
        >>> patches = np.array([[1, 2], [10, 20]])[..., None]
        >>> reference_fold_patches(patches, WindowSpec((2,), stride=1), (3,))[:, 0].tolist()
        [1, 12, 20]
    """
    patches, spec = np.asarray(patches), WindowSpec.of(spec)
    numbers = np.arange(np.prod(shape)).reshape(*shape, 1)
    cells = reference_extract_patches(numbers, spec.replace(fill_value=-1))[..., 0]
    batch = patches.shape[: patches.ndim - cells.ndim - 1]
    patches = patches.reshape(-1, cells.size, patches.shape[-1]).astype(_wide(patches.dtype))
    field = np.zeros((patches.shape[0], numbers.size, patches.shape[-1]), patches.dtype)
    inside = cells.ravel() >= 0
    for example, values in zip(field, patches, strict=True):
        np.add.at(example, cells.ravel()[inside], values[inside])
    return field.reshape(*batch, *shape, -1)


def assert_adjoint(
    forward: Callable[[Any], Any],
    adjoint: Callable[[Any], Any],
    x: jax.Array | np.ndarray,
    y: jax.Array | np.ndarray,
    *,
    rtol: float = 1e-5,
) -> None:
    """Asserts `<forward(x), y> == <x, adjoint(y)>`, the dot product test of a linear operator.

    Both products are taken in float64 (complex128, the first factor conjugated). They may differ
    by `rtol` times the sum of the magnitudes of their terms.

    Args:
        forward: A linear function of one array.
        adjoint: What should be its adjoint.
        x: A point of the domain of `forward`, best random.
        y: A point of its range.
        rtol: Relative tolerance.

    Raises:
        AssertionError: The products differ or a shape does not fit; tells both.

    Examples:
        >>> matrix = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> x, y = np.array([1.0, -1.0]), np.array([1.0, 0.5, 2.0])
        >>> assert_adjoint(lambda v: matrix @ v, lambda v: matrix.T @ v, x, y)
        >>> assert_adjoint(lambda v: matrix @ v, lambda v: v @ matrix * 2, x, y)
        Traceback (most recent call last):
        AssertionError: <forward(x), y> is -3.5 but <x, adjoint(y)> is -7.0

    References:
        J. F. Claerbout, "Earth Soundings Analysis: Processing versus Inversion", 1992 (dot
        product test).
    """
    left, left_size = _dot("forward(x)", forward(x), "y", y)
    right, right_size = _dot("x", x, "adjoint(y)", adjoint(y))
    # Written so that NaN and infinity fail.
    if not abs(left - right) <= rtol * max(left_size, right_size) < np.inf:
        raise AssertionError(f"<forward(x), y> is {left} but <x, adjoint(y)> is {right}")


def _dot(first_name: str, first: Any, second_name: str, second: Any) -> tuple[Any, float]:
    """The inner product of two arrays, and the sum of the magnitudes of its terms."""
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape:
        raise AssertionError(
            f"{first_name} and {second_name} must have one shape, got {a.shape} and {b.shape}"
        )
    a, b = a.astype(_wide(a.dtype, np.float64)), b.astype(_wide(b.dtype, np.float64))
    return np.vdot(a, b).item(), float(np.vdot(abs(a), abs(b)))


def _wide(dtype: np.dtype, whole: type = np.int64) -> type:
    if np.issubdtype(dtype, np.complexfloating):
        return np.complex128
    return whole if dtype.kind in "biu" else np.float64


def _pad_widths(spec: WindowSpec, position: int, size: int) -> tuple[int, int]:
    """Cells in front and behind, by counting windows rather than by the library's formulas."""
    padding, window = spec.padding[position], spec.window[position] or size
    stride = spec.stride[position] or window
    effective = (window - 1) * spec.dilation[position] + 1
    if not isinstance(padding, str):
        return padding
    if padding in ("VALID", "FLUSH"):
        return 0, 0
    if padding == "CAUSAL":
        return effective - 1, 0
    if padding == "SAME":
        last_start = (len(range(0, size, stride)) - 1) * stride
        short = max(last_start + effective - size, 0)
        return short // 2, short - short // 2
    end = effective
    while end < size:
        end += stride
    return 0, end - size


def _footprint(spec: WindowSpec, window: Sequence[int]) -> np.ndarray:
    if not isinstance(spec.footprint, str):
        return np.asarray(spec.footprint, bool)
    mask = np.zeros(window, bool)
    for sample in np.ndindex(*window):
        # Exact, because on the rim a rounded radius would make a lopsided ball.
        centre = [Fraction(2 * i + 1 - n, n) for i, n in zip(sample, window, strict=True)]
        if spec.footprint == "cylinder":
            centre = centre[1:]
        mask[sample] = sum(c * c for c in centre) <= 1
    return mask
