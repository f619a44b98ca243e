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

from stpatch_jax.errors import InputError, listed, require, shortened, warn


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


_ADVICE = {
    errno.ENOSPC: "make room on that disk and run again",
    errno.EDQUOT: "make room within your quota and run again",
    errno.EMFILE: "allow more with `ulimit -n 4096` and run again, nothing is damaged",
    errno.ENFILE: "close other programs and run again, nothing is damaged",
    errno.EIO: "look at that disk, and run again",
}
"""What to do where another path would not help."""

OTHER = "choose another workdir="
"""What to do where the directory of a run cannot be used."""


def errno_of(error: BaseException) -> int | None:
    """Which error of the operating system stands behind one, however a library tells it.

    >>> errno_of(ValueError("INTERNAL: Too many open files: /a")) == errno.EMFILE
    True
    """
    for one in filter(None, (error, error.__cause__, error.__context__)):
        if isinstance(one, OSError) and one.errno:
            return one.errno
        for number in _ADVICE:
            if os.strerror(number) in str(one):
                return number
    return None


def refusal(
    error: BaseException,
    *,
    path: str | Path | None = None,
    must_be: str = "usable",
    advice: str = "choose another",
) -> InputError:
    """What the operating system refused as one sentence: of which path, why, and what to do.

    Args:
        error: What was raised.
        path: What could not be used, by default the file that the error names.
        must_be: What the path must be.
        advice: What to do where it is a matter of that path.

    >>> str(refusal(OSError(errno.ENOSPC, "No space left on device", "a/b")))
    'a/b must be usable, got No space left on device; make room on that disk and run again'
    """
    number = errno_of(error)
    named = path or getattr(error, "filename", None) or "a file"
    lines = [os.strerror(number)] if number else [*str(error).splitlines(), type(error).__name__]
    name, reason = shortened(named, most=160), shortened(lines[0], most=200)
    return InputError(f"{name} must be {must_be}, got {reason}; {_ADVICE.get(number or 0, advice)}")


@contextlib.contextmanager
def usable(*, path: str | Path | None = None, **told: str) -> Iterator[None]:
    """Tells in one sentence what the operating system refuses inside; the arguments of `refusal`.

    It also decorates functions that take paths. An output that nobody reads any more passes.

    Raises:
        InputError: Something was refused.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise refusal(error, path=path, **told) from error


def require_run(path: str | Path) -> None:
    """Refuses a path that is no run directory."""
    require(
        Path(path, "config.json").exists(),
        f"{path} must be a run directory with a readable config.json, got none; give the directory "
        "of a run that `stpatch train` made",
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
        with usable(path=path, must_be="writable"):
            yield part
            for each in (part, *part.rglob("*")) if part.is_dir() else (part,):
                to_disk(each)
            part.replace(path)
            to_disk(path.parent)
    finally:
        if os.path.lexists(part):
            _remove(part)
