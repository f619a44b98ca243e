"""Packing: clips of different size as fixed rows of tokens, and back. NumPy on the host."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from stpatch_jax.errors import InputError, check_size, require


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where the tokens of one clip went: `grid` cells from `start` on in row `row`."""

    row: int
    start: int
    grid: tuple[int, ...]

    @property
    def stop(self) -> int:
        """The place behind its last token."""
        return self.start + math.prod(self.grid)


@dataclasses.dataclass(frozen=True, eq=False)
class PackedClips:
    """Clips packed into rows of tokens of one length, for a network that knows segments.

    Attributes:
        tokens: [rows, length, prod(window) * channels] in the dtype of the clips, channel fastest
            as in `patchify`; 0 at padding.
        positions: [rows, length, axes] int32, a token's (t, *space) in its clip's patch grid; 0 at
            padding.
        segment_ids: [rows, length] int32, the clips of a row counted from 1; 0 at padding.
        placements: Where each clip went, in the order in which the clips came.
    """

    tokens: np.ndarray
    positions: np.ndarray
    segment_ids: np.ndarray
    placements: tuple[Placement, ...]

    @property
    def fill_rate(self) -> float:
        """Share of the places in all rows that hold a token of a clip, 0 to 1."""
        return float((self.segment_ids != 0).mean())

    def unpack(self, values: ArrayLike) -> list[np.ndarray]:
        """Returns what rows hold for each clip, in the order in which the clips came.

        Values [rows, length, *rest], one entry per place, such as a network's features, become one
        array [*grid, *rest] per clip, in their dtype.

        Raises:
            InputError: If `values` has other rows or another length.
        """
        values = np.asarray(values)
        if values.shape[:2] != self.segment_ids.shape:
            raise InputError(
                f"values must have the axes {self.segment_ids.shape} (rows, length) in front, got "
                f"shape {values.shape}; give what was made of these rows"
            )
        return [
            values[place.row, place.start : place.stop].reshape(*place.grid, *values.shape[2:])
            for place in self.placements
        ]


def pack_clips(
    clips: Sequence[ArrayLike], window: Sequence[int], *, row_length: int, rows: int | None = None
) -> PackedClips:
    """Cuts clips of different size into non-overlapping windows and packs them into rows.

    First-fit decreasing: the clips are taken from the most tokens to the fewest, each into the
    first row with room for it; this needs at most `11/9 * fewest + 2/3` rows. Clips are never cut
    apart. An axis that is no multiple of its window is padded with zeros at its end, as a
    `WindowSpec(window, padding="COVER")` does.

    Args:
        clips: Arrays [time, *space, channel] of any lengths, with the same channels and dtype.
        window: `(time, *space)`, in cells.
        row_length: Number of tokens in a row.
        rows: Number of rows, where shapes must not change from call to call; rows left over are
            padding. None: as many as are needed.

    Raises:
        InputError: If a clip has more tokens than a row, the rows do not suffice, or the clips
            have other axes, channels or dtypes.

    Examples:
        >>> clips = [np.ones((4, 4, 6, 3)), np.ones((2, 5, 4, 3)), np.ones((2, 2, 2, 3))]
        >>> packed = pack_clips(clips, (2, 2, 2), row_length=12)
        >>> packed.tokens.shape, packed.segment_ids.tolist()[1]
        ((2, 12, 24), [1, 1, 1, 1, 1, 1, 2, 0, 0, 0, 0, 0])
        >>> [clip.shape for clip in packed.unpack(packed.tokens)]
        [(2, 2, 3, 24), (1, 3, 2, 24), (1, 1, 1, 24)]
        >>> round(packed.fill_rate, 2)
        0.79

    References:
        Johnson (1973), "Near-optimal bin packing algorithms"; Dósa (2007) for the bound. Dehghani
        et al. (2023), "Patch n' Pack: NaViT, a vision transformer for any aspect ratio and
        resolution".
    """
    window = tuple(window)
    arrays = [np.asarray(clip) for clip in clips]
    _check(arrays, window, row_length=row_length)
    grids = [
        tuple(-(-size // cells) for size, cells in zip(array.shape[:-1], window, strict=True))
        for array in arrays
    ]
    counts = np.array([math.prod(grid) for grid in grids], np.int64)
    if counts.max() > row_length:
        longest = int(counts.argmax())
        raise InputError(
            f"a clip must have at most row_length = {row_length} windows of {window}, got "
            f"{counts[longest]} in clip {longest} of shape {arrays[longest].shape}; use a larger "
            "row_length or window, or cut the clip"
        )
    row_of, starts, segments = _first_fit_decreasing(counts, row_length)
    needed = int(row_of.max()) + 1
    if rows is not None and rows < needed:
        raise InputError(
            f"rows must be at least {needed} for {len(arrays)} clips in rows of {row_length} "
            f"tokens, got {rows}; give fewer clips, more rows or a larger row_length"
        )
    form = (needed if rows is None else rows, row_length)
    values = math.prod(window) * arrays[0].shape[-1]
    tokens = np.zeros((*form, values), arrays[0].dtype)
    positions = np.zeros((*form, len(window)), np.int32)
    segment_ids = np.zeros(form, np.int32)
    placements = []
    for array, grid, row, start, segment in zip(
        arrays, grids, row_of.tolist(), starts.tolist(), segments.tolist(), strict=True
    ):
        place = Placement(row, start, grid)
        _patchify(array, window, grid, tokens[row, start : place.stop])
        positions[row, start : place.stop] = np.indices(grid).reshape(len(grid), -1).T
        segment_ids[row, start : place.stop] = segment
        placements.append(place)
    return PackedClips(tokens, positions, segment_ids, tuple(placements))


def _check(arrays: list[np.ndarray], window: tuple[int, ...], *, row_length: int) -> None:
    """Refuses a window, a row or clips that cannot be packed together."""
    check_size("row_length", row_length)
    for axis, cells in enumerate(window):
        check_size(f"window[{axis}]", cells)
    require(len(arrays) > 0, "clips must be at least one array, got none; give a clip")
    first = arrays[0]
    for number, array in enumerate(arrays):
        if array.ndim != len(window) + 1 or 0 in array.shape:
            raise InputError(
                f"a clip must have the axes (time, {len(window) - 1} space axes, channel) of the "
                f"window {window} and not be empty, got shape {array.shape} for clip {number}; "
                "add the missing axes or leave the clip out"
            )
        if (array.shape[-1], array.dtype) != (first.shape[-1], first.dtype):
            raise InputError(
                f"clips must have the same channels and dtype, got {array.shape[-1]} channels of "
                f"{array.dtype} in clip {number} and {first.shape[-1]} of {first.dtype} in clip 0; "
                "convert them"
            )


def _first_fit_decreasing(
    counts: np.ndarray, row_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns row, first place and segment number of every clip.

    Clips with equally many tokens go in together: first fit fills the first row with as many of
    them as it takes, then the next, so one pass over the rows per distinct count is enough.
    """
    row_of, starts, segments = (np.empty(len(counts), np.int64) for _ in range(3))
    used = clips_in = np.zeros(0, np.int64)
    order = np.argsort(-counts, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(counts[order])) + 1):
        count = counts[members[0]]
        takes = (row_length - used) // count
        missing = max(len(members) - int(takes.sum()), 0)
        fresh = int(-(-missing // (row_length // count)))
        used, clips_in = (np.pad(array, (0, fresh)) for array in (used, clips_in))
        filled = np.minimum(np.cumsum((row_length - used) // count), len(members))
        takes = np.diff(filled, prepend=0)
        rows = np.repeat(np.arange(len(used)), takes)
        nth = np.arange(len(members)) - (filled - takes)[rows]
        row_of[members] = rows
        starts[members] = used[rows] + nth * count
        segments[members] = clips_in[rows] + nth + 1
        used, clips_in = used + takes * count, clips_in + takes
    return row_of, starts, segments


def _patchify(
    clip: np.ndarray, window: tuple[int, ...], grid: tuple[int, ...], out: np.ndarray
) -> None:
    """Writes the windows of a clip, and zeros behind its end, to [tokens, values] in place."""
    tail = [
        (0, cells * count - size)
        for size, cells, count in zip(clip.shape, window, grid, strict=False)
    ]
    if any(after for _, after in tail):
        clip = np.pad(clip, [*tail, (0, 0)])
    rank, channels = len(window), clip.shape[-1]
    split = [extent for pair in zip(grid, window, strict=True) for extent in pair]
    clip = clip.reshape(*split, channels)
    clip = clip.transpose(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2), 2 * rank)
    # A run of whole rows: the reshape is a view, and each value is copied once.
    out.reshape(*grid, *window, channels)[...] = clip
