"""Readers: files of many kinds to one field of (time, *space, channel)."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from stpatch_jax.data.libraries import require_library
from stpatch_jax.data.readers.arrays import array_headers, load_array, open_arrays
from stpatch_jax.data.readers.events import read_events
from stpatch_jax.data.readers.gridded import NETCDF_SUFFIXES, open_gridded
from stpatch_jax.data.readers.guard import HEAD, kind_of
from stpatch_jax.data.readers.items import (
    LabelledItems,
    read_folder,
    read_items,
)
from stpatch_jax.data.readers.nifti import NIFTI_SUFFIXES
from stpatch_jax.data.readers.tables import TABLE_SUFFIXES, read_panel
from stpatch_jax.data.readers.text import (
    TEXT_TABLES,
    read_labelled_lines,
    read_labelled_table,
    read_lines,
    read_texts,
    text_pair,
    words_of,
)
from stpatch_jax.data.readers.video import VIDEO_SUFFIXES, open_video
from stpatch_jax.data.sizes import limited
from stpatch_jax.errors import InputError, listed, require
from stpatch_jax.files import usable

__all__ = [
    "TEXT_TABLES", "LabelledItems", "array_headers", "load_array", "open_field", "read_as_told",
    "read_events", "read_folder", "read_items", "read_labelled_lines",
    "read_labelled_table", "read_lines", "read_texts", "require_library",
    "text_pair", "words_of",
]  # fmt: skip

_READERS: dict[str, Callable[..., xr.DataArray]] = {
    "netcdf": partial(open_gridded, kind="netcdf"),
    "zarr": partial(open_gridded, kind="zarr"),
    "grib": partial(open_gridded, kind="grib"),
    "arrays": open_arrays,
    "table": read_panel,
    "events": read_events,
    "video": open_video,
}
_SUFFIXES = {
    "netcdf": NETCDF_SUFFIXES,
    "zarr": (".zarr",),
    "grib": (".grib", ".grib2", ".grb", ".grb2"),
    "arrays": (".npz", ".npy"),
    "table": TABLE_SUFFIXES,
    "video": VIDEO_SUFFIXES,
}
_ZARR_FILES = ("zarr.json", ".zgroup", ".zmetadata", ".zarray")
_PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".tar", ".tgz", ".7z", ".rar")


@usable()
def open_field(
    path: str | Path,
    *,
    variables: Sequence[str] | None = None,
    format: str | None = None,
    chunks: Mapping[str, int] | str | None = None,
    most_bytes: int | None = None,
    **options: Any,
) -> xr.DataArray:
    r"""Opens a file as a field of dims (time, *space, channel).

    | format | files | read | options |
    |---|---|---|---|
    | netcdf | `.nc`, a folder of them | lazily | `time`, `select`, `missing_values` |
    | zarr | `.zarr`, a URL | lazily | `time`, `select`, `missing_values` |
    | grib | `.grib2`, with cfgrib | lazily | `time`, `select`, `missing_values` |
    | arrays | `.npy`, `.npz` | mapped, at once | `dims`, `coords`, `select`, `missing_values` |
    | table | `.csv`, `.tsv`, `.txt`, packed by gzip or not, `.parquet` | at once | `time`, ... |
    | events | text tables, on request | at once | `period`, `header`, `customer`, `date`, ... |
    | video | `.mp4`, `.avi`, `.mov`, `.mkv`, ... | lazily | |

    A field that is read lazily holds no values: `isel` and `sel` choose, and `.values` reads only
    what was chosen, anew each time. Options are those of the reader of the format: `open_gridded`,
    `open_arrays`, `read_panel`, `read_events`, `open_video`.

    Args:
        path: A file, folder or URL.
        variables: Names that become the channels; everything that fits by default.
        format: One of the formats above; by default told by the name or the folder's content.
        chunks: Chunks of dask for a lazy field, as {"time": 24}; without them dask is not used.
        most_bytes: The most bytes of memory that the file may ask for at once, see `SizeConfig`.
        options: Options of the reader.

    Returns:
        Field [time, *space, channel], with datetime64 `time` in UTC where the file gives dates
        (seconds for video, integer steps where there is no time), coordinates of space, names as
        `channel`, their units as `units` (channel) where there are any, and the attribute
        `source`.

    Raises:
        InputError: If the file is missing or damaged or its format is unknown, a library is not
            installed, a variable is unknown, times repeat, an option is none of the reader, or it
            asks for more memory than it may.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> file = Path(folder.name, "sales.csv")
    >>> _ = file.write_text("date,store,sales\n2024-01-01,A,1\n2024-01-02,A,2\n")
    >>> open_field(file).sizes
    Frozen({'time': 2, 'series': 1, 'channel': 1})
    >>> folder.cleanup()
    """
    require(
        isinstance(path, str | Path),
        f"the file must be a path or URL, got {type(path).__name__}; what is in memory goes to "
        "st.train(recipe, data=)",
    )
    kind = _guess(path) if format is None else format
    if kind not in _READERS:
        raise InputError(
            f"format must be one of {', '.join(_READERS)}, got {format!r}; choose one of them"
        )
    local = kind not in ("zarr", "netcdf", "grib")
    # A Parquet table may be a folder of parts.
    if local and not (Path(path).is_file() or (kind == "table" and Path(path).is_dir())):
        raise InputError(f"there must be a file at {path}, got none; give an existing file")
    if variables is not None:
        options = {"variables": variables, **options}
    if kind == "events" and "period" not in options:
        raise InputError('events must be counted over a period, got none; give period="7D"')
    with limited(most_bytes):
        field = read_as_told(_READERS[kind], path, options, kind=kind)
    if chunks is None:
        return field
    require_library("dask.array", purpose="chunks=", install="dask[array]")
    return field.chunk(chunks)


def read_as_told(
    reader: Callable[..., Any], path: Any, options: Mapping[str, Any], *, kind: str
) -> Any:
    """What a reader makes of a file with these options, of which it must know every one.

    Raises:
        InputError: It does not, or cannot read the file. `kind` is what it reads, for the message.
    """
    names = inspect.signature(reader).parameters
    known = [f"{name}=" for name in names if name not in ("path", "kind")]
    if unknown := [f"{name}=" for name in options if f"{name}=" not in known]:
        raise InputError(
            f"options for {kind} must be among {listed(known, most=20)}, got "
            f"{listed(unknown)}; leave that out, or give another format= or file"
        )
    return reader(path, **options)


def _guess(path: str | Path) -> str:
    name = str(path).rstrip("/").lower()
    for kind, suffixes in _SUFFIXES.items():
        if name.endswith(suffixes):
            return kind
    if "://" in name:
        return "zarr"
    if name.endswith(NIFTI_SUFFIXES):
        raise InputError(
            f"{path} must be a field in time, got a NIfTI volume; give it to classify or segment, "
            "or save volumes in time as .npy"
        )
    if name.endswith(_PACKED):
        raise InputError(
            f"{path} must be a file of data itself, got an archive ({Path(name).suffix}); unpack it"
        )
    folder = Path(path)
    if any((folder / file).exists() for file in _ZARR_FILES):
        return "zarr"
    if any(file.suffix.lower() in NETCDF_SUFFIXES for file in folder.glob("*")):
        return "netcdf"
    if not folder.exists():
        raise InputError(f"there must be a file at {path}, got none; give an existing file")
    if folder.is_dir():
        inside = sorted(file.name for file in folder.glob("*"))
        raise InputError(
            f"the folder {path} must hold netCDF files or a zarr store, got {listed(inside)}; "
            "give one of its files, or a file of all"
        )
    with folder.open("rb") as file:
        told = kind_of(file.read(HEAD), wanted="field")
    if told:
        raise InputError(f"{path} must be a file of values, got {told[0]}; {told[1]}")
    known = ", ".join(group[0] for group in _SUFFIXES.values())
    raise InputError(
        f"the format of {path} must be told by its name, got one that ends with none of "
        f"{known} or the like; say with format= which of {', '.join(_READERS)} it is, or give one "
        "of these"
    )
