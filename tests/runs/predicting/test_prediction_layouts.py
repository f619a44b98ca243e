"""Forecasts are laid out as the file they are of: wide or long, in its zone, with what CF tells."""

from typing import Any

import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from small_panel import COMPANIES, write_table
from untrained import untrained

from stpatch_jax.data import CleaningConfig, FieldConfig, PanelConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.predicting import Request, predict, predictors
from stpatch_jax.tasks import ForecastConfig

CONTEXT, HORIZON, ROWS = 6, 3, 60


def made(path, target, *, space=1, data: Any = FieldConfig):
    """The run, untrained, whose predictions of its own file are written."""
    options: Any = {} if data is PanelConfig else {"cleaning": CleaningConfig(per="cell")}
    config = data(path=str(path), context=CONTEXT, horizon=HORIZON, **options)
    model = FlatPatchesConfig(WindowSpec((None, *[1] * space)))
    run = untrained(config, model, ForecastConfig())
    predict(run, str(path), target, progress=False)
    return run, config.restore(str(path), run.state)


@pytest.mark.parametrize("zone", ["Europe/Berlin", None])
def test_a_table_of_forecasts_is_laid_out_as_its_table(tmp_path, zone):
    times = pd.date_range("2024-03-30", periods=ROWS, freq="h", tz="UTC").tz_convert(zone)
    values = np.random.default_rng(0).normal(size=(ROWS, 2))
    wide = pd.DataFrame(values, columns=["b", "a"])
    wide.insert(0, "when", [time.isoformat() for time in times])
    wide.to_csv(tmp_path / "wide.csv", index=False)
    long = wide.melt("when", var_name="station", value_name="load")
    long.to_csv(tmp_path / "long.csv", index=False)
    of_wide, of_long = tmp_path / "w.csv", tmp_path / "l.csv"
    made(tmp_path / "wide.csv", of_wide)
    made(tmp_path / "long.csv", of_long)
    found = pd.read_csv(of_wide)
    assert list(found) == ["init_time", "lead_time", "valid_time", "b", "a"]
    assert list(found.lead_time) == [1, 2, 3]
    assert [pd.Timestamp(text) for text in found.init_time] == [times[-1]] * 3
    ahead = times[-1] + pd.to_timedelta([1, 2, 3], "h")
    assert [pd.Timestamp(text) for text in found.valid_time] == list(ahead)
    rows = pd.read_csv(of_long)
    assert list(rows) == ["init_time", "lead_time", "valid_time", "station", "load"]
    turned = rows.pivot(index="lead_time", columns="station", values="load")
    np.testing.assert_allclose(turned[["b", "a"]], found[["b", "a"]], rtol=1e-6)


def test_prices_stay_as_wide_as_they_were_and_are_a_data_set_in_memory(tmp_path):
    table = write_table(tmp_path / "prices.csv")
    run, data = made(table, tmp_path / "f.csv", data=PanelConfig)
    found = pd.read_csv(tmp_path / "f.csv")
    assert list(found) == ["init_time", "lead_time", "valid_time", *COMPANIES]
    assert list(found.valid_time) == ["2006-09-01", "2006-10-01", "2006-11-01"]
    assert list(found.lead_time) == [1, 2, 3]  # months
    kind = predictors.of(run.task, data)
    result = kind(run, data, Request("prices", progress=False)).result()
    assert result.price.dims == ("init_time", "lead_time", "company")
    np.testing.assert_allclose(result.price.values[0], found[list(COMPANIES)], rtol=1e-6)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_what_cf_tells_of_a_map_stands_in_its_forecasts(tmp_path, suffix):
    pytest.importorskip("zarr")
    days = xr.date_range("2001-02-25", periods=ROWS, calendar="noleap", use_cftime=True)
    named = {"standard_name": "air_temperature", "long_name": "2 metre temperature", "units": "K"}
    mapping = {"grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 39.25}
    values = np.random.default_rng(0).normal(280, 1, (ROWS, 2, 3)).astype(np.float32)
    data = xr.Dataset(
        {"t2m": (("time", "rlat", "rlon"), values, {**named, "grid_mapping": "pole"})},
        {
            "time": days,
            "rlat": ("rlat", [10.0, 20.0], {"standard_name": "grid_latitude", "units": "degrees"}),
            "rlon": ("rlon", [1.0, 2.0, 3.0], {"standard_name": "grid_longitude"}),
            "lat": (("rlat", "rlon"), np.ones((2, 3)), {"units": "degrees_north"}),
            "pole": ((), 0, mapping),
        },
    )
    data.to_netcdf(tmp_path / "a.nc")
    target = tmp_path / f"f{suffix}"
    made(tmp_path / "a.nc", target, space=2)
    read = xr.open_zarr if suffix == ".zarr" else xr.open_dataset
    with read(target) as found:
        assert found.t2m.attrs == {**named, "grid_mapping": "pole"}
        assert found.pole.attrs == mapping
        assert found.rlat.attrs["standard_name"] == "grid_latitude"
        assert found.lat.dims == ("rlat", "rlon")
        assert found.valid_time.dt.calendar == "noleap"
        assert (
            found.lead_time.values.tolist()
            == (np.arange(1, 4) * np.timedelta64(1, "D")).astype(found.lead_time.dtype).tolist()
        )
    if suffix == ".nc":
        with netCDF4.Dataset(target) as stored:
            assert stored["lead_time"].units in ("days", "hours")
            assert stored["lead_time"].standard_name == "forecast_period"
            assert stored["init_time"].calendar == "noleap"
            assert stored["t2m"].grid_mapping == "pole"
