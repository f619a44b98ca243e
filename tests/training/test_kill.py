"""kill -9 at random moments of a real process; the run must end as if nothing had happened."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_run import CONFIG, UNREADABLE

from stpatch_jax.training.loop import most_steps_lost


def start_run(workdir: Path, cache: Path, steps: int) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("small_run.py")
    root = str(Path(__file__).parents[2])
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": root}
    command = [
        sys.executable,
        "-W",
        "error",
        "-W",
        UNREADABLE,
        str(script),
        str(workdir),
        str(steps),
    ]
    # To a file: a pipe that nobody reads fills up and stops the run.
    with said_on(workdir).open("w") as stderr:
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True)


def said_on(workdir: Path) -> Path:
    """The file of what the last run in a directory said on stderr."""
    return workdir.with_suffix(".stderr")


def said(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def finish(process: subprocess.Popen[str], workdir: Path) -> list[dict[str, object]]:
    # With `--many` it has thousands of steps to go, on a machine that others may use too.
    out, _ = process.communicate(timeout=3600)
    errors = said_on(workdir).read_text()
    assert process.returncode == 0, errors
    # XLA of jax 0.10.0 doubts in its log the programs that it cached itself on this machine.
    assert [line for line in errors.splitlines() if "cpu_aot_loader" not in line] == []
    return said(out)


def logged(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def committed(workdir: Path) -> int:
    steps = [int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()]
    return max(steps, default=0)


def in_flight(workdir: Path) -> bool:
    """Whether the run died inside a save."""
    return any((workdir / "checkpoints").glob("*tmp*"))


def kill_at_random(
    process: subprocess.Popen[str], workdir: Path, chance: random.Random
) -> list[dict[str, object]]:
    """Kills some steps and milliseconds after the resumption; returns what the run had said.

    One kill in four comes at any moment since the start: the process may still be importing,
    restoring or compiling.
    """
    log = workdir / "metrics.jsonl"
    before = log.stat().st_ino if log.exists() else None
    enough = committed(workdir) + chance.randint(1, 12)
    patience = chance.uniform(0, 5) if chance.random() < 0.25 else 600.0
    end = time.monotonic() + patience

    def moving() -> bool:
        return log.exists() and log.stat().st_ino != before and logged(workdir) >= enough

    while process.poll() is None and not moving() and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.1))
    assert process.poll() is None, f"ended before the kill: {said_on(workdir).read_text()}"
    process.kill()
    return said(process.communicate()[0])


def check_kills(tmp_path: Path, kills: int, steps: int) -> int:
    """Returns how many of the kills fell into a save."""
    cache, straight, broken = (tmp_path / name for name in ("cache", "straight", "broken"))
    undisturbed = start_run(straight, cache, steps)
    chance = random.Random(kills)
    inside = 0
    for _ in range(kills):
        restored = committed(broken)
        started = kill_at_random(start_run(broken, cache, steps), broken, chance)
        assert started in ([], [{"start": restored}])
        assert committed(broken) >= restored
        inside += in_flight(broken)
        assert logged(broken) - committed(broken) <= most_steps_lost(CONFIG.checkpoint_every)
    _, expected = finish(undisturbed, straight)
    restored = committed(broken)
    started, result = finish(start_run(broken, cache, steps), broken)
    assert started == {"start": restored}
    assert result == expected
    assert (broken / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()
    kept = sorted(p.name for p in (broken / "checkpoints").iterdir())
    assert kept == sorted(p.name for p in (straight / "checkpoints").iterdir())
    return inside


@pytest.mark.slow
def test_killed_many_times_ends_bit_equal(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    kills = 200 if request.config.getoption("--many") else 12
    inside = check_kills(tmp_path, kills, 20 * kills)
    assert inside > 0
    with capsys.disabled():
        print(f"\nsurvived {kills} kills, {inside} of them inside a save")
