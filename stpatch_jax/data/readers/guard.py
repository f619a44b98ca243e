"""The guard around foreign parsers: whatever goes wrong in them becomes one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stpatch_jax.data.libraries import one_line
from stpatch_jax.errors import InputError

DAMAGED = "restore the file if it is damaged, else give one of this kind"


@contextmanager
def parsing(path: str | Path, kind: str, *, advice: str = DAMAGED) -> Iterator[None]:
    """Turns every exception of a parser inside into an `InputError` with its reason.

    Stands around calls of other people's parsers alone, so that no fault of this library passes for
    one of a file. `kind` is what the file should be, as in "a readable netCDF file", and `advice`
    what can be done about one that is there but cannot be read.

    Raises:
        InputError: Anything was raised but an interruption.

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
    return f"{path} must be a readable {kind}, got {one_line(error)}; {advice}"
