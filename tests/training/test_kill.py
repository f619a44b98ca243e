"""kill -9 at random moments of a real process; the run must end as if nothing had happened."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_run import CONFIG


def start_run(workdir: Path, cache: Path, steps: int) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("small_run.py")
    root = str(Path(__file__).parents[2])
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": root}
    command = [sys.executable, "-W", "error", str(script), str(workdir), str(steps)]
    # To a file: a pipe that nobody reads fills up and stops the run.
    with said_on(workdir).open("w") as stderr:
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True)


def said_on(workdir: Path) -> Path:
    """The file of what the last run in a directory said on stderr."""
    return workdir.with_suffix(".stderr")


def finish(process: subprocess.Popen[str], workdir: Path) -> dict[str, object]:
    out, _ = process.communicate(timeout=300)
    said = said_on(workdir).read_text()
    assert process.returncode == 0, said
    # XLA of jax 0.10.0 doubts in its log the programs that it cached itself on this machine.
    assert [line for line in said.splitlines() if "cpu_aot_loader" not in line] == []
    return json.loads(out)


def logged(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def committed(workdir: Path) -> int:
    steps = [int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()]
    return max(steps, default=0)


def kill_at_random(process: subprocess.Popen[str], workdir: Path, chance: random.Random) -> bool:
    """Kills some steps and milliseconds after the resumption; says whether it was running."""
    log = workdir / "metrics.jsonl"
    before = log.stat().st_ino if log.exists() else None
    enough = committed(workdir) + chance.randint(1, 12)

    def moving() -> bool:
        return log.exists() and log.stat().st_ino != before and logged(workdir) >= enough

    while process.poll() is None and not moving():
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.1))
    running = process.poll() is None
    process.kill()
    process.communicate()
    return running


def check_kills(tmp_path: Path, kills: int, steps: int) -> int:
    """Returns how many of the kills fell into a save."""
    cache, straight, broken = (tmp_path / name for name in ("cache", "straight", "broken"))
    undisturbed = start_run(straight, cache, steps)
    chance = random.Random(kills)
    inside = 0
    for _ in range(kills):
        process = start_run(broken, cache, steps)
        assert kill_at_random(process, broken, chance), "ended before the kill"
        inside += any((broken / "checkpoints").glob("*tmp*"))
        # One interval, and one more for the save that was still in flight.
        assert logged(broken) - committed(broken) <= 2 * CONFIG.checkpoint_every
    expected = finish(undisturbed, straight)
    restored = committed(broken)
    result = finish(start_run(broken, cache, steps), broken)
    assert result["start"] == restored
    assert result["digest"] == expected["digest"]
    assert (broken / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()
    kept = sorted(p.name for p in (broken / "checkpoints").iterdir())
    assert kept == sorted(p.name for p in (straight / "checkpoints").iterdir())
    return inside


def test_killed_twice_ends_bit_equal(tmp_path: Path) -> None:
    check_kills(tmp_path, 2, 80)


@pytest.mark.slow
def test_killed_twelve_times_ends_bit_equal(tmp_path: Path) -> None:
    assert check_kills(tmp_path, 12, 600) > 0
