"""Where the processes of a run meet, before JAX's runtime: it aborts on whatever is wrong there."""

import contextlib
import os
import socket
import time
from typing import Any, NoReturn

from stpatch_jax.errors import InputError, listed, require, shortened
from stpatch_jax.files import from_json, to_json

_PATIENCE = 5.0
"""Seconds for a greeting, and until another program at the address is taken for one that stays."""
_MOST_BYTES = 4096


def meet(where: str, *, count: int, index: int, timeout: float) -> str:
    """Waits until all processes of a run have come, and refuses in all of them what is wrong.

    Process 0 listens at the address, alone on its port, and hears from the others who they are.

    Args:
        where: `HOST:PORT` of process 0.
        count: How many they are.
        index: Which of them this is, from 0.
        timeout: Seconds within which all must have come.

    Returns:
        Where process 0 listens: at that host and no other of its addresses, unless the environment
        variable `JAX_COORDINATOR_BIND_ADDRESS` names one.

    Raises:
        InputError: Not all came, two have one number or different counts, or something else
            listens there.
    """
    bound = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", where)
    if index == 0:
        _receive(where, bound, count, timeout)
    else:
        _come(where, {"count": count, "index": index}, timeout)
    return bound


def _address(where: str) -> tuple[str, int]:
    host, _, port = where.rpartition(":")
    return host.strip("[]"), int(port)


def _receive(where: str, bound: str, count: int, timeout: float) -> None:
    end = time.monotonic() + timeout
    came: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listening(bound))
        while len(came := _there(came)) < count - 1:
            server.settimeout(max(end - time.monotonic(), 0.01))
            try:
                accepted = server.accept()[0]
            except TimeoutError:
                accepted = None
            if accepted is None:
                missing = listed(sorted({*range(1, count)} - came.keys()))
                _refuse(
                    f"the processes must meet at {where} within {timeout:g} s, got no answer of "
                    f"{missing} at process 0 of {count}; start all of them, and let them reach "
                    "that address",
                    [*came.values()],
                )
            peer = stack.enter_context(accepted)
            if (greeting := _greeting(peer, _PATIENCE)) is None:
                continue  # Not one of ours.
            index, its_count = greeting
            refusal = ""
            if its_count != count:
                refusal = (
                    f"process_count= must be the same in all processes, got {count} in process 0 "
                    f"and {its_count} in process {index}; give one number to all"
                )
            elif index in _there(came):
                refusal = (
                    f"process_index= must be another in every process, got two of {index}; number "
                    f"them from 0 to {count - 1}"
                )
            if refusal:
                everyone = [*came.values(), peer]
                others = max(count, its_count) - 1
                _refuse(refusal, [*everyone, *_coming(server, others - len(everyone), stack)])
            came[index] = peer
        _tell("", [*came.values()])


def _listening(bound: str) -> socket.socket:
    """A socket that listens alone: JAX's own would share the port with another run's."""
    try:
        found = socket.getaddrinfo(*_address(bound), type=socket.SOCK_STREAM)[0]
        return socket.create_server(found[4][:2], family=found[0])
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise InputError(
            f"the coordinator must be a free port at an address of process 0, got {bound} "
            f"({reason}); choose another port or give its address, and start one process 0"
        ) from error


def _greeting(peer: socket.socket, timeout: float) -> tuple[int, int] | None:
    """Index and count of a process of ours."""
    said = _answer(peer, timeout)[0]
    index, count = said.get("index"), said.get("count")
    if isinstance(index, int) and isinstance(count, int) and 0 < index < count:
        return index, count
    return None


def _coming(server: socket.socket, most: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Those who come a little later: they, too, are to be told why nobody else does."""
    end, came = time.monotonic() + _PATIENCE, []
    while len(came) < most and (left := end - time.monotonic()) > 0:
        server.settimeout(left)
        with contextlib.suppress(TimeoutError):
            peer = stack.enter_context(server.accept()[0])
            came += [peer] if _greeting(peer, left) else []
    return came


def _refuse(message: str, peers: list[socket.socket]) -> NoReturn:
    _tell(message, peers)
    raise InputError(message)


def _tell(refusal: str, peers: list[socket.socket]) -> None:
    for peer in peers:
        with contextlib.suppress(OSError):  # Who has left is missed later.
            peer.sendall(to_json({"refusal": refusal}).encode() + b"\n")


def _there(came: dict[int, socket.socket]) -> dict[int, socket.socket]:
    """Those who came and have not left."""
    return {index: peer for index, peer in came.items() if not _has_left(peer)}


def _has_left(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return not peer.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _come(where: str, greeting: dict[str, int], timeout: float) -> None:
    start = time.monotonic()
    answer = b""
    while time.monotonic() < start + timeout:
        with contextlib.suppress(OSError):  # Nobody is there yet, or no more.
            with socket.create_connection(_address(where), timeout=_PATIENCE) as peer:
                peer.sendall(to_json(greeting).encode() + b"\n")
                # From here on it is process 0 that does not wait for ever.
                said, answer = _answer(peer, timeout + _PATIENCE)
            if "refusal" in said:
                require(not said["refusal"], shortened(said["refusal"], most=400))
                return
        # A run that has just ended may still hold the port.
        require(
            not answer or time.monotonic() < start + _PATIENCE,
            f"the coordinator must be the address of process 0, got {where}, where another program "
            "or a run that has begun listens; choose another port, or end that first",
        )
        time.sleep(0.1)
    raise InputError(
        f"the processes must meet at {where} within {timeout:g} s, got no answer at process "
        f"{greeting['index']} of {greeting['count']}; start all of them, and let them reach that "
        "address"
    )


def _answer(peer: socket.socket, timeout: float) -> tuple[dict[str, Any], bytes]:
    """What a peer says in one line, as values and as it stands; nothing where it says no such."""
    peer.settimeout(timeout)
    said = b""
    try:
        with peer.makefile("rb") as stream:
            said = stream.readline(_MOST_BYTES)
        values = from_json(said)
    except (OSError, ValueError):
        return {}, said
    return (values if isinstance(values, dict) else {}), said
