"""The guard around foreign parsers: whatever goes wrong in them becomes one sentence."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stpatch_jax.data.libraries import one_line
from stpatch_jax.errors import InputError
from stpatch_jax.files import has_suffix

DAMAGED = "restore the file if it is damaged, else give one of this kind"
# What bytes at the beginning tell, whatever the name says, and what can be done about it.
_ARCHIVE = "unpack it and give the file inside"
_WORKBOOK = "a workbook", "save its sheet by pandas.read_excel(path).to_csv(new, index=False)"
_OF_BOOKS = re.compile(rb"\[Content_Types\]|docProps/|xl/|opendocument")
HEAD = 1024
"""So many bytes at the beginning tell what a file is."""
_KINDS = (
    (b"PK\x03\x04", "a ZIP archive, such as .npz", _ARCHIVE),
    (b"\x1f\x8b", "a gzip archive", _ARCHIVE),
    (b"BZh", "a bzip2 archive", _ARCHIVE),
    (b"\xfd7zXZ", "an xz archive", _ARCHIVE),
    (b"(\xb5/\xfd", "a zstd archive", _ARCHIVE),
    (b"\xd0\xcf\x11\xe0", *_WORKBOOK),
    (b"PAR1", "a Parquet table", "let its name end with .parquet"),
    (b"ARROW1", "an Arrow table", "let its name end with .arrow"),
    (b"\xff\xff\xff\xff", "a stream of batches", "write a file, as pyarrow.feather does"),
    (b"%PDF", "a PDF", "give the file that it was made of"),
    (b"\x89HDF", "an HDF5 or netCDF file", "let its name end with .nc"),
    (b"CDF", "a netCDF file", "let its name end with .nc"),
    (b"GRIB", "a GRIB file", "let its name end with .grib"),
    (b"\x93NUMPY", "a .npy file", "let its name end with .npy"),
    (b"\x89PNG", "a picture", "give what it shows as numbers"),
    (b"<!DOCTYPE", "a web page", "download the file itself, maybe after logging in"),
    (b"<html", "a web page", "download the file itself, maybe after logging in"),
)


def kind_of(raw: bytes, *, wanted: str) -> tuple[str, str] | None:
    """What the `HEAD` of a file says that it is, and what to do; None for nothing or `wanted`.

    >>> kind_of(b"PAR1...", wanted="netcdf file")
    ('a Parquet table', 'let its name end with .parquet')
    """
    if raw.startswith(b"PK\x03\x04") and _OF_BOOKS.search(raw):
        return _WORKBOOK
    own = wanted.split()[0].lower()
    found = ((what, advice) for mark, what, advice in _KINDS if raw.startswith(mark))
    return next(((what, advice) for what, advice in found if own not in what.lower()), None)


@contextmanager
def parsing(path: str | Path, kind: str, *, advice: str = DAMAGED) -> Iterator[None]:
    """Turns every exception of a parser inside into an `InputError` with its reason.

    Stands around calls of other people's parsers alone, so that no fault of this library passes for
    one of a file. `kind` is what the file should be, as in "a readable netCDF file", and `advice`
    what can be done about one that is there but cannot be read.

    >>> with parsing("a.npy", "array file", advice="give another"):
    ...     raise KeyError("shape")
    Traceback (most recent call last):
    stpatch_jax.errors.InputError: a.npy must be a readable array file, got 'shape'; give another
    """
    try:
        yield
    except InputError:
        raise
    # A damaged header may claim anything.
    except MemoryError as error:
        raise InputError(
            f"{path} must be a {kind} that fits into memory, got {one_line(error)}; restore it if "
            "it is damaged, else give a part of it, as variables="
        ) from error
    except FileNotFoundError as error:
        if Path(path).exists():  # What lacks lies inside of it, as a part of a store.
            raise InputError(_unreadable(path, kind, error, advice)) from error
        raise InputError(
            f"there must be a {kind} at {path}, got none; give an existing one"
        ) from error
    except PermissionError as error:
        raise InputError(
            f"{path} must be a {kind} that may be read, got {one_line(error)}; give yourself the "
            "right to read it"
        ) from error
    # Each library has errors of its own, and mutated files bring out any other one.
    except Exception as error:
        raise InputError(_unreadable(path, kind, error, advice)) from error


def _unreadable(path: str | Path, kind: str, error: Exception, advice: str) -> str:
    if "://" in str(path):
        advice = f"look at the address and the network, else {advice}"
    elif Path(path).is_file() and not has_suffix(Path(path), ".gz"):
        with suppress(OSError), Path(path).open("rb") as file:
            if told := kind_of(file.read(HEAD), wanted=kind):
                return f"{path} must be a readable {kind}, got {told[0]}; {told[1]}"
    return f"{path} must be a readable {kind}, got {one_line(error)}; {advice}"
