"""Windows as networks take them: of known extent, cut, or chosen where nobody did."""

import math
from collections.abc import Sequence

import jax

from stpatch_jax.errors import require
from stpatch_jax.patches.extraction import extract_patches, fill_scalar, padded, windows_of
from stpatch_jax.patches.windows import WindowSpec

Shape = Sequence[int] | None

# A map of so many patches a time, and a context of so many, train in minutes on two cores; tokens
# that look at each other cost the square of their number.
_MOST_IN_SPACE, _MOST_IN_TIME, _MOST = 256, 16, 1024
# Windows over all of time have many numbers, and a map of them weights as the square of these.
_WIDEST = 4


def chosen_windows(shape: Sequence[int], *, whole_time: bool) -> WindowSpec:
    """Windows side by side that cover an example, whatever its shape; the one rule of all networks.

    In time a window is the whole context, or, where a network looks along time itself, a part of
    it, so that there are at most 16 parts and 1,024 windows in all; where they do not divide it,
    the first value is repeated in front. A series of a panel is a window of its own, as its
    neighbours are arbitrary, unless windows that see each other would be more than 1,024. On maps
    and in volumes windows are as small as at most 256 of them allow, at least 2 cells wide, over
    the whole context at most 4, and of the widths up to half as much again that which divides an
    axis best; the rest is padded at its end by repeating the last cell.

    Args:
        shape: `(time, *space)` of an example.
        whole_time: Whether every window spans the whole context.

    >>> chosen_windows((96, 7), whole_time=True).window
    (None, 1)
    >>> chosen_windows((24, 64, 48), whole_time=False).window
    (5, 4, 4)
    """
    times, *space = shape
    if len(space) == 1:
        sides = [1 if whole_time else -(-space[0] // _MOST)]
    else:
        sides = _sides(space, _WIDEST if whole_time else max(space, default=1))
    padding: list = [(0, 0), *["COVER"] * len(space)]
    if whole_time:
        return WindowSpec((None, *sides), padding=padding, padding_mode="edge")
    cells = math.prod(-(-n // side) for n, side in zip(space, sides, strict=True))
    part = -(-times // max(1, min(_MOST_IN_TIME, _MOST // cells)))
    padding[0] = (-times % part, 0)
    return WindowSpec((part, *sides), padding=padding, padding_mode="edge")


def _sides(space: Sequence[int], widest: int) -> list[int]:
    """Widths of windows along the axes of a map or volume, of about the widest at most."""
    side = 2
    while math.prod(-(-n // side) for n in space) > _MOST_IN_SPACE and side < widest:
        side += 1
    wider = range(side, side + side // 2 + 1)
    return [min((-n % wide, wide) for wide in wider)[1] if n > side else n for n in space]


def told(spec: WindowSpec, shape: Sequence[int]) -> str:
    """Windows as people are told them.

    >>> told(WindowSpec((None, 4)), (24, 64))
    'windows of 24 x 4 cells, a grid of 1 x 16 in an example of 24 x 64'
    """
    cells = (spec.window_shape(shape), spec.grid_shape(shape), shape)
    window, grid, example = (" x ".join(map(str, of)) for of in cells)
    return f"windows of {window} cells, a grid of {grid} in an example of {example}"


def known_window(spec: WindowSpec, shape: Shape) -> tuple[int, ...]:
    """Returns the window with each None replaced by the length of its axis in `(time, *space)`."""
    if shape is not None:
        return spec.window_shape(shape)
    known = tuple(extent for extent in spec.window if extent is not None)
    require(
        len(known) == spec.rank,
        f"shape must be (time, *space) of the inputs to come, as the window {spec.window} takes a "
        "whole axis, got None; pass shape= to build",
    )
    return known


def cut_patches(
    x: jax.Array, spec: WindowSpec, window: Sequence[int], *, flat: bool = False
) -> jax.Array:
    """Cuts the patches of a network that was built for one extent of window, see `known_window`.

    Maps [batch, time, *space, channel] to [batch, nt, *ns, *window, channel], or flat to
    [batch, nt, *ns, window * channel].

    Raises:
        InputError: If an axis whose window is None has another length than then.
    """
    cells = windows_of(x.shape, spec).window
    require(
        cells == tuple(window),
        f"the windows of an input must be those that the network was built for, {tuple(window)}, "
        f"got {cells} from shape {x.shape}; where a window is None, keep to the shape given to "
        "build",
    )
    return extract_patches(x, spec, flat=flat)


def embed_patches(x: jax.Array, kernel: jax.Array, spec: WindowSpec) -> jax.Array:
    """Multiplies what each window holds by weights, `cut_patches(x) @ kernel` flattened.

    Where windows overlap, a TPU convolves the values instead: patches there are copies to and from
    memory, several times what a convolution moves. Windows side by side are a reshape, of which the
    convolution moves more (`benchmarks/compiled.py`). A GPU's convolution takes up to six times as
    long as patches and matrix (`benchmarks/device`).

    Maps [batch, time, *space, channel] and weights [*window, channel, features] to
    [batch, nt, *ns, features].

    >>> x, kernel = jax.numpy.arange(4.0).reshape(1, 4, 1), jax.numpy.ones((2, 1, 1))
    >>> embed_patches(x, kernel, WindowSpec(2, stride=1)).ravel().tolist()
    [1.0, 3.0, 5.0]
    """

    def by_patches(x: jax.Array, kernel: jax.Array) -> jax.Array:
        values = cut_patches(x, spec, kernel.shape[:-2], flat=True)
        return values @ kernel.reshape(values.shape[-1], -1)

    windows = windows_of(x.shape, spec)
    spaced = [axis for axis in windows.axes if not axis.window == axis.stride == axis.dilation == 1]
    side_by_side = all(axis.stride == axis.window and axis.dilation == 1 for axis in windows.axes)
    uneven = windows.mask is not None or any(axis.back for axis in windows.axes)
    # JAX has no gradient of a convolution on a mesh of explicit axes.
    explicit = bool(jax.typeof(x).sharding.mesh.explicit_axes)
    if side_by_side or uneven or explicit or len(spaced) > 3:
        return by_patches(x, kernel)
    # Windows of one cell in front are more of the batch; TPUs convolve at most three axes.
    alone = windows.axes.index(spaced[0])

    def by_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
        axes, letters = windows.axes[alone:], "THWD"[alone : spec.rank]
        y = padded(x, windows.axes, fill_scalar(spec.fill_value, x.dtype))
        frames = y.shape[: 1 + alone]
        y = jax.lax.conv_general_dilated(
            y.reshape(-1, *y.shape[1 + alone :]),
            kernel.reshape(kernel.shape[alone:]),
            [axis.stride for axis in axes],
            "VALID",
            rhs_dilation=[axis.dilation for axis in axes],
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        )
        return y.reshape(*frames, *y.shape[1:])

    return jax.lax.platform_dependent(x, kernel, tpu=by_convolution, default=by_patches)
