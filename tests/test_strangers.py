"""Files of strangers through the commands: each is read right, or refused in one useful sentence.

The files are small ones as people have them; what must come out was known when they were written.
"""

import dataclasses
import json
import re
import shutil
import struct
from typing import Any

import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from stranger_commands import SHORT, stpatch, trained

from stpatch_jax import WindowSpec
from stpatch_jax.data import FieldConfig, open_field
from stpatch_jax.data.readers import read_events, read_folder
from stpatch_jax.inference import predict_field
from stpatch_jax.recipes import recipe
from stpatch_jax.recipes.customers.history import PurchaseHistory

pytestmark = pytest.mark.slow
MAP = ["--data.context", "25", "--data.horizon", "6"]
SERIES = ["--data.context", "24", "--data.horizon", "6"]


def report(run):
    return json.loads((run / "report.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("strangers")


def described(text, word):
    """The line of `stpatch patches` that begins with a word."""
    return next(line for line in text.splitlines() if line.startswith(word))


def hours(count, start="2021-03-01", step="h"):
    return pd.date_range(start, periods=count, freq=step)


LATITUDE, LONGITUDE = np.linspace(60, 50, 6), np.linspace(-5, 5, 6)


def netcdf(path, values, *, time, name="t2m", kind="f8", dims=("time", "lat", "lon"), **attrs):
    """Writes a variable with the plain library, `time` as (values, units)."""
    with netCDF4.Dataset(path, "w") as data:
        for dim, size in zip(dims, values.shape, strict=True):
            data.createDimension(dim, None if dim == "time" else size)
        steps = data.createVariable("time", kind, ("time",))
        steps.units, steps[:] = time[1], time[0]
        for dim, unit, marks in (
            ("lat", "degrees_north", LATITUDE),
            ("lon", "degrees_east", LONGITUDE),
        ):
            if dim in dims:
                axis = data.createVariable(dim, "f4", (dim,))
                axis.units, axis[:] = unit, marks
        variable = data.createVariable(name, "f4", dims)
        variable.setncatts(attrs)
        variable[:] = values
    return path


# The map of one model: K, hourly, warm in the south, on which second files are predicted.


def weather_map(path, count, start, *, step="h", offset=283.0, unit="K", flipped=False):
    times = hours(count, start, step)
    daily = 5 * np.sin(2 * np.pi * (np.asarray(times.hour, float) - 9) / 24)
    noise = np.random.default_rng(0).normal(0, 0.3, (count, 6, 6))
    values = (offset - 0.8 * (LATITUDE - 55))[None, :, None] + daily[:, None, None] + noise
    coords = {
        "time": times,
        "latitude": ("latitude", LATITUDE, {"units": "degrees_north"}),
        "longitude": ("longitude", LONGITUDE, {"units": "degrees_east"}),
    }
    dims = ("time", "latitude", "longitude")
    data = xr.Dataset({"t2m": (dims, values.astype("f4"), {"units": unit})}, coords)
    data.isel(latitude=slice(None, None, -1 if flipped else 1)).to_netcdf(path)
    return path


@pytest.fixture(scope="module")
def map_run(folder):
    path = weather_map(folder / "train.nc", 200, "2021-01-01")
    trained("weather", path, folder / "map", *MAP, "--data.cleaning.per", "cell")
    weather_map(folder / "same.nc", 48, "2021-02-01")
    said = stpatch("predict", folder / "map", folder / "same.nc", folder / "same_out.nc")
    assert said.status == 0, said.err
    return folder / "map"


def forecast(path):
    with xr.open_dataset(path) as data:
        return data.t2m.load()


def test_a_file_in_degrees_celsius_is_forecast_as_one_in_kelvin(map_run, folder):
    path = weather_map(folder / "celsius.nc", 48, "2021-02-01", offset=9.85, unit="degC")
    said = stpatch("predict", map_run, path, folder / "celsius_out.nc")
    assert said.status == 0, said.err
    assert "degC" in said.out + said.err
    kelvin, other = (forecast(folder / f"{name}_out.nc") for name in ("same", "celsius"))
    offset = {"K": 0.0, "degC": 273.15}[other.attrs["units"]]
    np.testing.assert_allclose(other.values + offset, kelvin.values, atol=1e-2)


def test_a_map_upside_down_gets_the_same_forecast(map_run, folder):
    path = weather_map(folder / "flipped.nc", 48, "2021-02-01", flipped=True)
    assert stpatch("predict", map_run, path, folder / "flipped_out.nc").status == 0
    one, other = (forecast(folder / f"{name}_out.nc") for name in ("same", "flipped"))
    aligned = other.sel(latitude=one.latitude).transpose(*one.dims)
    np.testing.assert_allclose(aligned.values, one.values, atol=1e-5)
    assert float(one.sel(latitude=50).mean()) > float(one.sel(latitude=60).mean()) + 4


def test_a_file_of_another_step_is_refused(map_run, folder):
    path = weather_map(folder / "six.nc", 48, "2021-02-01", step="6h")
    said = stpatch("predict", map_run, path, folder / "six_out.nc").refusal
    assert re.search("6 h", said), said
    assert not (folder / "six_out.nc").exists()


def test_a_folder_of_two_units_is_one_unit_or_refused(tmp_path):
    for at, (offset, unit) in enumerate(((283.0, "K"), (9.85, "degC"))):
        path = tmp_path / f"{at}.nc"
        weather_map(path, 48, f"2021-02-0{1 + 2 * at}", offset=offset, unit=unit)
    field = open_field(tmp_path)
    assert field.units.values.tolist() == ["K"]
    assert field.attrs["notes"]
    np.testing.assert_allclose(field.values[48:], field.values[:48], atol=1e-2)


# What was never known stays missing: land, by the netCDF library's own default fill, and series.


@pytest.fixture(scope="module")
def sea_run(folder):
    values = 12 + np.random.default_rng(0).normal(0, 0.3, (120, 6, 6))
    hidden = np.random.default_rng(1).random(values.shape) < 0.1
    hidden[:, :2] = True
    path = folder / "sst.nc"
    masked = np.ma.masked_array(values, hidden)
    netcdf(path, masked, time=(np.arange(120), "hours since 2021-03-01"), name="sst", units="degC")
    said = trained("weather", path, folder / "sea", *MAP)
    return folder / "sea", path, hidden, said


def test_default_fills_of_netcdf_are_missing(sea_run):
    _, path, hidden, _ = sea_run
    values = open_field(path).values[..., 0]
    np.testing.assert_array_equal(np.isnan(values), hidden)
    assert np.nanmax(values) < 20
    said = stpatch("patches", path, "--window", 4, 3, 3)
    share = float(re.findall(r"([\d.]+) ?%", described(said.out, "missing"))[0])
    assert share == pytest.approx(100 * hidden.mean(), abs=0.1)


def test_there_is_no_forecast_of_the_sea_over_land(sea_run, folder):
    run, path, _, _ = sea_run
    assert stpatch("predict", run, path, folder / "sea_out.nc").status == 0
    with xr.open_dataset(folder / "sea_out.nc") as data:
        values = data.sst.values[0]
    assert np.isnan(values[:, :2]).all()
    np.testing.assert_allclose(values[:, 2:], 12, atol=3)


def test_a_series_that_begins_after_the_training_rows_is_left_out(tmp_path):
    noise = 100 + np.random.default_rng(0).normal(0, 1, (2, 120)).round(2)
    frame = pd.DataFrame({"date": hours(120).strftime("%Y-%m-%d %H:%M")})
    frame["old"], frame["new"] = noise
    frame.loc[:79, "new"] = np.nan
    frame.to_csv(tmp_path / "late.csv", index=False)
    said = trained(
        *("etth1", tmp_path / "late.csv", tmp_path / "run"),
        *("--data.context", "12", "--data.horizon", "3"),
    )
    assert any("new" in line for line in said.warnings), said.err
    assert list(report(tmp_path / "run")["test"]["series"]) == ["old"]


# Times.


def test_months_since_are_month_starts(tmp_path):
    values = 280 + np.random.default_rng(0).random((48, 6, 6))
    path = netcdf(tmp_path / "a.nc", values, time=(np.arange(48), "months since 2000-01-01"))
    expected = hours(48, "2000-01-01", "MS").to_numpy("M8[ns]")
    np.testing.assert_array_equal(open_field(path).time.values, expected)
    said = stpatch("patches", path, "--window", 4, 3, 3)
    assert said.status == 0
    assert "2000-01-01" in said.out
    assert "2003-12-01" in said.out
    # An hour of the day is no phase of months.
    flags = ("--data.context", 6, "--data.horizon", 2, "--workdir", tmp_path / "run")
    said = stpatch("train", "weather", "--data.path", path, *flags, *SHORT)
    assert "hour" in said.refusal
    assert not (tmp_path / "run").exists()


def test_days_written_as_numbers_are_dates_and_so_is_what_follows(tmp_path):
    def write(name, start, count):
        days = [int(day.strftime("%Y%m%d")) for day in hours(count, start, "D")]
        values = 280 + np.random.default_rng(0).random((count, 6))
        return netcdf(
            *(tmp_path / name, values), time=(days, "day as %Y%m%d.%f"), dims=("time", "lat")
        )

    path = write("a.nc", "2019-01-01", 120)
    assert str(open_field(path).time.values[31])[:10] == "2019-02-01"
    trained("etth1", path, tmp_path / "run", *SERIES, "--data.season", "7")
    out = tmp_path / "o.csv"
    said = stpatch("predict", tmp_path / "run", write("b.nc", "2019-05-02", 30), out)
    assert said.status == 0, said.err
    dates = pd.to_datetime(pd.read_csv(out).valid_time).drop_duplicates()
    np.testing.assert_array_equal(dates, hours(6, "2019-06-01", "D"))


def test_hours_in_days_of_float32_are_hours(tmp_path):
    days = (43829 + np.arange(96) / 24).astype("f4")
    values = 280 + np.random.default_rng(0).random((96, 6))
    path = netcdf(
        *(tmp_path / "a.nc", values),
        time=(days, "days since 1900-01-01"),
        kind="f4",
        dims=("time", "lat"),
    )
    expected = hours(96, "2020-01-01").to_numpy("M8[ns]")
    np.testing.assert_array_equal(open_field(path).time.values, expected)
    trained("etth1", path, tmp_path / "run", "--data.context", "12", "--data.horizon", "4")
    said = stpatch("predict", tmp_path / "run", path, tmp_path / "o.csv")
    assert said.status == 0, said.err
    dates = pd.to_datetime(pd.read_csv(tmp_path / "o.csv").valid_time).drop_duplicates()
    np.testing.assert_array_equal(dates, hours(4, "2020-01-05"))


@pytest.mark.parametrize(("name", "step"), [("months", "MS"), ("business days", "B")])
def test_what_follows_months_and_business_days_is_dated_by_them(tmp_path, name, step):
    times = hours(160, "2005-01-03" if step == "B" else "2005-01-01", step)
    values = np.random.default_rng(0).normal(size=(160, 2)).cumsum(0).round(3)
    frame = pd.DataFrame({"date": times.strftime("%Y-%m-%d"), "a": values[:, 0], "b": values[:, 1]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    trained("exchange", tmp_path / "a.csv", tmp_path / "run", *SERIES)
    said = stpatch("predict", tmp_path / "run", tmp_path / "a.csv", tmp_path / "o.csv")
    assert said.status == 0, said.err
    dates = pd.to_datetime(pd.read_csv(tmp_path / "o.csv").valid_time).drop_duplicates()
    following = pd.date_range(times[-1], periods=7, freq=step)[1:]
    np.testing.assert_array_equal(dates, following)


def test_no_window_or_season_reaches_over_a_gap(tmp_path):
    daily = (10 + 5 * np.sin(2 * np.pi * np.arange(240) / 24)).round(4)
    frame = pd.DataFrame({"date": hours(240).strftime("%Y-%m-%d %H:%M"), "a": daily, "b": -daily})
    frame.drop(index=range(198, 211)).to_csv(tmp_path / "gap.csv", index=False)
    run = tmp_path / "run"
    said = trained("etth1", tmp_path / "gap.csv", run, *SERIES, "--data.season", "24")
    assert len(said.warnings) == 1
    assert "gap" in said.warnings[0]
    told = report(run)
    # The same hour of the day before is the value itself, unless it is 13 hours off.
    yesterday = told["test"]["scaled"]["season"]["mae"]["all"]
    assert yesterday == pytest.approx(0, abs=1e-4)
    assert "gap" in (run / "report.md").read_text()
    (gap,) = told["data"]["gaps"]
    assert gap["missing"] == 13
    assert "gap" in stpatch("patches", tmp_path / "gap.csv", "--window", 4, 1).out


# Tables.


def test_parquet_types_are_as_good_as_text(tmp_path):
    count, values = 60, np.random.default_rng(0).normal(size=120).round(3)
    days = [*hours(count, "2021-01-01", "D")] * 2
    frame = pd.DataFrame({"unique_id": np.repeat([1, 2], count), "ds": days, "y": values})
    frame.to_parquet(tmp_path / "ids.parquet", index=False)
    frame.to_csv(tmp_path / "ids.csv", index=False)
    one, other = (open_field(tmp_path / f"ids.{kind}") for kind in ("csv", "parquet"))
    xr.testing.assert_equal(one, other)
    said = [
        stpatch("patches", tmp_path / f"ids.{kind}", "--window", 4, 1)
        for kind in ("csv", "parquet")
    ]
    assert said[0].out.replace("ids.csv", "") == said[1].out.replace("ids.parquet", "")
    for name, times in {
        "steps": np.tile(np.arange(count), 2),
        "epoch": np.tile(1609459200000 + 86400000 * np.arange(count), 2),
    }.items():
        steps = frame.assign(unique_id=np.repeat(["a", "b"], count), ds=times)
        steps.to_parquet(tmp_path / f"{name}.parquet", index=False)
        steps.to_csv(tmp_path / f"{name}.csv", index=False)
        said = [
            stpatch("patches", tmp_path / f"{name}.{kind}", "--window", 4, 1)
            for kind in ("csv", "parquet")
        ]
        assert said[0].status == said[1].status
        if said[0].status:
            assert all("'ds'" in each.refusal for each in said)


def test_row_numbers_are_no_channel(tmp_path):
    values = np.random.default_rng(0).normal(size=120).round(3)
    days = list(hours(60, "2021-01-01", "D").strftime("%Y-%m-%d"))
    frame = pd.DataFrame({"unique_id": np.repeat(["a", "b"], 60), "ds": days * 2, "y": values})
    frame.to_csv(tmp_path / "long.csv")
    wide = pd.DataFrame({"date": days, "a": values[:60], "b": values[60:]})
    wide.to_csv(tmp_path / "wide.csv")
    pd.read_csv(tmp_path / "wide.csv").to_csv(tmp_path / "again.csv", index=False)
    for name in ("long", "wide", "again"):
        field = open_field(tmp_path / f"{name}.csv")
        assert field.channel.values.tolist() == (["y"] if name == "long" else ["value"])
        assert field.series.values.tolist() == ["a", "b"]
        np.testing.assert_allclose(field.values[..., 0], np.stack([values[:60], values[60:]], 1))
        assert field.attrs["notes"]


def test_a_column_of_times_of_any_name_is_found_or_asked_for(tmp_path):
    days = hours(60, "2021-01-01", "D").strftime("%Y-%m-%d")
    frame = pd.DataFrame({"meter": "m1", "period_start": days, "kwh": np.arange(60.0)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    flags = ("--data.context", 12, "--data.horizon", 3, "--workdir", tmp_path / "run")
    told = ("--data.time", "period_start", "--data.series", "meter")
    bare = stpatch("train", "etth1", "--data.path", tmp_path / "a.csv", *flags, *SHORT)
    if bare.status:
        assert "--data.time" in bare.refusal or "--data.series" in bare.refusal
        assert "empty" not in bare.refusal
        bare = stpatch("train", "etth1", "--data.path", tmp_path / "a.csv", *flags, *told, *SHORT)
    assert bare.status == 0, bare.err
    assert report(tmp_path / "run")["data"]["dims"] == {"time": 60, "series": 1, "channel": 1}


def test_a_date_and_an_hour_are_one_time(tmp_path):
    times = hours(96, "2021-01-01")
    load = np.random.default_rng(0).random(96).round(3)
    frame = pd.DataFrame({"date": times.strftime("%Y-%m-%d"), "hour": times.hour, "load": load})
    frame.to_csv(tmp_path / "a.csv", index=False)
    said = stpatch("patches", tmp_path / "a.csv", "--window", 4, 1)
    if said.status:
        assert "hour" in said.refusal
        assert "remove" not in said.refusal
        return
    field = open_field(tmp_path / "a.csv")
    np.testing.assert_array_equal(field.time.values, times.to_numpy("M8[ns]"))
    np.testing.assert_allclose(field.values.ravel(), load)


# Gridded files.


def test_zeros_of_a_zarr_store_are_zeros(tmp_path):
    zarr = pytest.importorskip("zarr")
    rain = np.maximum(np.random.default_rng(0).normal(size=(48, 4, 4)), 0).astype("f4")
    for name, first in (("rain", 1_000_000), ("zero", 0)):
        group = zarr.open_group(tmp_path / f"{name}.zarr", mode="w", zarr_format=2)
        array = group.create_array("rain", shape=rain.shape, chunks=rain.shape, dtype="f4")
        array.attrs["_ARRAY_DIMENSIONS"] = ["time", "lat", "lon"]
        array[:] = rain
        time = group.create_array("time", shape=(48,), chunks=(48,), dtype="i8")
        time.attrs.update({"_ARRAY_DIMENSIONS": ["time"], "units": "hours since 1900-01-01"})
        time[:] = np.arange(48) + first
        field = open_field(tmp_path / f"{name}.zarr")
        np.testing.assert_array_equal(field.values[..., 0], rain)
        start = np.datetime64("1900-01-01") + np.timedelta64(first, "h")
        assert field.time.values[0] == start


def test_a_dim_of_channels_is_the_channels(tmp_path):
    values = np.random.default_rng(0).random((60, 2, 6, 6)).astype("f4")
    dims = ("time", "channel", "lat", "lon")
    coords = {"time": hours(60, step="6h"), "channel": ["t2m", "u10"]}
    coords |= {"lat": LATITUDE, "lon": LONGITUDE}
    path = tmp_path / "a.zarr"
    xr.Dataset({"fields": (dims, values)}, coords).to_zarr(path, zarr_format=2)
    field = open_field(path)
    assert field.dims == ("time", "lat", "lon", "channel")
    assert field.channel.values.tolist() == ["t2m", "u10"]
    np.testing.assert_array_equal(field.values, np.moveaxis(values, 1, -1))
    said = stpatch("patches", path, "--window", 4, 3, 3)
    assert said.status == 0, said.err
    assert "t2m" in said.out
    spec = WindowSpec((2, 6, 6), stride=(1, 6, 6))
    predict_field(lambda x: x, path, tmp_path / "out.zarr", spec, horizon=2, progress=False)
    with xr.open_zarr(tmp_path / "out.zarr") as out:
        assert {"t2m", "u10"} <= set(out.data_vars)
    example = FieldConfig(str(path), context=8, horizon=2).load().source("test")[0]
    assert example["context"].shape == (8, 6, 6, 2)


def test_an_axis_too_many_is_named_with_a_way_to_choose(tmp_path):
    values = np.random.default_rng(0).random((60, 2, 6, 6)).astype("f4")
    values[:40, 1] = values[40:, 0] = np.nan
    axes = {"latitude": LATITUDE, "longitude": LONGITUDE}
    one = xr.DataArray(
        values[:, :1].clip(0.5), {"time": hours(60), "level": [1000.0], **axes}, name="t2m"
    ).fillna(0.5)
    one.to_netcdf(tmp_path / "level.nc")
    both = xr.DataArray(values, {"time": hours(60), "expver": [1, 5], **axes}, name="t2m")
    both.to_netcdf(tmp_path / "expver.nc")
    said = stpatch("patches", tmp_path / "level.nc", "--window", 4, 3, 3)
    assert said.status == 0, said.err
    assert "level" in said.out
    flags = ("--workdir", tmp_path / "run", *MAP, *SHORT)
    said = stpatch("train", "weather", "--data.path", tmp_path / "expver.nc", *flags).refusal
    assert "expver" in said
    assert "--data.select" in said
    assert not (tmp_path / "run").exists()
    chosen = ("--data.select", "expver=1")
    said = stpatch("patches", tmp_path / "expver.nc", "--window", 4, 3, 3, *chosen)
    assert said.status == 0, said.err
    assert "33" in described(said.out, "missing")


# Videos.


def clip(path, count=10, **options):
    """Red above, blue nowhere, green as the time goes; 32 rows and 48 columns."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for at in range(count):
            pixels = np.full((32, 48, 3), 40, np.uint8)
            pixels[:16, :24, 0] = 200
            pixels[..., 1] = 40 + 3 * at
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_video_is_turned_as_players_turn_it(tmp_path):
    content = bytearray(clip(tmp_path / "plain.mp4").read_bytes())
    at = content.find(b"tkhd")
    at += 8 + (20 if content[at + 4] == 0 else 32) + 16
    matrix = (0, 65536, 0, -65536, 0, 0, 32 << 16, 0, 1 << 30)
    content[at : at + 36] = struct.pack(">9i", *matrix)
    (tmp_path / "portrait.MP4").write_bytes(content)
    field = open_field(tmp_path / "portrait.MP4")
    assert field.shape == (10, 48, 32, 3)
    red = field.values[0, ..., 0].astype(int)
    assert red[:20, 20:].mean() > 150  # At the top right, and nowhere else.
    assert max(red[:20, :12].mean(), red[28:].mean()) < 80


def test_a_trimmed_video_is_what_is_shown(tmp_path):
    av = pytest.importorskip("av")
    whole = clip(tmp_path / "whole.mp4", 40, g="20", bf="2")
    options = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    with (
        av.open(str(whole)) as source,
        av.open(str(tmp_path / "trimmed.mp4"), "w", options=options) as target,
    ):
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        offset = int(0.7 / float(stream.time_base))
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
                packet.stream = copy
                target.mux(packet)
    field = open_field(tmp_path / "trimmed.mp4")
    np.testing.assert_allclose(field.time.values, np.arange(33) / 10, atol=1e-3)
    greens = field.values[..., 1].mean((1, 2))
    np.testing.assert_allclose(greens, open_field(whole).values[7:, ..., 1].mean((1, 2)), atol=1)


def test_suffixes_in_capitals_are_suffixes(tmp_path):
    source = clip(tmp_path / "c.mp4", 8)
    for name in ("run", "walk"):
        for at, suffix in enumerate((".mp4", ".mp4", ".MP4", ".MOV", ".txt")):
            (tmp_path / "clips" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tmp_path / "clips" / name / f"{at}{suffix}")
    with pytest.warns(UserWarning, match=r"\.txt"):
        items = read_folder(tmp_path / "clips")
    assert items.labels.tolist() == [0] * 4 + [1] * 4
    assert items[3].shape == items[0].shape == (8, 32, 48, 3)


# Labels, texts, customers.


def test_stray_labels_are_no_classes(tmp_path):
    arrays = {}
    for split in ("train", "val", "test"):
        labels = np.tile([0, 1], 6)
        if split == "train":
            labels[3] = 255
        images = np.random.default_rng(0).integers(0, 255, (12, 8, 8, 8)).astype("u1")
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None]}
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **arrays)
    said = stpatch("train", "scan", "--data.path", path, "--workdir", tmp_path / "run", *SHORT)
    assert "255" in said.refusal
    assert not (tmp_path / "run").exists()


def test_texts_are_utf_8_and_utf_16_by_its_mark(tmp_path):
    dice = np.random.default_rng(0)
    words = {"pos": "école École bonne voilà très", "neg": "mauvais naïf déjà éviter Éviter"}
    for kind, some in words.items():
        text = "\n".join(" ".join(dice.choice(some.split(), 4)) for _ in range(60)) + "\n"
        for name, encoding in (("a", "utf-8"), ("b", "utf-8-sig"), ("c", "utf-16")):
            (tmp_path / f"{name}.{kind}").write_bytes(text.encode(encoding))
    config = recipe("sentiment").data
    expected = {"école", "bonne", "voilà", "très", "mauvais", "naïf", "déjà", "éviter"}
    for name in ("a", "b", "c"):
        data: Any = dataclasses.replace(config, path=str(tmp_path / f"{name}.pos")).load()
        assert {word for line in data.words["train"] for word in line} == expected


def purchases(path, rows):
    pd.DataFrame(rows, columns=["customer", "date", "amount"]).to_csv(path, index=False)
    return path


def test_a_year_of_purchases_is_plenty_for_the_next_weeks(tmp_path):
    dice, start = np.random.default_rng(0), pd.Timestamp("2021-01-04")

    def rows(weeks):
        for customer in range(40):
            for _ in range(1 + dice.poisson(5)):
                day = start + pd.Timedelta(days=int(dice.integers(0, weeks * 7)))
                yield f"c{customer:02d}", day.strftime("%Y-%m-%d"), f"{dice.uniform(5, 50):.2f}"

    path = purchases(tmp_path / "year.csv", list(rows(53)))
    flags = ("--data.horizon", "4", "--workdir", tmp_path / "run", *SHORT[:-2])
    said = stpatch("train", "customers", "--data.path", path, *flags)
    if said.status:
        assert "longer" in said.refusal
        assert "--data.horizon" in said.refusal
    odd = ("c00", "2199-01-01", "10.00")
    path = purchases(tmp_path / "typo.csv", [*rows(30), odd])
    flags = ("--data.horizon", "8", "--workdir", tmp_path / "typo", *SHORT[:-2])
    said = stpatch("train", "customers", "--data.path", path, *flags).refusal
    assert "2199-01-01" in said


def test_a_refund_is_no_purchase(tmp_path):
    rows = []
    for customer in range(40):
        name = f"c{customer:02d}"
        for at in range(1 + customer % 4):
            day = pd.Timestamp("2021-01-04") + pd.Timedelta(days=10 * at + customer)
            back = day + pd.Timedelta(days=2)
            rows.append((name, day.strftime("%Y-%m-%d"), "20.00"))
            rows.append((name, back.strftime("%Y-%m-%d"), "-20.00"))
        rows.append((name, "2021-07-30", "20.00"))
    events = read_events(purchases(tmp_path / "a.csv", rows), period="1D")
    found = PurchaseHistory.of(events, known=150, clip=1.0)
    assert found.report["purchases"] <= 140
    assert found.summary(0, 150).paid[0] >= 0
