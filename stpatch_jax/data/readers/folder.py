"""A folder of files that follow each other in time as one field."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.readers.conventions import add_note, notes_of, sorted_by_time
from stpatch_jax.data.readers.lazy import LazyArray, as_slice
from stpatch_jax.data.times import calendar_of, time_text
from stpatch_jax.errors import InputError, listed, require, warn


def files_inside(folder: Path, suffixes: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The files of a folder that end with some suffixes, in any case, and the names of the others.

    Names that begin with a dot are neither.
    """
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name.lower())
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    chosen = [entry for entry in entries if entry.suffix.lower() in suffixes]
    return chosen, [entry.name for entry in entries if entry not in chosen]


def follow(fields: Mapping[str, xr.DataArray]) -> xr.DataArray:
    """Fields (time, *space, channel) of files by name as one field, sorted by time, lazily.

    Every one is brought to the channels, units and grid of the first, see `FieldIdentity.match`.

    Raises:
        InputError: One is of another kind, or a time is in two files.
    """
    (first, field), *others = fields.items()
    # Which reads axes as the files of this room do.
    from stpatch_jax.data.identity import FieldIdentity

    identity = FieldIdentity.of(field)
    pieces, told = [field], {note: [first] for note in notes_of(field)}
    doubts: dict[str, None] = {}
    for name, other in others:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            matched, _ = identity.match(other, name=name, like=first)
        doubts |= dict.fromkeys(str(one.message).removeprefix(f"{name}: ") for one in caught)
        for note in notes_of(matched):
            told.setdefault(note, []).append(name)
        pieces.append(matched)
        if identity.step is None:  # Of a file of one time nothing tells it.
            identity = replace(identity, step=FieldIdentity.of(matched).step)
    times, counted = _times(fields)
    if counted:
        told["The files tell no times: their rows are counted, in the order of their names."] = [
            *fields
        ]
    coords = {name: coord.variable for name, coord in field.coords.items() if name != "time"}
    whole = FollowingFields(pieces).field(
        list(map(str, field.dims)), {**coords, "time": ("time", times, field.time.attrs)}
    )
    whole.attrs, whole.encoding = {**field.attrs, "notes": ()}, dict(field.encoding)
    for note, names in told.items():
        where = "" if len(names) == len(fields) else f"In {listed(names)}: "
        whole = add_note(whole, f"{where}{note}")
        if note in doubts:
            warn(f"{where}{note}", stacklevel=4)
    return sorted_by_time(whole, name="the folder")


def _times(fields: Mapping[str, xr.DataArray]) -> tuple[np.ndarray, bool]:
    """The times of the rows of all files, and whether they are only counted, as none tells them."""
    parts = {name: field.time.values for name, field in fields.items()}
    dated = {calendar_of(times) is not None: name for name, times in parts.items()}
    require(
        len(dated) == 1,
        f"all files of a folder must tell times alike, got dates in {dated.get(True)} and numbers "
        f"in {dated.get(False)}; add the dates that are missing",
    )
    times = np.concatenate(list(parts.values()))
    if False in dated and all((part == np.arange(len(part))).all() for part in parts.values()):
        return np.arange(len(times)), True
    order = np.argsort(times, kind="stable")
    again = np.flatnonzero(times[order][1:] == times[order][:-1])
    if len(again):
        rows = order[again[0] : again[0] + 2]
        names = np.repeat(list(parts), [len(part) for part in parts.values()])[rows]
        one, other = (parts[name] for name in names)
        twice = np.isin(one, other).all() or np.isin(other, one).all()
        raise InputError(
            f"every time of a folder must be in one of its files, got {time_text(times[rows[0]])} "
            f"in {' and in '.join(names)}, and {len(again)} such times in all; "
            f"{'leave one of them out' if twice else 'cut what both hold off one of them'}"
        )
    return times, False


class FollowingFields(LazyArray):
    """Fields of one grid, one after the other in time, as one array [time, *space, channel]."""

    def __init__(self, pieces: Sequence[xr.DataArray]):
        self.pieces = [piece.variable for piece in pieces]
        self.starts = np.cumsum([0, *map(len, pieces)])
        self.shape = (int(self.starts[-1]), *pieces[0].shape[1:])
        self.dtype = np.result_type(*(piece.dtype for piece in pieces))

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """See `LazyArray.read`."""
        picked = [np.arange(length)[part] for length, part in zip(self.shape, key, strict=True)]
        block = np.empty([len(positions) for positions in picked], self.dtype)
        for piece, start, end in zip(self.pieces, self.starts, self.starts[1:], strict=False):
            inside = (picked[0] >= start) & (picked[0] < end)
            if inside.any() and block.size:
                where = (as_slice(picked[0][inside] - start), *key[1:])
                block[inside] = piece.isel(dict(zip(piece.dims, where, strict=True))).to_numpy()
        return block
