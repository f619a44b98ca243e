"""N steps, the process gone, M more: the same bits as N + M, for every backbone and every setting.

Each half is one process that runs all cases, for importing is what a process costs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from resume_cases import BATCH, CASES, FAMILIES, STEPS, STOP
from small_run import UNREADABLE

from stpatch_jax.nn import BackboneConfig

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("resume_cases.py")


def start(tmp_path: Path, name: str, folder: Path, *stop: int) -> tuple[Any, Path, Path]:
    """Starts all cases in a folder; what is said goes to files."""
    env = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",  # compiling is most of it
    }
    out, err = tmp_path / f"{name}.out", tmp_path / f"{name}.err"
    command = [sys.executable, "-W", "error", "-W", UNREADABLE, str(SCRIPT), str(folder)]
    command += map(str, stop)
    with out.open("w") as stdout, err.open("w") as stderr:
        return subprocess.Popen(command, env=env, stdout=stdout, stderr=stderr), out, err


def finish(started: tuple[Any, Path, Path]) -> dict[str, dict[str, Any]]:
    """What became of each case, by its name."""
    process, out, err = started
    try:
        assert process.wait(timeout=600) == 0, err.read_text()
    finally:
        process.kill()
        process.wait()
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return {line.pop("case"): line for line in lines}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All cases in one go, and all of them in two halves."""
    folder = tmp_path_factory.mktemp("matrix")
    straight, broken = folder / "straight", folder / "broken"
    stopped = finish(start(folder, "first", broken, STOP))  # It compiles for the others.
    straight_on, second_half = start(folder, "whole", straight), start(folder, "second", broken)
    whole, second = finish(straight_on), finish(second_half)
    return {
        name: (whole[name], stopped[name], second[name], straight / name, broken / name)
        for name in CASES
    }


def test_every_backbone_is_among_the_cases() -> None:
    tried = {type(case.backbone) for case in FAMILIES.values()}
    ours = {c for c in BackboneConfig.__subclasses__() if c.__module__.startswith("stpatch_jax.")}
    assert tried == ours


def test_every_resumed_run_ends_bit_equal(runs: dict[str, Any]) -> None:
    # One test: in several, each test process would train all the runs anew.
    for name in CASES:
        check_resumed(name, runs)


def check_resumed(name: str, runs: dict[str, Any]) -> None:
    whole, stopped, second, straight, broken = runs[name]
    assert stopped["step"] in (STOP - 1, STOP)
    assert stopped["interrupted"]
    assert stopped["digest"] != whole["digest"]
    assert second == whole
    assert (whole["step"], whole["interrupted"]) == (STEPS, False)
    assert len(whole["next"]) == BATCH
    logs = [(directory / "metrics.jsonl").read_bytes() for directory in (straight, broken)]
    assert logs[0] == logs[1]
    # Of all steps, though some were taken in the first process and some in the second.
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == [*range(1, STEPS + 1)]
