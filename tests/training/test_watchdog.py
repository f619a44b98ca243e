"""A hung step ends a real process; all else is left alone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stpatch_jax.training import watchdog
from stpatch_jax.training.watchdog import Watchdog

HANGS = """
import dataclasses, sys, threading, time
import jax
jax.config.update("jax_platforms", "cpu")
from pathlib import Path
from small_run import CONFIG, batches, run

def hanging(start):
    for step, batch in enumerate(batches(start), start + 1):
        if step == 7:
            threading.Event().wait()
        yield batch

run(Path(sys.argv[1]), dataclasses.replace(CONFIG, step_timeout=3.0), batches=hanging)
"""


ALONE = """
import importlib.util, sys, threading
spec = importlib.util.spec_from_file_location("watchdog", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

def hanging():
    threading.Event().wait()

with module.Watchdog(0.3) as dog, dog.watching("step"):
    hanging()
"""


def test_what_hangs_dumps_stacks_and_ends_its_process() -> None:
    file = str(watchdog.__file__)
    process = subprocess.run(
        [sys.executable, "-c", ALONE, file], capture_output=True, text=True, timeout=60
    )
    assert process.returncode == watchdog.EXIT_CODE == 70, process.stderr
    assert "in hanging" in process.stderr
    last = process.stderr.splitlines()[-1]
    assert last.startswith("the step must take at most 0.3 seconds, got no end")


@pytest.mark.slow
def test_a_hung_step_dumps_stacks_and_ends_the_process(tmp_path: Path) -> None:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1])])
    with (tmp_path / "stderr").open("w") as stderr:
        process = subprocess.run(
            [sys.executable, "-c", HANGS, str(tmp_path / "run")],
            env=os.environ | {"PYTHONPATH": path},
            stderr=stderr,
            timeout=120,
        )
    said = (tmp_path / "stderr").read_text()
    assert process.returncode == watchdog.EXIT_CODE, said
    assert "in hanging" in said
    assert "most recent call first" in said
    assert said.splitlines()[-1].startswith("the step must take at most 3 seconds, got")
    assert "train.step_timeout" in said
    assert (tmp_path / "run" / "checkpoints" / "4").is_dir()


@pytest.fixture
def gave_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(
        "stpatch_jax.training.watchdog._give_up", lambda what, limit: found.append(what)
    )
    return found


def test_each_body_has_its_own_time(gave_up: list[str]) -> None:
    with Watchdog(0.2) as dog:
        for _ in range(6):
            with dog.watching("step"):
                time.sleep(0.05)
        with dog.watching("save", patience=10):
            time.sleep(0.5)
        with dog.watching("step"), dog.watching("save", patience=10):
            time.sleep(0.5)
        time.sleep(0.5)
        assert gave_up == []
        with dog.watching("step"):
            time.sleep(0.5)
    assert set(gave_up) == {"step"}


def test_without_a_timeout_nothing_is_watched(gave_up: list[str]) -> None:
    with Watchdog(None) as dog, dog.watching("step"):
        time.sleep(0.1)
    assert gave_up == []
