"""Processes of one run that differ are refused, all of them, before the first step."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from small_panel import flags, write_table

from stpatch_jax.training.distributed import of_every_process, require_alike

ROOT = Path(__file__).parents[2]
OTHER_VERSION = """
import sys, stpatch_jax
stpatch_jax.__version__ = "0.0.9"
from stpatch_jax.cli import main
sys.exit(main(sys.argv[1:]))
"""
ELSEWHERE = """
import os, pathlib, sys
os.chdir(sys.argv.pop(1))
pathlib.Path.absolute = lambda path: path
from stpatch_jax.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_one_process_alone_is_alike():
    require_alike({"train": {"seed": 0}, "loss": float("nan")})
    assert of_every_process(b"own") == [b"own"]


def two(*commands):
    """Code and stderr of the processes of one run, in their order."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = ["--coordinator", f"127.0.0.1:{port}", "--process-count", str(len(commands))]
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", *command, *meet, "--process-index", str(index)],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, command in enumerate(commands)
    ]
    try:
        told = [process.communicate(timeout=300)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], told


def refused(workdir, *commands):
    """The sentence that all processes say, alike."""
    codes, told = two(*commands)
    assert codes == [2] * len(commands), told
    last = [[line for line in text.splitlines() if "must" in line] for text in told]
    assert last[0] == last[1], told
    assert len(last[0]) == 1
    assert not workdir.exists()
    return last[0][0]


@pytest.mark.slow
def test_processes_that_differ_are_all_refused(tmp_path):
    table, workdir = write_table(tmp_path / "prices.csv"), tmp_path / "run"
    command = ["-m", "stpatch_jax", *flags(table, workdir, steps=2)]

    other = [*command[2:], "--train.seed", "3", "--model.dropout", "0.5"]
    told = refused(workdir, command, ["-c", OTHER_VERSION, *other])
    assert told.startswith(
        "all processes must have the same --model.dropout, --train.seed, version of stpatch_jax, "
        "got 0.2 in process 0 and 0.5 in process 1; start all"
    )

    # The same words, another file: as on hosts with disks of their own.
    folders = [tmp_path / "one", tmp_path / "two"]
    for at, folder in enumerate(folders):
        folder.mkdir()
        values = pd.read_csv(table)
        values.iloc[5, 1] += at
        values.to_csv(folder / "prices.csv", index=False)
    relative = flags(Path("prices.csv"), workdir, steps=2)
    told = refused(workdir, *(["-c", ELSEWHERE, str(folder), *relative] for folder in folders))
    assert "split of the data" in told
    (folders[1] / "prices.csv").unlink()
    told = refused(workdir, *(["-c", ELSEWHERE, str(folder), *relative] for folder in folders))
    assert "must have the same data," in told
    assert "prices.csv" in told
