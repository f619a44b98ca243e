"""`stpatch predict`: other files, their coordinates, without the data of the training."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stpatch_jax import cli
from stpatch_jax.data import CleaningConfig, FieldConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.running import RunConfig, train
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import OptimizerConfig, TrainConfig
from stpatch_jax.windows import WindowSpec

CONTEXT, HORIZON, ROWS = 6, 3, 120


def write_map(path, *, rows=ROWS, seed=0, space=(2, 3)):
    hours = pd.date_range("2024-01-01", periods=rows, freq="h")
    values = np.random.default_rng(seed).normal(280, 2, (rows, *space)).astype(np.float32)
    values[4, 0, 0] = np.nan
    latitude, longitude = np.arange(2.0), np.arange(float(space[1]))
    xr.DataArray(
        values,
        dims=("time", "latitude", "longitude"),
        coords={"time": hours, "latitude": latitude, "longitude": longitude},
        attrs={"units": "K"},
        name="t2m",
    ).to_netcdf(path)
    return values


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predicting")
    write_map(folder / "train.nc")
    config = RunConfig(
        recipe="map",
        data=FieldConfig(
            path=str(folder / "train.nc"),
            context=CONTEXT,
            horizon=HORIZON,
            calendar=("hour",),
            mask_channel=True,
            cleaning=CleaningConfig(per="cell"),
        ),
        model=FlatPatchesConfig(WindowSpec((None, 1, 1))),
        task=ForecastConfig(),
        train=TrainConfig(steps=4, batch_size=8, optimizer=OptimizerConfig(learning_rate=0.05)),
    )
    train(config, workdir=folder / "run", progress=False)
    (folder / "train.nc").unlink()
    return folder / "run"


def test_every_row_of_another_file_is_forecast(run, tmp_path, capsys):
    write_map(tmp_path / "new.nc", rows=30, seed=1)
    arguments = ["predict", str(run), str(tmp_path / "new.nc")]
    assert cli.main([*arguments, str(tmp_path / "f.zarr"), "--every", "1"]) == 0
    assert "25 forecasts of 3 time steps" in capsys.readouterr().out
    stored = xr.open_zarr(tmp_path / "f.zarr").load()
    assert stored.t2m.dims == ("init_time", "lead_time", "latitude", "longitude")
    assert stored.t2m.attrs["units"] == "K"
    assert np.isfinite(stored.t2m).all()
    hours = pd.date_range("2024-01-01", periods=33, freq="h")
    np.testing.assert_array_equal(stored.init_time, hours[CONTEXT - 1 : 30])
    np.testing.assert_array_equal(stored.valid_time[-1], hours[30:33])
    # The one forecast of what follows the file is the last of them.
    assert cli.main([*arguments, str(tmp_path / "f.nc")]) == 0
    last = xr.open_dataset(tmp_path / "f.nc")
    np.testing.assert_array_equal(last.valid_time, stored.valid_time[-1:])
    np.testing.assert_allclose(last.t2m, stored.t2m[-1:], rtol=1e-5)
    assert cli.main([*arguments, str(tmp_path / "f.csv"), "--every", "24"]) == 0
    table = pd.read_csv(tmp_path / "f.csv")
    assert len(table) == 2 * HORIZON * 6
    np.testing.assert_allclose(table.t2m[:6], stored.t2m[0, 0].values.ravel(), rtol=1e-5)


def test_a_forecast_depends_on_its_context_alone(run, tmp_path):
    values = write_map(tmp_path / "long.nc", rows=20, seed=2)
    field = xr.open_dataset(tmp_path / "long.nc").isel(time=slice(14, 20)).load()
    field.to_netcdf(tmp_path / "short.nc")
    for name in ("long", "short"):
        source, target = tmp_path / f"{name}.nc", tmp_path / f"{name}-forecast.nc"
        assert cli.main(["predict", str(run), str(source), str(target)]) == 0
    long, short = (xr.open_dataset(tmp_path / f"{name}-forecast.nc") for name in ("long", "short"))
    xr.testing.assert_equal(long, short)
    # Little trained, it is near persistence, in kelvin.
    assert np.abs(long.t2m.values[0] - values[-1]).max() < 6


def test_mistakes_are_one_sentence(run, tmp_path, capsys):
    write_map(tmp_path / "new.nc", rows=10)
    write_map(tmp_path / "wide.nc", rows=10, space=(2, 4))
    write_map(tmp_path / "short.nc", rows=5)
    (tmp_path / "there.nc").write_text("mine")
    cases = {
        ("new.nc", "f.txt"): "must go to a file whose name ends with .zarr, .nc",
        ("new.nc", "there.nc"): "there.nc must not exist yet",
        ("new.nc", "no/folder/f.nc"): "must be writable",
        ("short.nc", "f.nc"): "must have the rows of one context, 6, but it has 5",
        ("wide.nc", "f.nc"): "must have the cells of the run, (2, 3), but it has (2, 4)",
        ("none.nc", "f.nc"): "none.nc",
    }
    for (source, target), told in cases.items():
        code = cli.main(["predict", str(run), str(tmp_path / source), str(tmp_path / target)])
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert code == 2, (source, target)
        assert told in error, error
    assert (tmp_path / "there.nc").read_text() == "mine"
    assert not (tmp_path / "f.nc").exists()
    assert cli.main(["predict", str(tmp_path), "x.nc", str(tmp_path / "f.nc")]) == 2
    assert "config.json" in capsys.readouterr().err
