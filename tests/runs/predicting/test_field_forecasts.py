"""Forecasts of other fields: those of the evaluation, with coordinates, by regions and tiles."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stpatch_jax import cli
from stpatch_jax.data import AlertConfig, CleaningConfig, FieldConfig
from stpatch_jax.data.times import time_text
from stpatch_jax.errors import InputError
from stpatch_jax.inference import fields
from stpatch_jax.metrics import exceedance_probability
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.predicting import predict
from stpatch_jax.runs.run import Run, RunConfig
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import OptimizerConfig, TrainConfig

CONTEXT, HORIZON, ROWS = 6, 3, 120
# A season of the tests need be none of the calendar.
pytestmark = pytest.mark.filterwarnings("ignore:.*A season of 8 rows:UserWarning")


def write_map(path, *, rows=ROWS, seed=0, space=(2, 3), first="2024-01-01"):
    hours = pd.date_range(first, periods=rows, freq="h")
    values = np.random.default_rng(seed).normal(280, 2, (rows, *space)).astype(np.float32)
    values[4, 0, 0] = np.nan
    field = xr.DataArray(
        values,
        dims=("time", "latitude", "longitude"),
        coords={
            "time": hours,
            "latitude": np.arange(float(space[0])),
            "longitude": np.arange(float(space[1])),
        },
        attrs={"units": "K"},
        name="t2m",
    ).to_dataset()
    if path.suffix == ".nc":
        field.to_netcdf(path)
    else:
        field.to_zarr(path, zarr_format=2)
    return values


def trained(folder, data, task):
    """A short run without its report, and its model."""
    config = RunConfig(
        recipe="map",
        data=dataclasses.replace(data, path=str(folder / "train.nc")),
        model=FlatPatchesConfig(WindowSpec((None, 1, 1))),
        task=task,
        train=TrainConfig(steps=4, batch_size=8, optimizer=OptimizerConfig(learning_rate=0.05)),
    )
    run, directory = Run(config), RunDirectory(folder / "run")
    run.claim(directory)
    return run, run.fit(directory, progress=False).model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose inputs hold all there is, its test forecasts in kelvin and their rows."""
    folder = tmp_path_factory.mktemp("whole")
    write_map(folder / "train.nc")
    data = FieldConfig(
        context=CONTEXT,
        horizon=HORIZON,
        calendar=("hour",),
        mask_channel=True,
        climatology="hour",
        anomalies=True,
        climatology_channel=True,
        cleaning=CleaningConfig(per="cell"),
    )
    run, model = trained(folder, data, ForecastConfig(residual="climatology"))
    index, forecasts = [], []
    for batch, forecast in run.judge.predicted(model, "test"):
        index.append(batch["index"][batch["example_mask"]])
        forecasts.append(forecast[batch["example_mask"]])
    index = np.concatenate(index)
    data: Any = run.data
    expected = data.in_units(np.concatenate(forecasts), index)
    (folder / "train.nc").rename(folder / "seen.nc")
    return folder, expected[..., 0], index


@pytest.mark.slow
def test_forecasts_by_regions_are_those_of_the_evaluation(run, tmp_path, capsys, monkeypatch):
    folder, expected, index = run
    monkeypatch.setattr(fields, "_SLAB_VALUES", 4000)
    arguments = ["predict", str(folder / "run"), str(folder / "seen.nc")]
    assert cli.main([*arguments, str(tmp_path / "f.zarr"), "--every", "1"]) == 0
    said = capsys.readouterr()
    assert "115 forecasts of 3 time steps" in said.out
    assert "predicting: 100%" in said.err
    stored = xr.open_zarr(tmp_path / "f.zarr").load()
    assert 1 < stored.t2m.encoding["chunks"][0] < 60
    assert stored.t2m.dims == ("init_time", "lead_time", "latitude", "longitude")
    assert stored.t2m.attrs["units"] == "K"
    np.testing.assert_allclose(stored.t2m[index - CONTEXT], expected, rtol=1e-6)
    hours = pd.date_range("2024-01-01", periods=ROWS + 3, freq="h")
    np.testing.assert_array_equal(stored.init_time, hours[CONTEXT - 1 : ROWS])
    np.testing.assert_array_equal(stored.valid_time[-1], hours[ROWS:])
    # The same command finds it done; one with other windows refuses it.
    assert cli.main([*arguments, str(tmp_path / "f.zarr"), "--every", "1"]) == 0
    assert cli.main([*arguments, str(tmp_path / "f.zarr"), "--every", "2"]) == 2
    assert ".zarr with another " in capsys.readouterr().err


def test_one_forecast_of_what_follows_depends_on_its_context_alone(run, tmp_path):
    folder, *_ = run
    values = write_map(tmp_path / "long.nc", rows=20, seed=2)
    field = xr.open_dataset(tmp_path / "long.nc").isel(time=slice(14, 20)).load()
    field.to_netcdf(tmp_path / "short.nc")
    found = {}
    for name in ("long.nc", "short.nc"):
        target = tmp_path / f"of-{name}"
        predict(folder / "run", str(tmp_path / name), target, progress=False)
        with xr.open_dataset(target) as opened:
            found[name] = opened.load()
    xr.testing.assert_identical(found["long.nc"], found["short.nc"])
    one = found["long.nc"]
    hours = pd.date_range("2024-01-01 20:00", periods=3, freq="h")
    np.testing.assert_array_equal(one.valid_time, hours.values[None])
    assert one.attrs["recipe"] == "map"
    assert one.attrs["step"] == "4"
    # Little trained, it is near the climatology, in kelvin.
    assert np.abs(one.t2m.values - np.nanmean(values)).max() < 6
    predict(folder / "run", str(tmp_path / "long.nc"), tmp_path / "f.csv", progress=False)
    table = pd.read_csv(tmp_path / "f.csv")
    assert list(table)[:3] == ["init_time", "lead_time", "valid_time"]
    np.testing.assert_allclose(table.t2m, one.t2m.values.ravel(), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("quantile", [False, True])
def test_quantiles_are_those_of_the_evaluation_and_tell_the_probability_of_frost(
    tmp_path, quantile
):
    write_map(tmp_path / "train.nc")
    frost, levels = AlertConfig("below", 7.0, unit="degC"), (0.1, 0.4, 0.9)
    bound, told = np.float64(280.15), "280.15 K"
    if quantile:
        frost, told = AlertConfig("below", 0.3, True), "the quantile 0.3 of its training rows"
        rows = xr.open_dataset(tmp_path / "train.nc").t2m.values[: int(0.7 * ROWS)]
        bound = np.nanquantile(rows.astype(float), 0.3, axis=0)
    data = FieldConfig(context=CONTEXT, horizon=HORIZON, alert=frost)
    run, model = trained(tmp_path, data, ForecastConfig(quantiles=levels))
    batch, forecasts = next(iter(run.judge.predicted(model, "test")))
    field: Any = run.data
    expected = np.stack(
        [field.in_units(x, batch["index"])[..., 0] for x in np.moveaxis(forecasts, -1, 0)]
    )
    source, made = str(tmp_path / "train.nc"), {}
    for suffix in (".nc", ".zarr", ".csv"):
        target = tmp_path / f"f{suffix}"
        predict(tmp_path / "run", source, target, every=1, progress=False)
        if suffix != ".csv":
            made[suffix] = xr.open_dataset(target).load()
    for whole in made.values():
        assert whole.t2m.dims == ("quantile", "init_time", "lead_time", "latitude", "longitude")
        assert (whole.t2m.diff("quantile").dropna("init_time") > 0).all()
        own = whole.t2m.isel(init_time=batch["index"] - CONTEXT).transpose(*whole.t2m.dims)
        np.testing.assert_allclose(own, expected, rtol=1e-6)
        chance = whole.t2m_non_exceedance_probability
        assert chance.attrs["long_name"] == f"probability of t2m below {told}"
        values = whole.t2m.transpose(..., "quantile").values.astype(float)
        bounds = np.broadcast_to(bound, values.shape[:-1])
        above = exceedance_probability(values, bounds, quantiles=levels)
        np.testing.assert_allclose(chance, 1 - np.asarray(above), atol=1e-4)
    table = pd.read_csv(tmp_path / "f.csv")
    columns = [*(f"t2m_{level}" for level in levels), "t2m_non_exceedance_probability"]
    assert list(table.columns)[5:] == columns
    flat = made[".nc"].t2m.sel(quantile=0.4).values.ravel()
    np.testing.assert_allclose(table["t2m_0.4"], flat[np.isfinite(flat)], rtol=1e-5)


AXES = {
    "months": pd.date_range("2005-01-01", periods=ROWS + 3, freq="MS").values,
    "a model's days": xr.date_range(
        "2001-01-01", periods=ROWS + 3, calendar="360_day", use_cftime=True
    ).values,
}


@pytest.fixture(scope="module", params=AXES)
def dated(request, tmp_path_factory):
    """A run on rows of some step, and the times of the rows and of what follows them."""
    folder, times = tmp_path_factory.mktemp("dated"), AXES[request.param]
    write_map(folder / "train.nc")
    field = xr.open_dataset(folder / "train.nc").load()
    field = field.assign_coords(time=times[:ROWS])
    (folder / "train.nc").unlink()
    field.to_netcdf(folder / "train.nc")
    trained(folder, FieldConfig(context=CONTEXT, horizon=HORIZON), ForecastConfig())
    return folder, times


@pytest.mark.parametrize("suffix", [".nc", ".zarr", ".csv"])
def test_what_follows_a_file_is_dated_by_its_own_step(dated, suffix, tmp_path):
    folder, times = dated
    target = tmp_path / f"f{suffix}"
    predict(folder / "run", str(folder / "train.nc"), target, progress=False)
    if suffix == ".csv":
        found = list(dict.fromkeys(pd.read_csv(target).valid_time))
        assert [text[:10] for text in found] == [time_text(at)[:10] for at in times[ROWS:]]
        return
    coder = xr.coders.CFDatetimeCoder(time_unit="us")
    with xr.open_dataset(target, decode_times=coder) as back:
        found = [*back.init_time.values, *back.valid_time.values.ravel()]
        assert list(map(time_text, found)) == list(map(time_text, times[ROWS - 1 :]))


def test_rows_at_any_time_are_refused_before_anything_is_computed(run, tmp_path, monkeypatch):
    folder, *_ = run
    write_map(tmp_path / "new.nc", rows=20)
    field = xr.open_dataset(tmp_path / "new.nc").load()
    hours = np.where(np.arange(20) < 18, np.arange(20) * 60, np.arange(20) * 60 + 25)
    times = np.datetime64("2024-01-01", "ns") + hours * np.timedelta64(1, "m")
    field.assign_coords(time=times).to_netcdf(tmp_path / "uneven.nc")
    monkeypatch.setattr(fields, "predict_field", None)
    with pytest.raises(InputError, match="one step to date what follows, got rows at uneven times"):
        predict(folder / "run", str(tmp_path / "uneven.nc"), tmp_path / "f.nc", progress=False)


def test_mistakes_are_one_sentence(run, tmp_path, capsys):
    folder, *_ = run
    write_map(tmp_path / "new.nc", rows=10)
    write_map(tmp_path / "wide.nc", rows=10, space=(2, 4))
    write_map(tmp_path / "small.nc", rows=10, space=(2, 2))
    write_map(tmp_path / "short.nc", rows=5)
    other = xr.open_dataset(tmp_path / "new.nc").load()
    other.rename(t2m="wind").to_netcdf(tmp_path / "wind.nc")
    (tmp_path / "there.nc").write_text("mine")
    cases = {
        ("new.nc", "f.txt"): "the name of the output must end with .zarr, .nc",
        ("new.nc", "there.nc"): "the output must be new, got",
        ("new.nc", "no/folder/f.nc"): "must lie in a folder that is there",
        ("new.nc", "no/folder/f.zarr"): "must lie in a folder that is there",
        ("short.nc", "f.nc"): "must have the 6 rows that a forecast needs, got 5",
        ("small.nc", "f.nc"): "must lie on the grid of the run, longitude",
        ("wide.nc", "f.nc"): "as something of it was fitted cell by cell",
        ("wind.nc", "f.nc"): "must have every channel of the run, got none called t2m among wind",
        ("none.nc", "f.nc"): "none.nc",
    }
    start = ["predict", str(folder / "run")]
    for (source, target), told in cases.items():
        code = cli.main([*start, str(tmp_path / source), str(tmp_path / target)])
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert code == 2, (source, target)
        assert told in error, error
    assert (tmp_path / "there.nc").read_text() == "mine"
    assert not (tmp_path / "f.nc").exists()
    source, target = str(tmp_path / "new.nc"), str(tmp_path / "f.csv")
    assert cli.main([*start, source, target, "--process-count", "2", "--process-index", "0"]) == 2
    assert "--process-count must be 1 for all but a .zarr output" in capsys.readouterr().err
    assert cli.main([*start, source, target, "--every", "0"]) == 2
    assert "--every must be a whole number >= 1, got 0" in capsys.readouterr().err
    assert cli.main(["predict", str(tmp_path), "x.nc", target]) == 2
    assert "config.json" in capsys.readouterr().err


@pytest.fixture(scope="module")
def placeless(tmp_path_factory):
    """A run whose cleaning knows no place, that adds to the same hour of an earlier day."""
    folder = tmp_path_factory.mktemp("placeless")
    write_map(folder / "train.nc")
    # The climatology is a rule to beat, which the model does not read: predictions need none.
    data = FieldConfig(
        context=CONTEXT,
        horizon=HORIZON,
        season=8,
        climatology="hour",
        cleaning=CleaningConfig(per="channel"),
    )
    trained(folder, data, ForecastConfig(residual="season"))
    return folder / "run"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*cells are only counted in the run:UserWarning")
def test_a_larger_field_is_tiled(placeless, tmp_path):
    """Where a model looks at single cells, every cell gets the forecast of any tile it is in."""
    write_map(tmp_path / "wide.nc", rows=12, space=(5, 8), seed=3)
    wide = xr.open_dataset(tmp_path / "wide.nc").load()
    predict(placeless, str(tmp_path / "wide.nc"), tmp_path / "wide.zarr", every=1, progress=False)
    found = xr.open_zarr(tmp_path / "wide.zarr").load()
    # A season of 8 rows is longer than the context of 6.
    assert found.t2m.shape == (5, HORIZON, 5, 8)
    for at in ((0, 0), (3, 5)):
        part = {"latitude": slice(at[0], at[0] + 2), "longitude": slice(at[1], at[1] + 3)}
        # Of another name: HDF5 does not replace a file that its process may have open.
        path, target = (tmp_path / f"{name}{at[0]}.nc" for name in ("part", "coming"))
        wide.isel(part).to_netcdf(path)
        predict(placeless, str(path), target, every=1, progress=False)
        cut = xr.open_dataset(target)
        np.testing.assert_allclose(found.t2m.isel(part), cut.t2m, rtol=1e-6)


@pytest.fixture(scope="module")
def sea(tmp_path_factory):
    """A run on a map of which one cell was never known, and the other five."""
    folder = tmp_path_factory.mktemp("sea")
    write_sea(folder / "train.nc", land=[(0, 1)])
    data = FieldConfig(
        context=CONTEXT, horizon=HORIZON, cleaning=CleaningConfig(per="channel"), mask_channel=True
    )
    trained(folder, data, ForecastConfig())
    return folder / "run"


def write_sea(path, *, land, **options):
    write_map(path, **options)
    with xr.open_dataset(path) as opened:
        field = opened.load()
    for cell in land:
        field.t2m[:, *cell] = np.nan
    field.to_netcdf(path)


def test_land_stays_missing_whatever_a_file_says_of_it(sea, tmp_path):
    write_map(tmp_path / "new.nc", rows=20, seed=2)  # with values where the run knew none
    said = predict(sea, str(tmp_path / "new.nc"), tmp_path / "f.nc", progress=False)
    assert said.endswith("missing for 1 of 6 series, of which nothing is known")
    with xr.open_dataset(tmp_path / "f.nc") as opened:
        missing = opened.t2m.isnull().values
    assert missing[..., 0, 1].all()
    assert missing.sum() == HORIZON
    predict(sea, str(tmp_path / "new.nc"), tmp_path / "f.csv", progress=False)
    table = pd.read_csv(tmp_path / "f.csv")
    assert len(table) == 5 * HORIZON
    assert table.t2m.notna().all()
    assert not ((table.latitude == 0) & (table.longitude == 1)).any()


def test_a_cell_without_a_value_to_forecast_from_has_no_forecast(sea, tmp_path):
    write_sea(tmp_path / "gone.nc", land=[(0, 1), (1, 2)], rows=20)
    source = str(tmp_path / "gone.nc")
    with pytest.warns(
        UserWarning, match="no value of 1 of 6 series, which the run knows, in the 6"
    ):
        predict(sea, source, tmp_path / "f.zarr", progress=False)
    found = xr.open_zarr(tmp_path / "f.zarr").t2m.isnull().values
    assert found[..., 1, 2].all()
    assert found.sum() == 2 * HORIZON


@pytest.mark.slow
def test_a_tiled_field_is_missing_where_its_file_is(sea, tmp_path):
    write_sea(tmp_path / "wide.nc", land=[(0, 0), (4, 7)], rows=12, space=(5, 8))
    predict(sea, str(tmp_path / "wide.nc"), tmp_path / "f.zarr", every=1, progress=False)
    found = xr.open_zarr(tmp_path / "f.zarr").t2m.isnull().all(("init_time", "lead_time")).values
    assert np.argwhere(found).tolist() == [[0, 0], [4, 7]]


PROGRAM = """
import sys, time
from stpatch_jax import cli
from stpatch_jax.inference import fields
read = fields._slab
def waiting(*given):
    time.sleep(0.5)
    return read(*given)
fields._slab, fields._SLAB_VALUES = waiting, 2500
sys.exit(cli.main(sys.argv[1:]))
"""


def start(run, folder, name, number):
    """One of two real processes of `stpatch predict RUN in.zarr OUTPUT --every 1`."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    paths = [run, folder / "in.zarr", folder / name]
    share = ["--process-count", "2", "--process-index", str(number)]
    with (folder / f"said{number}").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "predict", *paths, "--every", "1", *share],
            env=environment,
            stdout=said,
            stderr=said,
        )


def finished(folder, name):
    regions = folder / f".stpatch-part.{name}" / "regions"
    there = regions.iterdir() if regions.exists() else ()
    return {int(path.name) for path in there if not path.name.startswith(".")}


@pytest.mark.slow
def test_shared_killed_and_resumed_the_command_ends_with_the_same_bits(
    placeless, tmp_path, monkeypatch
):
    write_map(tmp_path / "in.zarr", rows=120, space=(3, 4), seed=4)
    first, second = (start(placeless, tmp_path, "killed.zarr", number) for number in range(2))
    while 3 not in finished(tmp_path, "killed.zarr") and second.poll() is None:
        time.sleep(0.005)
    second.send_signal(signal.SIGKILL)
    assert second.wait(60) == -signal.SIGKILL, (tmp_path / "said1").read_text()
    assert first.wait(240) == 0, (tmp_path / "said0").read_text()
    assert "other processes are still at work" in (tmp_path / "said0").read_text()
    # All regions of the first process, and those of the second until it was killed.
    done = finished(tmp_path, "killed.zarr")
    assert {*range(0, 15, 2), 1, 3} <= done < set(range(15))
    assert not (tmp_path / "killed.zarr").exists()
    monkeypatch.setattr(fields, "_SLAB_VALUES", 2500)
    for name in ("killed.zarr", "straight.zarr"):
        predict(placeless, str(tmp_path / "in.zarr"), tmp_path / name, every=1, progress=False)
    killed, straight = (xr.open_zarr(tmp_path / f"{name}.zarr") for name in ("killed", "straight"))
    xr.testing.assert_identical(killed.load(), straight.load())
    assert straight.t2m.shape == (113, HORIZON, 3, 4)
    assert np.isfinite(straight.t2m).all()


@pytest.mark.filterwarnings("default:.*gap in time:UserWarning")
def test_forecasts_cross_no_gap(run, tmp_path, capsys):
    folder, _, _ = run
    values = write_map(tmp_path / "whole.nc", rows=60, seed=5)
    rows = np.setdiff1d(np.arange(60), np.arange(30, 43))
    with xr.open_dataset(tmp_path / "whole.nc") as whole:
        whole.isel(time=rows).to_netcdf(tmp_path / "gap.nc")
        whole.isel(time=np.setdiff1d(np.arange(60), [56])).to_netcdf(tmp_path / "late.nc")
    forecasts = {}
    for name in ("whole", "gap"):
        source, target = (str(tmp_path / f"{name}{end}") for end in (".nc", "_out.nc"))
        assert cli.main(["predict", str(folder / "run"), source, target, "--every", "1"]) == 0
        with xr.open_dataset(target) as stored:
            forecasts[name] = stored.t2m.load()
    said = capsys.readouterr()
    assert "1 gap in time (13 rows missing between 2024-01-02T05:00 and 2024-01-02T" in said.err
    assert "8 of them missing, as their rows cross a gap in time" in said.out
    origins = rows[CONTEXT - 1 :]
    whole, gap = forecasts["whole"][origins - CONTEXT + 1], forecasts["gap"]
    crosses = (origins > 29 - HORIZON) & (origins < 43 + CONTEXT - 1)
    np.testing.assert_array_equal(gap.init_time, whole.init_time)
    assert np.isnan(gap.values[crosses]).all()
    np.testing.assert_allclose(gap.values[~crosses], whole.values[~crosses], rtol=1e-6)
    late = [str(tmp_path / "late.nc"), str(tmp_path / "late.csv")]
    assert cli.main(["predict", str(folder / "run"), *late]) == 2
    said = capsys.readouterr().err
    assert "must end with 6 rows without a gap in time, got 3 since 2024-01-03T09:00" in said
    assert not (tmp_path / "late.csv").exists()
    assert cli.main(["predict", str(folder / "run"), *late, "--data.gaps", "insert"]) == 0
    assert len(pd.read_csv(late[1])) == HORIZON * values[0].size
