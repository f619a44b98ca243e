"""SIGTERM and Ctrl-C end a command soon and in one sentence, whatever it is in the middle of."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType

GRACE = 5.0
"""Seconds that a command has to leave by itself, until it is ended where it is."""

_TOLD = {
    signal.SIGTERM: "ended by SIGTERM; what was saved stays, and the same command goes on from it",
    signal.SIGINT: "interrupted; the same command goes on from the last checkpoint",
}


class Ended(SystemExit):
    """SIGTERM, where nobody waits for it; training does, once it has something to save."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def ending(number: int) -> str:
    """What is said where a signal ended a command."""
    return _TOLD[signal.Signals(number)]


@contextlib.contextmanager
def ends_at_signals() -> Iterator[None]:
    """Raises `Ended` at SIGTERM inside, and ends the process where neither it nor Ctrl-C get on.

    A handler of Python waits until C++ is done, with a compilation say, which may take minutes. A
    thread hears of the signal at once, and ends the process after `GRACE` seconds: files appear
    whole or not at all, so nothing is lost. Only code that keeps Python's lock can hold that up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hears, tells = socket.socketpair()
    tells.setblocking(False)
    left = threading.Event()

    def end(*_: int | FrameType | None) -> None:
        raise Ended

    def watch() -> None:
        while not left.is_set():
            for number in hears.recv(64):
                # Whoever else handles SIGTERM has taken it on itself.
                ours = number == signal.SIGINT or (
                    number == signal.SIGTERM and signal.getsignal(number) is end
                )
                if ours and not left.wait(GRACE):
                    print(ending(number), file=sys.stderr, flush=True)
                    os._exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    wakes = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(wakes)
        signal.signal(signal.SIGTERM, before)
        tells.send(b"\0")
        watcher.join()
        hears.close()
        tells.close()
