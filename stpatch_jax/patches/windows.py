"""What a window is and where windows lie: plain Python and NumPy, nothing traced."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from stpatch_jax.errors import MOST, InputError
from stpatch_jax.patches import canonical
from stpatch_jax.patches.canonical import Footprint, Padding, PaddingMode, axis_name


@dataclasses.dataclass(frozen=True)
class AxisWindows:
    """The windows along one axis of a field of known length; all numbers are cells.

    Window `g` covers the padded cells `first(g) + i * dilation`, `0 <= i < window`, and padded
    cell `p` is cell `p - lo` of the field. `first(g)` is `g * stride`, less `back` for the last.
    """

    size: int
    window: int
    stride: int
    dilation: int
    lo: int
    hi: int
    mode: PaddingMode
    back: int = 0

    @property
    def effective(self) -> int:
        """Cells from the first to the last sample: `(window - 1) * dilation + 1`."""
        return effective_window(self.window, self.dilation)

    @property
    def count(self) -> int:
        """Number of windows that fit: `(lo + size + hi + back - effective) // stride + 1`."""
        return (self.lo + self.size + self.hi + self.back - self.effective) // self.stride + 1

    def first(self, window: Any) -> Any:
        """First padded cell of a window by its number, also of NumPy and (traced) JAX integers."""
        cell = window * self.stride
        return cell - (window == self.count - 1) * self.back if self.back else cell

    @property
    def starts(self) -> tuple[int, ...]:
        """First cell of every window in field coordinates; negative inside leading padding."""
        return tuple((self.first(np.arange(self.count)) - self.lo).tolist())

    def source_cells(self) -> np.ndarray:
        """Field cell that every window sample reads, `(count, window)`; -1 in constant padding."""
        samples = np.asarray(self.starts)[:, None] + self.dilation * np.arange(self.window)
        cells = source_cell(samples, self.size, self.mode)
        return np.where((cells == samples) | (self.mode != "constant"), cells, -1)


def effective_window(window: int, dilation: int) -> int:
    """Cells that a dilated window spans, `(window - 1) * dilation + 1`."""
    return (window - 1) * dilation + 1


def source_cell(cells: Any, size: int, mode: PaddingMode) -> Any:
    """Maps cell numbers that may lie outside `[0, size)` to the cell inside that they copy.

    Constant padding copies no cell; there the nearest one is returned and the caller fills. Only
    operators are used, so NumPy and (traced) JAX integers both work.
    """
    period = ring_of(size, mode)
    if period is None:
        return cells.clip(0, size - 1)
    return cells % size if mode == "wrap" else (size - 1) - abs(size - 1 - cells % period)


def ring_of(size: int, mode: PaddingMode) -> int | None:
    """After how many cells an axis with its padding repeats itself; None where it does not."""
    return {"wrap": size, "reflect": max(2 * (size - 1), 1)}.get(mode)


@dataclasses.dataclass(frozen=True)
class Windows:
    """A spec resolved against a field of known shape: `axes` are (time, *space); hashable."""

    axes: tuple[AxisWindows, ...]
    footprint: Footprint | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells of the field along each axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of windows along each axis, `(nt, *ns)`."""
        return tuple(axis.count for axis in self.axes)

    @property
    def window(self) -> tuple[int, ...]:
        """Samples of a window along each axis."""
        return tuple(axis.window for axis in self.axes)

    @functools.cached_property
    def mask(self) -> np.ndarray | None:
        """Boolean array `(*window)` of the samples that belong to a window; None when all do."""
        if self.footprint is None:
            return None
        mask = _footprint_array(self.footprint, self.window)
        if mask.shape != self.window:
            canonical.refuse_footprint(self.window, mask.shape)
        return None if mask.all() else mask


@dataclasses.dataclass(frozen=True, eq=False)
class WindowSpec:
    """How a field is cut into windows: extent, stride, dilation, padding and footprint per axis.

    Frozen and hashable, so it is a valid static argument and closure constant. The JSON of
    `dataclasses.asdict` are arguments that make it again. Axes are `(time, *space)` with 0 to 3
    space axes; a scalar option holds for every axis, and one without entries is its default.

    Attributes:
        window: Samples per axis, or None for the whole axis. Without an entry it is open: a
            backbone's config chooses it by the data (`BackboneConfig.settled`), and it cuts nothing
            before.
        stride: Cells between window starts; None (the default) is the window itself.
        dilation: Cells between samples inside a window; the effective window is
            `(window - 1) * dilation + 1`.
        padding: `VALID` (none), `SAME` (`ceil(size / stride)` windows, as XLA pads), `CAUSAL`
            (`effective - 1` cells in front, so that no window sees later cells than the one it
            ends on), `COVER` (the tail is padded until there are
            `ceil((size - effective) / stride) + 1` windows, at least one), `FLUSH` (none: as many
            windows as COVER, of which the last is moved back to end with the axis, as MONAI and
            TorchIO do), or `(lo, hi)` in cells. With stride > effective window, or dilation > 1,
            COVER and FLUSH may still leave cells uncovered.
        padding_mode: `constant` (cells of `fill_value`), `edge`, `reflect` (without the edge cell,
            at most `size - 1` cells wide) or `wrap` (round a ring). Reflect and wrap put later
            cells in front, so with them CAUSAL is not causal.
        fill_value: What constant padding and samples outside the footprint hold.
        footprint: Which samples of a window belong to it: None for all, `ball` for those whose
            centre lies inside the ellipsoid inscribed in the window, `cylinder` for a ball in space
            and a box in time, or any boolean array of the window's shape.

    Raises:
        InputError: An entry has the wrong form; the message names the argument and the axis.

    Examples:
        >>> spec = WindowSpec((4, 16, 16), stride=(2, 8, 8), padding=("CAUSAL", "SAME", "SAME"))
        >>> spec.grid_shape((16, 64, 64))
        (8, 8, 8)
        >>> spec.axes((16, 64, 64))[0].starts[:3]
        (-3, -1, 1)
        >>> spec.replace(stride=None) == WindowSpec((4, 16, 16), padding=["CAUSAL", "SAME", "SAME"])
        True

    References:
        Output sizes of VALID and SAME: XLA operation semantics, `ConvGeneralDilated`; "footprint"
        as in `scipy.ndimage`.
    """

    window: tuple[int | None, ...]
    _: dataclasses.KW_ONLY
    stride: tuple[int | None, ...] = cast(Any, None)
    dilation: tuple[int, ...] = cast(Any, 1)
    padding: tuple[Padding, ...] = cast(Any, "VALID")
    padding_mode: tuple[PaddingMode, ...] = cast(Any, "constant")
    fill_value: bool | int | float | complex = 0
    footprint: Footprint | None = None

    if TYPE_CHECKING:
        # What a caller may write; `__post_init__` turns it into what the fields hold.
        def __init__(
            self,
            window: int | Sequence[int | None],
            *,
            stride: int | Sequence[int | None] | None = None,
            dilation: int | Sequence[int] = 1,
            padding: str | Sequence[str | Sequence[int]] = "VALID",
            padding_mode: str | Sequence[str] = "constant",
            fill_value: bool | int | float | complex = 0,
            footprint: str | Sequence | np.ndarray | None = None,
        ): ...

    def __post_init__(self) -> None:
        window: Any = self.window
        window = (window,) if not isinstance(window, Sequence | np.ndarray) else tuple(window)
        rank = len(window)
        if rank > 4:
            raise _no_windows(window)
        parsers = {
            "stride": canonical.integer_or_none,
            "dilation": canonical.integer,
            "padding": canonical.padding,
            "padding_mode": canonical.padding_mode,
        }
        values = {"window": canonical.entries(window, rank, "window", canonical.integer_or_none)}
        for name, parse in parsers.items():
            given: Any = getattr(self, name)
            given = (
                getattr(WindowSpec, name)
                if isinstance(given, tuple | list) and not given
                else given
            )
            values[name] = canonical.entries(given, rank, name, parse)
        fill_value = canonical.fill_value(self.fill_value)
        footprint = canonical.footprint(self.footprint, window)
        for name, value in {**values, "fill_value": fill_value, "footprint": footprint}.items():
            object.__setattr__(self, name, value)
        for axis, (extent, step) in enumerate(zip(self.window, self.dilation, strict=True)):
            if extent is None and step != 1:
                raise InputError(
                    f"dilation must be 1 where the window is the whole axis, got {step} along "
                    f"{axis_name(axis)}; give that axis a window"
                )

    def __repr__(self) -> str:
        # Also of one that is not whole yet, as a debugger or a copy may hold it.
        parts = (
            f"{field.name}={vars(self)[field.name]!r}"
            for field in dataclasses.fields(self)
            if field.name in vars(self)
        )
        return f"WindowSpec({', '.join(parts)})"

    @functools.cached_property
    def _key(self) -> tuple:
        # repr keeps NaN equal to itself and -0.0 apart from 0.0, which == would not.
        per_axis = self.window, self.stride, self.dilation, self.padding, self.padding_mode
        return (*per_axis, self.footprint, repr(self.fill_value))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, WindowSpec) and self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key)

    @classmethod
    def of(cls, spec: "WindowSpec | int | Sequence[int | None]") -> "WindowSpec":
        """Returns `spec` itself, or a bare window as the spec with stride = window and VALID."""
        return spec if isinstance(spec, WindowSpec) else cls(spec)

    def replace(self, **changes: Any) -> "WindowSpec":
        """The same spec with some arguments changed, as `dataclasses.replace` does."""
        return dataclasses.replace(self, **changes)

    @property
    def rank(self) -> int:
        """Number of window axes: 1 + the number of space axes."""
        return len(self.window)

    def resolve(self, shape: Sequence[int]) -> Windows:
        """Where the windows lie on a field of `(time, *space)` shape.

        Raises:
            InputError: The shape has another rank, an axis is empty, a window is longer than its
                padded axis, or reflect padding is wider than the axis allows.
        """
        if not self.window:
            raise _no_windows(self.window)
        whole = isinstance(shape, str) or getattr(shape, "ndim", 1) == 0
        if whole or not hasattr(shape, "__len__") or len(shape) != self.rank:
            raise InputError(
                f"the shape must have one entry per window axis (time, *space) of the window "
                f"{self.window}, got {shape!r}; give one size for each axis of time and space, "
                "none for batch and channel"
            )
        shape = canonical.entries(tuple(shape), self.rank, "the shape", canonical.integer)
        axes = tuple(self._axis(axis, size, shape) for axis, size in enumerate(shape))
        return Windows(axes, self.footprint)

    def axes(self, shape: Sequence[int]) -> tuple[AxisWindows, ...]:
        """The windows along each axis of a `(time, *space)` shape, as in `resolve`."""
        return self.resolve(shape).axes

    def _axis(self, axis: int, size: int, shape: tuple[int, ...]) -> AxisWindows:
        # An extent or a stride is None or at least 1.
        window = self.window[axis] or size
        stride = self.stride[axis] or window
        dilation, mode = self.dilation[axis], self.padding_mode[axis]
        lo, hi = _pad_widths(self.padding[axis], size, effective_window(window, dilation), stride)
        if mode == "reflect" and max(lo, hi) > size - 1:
            raise InputError(
                f"padding must be at most {size - 1} cells wide with padding_mode reflect on an "
                f"axis of {size} cells, got {(lo, hi)} along {axis_name(axis)}; pad less or use "
                "edge or wrap"
            )
        if lo + size + hi > MOST:
            raise InputError(
                f"a padded axis must have at most {MOST} cells, got "
                f"{lo + size + hi} along {axis_name(axis)}; use a shorter window or less padding"
            )
        # How far windows one stride apart would pass the end, where one more is wanted.
        beyond = (effective_window(window, dilation) - size) % stride
        back = beyond if self.padding[axis] == "FLUSH" else 0
        resolved = AxisWindows(size, window, stride, dilation, lo, hi, mode, back)
        if resolved.effective > lo + size + hi:
            dilated = f" with dilation {self.dilation}" if dilation > 1 else ""
            along = zip(self.window, self.dilation, shape, self.padding, strict=True)
            padding = tuple(
                "SAME" if effective_window(extent or cells, step) > cells else own
                for extent, step, cells, own in along
            )
            raise InputError(
                f"window must be no longer than the input {shape} along {axis_name(axis)}, got "
                f"{self.window}{dilated}; use a shorter window or padding={padding}"
            )
        return resolved

    def grid_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Number of windows along each axis, `(nt, *ns)`, for a `(time, *space)` shape."""
        return self.resolve(shape).grid

    def window_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Samples of a window along each axis, with None replaced by the axis length."""
        return self.resolve(shape).window


def _no_windows(window: tuple) -> InputError:
    return InputError(
        f"window must have 1 to 4 entries (time and 0 to 3 space axes), got {window}; give one "
        "extent per axis"
    )


def _pad_widths(padding: Padding, size: int, effective: int, stride: int) -> tuple[int, int]:
    """Cells added in front of and behind an axis."""
    if padding in ("VALID", "FLUSH"):
        return 0, 0
    if padding == "CAUSAL":
        return effective - 1, 0
    if padding == "SAME":
        total = max((-(-size // stride) - 1) * stride + effective - size, 0)
        return total // 2, total - total // 2
    if padding == "COVER":
        count = max(-(-(size - effective) // stride), 0) + 1
        return 0, max((count - 1) * stride + effective - size, 0)
    lo, hi = padding
    return int(lo), int(hi)


OPEN = WindowSpec(())
"""Windows that are not chosen yet."""


def _footprint_array(footprint: str | tuple, window: tuple[int, ...]) -> np.ndarray:
    if not isinstance(footprint, str):
        return np.asarray(footprint, bool)
    # Whole numbers, because samples on the rim must not depend on rounding: a centre is
    # (2 i + 1 - w) / w half windows from the middle, brought to the product of all windows.
    volume = math.prod(window)
    centres = [(2 * np.arange(extent) + 1 - extent) * (volume // extent) for extent in window]
    if footprint == "cylinder":
        centres[0] = np.zeros(window[0], np.int64)
    squares = np.meshgrid(*(centre**2 for centre in centres), indexing="ij")
    return np.sum(squares, axis=0) <= volume**2
