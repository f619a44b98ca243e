"""Starts commands as processes of one run: `python command_server.py`, a JSON request a line.

A process that has imported everything, and no device yet, forks one child for each command, which
has one virtual device and a folder of its own for what it says: `out`, `err` and, of one that ends
by itself, `read`: the bytes that it read of each entry of Zarr stores.
"""

import collections
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

# A thread that is there before a fork is missing after it: NumPy's and Arrow's are not made.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"

import jax
from zarr.storage import LocalStore

_WARM = (
    *("stpatch_jax.cli.commands", "stpatch_jax.runs.run"),
    *("dask.array", "markdown_it", "matplotlib.pyplot", "tyro"),
)


def _count() -> collections.Counter[str]:
    """Counts the bytes that this process reads of Zarr stores from now on, by name of the entry."""
    read: collections.Counter[str] = collections.Counter()
    get = LocalStore.get

    async def counted(self: LocalStore, key: str, *args: Any, **kwargs: Any) -> Any:
        found = await get(self, key, *args, **kwargs)
        read[key] += len(found) if found is not None else 0
        return found

    LocalStore.get = counted
    return read


def _child(
    folder: Path,
    command: list[str],
    *,
    late: float = 0.0,
    limits: Mapping[str, float] = MappingProxyType({}),
    version: str | None = None,
    where: str | None = None,
) -> NoReturn:
    """Runs a command `late` seconds from now, with other limits to the patience of `processes`.

    It may be of another version, or stand in another folder and call files there as others theirs.
    """
    folder.mkdir(parents=True)
    for handle, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY), handle)
    jax.config.update("jax_num_cpu_devices", 1)
    time.sleep(late)
    package: Any = importlib.import_module("stpatch_jax")
    package.__version__ = version or package.__version__
    if where:
        os.chdir(where)
        patched: Any = Path
        patched.absolute = lambda path: path
    training: Any = importlib.import_module("stpatch_jax.training.distributed")
    training.processes.__wrapped__.__kwdefaults__.update(limits)
    read = _count()
    code = importlib.import_module("stpatch_jax.cli").main(command)
    (folder / "read").write_text(json.dumps(read))
    sys.exit(code)


def _start(processes: list[dict[str, Any]]) -> list[int]:
    pids = []
    for process in processes:
        pids.append(os.fork())
        if not pids[-1]:
            _child(Path(process.pop("folder")), process.pop("command"), **process)
    return pids


def _wait(pids: list[int], seconds: float) -> list[int | str]:
    """The exit codes, negative for a signal; who has not ended by then is killed."""
    end, codes = time.monotonic() + seconds, []
    for pid in pids:
        code: int | str = "none"
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
            time.sleep(0.01)
        if ended[0]:
            code = os.waitstatus_to_exitcode(ended[1])
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        codes.append(code)
    return codes


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    for name in _WARM:
        importlib.import_module(name)
    threads = len([*Path("/proc/self/task").iterdir()])
    assert threads == 1, f"forking is sound in a process of one thread only, got {threads}"
    actions = {"start": _start, "wait": _wait}
    for line in sys.stdin:
        action, *given = json.loads(line)
        print(json.dumps(actions[action](*given)), flush=True)


if __name__ == "__main__":
    main()
