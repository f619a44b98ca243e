"""Arrays in `.npy` and `.npz` files."""

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import xarray as xr

from stpatch_jax.data.readers.axes import field_dim
from stpatch_jax.data.readers.conventions import add_note, sorted_by_time
from stpatch_jax.data.readers.dates import is_dated, read_times
from stpatch_jax.data.readers.decoding import number_as
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.data.readers.selecting import selected
from stpatch_jax.data.sizes import check_bytes
from stpatch_jax.errors import InputError, listed, near, respelt, spelt
from stpatch_jax.files import has_suffix

_KIND = ".npz or .npy file of numbers"
_HEADER_BYTES = 2**16
# Dims of an array beside a time array of the length of its first axis; with three axes, the last
# one may be space or channels.
_GUESSES = {
    1: ("time",),
    2: ("time", "channel"),
    4: ("time", "y", "x", "channel"),
    5: ("time", "z", "y", "x", "channel"),
}


class Header(NamedTuple):
    """Shape and type of an array that is not read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


def open_arrays(
    path: str | Path,
    *,
    variables: Sequence[str] | None = None,
    dims: Sequence[str] | None = None,
    coords: Mapping[str, str] | None = None,
    missing_values: Sequence[float] = (),
    select: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Reads a `.npz` file, or maps a `.npy` file into memory, as a field.

    Args:
        path: The file.
        variables: Names of arrays in a `.npz` file. One array gives its own channels, several
            arrays without a channel axis become one channel each. By default, the only array
            with more than one axis.
        dims: Names of the axes, among them "time"; "channel" may be left out. By default, they are
            guessed where an array `time` has the length of the first axis and of no other one, and
            the number of axes leaves no doubt: (time), (time, channel), (time, y, x, channel) or
            (time, z, y, x, channel).
        coords: Dims whose coordinates are another array of the `.npz` file, as
            `{"time": "dates"}`; an array `time` is found without.
        missing_values: Numbers that stand for a missing value; they become NaN.
        select: The one position to read of an axis too many, as {"level": 500}.

    Returns:
        Field [time, *space, channel]; without an array of times, these are integer steps.

    Raises:
        InputError: If the file is damaged, an array is unknown, its axes are not clear, or a
            channel has no value at all.
    """
    file = Path(path)
    headers = array_headers(file)
    asked = [variables] if isinstance(variables, str) else variables
    along, called = list(coords or {}), [*(coords or {}).values(), *(asked or ())]
    found = spelt(called, headers)
    notes = respelt(called, found)
    given = {"time": "time"} if "time" in headers else {}
    given |= dict(zip(along, found, strict=False))
    asked = None if asked is None else found[len(along) :]
    names = _choose(headers, asked, tuple(given.values()), file.name)
    if "time" not in given and (found := _dates(file, headers, names, dims)):
        given["time"] = found
        notes += [f"The times are those of the array {found}."]
    if objects := [name for name in given.values() if headers[name].dtype.hasobject]:
        raise InputError(
            f"the array {objects[0]} of {file.name} must hold dates, numbers or texts, got Python "
            "objects; save it again, for example by astype('datetime64[s]') or astype(str)"
        )
    # A .npy file is only mapped, but for the marks of what is missing.
    held = [headers[name] for name in names if missing_values or not has_suffix(file, ".npy")]
    wanted = sum(header.nbytes for header in held) + 8 * sum(headers[names[0]].shape)
    check_bytes(wanted, f"what is read of {file.name}")
    arrays = {name: load_array(file, name) for name in [*names, *given.values()]}
    values, time = [arrays[name] for name in names], arrays.get(given.get("time", ""))
    field, told = _with_coords(
        _field(values, names, dims, time, file.name), given, arrays, file.name
    )
    notes += told
    if unread := [name for name in headers if name not in arrays]:
        notes.append(f"Arrays that were not read: {listed(unread)}.")
    field, chosen = selected(field, select or {}, name=file.name)
    if own := {dim: field_dim(dim) for dim in field.dims[1:-1] if field_dim(dim) != dim}:
        chosen += [f"The axis {dim} is called {name}." for dim, name in own.items()]
        field = field.rename(own)
    if missing_values:
        numbers = [number_as(number, field.dtype) for number in missing_values]
        field = field.where(~field.isin([number for number in numbers if number is not None]))
    field.attrs = {"source": str(path)}
    field = sorted_by_time(add_note(field, *notes, *chosen), name=file.name)
    check_channels(field)
    return field


def array_headers(file: Path) -> dict[str, Header]:
    """Shape and type of the arrays of a `.npz` file by name; that of a `.npy` file is `value`.

    Raises:
        InputError: If the file is missing or damaged or holds Python objects.
    """
    with parsing(file, _KIND):
        if has_suffix(file, ".npy"):
            with file.open("rb") as stored:
                # Named after nothing, so that another file holds the same channels.
                return {"value": _header(stored, file.name, file.stat().st_size)}
        with zipfile.ZipFile(file) as archive:
            headers = {}
            for entry in archive.infolist():
                with archive.open(entry) as stored:
                    header = _header(stored, entry.filename, entry.file_size)
                    headers[entry.filename.removesuffix(".npy")] = header
        return headers


def _header(stored: IO[bytes], name: str, size: int) -> Header:
    """Shape and type of an array of a file of `size` bytes, of which the first line is unpacked."""
    # However long the line claims to be.
    stored = io.BytesIO(stored.read(_HEADER_BYTES))
    version = np.lib.format.read_magic(stored)
    first = np.lib.format.read_array_header_1_0
    read = first if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stored)
    # NumPy makes room for what an array claims before it reads any of it.
    header, held = Header(shape, dtype), size - stored.tell()
    if not dtype.hasobject and header.nbytes != held:
        raise ValueError(f"{held} bytes of {name} that has {header.nbytes}")
    return header


def load_array(file: Path, name: str) -> np.ndarray:
    """One array of a `.npz` file, or the array of a `.npy` file as a map of the file.

    Raises:
        InputError: If the file is damaged or the array holds Python objects.
    """
    with parsing(file, _KIND):
        if has_suffix(file, ".npy"):
            return np.load(file, mmap_mode="r", allow_pickle=False)
        check_bytes(array_headers(file)[name].nbytes, f"the array {name} of {file.name}")
        with np.load(file, allow_pickle=False) as archive:
            return archive[name]


def check_channels(field: xr.DataArray) -> None:
    """Refuses a field in memory that has a channel without any value."""
    if field.dtype.kind != "f":
        return
    # In blocks of rows, as one is mostly enough and not all may fit into memory.
    rows = max(1, 2**20 // max(1, math.prod(field.shape[1:])))
    blocks = [field.values[first : first + rows] for first in range(0, len(field), rows)]
    for at, channel in enumerate(field.channel.values):
        if all(np.isnan(block[..., at]).all() for block in blocks):
            raise InputError(
                f"every channel of {Path(field.attrs['source']).name} must have values, got none "
                f"for channel {channel}; leave it out with variables="
            )


def _choose(
    arrays: Mapping[str, Header],
    asked: Sequence[str] | None,
    coords: tuple[str, ...],
    name: str,
) -> list[str]:
    there = listed(f"{key} {value.shape}" for key, value in arrays.items())
    if unknown := [key for key in [*(asked or []), *coords] if key not in arrays]:
        raise InputError(
            f"the arrays must be among those of {name} ({there}), got {listed(unknown)}; "
            f"{near(unknown, arrays)}"
        )
    if asked is None:
        asked = [key for key, value in arrays.items() if len(value.shape) > 1] or list(arrays)
        asked = [key for key in asked if key not in coords]
        if len(asked) != 1:
            raise InputError(
                f"it must be clear which array of {name} is the field, got {there}; choose with "
                "variables="
            )
    wrong = [key for key in asked if arrays[key].dtype.kind not in "biuf"]
    if objects := [key for key in wrong if arrays[key].dtype.hasobject]:
        raise InputError(
            f"the array {objects[0]} of {name} must hold numbers, got Python objects; save it "
            "again, for example by astype('float32')"
        )
    if wrong or not asked:
        raise InputError(
            f"the field must be an array of numbers, got {listed(wrong)} of {name}; choose with "
            f"variables= from {there}"
        )
    return list(asked)


def _dates(
    file: Path, headers: Mapping[str, Header], names: Sequence[str], dims: Sequence[str] | None
) -> str | None:
    """The one array of dates that is as long as the axis of time, by default the first one."""
    shape = headers[names[0]].shape
    at = dims.index("time") if dims and "time" in dims else 0
    found = [
        name
        for name, header in headers.items()
        if header.shape == shape[at : at + 1]
        and (header.dtype.kind == "M" or (header.dtype.kind in "US" and _is_dated(file, name)))
    ]
    return found[0] if len(found) == 1 else None


def _is_dated(file: Path, name: str) -> bool:
    return is_dated(xr.Variable("time", load_array(file, name)), name=name)


def _guess(value: np.ndarray, time: np.ndarray | None, name: str) -> tuple[str, ...]:
    first = value.shape[:1]
    clear = time is not None and time.shape == first and value.shape.count(*first) == 1
    if not value.ndim:
        raise InputError(
            f"the array in {name} must have an axis of time, got one number; give another file"
        )
    if not clear or value.ndim not in _GUESSES:
        example = ("time", *("v", "w", "z", "y", "x")[-min(value.ndim - 1, 5) :][: value.ndim - 1])
        raise InputError(
            f"the axes {value.shape} of the array in {name} must be known, got axes that leave "
            f"room for doubt; name them with dims=, for example dims={example}".replace("'", '"')
        )
    return _GUESSES[value.ndim]


def _field(
    values: Sequence[np.ndarray],
    names: Sequence[str],
    dims: Sequence[str] | None,
    time: np.ndarray | None,
    name: str,
) -> xr.DataArray:
    """The arrays as one field in the order (time, *space, channel), without a copy of one array."""
    first = values[0]
    if any(value.shape != first.shape for value in values):
        shapes = (f"{each} {value.shape}" for each, value in zip(names, values, strict=True))
        raise InputError(
            "arrays that become channels of one field must have the same shape, got "
            f"{listed(shapes)}; choose with variables="
        )
    if dims is None:
        dims = _guess(first, time, name)
    elif len(dims) != first.ndim or "time" not in dims or len(set(dims)) < len(dims):
        raise InputError(
            f"dims must name each of the {first.ndim} axes of {names[0]} {first.shape} once, among "
            f"them time, got {tuple(dims)}; correct dims="
        )
    if "channel" in dims and len(values) > 1:
        raise InputError(
            f"several arrays must have no channel axis of their own, got dims {tuple(dims)} for "
            f"{listed(names)}; choose one with variables="
        )
    space = tuple(dim for dim in dims if dim not in ("time", "channel"))
    labels = list(names)
    if "channel" in dims:
        field = xr.DataArray(first, dims=dims)
        labels = [f"{names[0]}_{at}" for at in range(field.sizes["channel"])]
    else:
        stacked = first[..., None] if len(values) == 1 else np.stack(values, -1)
        field = xr.DataArray(stacked, dims=(*dims, "channel"))
    field = field.transpose("time", *space, "channel")
    steps = {dim: np.arange(field.sizes[dim]) for dim in ("time", *space)}
    return field.assign_coords({**steps, "channel": labels})


def _with_coords(
    field: xr.DataArray, keys: Mapping[str, str], arrays: Mapping[str, np.ndarray], name: str
) -> tuple[xr.DataArray, tuple[str, ...]]:
    """The field with arrays as the coordinates of dims, and notes on its times."""
    notes = () if "time" in keys else ("The rows are numbered, as no array tells their times.",)
    for dim, key in keys.items():
        marks = arrays[key]
        if dim not in field.dims or marks.shape != (field.sizes[dim],):
            raise InputError(
                f"array {key} of {name} must have one entry for each of the "
                f"{field.sizes.get(dim, 0)} along {dim} to be its coordinate, got shape "
                f"{marks.shape}; correct coords= or dims="
            )
        coord: Any = marks
        if dim == "time":
            with parsing(f"{key} of {name}", "array of times", advice="correct its dates"):
                times = xr.DataArray(marks, dims="time", name=key)
            coord, notes = read_times([times], name=name)
        field = field.assign_coords({dim: coord})
    return field, notes
