"""Several processes as one run: how they meet, how they part, and whole arrays on every host."""

import contextlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from stpatch_jax.errors import InputError, listed, require, shortened
from stpatch_jax.files import from_json, to_json
from stpatch_jax.training.meeting import meet
from stpatch_jax.training.record import first_line

AUTO = "auto"
"""The coordinator that JAX finds by itself: SLURM, Open MPI, Cloud TPU, Kubernetes."""


class Disagreement(InputError):
    """What all processes of a run refuse, at the same place: so they part as at the end."""


@contextlib.contextmanager
def processes(
    coordinator: str | None,
    *,
    process_count: int | None = None,
    process_index: int | None = None,
    start_timeout: float = 300,
    heartbeat_timeout: int = 100,
) -> Iterator[None]:
    """Makes this process one of a run of many, for the length of a `with` block.

    It must be entered before anything is computed or `jax.devices` is asked. Inside, `jax.devices`
    are those of all processes. A process that leaves the block by an exception prints it and exits
    at once, with code 2 for an `InputError`, 130 for Ctrl-C and 1 for any other: the others, which
    cannot go on without it, then fail at their next collective instead of waiting for it. A process
    that dies without a word is noticed by JAX, which aborts the others (SIGABRT) within
    `heartbeat_timeout`. Either way the checkpoints stay, and the run goes on from them when all
    processes are started again, as many as one likes.

    Args:
        coordinator: `HOST:PORT` of process 0, the same in every process, which listens at that
            address alone (or at that of `JAX_COORDINATOR_BIND_ADDRESS`), without authentication;
            `auto` where JAX can find it (SLURM, Open MPI, Cloud TPU, Kubernetes with the
            `kubernetes` package), and process 0 listens at all its addresses; None is one process
            alone, for which the block changes nothing.
        process_count: How many processes there are; given with `HOST:PORT` only.
        process_index: Which of them this is, from 0; given with `HOST:PORT` only.
        start_timeout: Seconds within which all must have met.
        heartbeat_timeout: Seconds without a sign of life after which a process counts as dead.

    Raises:
        InputError: If the numbers do not fit each other, two processes have the same, the port is
            taken or the processes do not meet in time.

    Examples:
        >>> with processes(None):
        ...     jax.process_count()
        1
    """
    check_processes(coordinator, process_count=process_count, process_index=process_index)
    if coordinator is None:
        yield
        return
    options: dict[str, Any] = {"heartbeat_timeout_seconds": heartbeat_timeout}
    where, who = "where JAX looks for them by itself", "this process"
    if coordinator != AUTO:
        assert process_count is not None
        assert process_index is not None
        where, who = f"at {coordinator}", f"process {process_index} of {process_count}"
        numbers = {"count": process_count, "index": process_index}
        bound = meet(coordinator, timeout=start_timeout, **numbers)
        # With all of this JAX need not look around: in a pod it would ask for a package.
        options |= {"coordinator_address": coordinator, "cluster_detection_method": "deactivate"}
        options |= {"coordinator_bind_address": bound}
        options |= {"num_processes": process_count, "process_id": process_index}
    _meet(options, start_timeout, where, who)
    try:
        yield
    except Disagreement:
        jax.distributed.shutdown()
        raise
    except BaseException as error:
        _leave(error)
    jax.distributed.shutdown()


def check_processes(
    coordinator: str | None, *, process_count: int | None, process_index: int | None
) -> None:
    """Raises an InputError where a process cannot meet the others like this, see `processes`."""
    numbers = (process_count, process_index)
    if coordinator in (None, AUTO):
        require(
            numbers == (None, None),
            f"process_count= and process_index= must come with a coordinator HOST:PORT, got "
            f"{coordinator or 'none'}; give coordinator=, or leave both out",
        )
        return
    host, _, port = str(coordinator).rpartition(":")
    require(
        bool(host) and re.fullmatch(r"[0-9]{1,5}", port) is not None and 0 < int(port) < 2**16,
        f"the coordinator must be {AUTO} or HOST:PORT with a port from 1 to 65535, got "
        f"{coordinator!r}; give the address of process 0, for example node0:8476",
    )
    if process_count is None or process_index is None:
        raise InputError(
            f"the coordinator {coordinator} must come with process_count= and process_index=, got "
            f"{process_count} and {process_index}; give both"
        )
    require(
        0 <= process_index < process_count,
        f"process_index= must be from 0 to process_count - 1, got {process_index} of "
        f"{process_count}; number the processes from 0",
    )


def _meet(options: dict[str, Any], start_timeout: float, where: str, who: str) -> None:
    failed: list[Exception] = []

    def start() -> None:
        try:
            # After its own timeout JAX aborts the process from C++: it is waited for below.
            jax.distributed.initialize(initialization_timeout=int(start_timeout) + 3600, **options)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=start, name="jax.distributed", daemon=True)
    thread.start()
    thread.join(start_timeout)
    require(
        not thread.is_alive(),
        f"the processes must meet {where} within {start_timeout:g} s, got no answer at {who}; "
        "start all of them, and let them reach that address",
    )
    if failed:
        raise InputError(
            f"the processes must meet {where}, got {first_line(failed[0])!r} at {who}; give "
            "coordinator= as HOST:PORT, process_count= and process_index="
        ) from failed[0]
    if threading.current_thread() is threading.main_thread():
        # JAX's runtime has taken the signal for its own, and does nothing at it.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)


def _leave(error: BaseException) -> None:
    """Tells an error and ends the process without waiting for the others."""
    code = 1
    if isinstance(error, InputError):
        code = 2
        print(error, file=sys.stderr)
    elif isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 1
    elif isinstance(error, KeyboardInterrupt):
        code = 130
    else:
        traceback.print_exception(error)
    print(
        f"process {jax.process_index()} of {jax.process_count()} ends here, and without it the "
        f"others do; started again, all go on from the last checkpoint",
        file=sys.stderr,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    # The exit that Python prefers would wait, for minutes, until the others are done.
    os._exit(code)


def first_process_first(action: Callable[[], None]) -> None:
    """Runs an action in process 0 and, once it is done there, in the others.

    For what the first one writes to a directory of all, and the others then find.
    """
    if jax.process_index() == 0:
        action()
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("first_process_first")
    if jax.process_index():
        action()


def of_every_process(own: bytes) -> list[bytes]:
    """What every process gives, in the order of the processes, on all; all of them must call it."""
    # As bytes, because JAX would round 64-bit numbers.
    values = np.frombuffer(own, np.uint8)
    sizes = np.ravel(multihost_utils.process_allgather(np.array([len(values)], np.int32)))
    padded = np.pad(values, (0, int(sizes.max()) - len(values)))
    every = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(sizes), -1)
    return [row[:size].tobytes() for row, size in zip(every, sizes, strict=True)]


def require_alike(seen: Mapping[str, Any]) -> None:
    """Refuses, in all processes, what they do not see alike; all of them must call it.

    >>> require_alike({"train": {"seed": 0}})
    """
    if jax.process_count() == 1:
        return
    first, *others = map(from_json, of_every_process(to_json(dict(_leaves("", seen))).encode()))
    for index, other in enumerate(others, 1):
        names = sorted(first.keys() | other.keys())
        differ = [name for name in names if first.get(name, "none") != other.get(name, "none")]
        if differ:
            values = [shortened(of.get(differ[0], "none")) for of in (first, other)]
            raise Disagreement(
                f"all processes must have the same {listed(differ)}, got {values[0]} in process 0 "
                f"and {values[1]} in process {index}; start all with one command, one version and "
                "the same data"
            )


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, entry in value.items():
        yield from _leaves(f"{name}.{key}" if name else str(key), entry)


def to_host(array: jax.Array) -> np.ndarray:
    """Returns a global array whole, on the host of every process; all of them must call it.

    Shape and dtype are those of the array.

    >>> to_host(jax.numpy.arange(3))
    array([0, 1, 2], dtype=int32)
    """
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
