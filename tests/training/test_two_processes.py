"""Two real processes as one run: the same figures as one process, and what a death does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from process_run import CONFIG, HEARTBEAT_S, MEAN
from small_panel import flags, write_table
from small_run import UNREADABLE, listening

from stpatch_jax.training import Checkpoints
from stpatch_jax.training.loop import most_steps_lost
from stpatch_jax.training.watchdog import EXIT_CODE

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("process_run.py")
ROOT = Path(__file__).parents[2]


class Process:
    """A process of a run; what it prints goes to files, for pipes that nobody reads fill up."""

    def __init__(self, folder: Path, name: str, *command: object, devices: int = 0):
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        env = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "cache-of-processes"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "",
            "JAX_PLATFORMS": "cpu",
        }
        if devices:
            env["JAX_NUM_CPU_DEVICES"] = str(devices)
        python = [sys.executable, "-W", "error", "-W", UNREADABLE]
        with self.out.open("w") as out, self.err.open("w") as err:
            arguments = [*python, *map(str, command)]
            self.popen = subprocess.Popen(arguments, env=env, stdout=out, stderr=err)

    def result(self) -> dict[str, Any]:
        assert self.popen.wait(timeout=600) == 0, self.err.read_text()
        return json.loads(self.out.read_text().splitlines()[-1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts processes that do not outlive the test."""
    started: list[Process] = []

    def start(name: str, *command: object, devices: int = 0) -> Process:
        started.append(Process(tmp_path, name, *command, devices=devices))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()
        process.popen.wait()


def two(start: Any, workdir: Path, steps: int | str) -> tuple[Process, Process]:
    """Two processes of 2 devices each."""
    given = (SCRIPT, workdir, steps, 2, free_port(), 2)
    first, second = (start(f"{workdir.name}{i}", *given, i) for i in range(2))
    return first, second


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def metrics(workdir: Path) -> dict[str, np.ndarray]:
    """`metrics.jsonl` by column."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {name: np.array([line[name] for line in lines]) for name in lines[0]}


def check_alike(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """The same examples in every step, exactly, and losses that differ by rounding only."""
    for name in ("step", "low", "high", "skipped"):
        np.testing.assert_array_equal(one[name], other[name])
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4)


def check_alike_from(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> None:
    """What was logged before a checkpoint stays as it was."""
    kept = len(before["step"]) - most_steps_lost(CONFIG.checkpoint_every)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name][:kept], values[:kept])


def wait_for_step(workdir: Path, step: int, *processes: Process) -> None:
    log = workdir / "metrics.jsonl"
    end = time.monotonic() + 600
    while not log.exists() or log.read_text().count("\n") < step:
        for process in processes:
            assert process.popen.poll() is None, process.err.read_text()
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_port_of_a_run_listens_on_its_address_and_refuses_strangers(
    tmp_path: Path, start: Any
) -> None:
    port = free_port()
    both = [start(f"process{i}", SCRIPT, tmp_path / "run", 10**6, 2, port, 2, i) for i in range(2)]
    wait_for_step(tmp_path / "run", 2, *both)
    assert listening(port) == {"127.0.0.1"}
    table, other = write_table(tmp_path / "prices.csv"), tmp_path / "other"
    command = ["-m", "stpatch_jax", *flags(table, other), "--coordinator", f"127.0.0.1:{port}"]
    command += ["--process-count", "2", "--process-index"]
    said = "free port at an address of process 0", "a run that has begun listens"
    strays = [start(f"stray{i}", *command, i) for i in range(2)]
    for stray, sentence in zip(strays, said, strict=True):
        assert stray.popen.wait(timeout=120) == 2
        # What an old version of a library warns of as it is imported stands before it.
        lines = stray.err.read_text().splitlines()
        (told,) = (line for line in lines if not line.startswith("WARNING:absl:"))
        assert sentence in told
    assert not other.exists()
    step = len(metrics(tmp_path / "run")["step"])
    wait_for_step(tmp_path / "run", step + 2, *both)
    both[0].popen.terminate()
    results = [process.result() for process in both]
    assert results[0].pop("told") > results[1].pop("told") == 0
    assert results[0] == results[1]


def test_two_processes_train_as_one_does(tmp_path: Path, start: Any) -> None:
    alone = start("alone", SCRIPT, tmp_path / "alone", "30-patient", 4).result()
    results = [process.result() for process in two(start, tmp_path / "both", "30-patient")]
    # The numbers of the first one end all of them, and it alone tells of the steps.
    assert [result.pop("told") for result in (alone, *results)] == [15, 15, 0]
    assert results[0] == results[1]
    assert alone["step"] == results[0]["step"] == 15
    check_alike(metrics(tmp_path / "alone"), metrics(tmp_path / "both"))
    kept = [
        sorted(p.name for p in (tmp_path / d / "checkpoints").iterdir()) for d in ("alone", "both")
    ]
    assert kept[0] == kept[1]
    for folder in ("alone", "both"):
        with Checkpoints(tmp_path / folder / "checkpoints") as checkpoints:
            np.testing.assert_array_equal(checkpoints.arrays(15)["mean"], MEAN, strict=True)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_dies_and_one_alone_goes_on(tmp_path: Path, start: Any, victim: int) -> None:
    workdir = tmp_path / "both"
    both = two(start, workdir, 10**6)
    wait_for_step(workdir, 12, *both)
    both[victim].popen.kill()
    survivor = both[1 - victim]
    assert survivor.popen.wait(timeout=3 * HEARTBEAT_S) in (1, EXIT_CODE, -signal.SIGABRT)
    told = survivor.err.read_text()
    signs = ("another task died", "without it the others do", "got no end by then")
    assert any(sign in told for sign in signs)

    before = metrics(workdir)
    steps = len(before["step"]) + 8
    straight = start("straight", SCRIPT, tmp_path / "straight", steps, 4)
    assert start("alone", SCRIPT, workdir, steps, 2).result()["step"] == steps
    straight.result()
    after = metrics(workdir)
    check_alike(after, metrics(tmp_path / "straight"))
    check_alike_from(before, after)


def test_sigterm_to_one_process_stops_all_at_the_same_step(tmp_path: Path, start: Any) -> None:
    workdir = tmp_path / "both"
    both = two(start, workdir, 10**6)
    wait_for_step(workdir, 7, *both)
    both[1].popen.terminate()
    results = [process.result() for process in both]
    assert results[0].pop("told") > results[1].pop("told") == 0
    assert results[0] == results[1]
    assert results[0]["interrupted"]
    step = results[0]["step"]
    assert (workdir / "checkpoints" / str(step)).is_dir()
    assert list(metrics(workdir)["step"]) == [*range(1, step + 1)]


def test_a_process_that_hangs_is_given_up(tmp_path: Path, start: Any) -> None:
    workdir = tmp_path / "both"
    both = two(start, workdir, 10**6)
    wait_for_step(workdir, 7, *both)
    both[1].popen.send_signal(signal.SIGSTOP)
    # It says nothing, and is not dead; the watchdog comes before JAX's heartbeat.
    assert both[0].popen.wait(timeout=3 * HEARTBEAT_S) == EXIT_CODE
    told = both[0].err.read_text()
    assert "start the run again to go on from its last checkpoint" in told
    assert "loop.py" in told
