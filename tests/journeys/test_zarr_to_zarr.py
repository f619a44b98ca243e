"""A store of a grid with plans that are known in advance, and a store of forecasts."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from travelled import command, reported

pytestmark = pytest.mark.slow
pytest.importorskip("zarr")


def store(path, hours, seed):
    """Demand on 4 x 5 cells that follows a tariff, which is published ahead."""
    random = np.random.default_rng(seed)
    tariff = np.repeat(random.integers(0, 2, -(-len(hours) // 6)), 6)[: len(hours)]
    grid = np.ones((len(hours), 4, 5), "f4")
    tariff = tariff[:, None, None] * grid
    demand = 20 - 8 * tariff + random.normal(0, 0.5, grid.shape)
    dims, coords = ("time", "y", "x"), {"time": hours}
    data = xr.Dataset(
        {"demand": (dims, demand.astype("f4")), "tariff": (dims, tariff.astype("f4"))}, coords
    )
    data["height"] = (("y", "x"), random.normal(size=(4, 5)).astype("f4"))
    data.to_zarr(path, consolidated=False)
    return data


def test_a_store_becomes_a_store_of_forecasts(tmp_path):
    hours = pd.date_range("2024-01-01", periods=400, freq="h")
    store(tmp_path / "grid.zarr", hours, seed=0)
    command(
        *("train", "forecast", "--data.path", tmp_path / "grid.zarr", "--data.targets", "demand"),
        *("--data.known", "tariff", "--data.static", "height", "--data.context", 12),
        *("--data.horizon", 6, "--train.steps", 300, "--train.batch-size", 8),
        *("--workdir", tmp_path / "run"),
    )
    report = reported(tmp_path / "run")
    # What the tariff does is known, so that it beats what has no look at it.
    pooled = report["test"]["scaled"]
    assert pooled["model"]["mae"]["all"] < 0.7 * pooled["persistence"]["mae"]["all"]

    later = store(tmp_path / "later.zarr", hours[:60] + pd.Timedelta("60D"), seed=1)
    future = (
        xr.open_zarr(tmp_path / "later.zarr", consolidated=False)[["tariff"]]
        .isel(time=slice(54, None))
        .load()
    )
    future.to_zarr(tmp_path / "tariffs.zarr", consolidated=False)
    later.isel(time=slice(0, 54)).to_zarr(tmp_path / "past.zarr", consolidated=False)
    command(
        *("predict", tmp_path / "run", tmp_path / "past.zarr", tmp_path / "coming.zarr"),
        *("--future", tmp_path / "tariffs.zarr"),
    )
    coming = xr.open_zarr(tmp_path / "coming.zarr", consolidated=False).load()
    assert set(coming.data_vars) == {"demand"}
    real = later["demand"].isel(time=slice(54, 60)).to_numpy()
    error = np.abs(coming["demand"].squeeze().to_numpy() - real).mean()
    assert error < np.abs(later["demand"][53].to_numpy() - real).mean() + 1
