"""One command at a time on a run directory, on any file system, whatever became of the last one."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from stpatch_jax.errors import InputError, require, warn
from stpatch_jax.files import LOCK, from_json, to_json

_PATIENCE = 2.0
"""Seconds after which a lock without words counts as one whose maker was killed meanwhile."""

_SAID = {"host": str, "pid": int, "started": str}
"""What a lock says of who made it."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a folder, made where it is missing, for the length of a block, against other commands.

    The lock is a file that says which process of which host made it. One that a killed process of
    this host left is taken over, and told. Of the processes of one run the first holds it for all.

    Raises:
        InputError: Another command holds it, or the folder cannot be written.
    """
    if jax.process_index():
        yield
        return
    lock, made = folder / LOCK, []
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        while not _made(lock):
            with contextlib.suppress(FileNotFoundError):  # It was just given back.
                _take_over(lock)
    except OSError as error:
        raise InputError(
            f"the run directory {folder} must be writable, got {error.strerror or error}; choose "
            "another workdir="
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        # Where nothing was written there, as before.
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def _made(lock: Path) -> bool:
    """Makes the file unless it is there: in one step, on network file systems too."""
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        pid = os.getpid()
        said = {"host": socket.gethostname(), "pid": pid, "started": _started(pid)}
        file.write(to_json(said))
    return True


def _take_over(lock: Path) -> None:
    """Removes the lock of a process that is no more; refuses any other."""
    holder = _holder(lock)
    host, pid = holder.get("host"), holder.get("pid", 0)
    require(
        host in (None, socket.gethostname()),
        f"the run directory {lock.parent} must be used by one command at a time, got one of "
        f"process {pid} on the host {host}; wait for it, or remove {lock} where it has ended",
    )
    require(
        not holder or _started(pid) != holder["started"],
        f"the run directory {lock.parent} must be used by one command at a time, got one of "
        f"process {pid} of this machine; wait for it, end it or choose another workdir=",
    )
    # By a rename, so that of two commands that found it one removes it.
    mine = lock.with_name(f"{lock.name}-{os.getpid()}")
    lock.rename(mine)
    if _holder(mine) != holder:
        # Another command was faster, and this one is its own.
        mine.rename(lock)
        return
    mine.unlink()
    warn(
        f"went on in {lock.parent}, which a command of process {pid} left without an end",
        stacklevel=4,
    )


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
