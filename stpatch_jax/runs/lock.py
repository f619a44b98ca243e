"""One command at a time on a run directory, on any file system, whatever became of the last one."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from stpatch_jax.errors import require, warn
from stpatch_jax.files import LOCK, OTHER, clear_unfinished, from_json, to_json, usable

_PATIENCE = 2.0
"""Seconds after which a lock without words counts as one whose maker was killed meanwhile."""

_SAID = {"host": str, "pid": int, "started": str}
"""What a lock says of who made it."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a folder, made where it is missing, for the length of a block, against other commands.

    The lock is a file that says which process of which host made it, and since when that ran; what
    any clock says does not count. One that a killed process of this host left is taken over, by one
    of those that find it; what it left unfinished, in `plots/` too, is removed; both are told. A
    process that is stopped holds its lock. Of the processes of one run the first holds it for all.

    Raises:
        InputError: Another command holds it, or the folder cannot be written.
    """
    if jax.process_index():
        yield
        return
    lock, made, told = folder / LOCK, [], ""
    with usable(path=folder, must_be="writable", advice=OTHER):
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        while (handle := _made(lock)) is None:
            with contextlib.suppress(FileNotFoundError):  # It was just given back.
                told = _take_over(lock)
    try:
        # Nobody else is at work here.
        left = clear_unfinished(folder, folder / "plots")
        if told := "; ".join(filter(None, (told, left))):
            warn(told, stacklevel=3)
        yield
    finally:
        with contextlib.suppress(OSError):
            if _names(lock, handle):
                lock.unlink()
        os.close(handle)
        # Where nothing was written there, as before.
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def _made(lock: Path) -> int | None:
    """Makes the file in one step, on network file systems too; None where it is there.

    As long as the descriptor that it gives is open, the kernel knows the file as held.
    """
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    except FileExistsError:
        return None
    try:
        _locked(handle)
        pid = os.getpid()
        said = {"host": socket.gethostname(), "pid": pid, "started": _started(pid)}
        os.write(handle, to_json(said).encode())
        # It may have been stopped so long without a word that another took it over.
        if _names(lock, handle):
            return handle
    except OSError:
        lock.unlink()
        os.close(handle)
        raise
    os.close(handle)
    return None


def _take_over(lock: Path) -> str:
    """Removes the lock of a process that is no more, and returns what tells it; refuses others."""
    holder = _holder(lock)
    host, pid = holder.get("host"), holder.get("pid", 0)
    require(
        host in (None, socket.gethostname()),
        f"the run directory {lock.parent} must be used by one command at a time, got one of "
        f"process {pid} on the host {host}; wait for it, or remove {lock} where it has ended",
    )
    with lock.open("rb") as file:
        # Of several that find it the kernel lets one remove it; a process that it does not show
        # here, as it runs in another container, holds it still.
        free = _started(pid) != holder.get("started", "") and _locked(file.fileno())
        if not _names(lock, file.fileno()) or _holder(lock) != holder:
            return ""
        require(
            free,
            f"the run directory {lock.parent} must be used by one command at a time, got one of "
            f"process {pid} of this machine; wait for it, end it or choose another workdir=",
        )
        lock.unlink()
    return f"went on in {lock.parent}, which a command of process {pid} left without an end"


def _locked(handle: int) -> bool:
    """Whether this process is the one that may change an open file, waiting a while for others.

    True, too, where the file system knows no such thing.
    """
    import fcntl

    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:
            return True
        else:
            return True
    return False


def _names(path: Path, handle: int) -> bool:
    """Whether a path still names an open file."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(handle))
    return False


def _holder(lock: Path) -> dict[str, Any]:
    """What a lock says; nothing where its maker was killed before it could."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            said = from_json(lock.read_text(encoding="utf-8"))
            return {name: kind(said[name]) for name, kind in _SAID.items()}
        time.sleep(0.05)
    return {}


def _started(pid: int) -> str | None:
    """When a process of this host began, in its own words, None where there is no such one."""
    with contextlib.suppress(OSError, IndexError):
        # After the name in brackets: state first, the start as the 20th.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    if Path("/proc/self/stat").exists():
        return None
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return "alive"
    return None
