"""Ends a process that hangs, so that whatever started it can start it again."""

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Self

EXIT_CODE = 70
"""Of a process that hung; `EX_SOFTWARE` of the BSD `sysexits.h`."""


class Watchdog:
    """Watches that what a run waits for comes to an end; use it as a context manager.

    A thread looks at the clock, so a step costs nothing more. Where something takes too long it
    writes the stacks of all threads and one sentence to stderr and ends the process with
    `EXIT_CODE`, without any clean-up: a hung collective or file system would hold that up as well.
    Without a timeout, the seconds that a step may take, it watches nothing.
    """

    def __init__(self, timeout: float | None):
        self.timeout = timeout
        self._closed = threading.Event()
        self._due: tuple[float, float, str] | None = None

    def __enter__(self) -> Self:
        if self.timeout is not None:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    @contextlib.contextmanager
    def watching(self, what: str, *, patience: float = 1) -> Iterator[None]:
        """Gives the body `patience` times the timeout; what surrounds it then starts afresh."""
        before, limit = self._due, (self.timeout or 0.0) * patience
        self._due = (time.monotonic() + limit, limit, what)
        try:
            yield
        finally:
            self._due = before and (time.monotonic() + before[1], *before[1:])

    def _watch(self) -> None:
        while not self._closed.wait((self.timeout or 1.0) / 8):
            due = self._due
            if due and time.monotonic() > due[0]:
                _give_up(due[2], due[1])


def _give_up(what: str, limit: float) -> None:
    # Not sys.stderr: what stands in its place may need a lock that hangs too.
    stderr = sys.__stderr__
    if stderr is not None:
        faulthandler.dump_traceback(file=stderr, all_threads=True)
        print(
            f"the {what} must take at most {limit:g} seconds, got no end by then (stacks above); "
            f"look for what hangs or raise train.step_timeout, and start the run again to go on "
            f"from its last checkpoint",
            file=stderr,
            flush=True,
        )
    os._exit(EXIT_CODE)
