"""The benchmark of the input pipeline runs on a small store and removes it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("zarr")


@pytest.mark.slow
def test_a_small_run_measures_and_writes(tmp_path):
    (tmp_path / "store").mkdir()
    command = [sys.executable, "-m", "benchmarks.input_pipeline", "--gigabytes", "0.001"]
    command += ["--seconds", "0.1", "--width", "2", "--folder", str(tmp_path / "store")]
    done = subprocess.run(
        [*command, "--results", str(tmp_path / "results")],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "store").iterdir())
    (path,) = (tmp_path / "results").iterdir()
    results = json.loads(path.read_text())
    assert results["make"]["rows"] == 128
    windows = results["windows"]
    assert windows["ours"]["per_second"] > 0
    # Chunks are read once, and neighbouring windows share theirs.
    assert windows["bytes_read_per_byte_used"] <= 1.5
    assert results["train"]["loss_is_finite"]
    assert min(results["train"]["ms_per_step"].values()) > 0
    assert results["digest"]["whole"]["gigabytes_per_second"] > 0
    assert max(results[part]["peak_gib"] for part in results if part in ("windows", "train")) < 2
