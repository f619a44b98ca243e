"""Names of files, JSON, and files that appear whole or not at all."""

import contextlib
import errno
import glob
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stpatch_jax.errors import InputError, listed, require, warn


def has_suffix(path: str | Path, *suffixes: str) -> bool:
    """Whether the name of a file ends with one of these, in capitals or not.

    >>> has_suffix("DCIM/MOV_0001.MP4", ".avi", ".mp4")
    True
    """
    return str(path).rstrip("/").lower().endswith(suffixes)


def to_json(values: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """Values as JSON that every reader takes: a ValueError where a number is not finite.

    >>> to_json({"mae": None})
    '{"mae": null}'
    """
    return json.dumps(values, indent=indent, sort_keys=sort_keys, allow_nan=False)


def from_json(text: str | bytes) -> Any:
    """What a JSON text holds: a ValueError where it is none, as by NaN or too many brackets.

    >>> from_json('{"mae": NaN}')
    Traceback (most recent call last):
    ValueError: NaN is no JSON
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deep") from error


def lacks_descriptors(error: BaseException) -> bool:
    """Whether a process has as many files open as it may, however a library tells it.

    >>> lacks_descriptors(ValueError("INTERNAL: Too many open files: /a"))
    True
    """
    whole = (error, error.__cause__, error.__context__)
    many = os.strerror(errno.EMFILE)
    return any(getattr(one, "errno", 0) == errno.EMFILE or many in str(one) for one in whole)


def no_descriptor(path: str | Path) -> str:
    """What to say of a file where `lacks_descriptors` holds."""
    return (
        f"{path} must be opened, got as many open files as this process may have; allow more with "
        "`ulimit -n 4096` and run again, nothing is damaged"
    )


LOCK = ".stpatch-lock"
"""The name of the file by which a command holds a folder."""

_UNFINISHED = ".stpatch-part."
"""What the names of files and folders in the making begin with."""


def unfinished(path: Path) -> Path:
    """The name under which a file or folder is made, beside its own; the suffixes are the same."""
    return path.with_name(f"{_UNFINISHED}{path.name}")


def is_own(path: Path) -> bool:
    """Whether a file or folder is a lock or in the making: of a command, not of what it makes."""
    return path.name.startswith((_UNFINISHED, LOCK))


def clear_unfinished(*folders: Path, name: str = "*") -> str:
    """Removes what killed commands left in folders, in the making of `name`, by default of all.

    Returns the words that tell it, none where there was nothing.
    """
    begun = _UNFINISHED + (name if name == "*" else glob.escape(name))
    left = [path for folder in folders for end in ("", "~*") for path in folder.glob(begun + end)]
    for path in left:
        _remove(path)
    names = sorted({path.name for path in left})
    return f"removed from {folders[0]} what a killed command left: {listed(names)}" if left else ""


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def to_disk(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        # A file system that cannot do this for a folder says so by EINVAL.
        with contextlib.nullcontext() if path.is_file() else contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """Writes a file or folder under another name and renames it when all of it is on disk.

    A reader never meets half a file, and what was there before stays where the block fails, or
    the machine. What a killed process left under that name is cleared, and told by a warning.

    Args:
        path: What is to be written; a file is replaced, a folder must not exist yet.

    Yields:
        The path to write to, in the same folder and with the same suffixes.

    Raises:
        InputError: The file system refuses it.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replaced(folder / "a.txt") as part:
    ...     _ = part.write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['a.txt']
    """
    path = Path(path)
    part = unfinished(path)
    if os.path.lexists(part):
        _remove(part)
        warn(f"removed what a killed command left: {part}", stacklevel=3)
    try:
        yield part
        for each in (part, *part.rglob("*")) if part.is_dir() else (part,):
            to_disk(each)
        part.replace(path)
        to_disk(path.parent)
    except OSError as error:
        require(not lacks_descriptors(error), no_descriptor(path))
        raise InputError(
            f"{path} must be writable, got {error.strerror or error}; choose another"
        ) from error
    finally:
        _remove(part)
