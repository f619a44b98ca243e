"""A netCDF file of two variables over the sea, which have no values on land."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from travelled import STEPS, command, reported

pytestmark = pytest.mark.slow


def sea(path, days, seed):
    """Temperature and salinity of 6 x 8 cells, a corner of them land."""
    random = np.random.default_rng(seed)
    season = 5 * np.sin(2 * np.pi * days.day_of_year.to_numpy() / 365)[:, None, None]
    land = np.zeros((6, 8), bool)
    land[:2, :3] = True
    values = {
        "sst": 288 + season + random.normal(0, 0.3, (len(days), 6, 8)),
        "salinity": 35 + 0.1 * random.normal(size=(len(days), 6, 8)),
    }
    units = {"sst": "K", "salinity": "1e-3"}
    dims = ("time", "lat", "lon")
    data = xr.Dataset(
        {
            name: (dims, np.where(land, np.nan, x).astype("f4"), {"units": units[name]})
            for name, x in values.items()
        },
        coords={
            "time": days,
            "lat": ("lat", np.linspace(50, 55, 6), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 7, 8), {"units": "degrees_east"}),
        },
    )
    data.to_netcdf(path)
    return land


def test_a_sea_is_forecast_and_land_stays_land(tmp_path):
    days = pd.date_range("2020-01-01", periods=260)
    land = sea(tmp_path / "sea.nc", days, seed=0)
    command(
        *("train", "forecast", "--data.path", tmp_path / "sea.nc", "--data.horizon", 3),
        *("--data.context", 14, *STEPS, "--workdir", tmp_path / "run"),
    )
    report = reported(tmp_path / "run")
    assert set(report["test"]["series"]) == {"sst", "salinity"}
    assert report["test"]["series_errors"]["sst"]["unit"] == "K"

    later = pd.date_range("2021-03-01", periods=40)
    sea(tmp_path / "later.nc", later, seed=1)
    command("predict", tmp_path / "run", tmp_path / "later.nc", tmp_path / "coming.nc")
    with xr.open_dataset(tmp_path / "coming.nc") as coming:
        assert coming["sst"].attrs["units"] == "K"
        values = coming["sst"].squeeze().transpose(..., "lat", "lon")
        assert (np.isnan(values.values) == land).all()
        assert float(abs(values.mean() - 288)) < 10
        assert 34 < float(coming["salinity"].mean()) < 36
