"""Commands that die or fail at a file event: `python fault_server.py`, a JSON request a line.

A process that has imported everything, and no device yet, forks one child a request, which runs a
command as its user would. An event is whatever Python does to the names and files below `root`
(audit events of `open` for writing, `mkdir`, `rename`, `remove`, `rmdir`; and `fsync`). What
TensorStore writes in C++ is met by a limit on the size of files: `size`.
"""

import contextlib
import errno
import importlib
import itertools
import json
import os
import resource
import selectors
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

# A thread that is there before a fork is missing after it: NumPy's and Arrow's are not made.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"

import jax

_WARM = ("stpatch_jax.cli", "netCDF4", "zarr", "matplotlib.pyplot", "tensorstore", "xarray")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = {"os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1}
"""Audit events that change names, with how many paths each has."""
_FULL = ("open", "os.mkdir", "os.fsync")
"""What a full disk refuses."""


def _opened(handle: int) -> str:
    return str(Path(f"/proc/self/fd/{handle}").readlink())


class Faults:
    """Counts the events below a folder; from number `at` on they meet `fault`.

    `SIGKILL` ends the process there, `SIGSTOP` holds it. `ENOSPC` is met by all that needs room
    from then on, `EIO` by that one event.
    """

    def __init__(self, root: str, at: int | None, fault: str):
        self.root, self.at, self.fault = root, at, fault
        self.seen: list[str] = []
        self._count = itertools.count()
        self._sync = os.fsync

    def install(self) -> None:
        def fsync(handle: int) -> None:
            self.met("os.fsync", _opened(handle))
            self._sync(handle)

        os.fsync = fsync
        sys.addaudithook(self.audit)

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(path, str | bytes | os.PathLike) and flags & _WRITES:
                self.met(event, path)
        elif event in _CHANGES:
            folder = args[2] if event == "os.rename" else args[-1]
            self.met(event, args[_CHANGES[event] - 1], folder)

    def met(self, event: str, path: Any, folder: int = -1) -> None:
        path = os.fsdecode(path)
        if folder >= 0:
            path = str(Path(_opened(folder), path))
        path = str(Path(path).absolute())
        if not path.startswith(self.root) or (event == "os.mkdir" and Path(path).is_dir()):
            return
        number = next(self._count)
        self.seen.append(f"{event} {path[len(self.root) :]}")
        if self.at is None or number < self.at:
            return
        if self.fault in ("SIGKILL", "SIGSTOP"):
            if number == self.at:
                os.kill(os.getpid(), getattr(signal, self.fault))
            return
        if number == self.at or (self.fault == "ENOSPC" and event in _FULL):
            code = getattr(errno, self.fault)
            raise OSError(code, os.strerror(code), path)


def child(request: dict[str, Any]) -> NoReturn:
    """Runs one command, with what is to befall it."""
    warnings.simplefilter("default")
    os.chdir(request["root"])
    jax.config.update("jax_num_cpu_devices", request.get("devices", 1))
    for where, value in request.get("patches", {}).items():
        module, _, name = where.partition(":")
        setattr(importlib.import_module(module), name, value)
    faults = Faults(request["root"] + "/", request.get("at"), request.get("fault", ""))
    faults.install()
    if size := request.get("size"):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        if request["fault"] == "SIGKILL":
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    cli = importlib.import_module("stpatch_jax.cli")
    try:
        code = cli.main(request["command"])
    finally:
        if events := request.get("events"):
            Path(events).write_text(json.dumps(faults.seen), encoding="utf-8")
    sys.exit(code)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """What became of a command: its exit code, negative for a signal, and what it said."""
    pipes = {name: os.pipe() for name in ("out", "err")}
    pid = os.fork()
    if pid == 0:
        for handle, name in enumerate(pipes, 1):
            os.dup2(pipes[name][1], handle)
        child(request)
    said = dict.fromkeys(pipes, b"")
    with selectors.DefaultSelector() as reading:
        for name, (end, other) in pipes.items():
            os.close(other)
            reading.register(end, selectors.EVENT_READ, name)
        while reading.get_map():
            for key, _ in reading.select():
                if more := os.read(key.fd, 2**16):
                    said[key.data] += more
                else:
                    reading.unregister(key.fd)
                    os.close(key.fd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"code": code, **{name: text.decode() for name, text in said.items()}}


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    for name in _WARM:
        importlib.import_module(name)
    threads = len([*Path("/proc/self/task").iterdir()])
    assert threads == 1, f"forking is sound in a process of one thread only, got {threads}"
    answers: Callable[..., None] = print
    for line in sys.stdin:
        answers(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
