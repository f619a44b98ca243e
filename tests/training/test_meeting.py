"""Processes meet, or all of them that came are told what is wrong."""

import re
import socket
import threading
import time

import pytest
from small_run import listening

from stpatch_jax.errors import InputError
from stpatch_jax.training.meeting import meet


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def where():
    return f"127.0.0.1:{free_port()}"


def together(where, *numbers, timeout=20.0) -> list[str | None]:
    """What each of some processes, given as (count, index), is told, None where all is well."""
    told: list[str | None] = [None] * len(numbers)

    def one(at, count, index):
        try:
            meet(where, count=count, index=index, timeout=timeout)
        except InputError as error:
            told[at] = str(error)

    threads = [threading.Thread(target=one, args=(i, *of)) for i, of in enumerate(numbers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return told


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_all_meet_in_any_order(host):
    where = f"{host}:{free_port()}"
    assert together(where, (3, 2), (3, 0), (3, 1)) == [None] * 3
    # The port is free again at once, for JAX.
    assert meet(where, count=1, index=0, timeout=1) == where


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([(3, 0), (3, 1), (3, 1)], "process_index= must be another in every process, got two of 1"),
        ([(2, 0), (3, 1)], "process_count= must be the same in all processes, got 2 in process 0"),
        (
            [(4, 0), (3, 2), (4, 1), (4, 3)],
            "process_count= must be the same in all processes, got 4 in process 0 and 3",
        ),
        ([(4, 0), (4, 2), (4, 2), (4, 1)], "process_index= must be another .* got two of 2"),
    ],
)
def test_wrong_numbers_are_told_to_all(where, numbers, message, monkeypatch):
    monkeypatch.setattr("stpatch_jax.training.meeting._PATIENCE", 1.0)
    told = together(where, *numbers)
    assert len(set(told)) == 1
    assert re.match(message, str(told[0]))


def test_who_never_comes_is_told_to_all(where):
    told = together(where, (4, 0), (4, 2), timeout=1.0)
    assert told[0] == told[1]
    assert str(told[0]).startswith(
        f"the processes must meet at {where} within 1 s, got no answer of 1, 3 at process 0 of 4"
    )


def test_a_port_that_is_taken_is_told(where, monkeypatch):
    monkeypatch.setattr("stpatch_jax.training.meeting._PATIENCE", 0.3)
    host, port = where.split(":")
    with socket.create_server((host, int(port))):
        with pytest.raises(InputError, match=r"a free port .* got .* \(Address already in use\); "):
            meet(where, count=2, index=0, timeout=1)
        with pytest.raises(InputError, match="got no answer at process 1 of 2"):
            meet(where, count=2, index=1, timeout=0.2)
    with pytest.raises(InputError, match=r"an address of process 0, got nohost[.]invalid:1"):
        meet("nohost.invalid:1", count=1, index=0, timeout=1)


@pytest.mark.parametrize("said", [b"\x00\x00\x12\x04 frames of another protocol\n", b"[1]\n"])
def test_another_program_at_the_address_is_told(where, said, monkeypatch):
    monkeypatch.setattr("stpatch_jax.training.meeting._PATIENCE", 0.3)
    host, port = where.split(":")
    with socket.create_server((host, int(port))) as server:

        def serve():
            for _ in range(1000):
                try:
                    peer = server.accept()[0]
                except OSError:
                    return
                with peer:
                    peer.sendall(said)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(InputError, match="where another program or a run that has begun"):
            meet(where, count=2, index=1, timeout=20)
        server.shutdown(socket.SHUT_RDWR)


def test_strangers_and_processes_that_left_do_not_count(where):
    said = [
        b"GET / HTTP/1.1\r\n\r\n",
        b'{"count": 3, "index": 1}\n',
        b"[" * 9999,
        b"\n",
        b'{"index": "1"}\n',
    ]

    def knock():
        host, port = where.split(":")
        for words in said:
            for _ in range(100):
                try:
                    with socket.create_connection((host, int(port)), timeout=5) as peer:
                        peer.sendall(words)
                    break
                except OSError:
                    time.sleep(0.05)
        second = threading.Thread(target=lambda: told.extend(together(where, (3, 2))))
        second.start()
        time.sleep(0.5)  # With it they would be three, were the one who left still counted.
        told.extend(together(where, (3, 1)))
        second.join(60)

    told: list[str | None] = []
    thread = threading.Thread(target=knock)
    thread.start()
    meet(where, count=3, index=0, timeout=30)
    thread.join(60)
    assert told == [None, None]


def test_the_port_listens_on_the_address_alone(where):
    """By the kernel's own table: before JAX's runtime starts; with it in `test_two_processes`."""
    port = int(where.split(":")[1])
    thread = threading.Thread(
        target=meet, args=(where,), kwargs={"count": 2, "index": 0, "timeout": 20}
    )
    thread.start()
    while not (found := listening(port)):
        time.sleep(0.01)
    assert found == {"127.0.0.1"}
    meet(where, count=2, index=1, timeout=20)
    thread.join(60)
