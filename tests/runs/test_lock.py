"""One command at a time holds a run directory; what a killed one left holds nobody up."""

import json
import os
import signal
import socket
import subprocess
import sys
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
