"""Forecasts with covariates: those of the evaluation, and of what follows by two files or one."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stpatch_jax import cli
from stpatch_jax.data import CleaningConfig, FieldConfig
from stpatch_jax.errors import InputError
from stpatch_jax.inference import fields
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.predicting import predict
from stpatch_jax.runs.run import Run, RunConfig
from stpatch_jax.runs.trained import load_run
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import OptimizerConfig, TrainConfig

ROWS, HORIZON = 80, 4
PLACES = ("latitude", "longitude")


def maps(space: tuple[int, int] = (3, 2)) -> xr.Dataset:
    """Load that follows the rain and the height of its cell, and wind beside them, by the hour."""
    random = np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=ROWS + HORIZON, freq="h")
    places = {"latitude": np.arange(space[0]) / 4, "longitude": np.arange(space[1]) / 4}
    dims = ("time", "latitude", "longitude")
    rain, wind = (random.normal(size=(len(times), *space)).astype(np.float32) for _ in "rw")
    height = random.normal(size=space).astype(np.float32)
    load = rain * height + 0.01 * wind
    data = xr.Dataset({"load": (dims, load), "rain": (dims, rain), "wind": (dims, wind)})
    data = data.assign_coords({"time": times, **places})
    data["height"] = (dims[1:], height)
    data["load"].attrs["units"] = "MW"
    return data


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, Run, Any]:
    """A short run, and its model."""
    folder = tmp_path_factory.mktemp("covariates")
    maps().isel(time=slice(ROWS)).to_netcdf(folder / "train.nc")
    config = RunConfig(
        recipe="covariates",
        data=FieldConfig(
            str(folder / "train.nc"),
            targets=("load",),
            known=("rain",),
            static=("height",),
            context=3,
            horizon=HORIZON,
            cleaning=CleaningConfig(per="channel"),
            calendar=("hour",),
        ),
        model=FlatPatchesConfig(WindowSpec((None, 1, 1))),
        task=ForecastConfig(residual="none", normalize="instance"),
        train=TrainConfig(steps=4, batch_size=16, optimizer=OptimizerConfig(learning_rate=0.05)),
    )
    run, directory = Run(config), RunDirectory(folder / "run")
    run.claim(directory)
    return folder, run, run.fit(directory, progress=False).model


def forecasts(folder: Path, source: str, target: Path, **options: Any) -> xr.Dataset:
    told = predict(folder / "run", source, target, progress=False, **options)
    assert "order along" not in told
    with contextlib.closing(xr.open_dataset(target)) as found:
        return found.load()


def test_forecasts_of_a_file_are_those_of_the_evaluation(run, tmp_path, monkeypatch):
    folder, trained, model = run
    monkeypatch.setattr(fields, "_SLAB_VALUES", 2000)
    # Of the past the file tells enough.
    found = forecasts(folder, str(folder / "train.nc"), tmp_path / "f.nc", every=1)
    assert {*found.variables} == {"load", "init_time", "lead_time", "valid_time", *PLACES}
    assert found["load"].attrs["units"] == "MW"
    expected, index = [], []
    for batch, forecast in trained.judge.predicted(model, "test"):
        real = batch["example_mask"]
        expected.append(trained.data.in_units(forecast[real], batch["index"][real])[..., 0])
        index.append(batch["index"][real])
    at = np.concatenate(index) - 3
    assert at[-1] == len(found.init_time) - 1
    np.testing.assert_allclose(
        found["load"].values[at], np.concatenate(expected), rtol=2e-5, atol=1e-6
    )


def test_what_follows_a_file_depends_on_the_covariates_of_two_files_or_one(run, tmp_path):
    folder, *_ = run
    cut, source = maps(), str(folder / "train.nc")
    cut["load"][ROWS:] = np.nan
    cut.to_netcdf(tmp_path / "cut.nc")
    maps()[["rain"]].isel(time=slice(ROWS, None)).to_netcdf(nwp := tmp_path / "nwp.nc")
    one = forecasts(folder, str(tmp_path / "cut.nc"), tmp_path / "one.nc")
    assert one.valid_time.values[0, 0] == maps().time.values[ROWS]
    words = ["predict", str(folder / "run"), source, str(tmp_path / "two.nc")]
    assert cli.main([*words, "--future", str(nwp)]) == 0
    with contextlib.closing(xr.open_dataset(tmp_path / "two.nc")) as two:
        np.testing.assert_array_equal(two["load"], one["load"])
    given, coming = maps().isel(time=slice(ROWS)), maps()[["rain"]].isel(time=slice(ROWS, None))
    held = load_run(folder / "run").predict(given, future=coming)
    np.testing.assert_array_equal(held["load"], one["load"])
    with pytest.raises(InputError, match=r"rain must be known over the 4 .* or future="):
        predict(folder / "run", source, tmp_path / "no.nc", progress=False)


@pytest.mark.slow
def test_a_larger_field_is_tiled_with_its_covariates(run, tmp_path):
    folder, *_ = run
    large = maps((6, 5))
    large["load"][ROWS:] = np.nan
    large.to_netcdf(tmp_path / "large.nc")
    found = forecasts(folder, str(tmp_path / "large.nc"), tmp_path / "f.nc")["load"]
    part = large.isel(latitude=slice(0, 3), longitude=slice(0, 2))
    part.to_netcdf(tmp_path / "part.nc")
    alone = forecasts(folder, str(tmp_path / "part.nc"), tmp_path / "p.nc")["load"]
    # A model of single cells answers the same in every tile.
    np.testing.assert_allclose(found[:, :, :3, :2], alone, rtol=1e-4, atol=1e-5)


def test_channels_of_an_explanation_have_the_names_of_their_leads(run):
    _, trained, _ = run
    names = trained.data.input_axes("test", 0).channels
    assert names == (
        *("load", "wind", "rain", "rain_ahead_4", "rain_ahead_1", "height", "hour_sin", "hour_cos"),
    )
    assert trained.task.facts == {"target_channels": [0]}


def test_what_a_covariate_tells_is_forecast_from_file_to_file(tmp_path):
    temperature = np.random.default_rng(0).normal(12, 5, 150)
    times = pd.date_range("2024-01-01", periods=150, freq="D")
    table = pd.DataFrame({"time": times, "load": 5 * temperature, "temperature": temperature})
    table.loc[146:, "load"] = np.nan
    table.to_csv(tmp_path / "load.csv", index=False)
    flags = {"known": "temperature", "columns": "channels", "horizon": "4", "context": "8"}
    words = [word for name, of in flags.items() for word in (f"--data.{name}", of)]
    path = ["--data.path", str(tmp_path / "load.csv"), "--workdir", str(tmp_path / "run")]
    steps = ["--train.steps", "2", "--train.checkpoint-every", "2"]
    assert cli.main(["train", "forecast", *path, *words, *steps]) == 0
    assert cli.main(["predict", *map(str, (tmp_path / "run", path[1], tmp_path / "f.csv"))]) == 0
    found = pd.read_csv(tmp_path / "f.csv")["load"]
    np.testing.assert_allclose(found, 5 * temperature[146:], rtol=1e-4)
