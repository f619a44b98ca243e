"""Names of files, and files that appear whole or not at all."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from stpatch_jax.errors import InputError, require


def has_suffix(path: str | Path, *suffixes: str) -> bool:
    """Whether the name of a file ends with one of these, in capitals or not.

    >>> has_suffix("DCIM/MOV_0001.MP4", ".avi", ".mp4")
    True
    """
    return str(path).rstrip("/").lower().endswith(suffixes)


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


@contextlib.contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """Writes a file or folder under another name and renames it when all of it is there.

    A reader never meets half a file, and what was there before stays where the block fails.

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
    # One name, so that what a killed process left is written over.
    part = path.with_name(f".part.{path.name}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        require(not lacks_descriptors(error), no_descriptor(path))
        raise InputError(
            f"{path} must be writable, got {error.strerror or error}; choose another"
        ) from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                part.unlink()
