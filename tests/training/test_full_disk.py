"""A disk that is full or may not be written: one sentence, and what was committed stays."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("full_disk.py")


def in_own_mounts(disk: Path, *command: str) -> list[str]:
    """A command that sees a small file system of its own on a folder; it goes with the process."""
    mount = 'mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"'
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(disk), *command]


@pytest.mark.slow
def test_a_run_survives_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    disk, other, err = tmp_path / "disk", tmp_path / "other", tmp_path / "err"
    disk.mkdir()
    other.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare to mount a small file system with")
    tried = subprocess.run(in_own_mounts(disk, "true"), capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"no small file system may be mounted here ({tried.stderr.decode().strip()})")
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = in_own_mounts(disk, sys.executable, "-W", "error", str(SCRIPT), str(disk), str(other))
    with err.open("w") as stderr:
        done = subprocess.run(
            command, env=env, stdout=subprocess.PIPE, stderr=stderr, timeout=300, check=False
        )
    assert done.returncode == 0, err.read_text()
    answer = json.loads(done.stdout)
    assert "must be writable, got" in answer["read_only"]
    assert "must be w" in answer["full"]
    assert "make room" in answer["full"] or "--workdir" in answer["full"]
    assert answer["latest"] in (2, 4)
    assert answer["alike"]
    assert not any(disk.iterdir())
