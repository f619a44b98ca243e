"""Commands killed, refused by the disk or stopped at events of files: nothing is lost or left."""

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from trials import COMMANDS, Ended, Server, Stage, contents, is_in_the_making

from stpatch_jax.files import LOCK

pytestmark = pytest.mark.slow

KILLS, CUTS, FAULTS = 1, 1, 1
"""Of each command: kills at events, kills amid a write, and events at which the disk refuses."""
MANY = 15
"""How many times as many by `--many`."""
SIZES = (4, 400, 4000)
"""Bytes after which a write is cut."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("chaos")
    with Server(folder / "cache") as server:
        yield Stage(folder, server)


@pytest.fixture
def try_all(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Tries each of some faults; by `--many` what came of it is kept for `figures.py`."""

    def try_all(
        kind: str, name: str, faults: list[dict[str, Any]], check: Callable[..., None]
    ) -> None:
        lost = []
        random.Random(name).shuffle(faults)  # Wherever it is stopped, those tried are a sample.
        for tries, fault in enumerate(faults, 1):
            try:
                check(**fault)
            except AssertionError as error:
                lost.append(f"{fault}: {error}")
            if request.config.getoption("--many"):
                counts = {"tries": tries, "lost": len(lost)}
                request.config.cache.set(f"chaos/{kind} {name}", counts)
        assert not lost, "\n\n".join(lost)

    return try_all


def times(request: pytest.FixtureRequest) -> int:
    return MANY if request.config.getoption("--many") else 1


def spread(count: int, most: int, name: str) -> list[int]:
    """At most so many numbers below a count, at random one of each of equal parts of it."""
    chance, most = random.Random(name), min(most, count)
    edges = [part * count // most for part in range(most + 1)]
    return [chance.randrange(low, high) for low, high in itertools.pairwise(edges)]


def befallen(stage: Stage, name: str, **befalls: Any) -> tuple[Path, Ended]:
    """Lets something befall a command; whatever goes by a final name is whole then."""
    folder = stage.fresh()
    ended = stage.server.run(folder, COMMANDS[name], **befalls)
    before, after = stage.before, stage.sound(name).left
    for file, content in contents(folder).items():
        if is_in_the_making(file) or content in (before.get(file), after.get(file)):
            continue
        path = folder / file
        if path.name == "metrics.jsonl" or path.parent.name == "checkpoints":
            continue  # Cut back, or removed, by whoever goes on.
        # A table of the trials so far.
        assert path.name in ("search.json", "search.html", "search.md"), f"{file} is {content}"
        assert json.loads(path.with_name("search.json").read_text())
    return folder, ended


def go_on(stage: Stage, name: str, folder: Path) -> None:
    """The same command again ends as if nothing had happened.

    It says one sentence at most; a search one of its folder and one of that of a trial.
    """
    sound, again = stage.sound(name), stage.server.run(folder, COMMANDS[name])
    left = contents(folder)
    if name in ("predict csv", "predict nc") and "the output must be new" in again.err:
        # It was whole already, but for what is cleared behind it.
        assert not {file for file in sound.left if left.get(file) != sound.left[file]}
        return
    assert again.code == 0, again.err
    files = left.keys() | sound.left.keys()
    assert not {file for file in files if left.get(file) != sound.left.get(file)}
    assert again.out == sound.ended.out
    told = stage.told(name, again)
    assert len(told) <= 1 + (name == "search"), told
    assert all(line.startswith("warning: ") for line in told), told


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_any_event_it_ends_bit_equal(
    name: str, stage: Stage, try_all: Any, request: pytest.FixtureRequest
) -> None:
    events, many = stage.sound(name).events, times(request)
    faults: list[dict[str, Any]] = [{"at": at} for at in spread(len(events), KILLS * many, name)]
    faults += [{"size": size} for size in SIZES[: CUTS * many]]

    def check(**fault: Any) -> None:
        folder, ended = befallen(stage, name, fault="SIGKILL", **fault)
        where = events[fault["at"]] if "at" in fault else ended.err
        # Threads may meet fewer events than they did, and no file may be as large.
        assert ended.code in (-signal.SIGKILL, -signal.SIGXFSZ, 0), where
        try:
            go_on(stage, name, folder)
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error

    try_all("killed", name, faults, check)


@pytest.mark.parametrize("name", COMMANDS)
def test_refused_by_the_disk_it_says_so_and_goes_on(
    name: str, stage: Stage, try_all: Any, request: pytest.FixtureRequest
) -> None:
    events, many = stage.sound(name).events, times(request)
    faults = [
        # No room and an error of the device in turn, from command to command as well.
        {"at": at, "fault": ("ENOSPC", "EIO")[(turn + len(name)) % 2]}
        for turn, at in enumerate(spread(len(events), FAULTS * many, name))
    ]
    faults += [{"size": size, "fault": "EFBIG"} for size in SIZES[:many]]

    def check(**fault: Any) -> None:
        folder, ended = befallen(stage, name, **fault)
        where = f"{events[fault['at']] if 'at' in fault else ''}: {ended.err}"
        # A lock or a temporary file that cannot be removed stops nobody.
        assert ended.code in (0, 2), where
        told = [line for line in stage.told(name, ended) if not line.startswith("warning: ")]
        assert len(told) == ended.code // 2, where
        try:
            go_on(stage, name, folder)
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error

    try_all("refused", name, faults, check)


def dead_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("whose", "started", "age"),
    [
        ("nobody's", "1", 3600),
        ("nobody's", "1", -3600),
        ("another's now", "360000", 3600),
        ("another's now", "-1", -3600),
    ],
)
def test_a_stale_lock_is_taken_over_whatever_the_clock_says(
    whose: str, started: str, age: int, stage: Stage
) -> None:
    folder = stage.fresh()
    lock, now = folder / "run" / LOCK, time.time()
    pid = dead_pid() if whose == "nobody's" else os.getpid()
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": pid, "started": started}))
    os.utime(lock, (now - age, now - age))
    ended = stage.server.run(folder, COMMANDS["evaluate"])
    assert ended.code == 0, ended.err
    left = f"which a command of process {pid} left without an end"
    assert stage.told("evaluate", ended) == [f"warning: went on in run, {left}"]
    assert contents(folder) == stage.sound("evaluate").left


def test_a_stopped_command_holds_its_run_and_ends_once_it_goes_on(stage: Stage) -> None:
    sound, folder = stage.sound("evaluate"), stage.fresh()
    stage.server.start(folder, COMMANDS["evaluate"], at=5, fault="SIGSTOP")
    pid = stopped(folder / "run" / LOCK)
    with Server(stage.folder / "cache") as other:
        try:
            refused = other.run(folder, COMMANDS["evaluate"])
        finally:
            os.kill(pid, signal.SIGCONT)
    assert refused.code == 2
    (told,) = stage.told("evaluate", refused)
    assert f"one command at a time, got one of process {pid} of this machine; wait for it" in told
    ended = stage.server.result()
    assert ended.code == 0, ended.err
    assert contents(folder) == sound.left


def stopped(lock: Path) -> int:
    """The process that holds a lock, once it is stopped."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        time.sleep(0.02)
        if lock.exists() and lock.stat().st_size:
            pid = json.loads(lock.read_text())["pid"]
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return pid
    raise AssertionError("nothing was stopped")
