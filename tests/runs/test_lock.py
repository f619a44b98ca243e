"""One command at a time holds a run directory; what a killed one left holds nobody up."""

import contextlib
import errno
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stpatch_jax.errors import InputError
from stpatch_jax.files import LOCK
from stpatch_jax.runs import lock as locks
from stpatch_jax.runs.lock import held

HOLDER = """
import sys
import time
import warnings
from pathlib import Path
from stpatch_jax.runs.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def left(folder: Path, **values: Any) -> None:
    own = {"host": socket.gethostname(), "pid": os.getpid(), "started": "0"}
    (folder / LOCK).write_text(json.dumps(own | values))


def test_two_processes_are_not_let_in_and_a_killed_one_is_forgotten(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    told = f"one command at a time, got one of process {holder.pid} of this machine; wait for it"
    with pytest.raises(InputError, match=told), held(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    told = pytest.warns(UserWarning, match=f"which a command of process {holder.pid} left")
    with told, held(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert not list(tmp_path.iterdir())


def test_nothing_stays_of_a_folder_in_which_nothing_was_written(tmp_path: Path) -> None:
    with held(tmp_path / "a/b"):
        assert (tmp_path / "a/b" / LOCK).exists()
    assert not list(tmp_path.iterdir())
    with held(tmp_path / "a"):
        (tmp_path / "a/config.json").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["config.json"]


def test_what_a_killed_command_left_is_removed_and_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    for name in (".stpatch-part.report.md", "plots/.stpatch-part.a.png"):
        (tmp_path / name).touch()
    (tmp_path / "report.md").touch()
    left(tmp_path, pid=7)
    told = (
        r"a command of process 7 left .*; removed from .*: \.stpatch-part\.a\.png, \.stpatch-part\."
    )
    with pytest.warns(UserWarning, match=told) as warned, held(tmp_path):
        pass
    assert len(warned) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plots", "report.md"]
    assert not list((tmp_path / "plots").iterdir())


def test_one_process_cannot_hold_a_folder_twice(tmp_path: Path) -> None:
    with held(tmp_path):
        with pytest.raises(InputError, match="one command at a time"), held(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()


def test_a_lock_of_another_host_is_told_with_how_to_remove_it(tmp_path: Path) -> None:
    left(tmp_path, host="node7", pid=3)
    with pytest.raises(
        InputError, match=r"process 3 on the host node7; .* or remove .*-lock where"
    ):
        held(tmp_path).__enter__()
    (tmp_path / LOCK).unlink()
    with held(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"host": 1}'])
def test_a_lock_without_words_is_of_a_killed_command(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    (tmp_path / LOCK).write_text(text)
    with pytest.warns(UserWarning, match="left without an end"), held(tmp_path):
        pass


def test_a_number_that_another_process_has_now_is_stale(tmp_path: Path) -> None:
    left(tmp_path)
    with pytest.warns(UserWarning, match="left without an end"), held(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_do_not_count(
    tmp_path: Path, hours: int, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    other = time.time() + 3600 * hours
    os.utime(tmp_path / LOCK, (other, other))
    with pytest.raises(InputError, match="one command at a time"), held(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    os.utime(tmp_path / LOCK, (other, other))
    with pytest.warns(UserWarning, match="left without an end"), held(tmp_path):
        pass


def test_a_stopped_process_holds_its_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(InputError, match=f"process {holder.pid} of this machine; wait for it"):
            held(tmp_path).__enter__()
    finally:
        holder.send_signal(signal.SIGCONT)
    assert holder.communicate("")[0] == ""
    assert holder.returncode == 0
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_not_seen_holds_its_lock(
    tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in another container of this machine, where processes have other numbers."""
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    monkeypatch.setattr(locks, "_started", lambda _: None)
    with pytest.raises(InputError, match=f"process {holder.pid} of this machine; wait for it"):
        held(tmp_path).__enter__()


def test_a_lock_that_another_took_over_meanwhile_stays_where_it_is(
    tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, reading = tmp_path / LOCK, locks._holder
    own = lock.read_text()
    lock.rename(tmp_path / "aside")
    left(tmp_path)

    def read(path: Path) -> dict[str, Any]:
        assert lock.exists()
        found = reading(path)
        if (tmp_path / "aside").exists():
            (tmp_path / "aside").replace(lock)
        return found

    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    monkeypatch.setattr(locks, "_holder", read)
    with pytest.raises(InputError, match=f"process {holder.pid} of this machine"):
        held(tmp_path).__enter__()
    assert lock.read_text() == own


def compete(folder: Path, rounds: int, barrier: Any, results: Any, first: bool) -> None:
    """One of several processes that find the same stale lock at once, again and again."""
    warnings.simplefilter("ignore")
    for at in range(rounds):
        if first:
            left(folder, pid=2**22 + 1)
        barrier.wait(60)
        won = False
        with contextlib.suppress(InputError), held(folder):
            won = True
            barrier.wait(60)
        if not won:
            barrier.wait(60)
        results.put((at, won, os.getpid()))
        barrier.wait(60)


@pytest.mark.slow
def test_of_several_that_find_a_stale_lock_exactly_one_takes_it(tmp_path: Path) -> None:
    rounds, many = 40, 3
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(many), context.Queue()
    settings = tmp_path, rounds, barrier, results
    rivals = [context.Process(target=compete, args=(*settings, at == 0)) for at in range(many)]
    for rival in rivals:
        rival.start()
    found = [results.get(timeout=120) for _ in range(rounds * many)]
    for rival in rivals:
        rival.join()
    assert [sum(won for at, won, _ in found if at == number) for number in range(rounds)] == (
        [1] * rounds
    )
    assert len({winner for _, won, winner in found if won}) > 1
    assert not list(tmp_path.iterdir())


def test_a_command_without_room_for_its_lock_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InputError, match="must be writable, got No space left"):
        held(tmp_path).__enter__()
    assert not list(tmp_path.iterdir())
