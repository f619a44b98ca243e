"""Two real processes judge a field of which each could not hold the split; figures of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from judge_process import HORIZON, ROWS

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("judge_process.py")
ROOT = Path(__file__).parents[2]
SPACE = 384, 512
MOST_GROWN = 300 * 2**20


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A field whose rows differ, in chunks of one row."""
    random = np.random.default_rng(0)
    base = random.normal(size=SPACE).astype(np.float32)
    rows = sum(ROWS.values())
    field = xr.DataArray(
        np.stack([base * np.float32(np.cos(row)) + np.float32(row % 7) for row in range(rows)]),
        dims=("time", "y", "x"),
        coords={"time": pd.date_range("2024-01-01", periods=rows, freq="h")},
        name="level",
    )
    path = tmp_path_factory.mktemp("field") / "level.zarr"
    encoding = {"level": {"chunks": (1, *SPACE), "compressors": None}}
    field.to_dataset().to_zarr(path, encoding=encoding, consolidated=False)
    return path


def judged(store, *meetings):
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(store), *map(str, meeting)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for meeting in meetings
    ]
    ends = [process.communicate(timeout=600) for process in started]
    for process, (_, err) in zip(started, ends, strict=True):
        assert process.returncode == 0, err
    return [json.loads(out.splitlines()[-1]) for out, _ in ends]


def numbers(values):
    if isinstance(values, dict):
        return [n for name in sorted(values) for n in numbers(values[name])]
    if isinstance(values, list):
        return [n for value in values for n in numbers(value)]
    return [values] if isinstance(values, int | float) else []


def test_two_processes_judge_what_one_could_not_hold_and_say_the_same(store):
    windows = ROWS["test"] - HORIZON + 1
    # Target, forecasts of the model and of persistence, as float32: what was held once.
    split = 3 * windows * HORIZON * int(np.prod(SPACE)) * 4
    assert split > 2.5 * MOST_GROWN
    (alone,) = judged(store, ())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = judged(store, (port, 2, 0), (port, 2, 1))
    assert both[0]["report"] == both[1]["report"]
    assert alone["report"]["windows"] == windows
    np.testing.assert_allclose(
        numbers(both[0]["report"]), numbers(alone["report"]), rtol=1e-9, atol=1e-12
    )
    # One row a window, in the order of the split.
    np.testing.assert_allclose(numbers(both[0]["windows"]), numbers(alone["windows"]), rtol=1e-9)
    assert len(set(np.round(alone["windows"]["absolute"], 3))) > 5
    assert max(one["grown"] for one in (alone, *both)) < MOST_GROWN
