"""Sensors of a place with summer time, each time with its zone, and a night without values."""

import numpy as np
import pandas as pd
import pytest
from travelled import STEPS, command, reported

pytestmark = pytest.mark.slow


def readings(path, hours):
    """Two sensors with a daily cycle; of one night all rows are missing."""
    clock = np.arange(len(hours))
    table = pd.DataFrame(
        {
            "time": hours.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "north": 10 + 5 * np.sin(2 * np.pi * clock / 24) + 0.01 * clock,
            "south": 14 + 3 * np.cos(2 * np.pi * clock / 24),
        }
    )
    table[(clock < 300) | (clock >= 310)].to_csv(path, index=False, float_format="%.3f")


def test_sensors_with_a_time_zone_and_an_outage(tmp_path):
    hours = pd.date_range("2024-03-15", periods=700, freq="h", tz="Europe/Berlin")
    readings(tmp_path / "sensors.csv", hours)
    command(
        *("train", "forecast", "--data.path", tmp_path / "sensors.csv", "--data.horizon", 12),
        *("--data.context", 48, *STEPS, "--workdir", tmp_path / "run"),
    )
    report = reported(tmp_path / "run")
    # Ten rows are put in as missing; the night of summer time is no gap.
    assert report["data"]["gaps"] == []
    assert [note[:23] for note in report["data"]["notes"] if note.startswith("Gap")] == [
        "Gap: 10 rows missing be"
    ]

    command("predict", tmp_path / "run", tmp_path / "sensors.csv", tmp_path / "next.csv")
    coming = pd.read_csv(tmp_path / "next.csv")
    valid = pd.to_datetime(coming["valid_time"], utc=True)
    first = hours[-1].tz_convert("UTC") + pd.Timedelta("1h")
    assert sorted(valid.unique()) == list(pd.date_range(first, periods=12, freq="h"))
    # A daily cycle that never changes is what yesterday was.
    assert (
        coming.select_dtypes("number").drop(columns="lead_time", errors="ignore").max().max() < 25
    )
