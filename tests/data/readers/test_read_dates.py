"""Dates as files store them: each encoding against dates written down by hand, pandas or cftime."""

import datetime as dt
from typing import Any

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data.readers import open_field
from stpatch_jax.data.readers.dates import read_times
from stpatch_jax.data.times import TimeAxis, time_text
from stpatch_jax.errors import InputError


def read(values: Any, units: str = "", *, name: str = "time", **attrs: Any):
    """What is read of a coordinate: texts of its times, and notes."""
    told = {"units": units} if units else {}
    coord = xr.DataArray(np.asarray(values), dims="time", name=name, attrs={**told, **attrs})
    variable, notes = read_times([coord], name="a.nc")
    return [time_text(value) for value in variable.to_numpy()], notes


@pytest.mark.parametrize(
    ("values", "units", "expected"),
    [
        ([0, 1, 14], "months since 2000-01-01", ["2000-01-01", "2000-02-01", "2001-03-01"]),
        ([0.0, 1.0], "month since 1999-12-31", ["1999-12-31", "2000-01-31"]),
        ([-1, 1], "Calendar_months since 2000-01-15", ["1999-12-15", "2000-02-15"]),
        ([0, 1], "years since 2000-02-29 06:00", ["2000-02-29T06:00", "2001-02-28T06:00"]),
        ([1, 2], "weeks since 2000-01-01", ["2000-01-08", "2000-01-15"]),
        ([0, 1], "hours since 2000-01-01 00:00:00 +01:00", ["1999-12-31T23:00", "2000-01-01"]),
        ([0, 60], "mins since 2000-1-1 UTC", ["2000-01-01", "2000-01-01T01:00"]),
        ([0, 86400], "seconds since epoch", ["1970-01-01", "1970-01-02"]),
        ([0, 1], "days since 3000-01-01", ["3000-01-01", "3000-01-02"]),
        ([0, 1], "days since 1500-01-01", ["1500-01-01", "1500-01-02"]),
        ([20190101.0, 20190102.5], "day as %Y%m%d.%f", ["2019-01-01", "2019-01-02T12:00"]),
        ([201901, 201902], "month as %Y%m.%f", ["2019-01-01", "2019-02-01"]),
        ([201901.5, 201902.5], "month as %Y%m.%f", ["2019-01-16T12:00", "2019-02-15"]),
        ([1999, 2000], "year as %Y.%f", ["1999-01-01", "2000-01-01"]),
        ([2019123118, 2020010100], "YYYYMMDDHH", ["2019-12-31T18:00", "2020-01-01"]),
    ],
)
def test_units_of_any_kind_are_dates(values, units, expected):
    assert read(values, units)[0] == expected


@pytest.mark.parametrize(
    ("values", "calendar", "units", "expected"),
    [
        ([0, 1], "360", "months since 1960-01-01", ["1960-01-01", "1960-02-01"]),
        ([0.5, 1.5], "360_day", "months since 1960-01-01", ["1960-01-16", "1960-02-16"]),
        ([0, 1], "noleap", "months since 2000-01-31", ["2000-01-31", "2000-02-28"]),
        ([58, 59], "NOLEAP", "days since 2000-01-01", ["2000-02-28", "2000-03-01"]),
        ([59, 60], "365_day", "days since 2001-01-01", ["2001-03-01", "2001-03-02"]),
        ([59], "366_day", "days since 2001-01-01", ["2001-02-29"]),
        ([58, 59], "360_day", "days since 2001-01-01", ["2001-02-29", "2001-02-30"]),
        ([59], "julian", "days since 1900-01-01", ["1900-02-29"]),
        ([20010229, 20010230], "360_day", "day as %Y%m%d.%f", ["2001-02-29", "2001-02-30"]),
    ],
)
def test_calendars_keep_their_own_dates(values, calendar, units, expected):
    assert read(values, units, calendar=calendar)[0] == expected


def test_a_calendar_of_none_leaves_numbers():
    texts, notes = read([1, 2], "days since 2000-01-01", calendar="none")
    assert texts == ["1", "2"]
    assert "calendar is none" in notes[0]


@pytest.mark.parametrize(
    ("values", "name", "attrs", "expected"),
    [
        ([20190131, 20190201], "time", {}, ["2019-01-31", "2019-02-01"]),
        (
            [20190131, 20190201],
            "date",
            {"long_name": "date (YYYY-MM-DD)"},
            ["2019-01-31", "2019-02-01"],
        ),
        ([201912, 202001], "time", {"long_name": "yyyymm"}, ["2019-12-01", "2020-01-01"]),
        ([1999, 2000], "year", {}, ["1999-01-01", "2000-01-01"]),
        ([1999, 2000], "time", {"units": "years"}, ["1999-01-01", "2000-01-01"]),
        ([1, 2], "year", {}, ["1", "2"]),
        ([2019001, 2019002], "time", {"units": "yyyyddd"}, ["2019001", "2019002"]),
        ([1950.0, 1950.25], "time", {"units": "decimal year"}, ["1950", "1950.25"]),
        ([1, 2, 3], "time", {}, ["1", "2", "3"]),
        ([20190131, 20190132], "time", {}, ["20190131", "20190132"]),
        ([0.5, 1.5], "t", {"units": "s"}, ["0.5", "1.5"]),
    ],
)
def test_digits_that_are_dates_are_told(values, name, attrs, expected):
    texts, notes = read(values, name=name, **attrs)
    assert texts == expected
    assert ("digits" in notes[0]) == ("-" in expected[0])


@pytest.mark.parametrize("kind", ["U", "S", "O"])
def test_texts_are_dates(kind):
    texts = np.array(["2000-01-24_12:00:00", "2000-01-24_18:00:00"]).astype(kind)
    assert read(texts)[0] == ["2000-01-24T12:00", "2000-01-24T18:00"]
    offset = np.array(["2000-01-01T00:00:00+01:00", "2000-01-01T00:00:00Z"]).astype(kind)
    assert read(offset)[0] == ["1999-12-31T23:00", "2000-01-01"]


@pytest.mark.parametrize(
    ("values", "units", "attrs", "what"),
    [
        ([0.5, 1.5], "months since 2000-01-01", {}, "must be whole numbers, as months have no one"),
        ([0, 1], "fortnights since 2000-01-01", {}, "the time unit of a.nc must be one since"),
        ([0, 1], "days since 2000-02-30", {}, "the time unit .* got 'days since 2000-02-30'"),
        ([0, 1], "days since 2000-01-01", {"calendar": "lunar"}, "of the calendar lunar"),
        ([1e12, 2e12], "days since 2000-01-01", {}, "the time unit"),
        ([20190132, 20190133], "day as %Y%m%d.%f", {}, "must be dates as the digits of time"),
        ([20190229], "day as %Y%m%d.%f", {}, "year, month, day.*20190229"),
        ([0, np.nan], "hours since 2000-01-01", {}, "must be known, got none at number 2 of 2"),
        (["Jan", "Feb"], "", {}, "must be dates or numbers, got the texts Jan, Feb in time"),
        (np.array([20190131, 20190201], "f4"), "day as %Y%m%d.%f", {}, "got numbers of float32"),
    ],
)
def test_what_no_rule_reads_is_told(values, units, attrs, what):
    with pytest.raises(InputError, match=what) as error:
        read(values, units, **attrs)
    assert "restore" not in str(error.value)


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
@pytest.mark.parametrize("minutes", [1440, 360, 60, 30, 20])
def test_numbers_of_float32_become_the_times_they_are_meant_to_be(minutes, calendar):
    steps = np.arange(96) * minutes / 1440
    texts, notes = read((43829 + steps).astype("f4"), "days since 1900-01-01", calendar=calendar)
    whole = cftime.num2date(
        np.arange(96) * minutes, "minutes since 1900-01-01", calendar=calendar
    ) + dt.timedelta(43829)
    assert texts == [time_text(date) for date in whole]
    assert bool(notes) == (minutes < 360)


@given(
    st.integers(0, 10**6), st.sampled_from([1, 2, 5, 60, 3600]), st.sampled_from(["days", "hours"])
)
def test_float64_days_tell_seconds(start, step, unit):
    seconds = start * 100 + np.arange(50) * step
    texts, notes = read(seconds / {"days": 86400, "hours": 3600}[unit], f"{unit} since 1900-01-01")
    whole = np.datetime64("1900-01-01", "s") + seconds
    assert (texts, notes) == (list(map(time_text, whole)), ())


def test_numbers_of_float32_off_every_whole_hour_stay_an_hour_apart():
    hours = (1.6e9 + 3600 * np.arange(60)).astype("f4")
    variable, _ = read_times(
        [xr.DataArray(hours, dims="time", attrs={"units": "seconds since 1970-01-01"})], name="a.nc"
    )
    assert str(TimeAxis.of(variable.to_numpy()).step) == "1 hour"


def test_numbers_too_coarse_for_their_rows_are_refused():
    minutes = (43829 + np.arange(96) / 1440).astype("f4")
    with pytest.raises(InputError, match=r"float32, of which the next one is 5.63 minutes later"):
        read(minutes, "days since 1900-01-01")
    # Rows at no regular time stay where they are, if that is told finely enough.
    any_time = np.sort(np.random.default_rng(0).random(50)) * 100
    texts, _ = read(any_time.astype("f4"), "days since 2000-01-01")
    assert len(set(texts)) == 50


def write(path, times, units, *, packed=None, calendar=None):
    netcdf = pytest.importorskip("netCDF4")
    with netcdf.Dataset(path, "w") as data:
        data.createDimension("time", len(times))
        data.createDimension("lat", 3)
        kind = "i2" if packed else np.asarray(times).dtype
        time = data.createVariable("time", kind, ("time",))
        time.setncatts({"units": units} | ({"calendar": calendar} if calendar else {}))
        if packed:
            time.setncatts({"scale_factor": packed[0], "add_offset": packed[1]})
        time[:] = times
        t2m = data.createVariable("t2m", "f4", ("time", "lat"))
        t2m[:] = np.arange(3 * len(times)).reshape(-1, 3)
        bounds = data.createVariable("stamped", "f8", ("time",))
        bounds.units = "days since 2000-01-01"
        bounds[:] = np.arange(len(times))
    return path


def test_a_file_of_months_is_read_with_its_dates_and_a_note(tmp_path):
    field = open_field(write(tmp_path / "a.nc", np.arange(48.0), "months since 2000-01-01"))
    expected = pd.date_range("2000-01-01", periods=48, freq="MS")
    np.testing.assert_array_equal(field.time.values, expected)
    assert field.channel.values.tolist() == ["t2m"]
    assert field.attrs["notes"] == (
        "The times, months since 2000-01-01, were read as months of the calendar.",
    )


def test_packed_times_are_unpacked(tmp_path):
    hours = np.arange(40) * 0.5
    field = open_field(write(tmp_path / "a.nc", hours, "hours since 2000-01-01", packed=(0.1, 5.0)))
    expected = pd.date_range("2000-01-01", periods=40, freq="30min")
    np.testing.assert_array_equal(field.time.values, expected)


def test_a_folder_of_files_with_units_of_their_own_is_one_axis(tmp_path):
    for day in range(3):
        start = f"days since 2000-01-{day + 1:02d}"
        write(tmp_path / f"{day}.nc", (np.arange(24) / 24).astype("f4"), start)
    field = open_field(tmp_path)
    expected = pd.date_range("2000-01-01", periods=72, freq="h")
    np.testing.assert_array_equal(field.time.values, expected)
    assert "units" not in field.time.encoding


def test_the_calendar_and_units_of_a_file_are_kept(tmp_path):
    path = write(tmp_path / "a.nc", np.arange(70), "days since 1999-01-01", calendar="360_day")
    field = open_field(path)
    axis = TimeAxis.of(field.time.values)
    assert (axis.calendar, str(axis.step)) == ("360_day", "1 day")
    told = {"units": "days since 1999-01-01", "calendar": "360_day", "dtype": np.dtype("i8")}
    assert field.time.encoding == told


def test_dates_beside_a_dim_without_a_coordinate_are_its_times(tmp_path):
    netcdf = pytest.importorskip("netCDF4")
    texts = [f"2000-01-24_{hour:02d}:00:00" for hour in range(0, 24, 6)]
    with netcdf.Dataset(tmp_path / "wrf.nc", "w") as data:
        for dim, size in (("Time", 4), ("DateStrLen", 19), ("south_north", 3), ("west_east", 2)):
            data.createDimension(dim, size)
        times = data.createVariable("Times", "S1", ("Time", "DateStrLen"))
        times[:] = np.array([list(text) for text in texts], "S1")
        wind = data.createVariable("U10", "f4", ("Time", "south_north", "west_east"))
        wind[:] = 1
    field = open_field(tmp_path / "wrf.nc")
    expected = pd.date_range("2000-01-24", periods=4, freq="6h")
    np.testing.assert_array_equal(field.time.values, expected)
    assert field.dims == ("time", "south_north", "west_east", "channel")


def test_dates_beside_a_coordinate_that_only_counts_are_its_times(tmp_path):
    netcdf = pytest.importorskip("netCDF4")
    with netcdf.Dataset(tmp_path / "nemo.nc", "w") as data:
        data.createDimension("time_counter", 3)
        data.createDimension("x", 2)
        counter = data.createVariable("time_counter", "f8", ("time_counter",))
        counter.axis = "T"
        counter[:] = np.arange(3)
        centre = data.createVariable("time_centered", "f8", ("time_counter",))
        centre.setncatts({"standard_name": "time", "calendar": "360_day"})
        centre.units = "seconds since 1900-01-01 00:00:00"
        centre[:] = 86400 * np.array([15, 45, 75])
        start = data.createVariable("start", "f8", ("time_counter",))
        start.setncatts(
            {"standard_name": "forecast_reference_time", "units": "days since 1900-01-01"}
        )
        start[:] = 0
        data.createVariable("tos", "f4", ("time_counter", "x"))[:] = 1
    field = open_field(tmp_path / "nemo.nc")
    assert [time_text(time)[:10] for time in field.time.values] == [
        *("1900-01-16", "1900-02-16", "1900-03-16")
    ]
    assert field.channel.values.tolist() == ["tos"]


def test_units_of_floats_are_kept_where_they_are_exact(tmp_path):
    middle = np.array([15.5, 45.0, 74.5])
    path = write(tmp_path / "a.nc", middle, "days since 1850-01-01 00:00:00", calendar="noleap")
    field = open_field(path)
    assert field.time.encoding["dtype"] == np.float64
    field.isel(channel=0, time=slice(1, 3)).drop_attrs().drop_vars(["channel", "units"]).rename(
        "v"
    ).to_netcdf(tmp_path / "b.nc")
    with xr.open_dataset(tmp_path / "b.nc", decode_times=False) as back:
        assert back.time.values.tolist() == [45.0, 74.5]


def test_a_time_may_be_named_by_the_variable_that_holds_it(tmp_path):
    netcdf = pytest.importorskip("netCDF4")
    with netcdf.Dataset(tmp_path / "a.nc", "w") as data:
        data.createDimension("obs", 4)
        begin = data.createVariable("begin", "i4", ("obs",))
        begin.units = "days since 2000-01-01"
        begin[:] = np.arange(4)
        data.createVariable("load", "f4", ("obs",))[:] = 1
    field = open_field(tmp_path / "a.nc", time="begin")
    assert [time_text(time) for time in field.time.values][:2] == ["2000-01-01", "2000-01-02"]


def test_names_along_an_axis_are_no_times(tmp_path):
    pytest.importorskip("netCDF4")
    values = xr.DataArray(
        np.zeros((5, 2)),
        dims=("time", "station"),
        coords={"time": pd.date_range("2000", periods=5), "station": ["Berlin", "Rome"]},
        name="t2m",
    )
    values.to_netcdf(tmp_path / "a.nc")
    assert open_field(tmp_path / "a.nc").dims == ("time", "station", "channel")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (np.array(["3000-01-01", "3000-01-02"], "M8[D]"), ["3000-01-01", "3000-01-02"]),
        (
            np.array(["2024-01-01T06:00", "2024-01-01T12:00"]),
            ["2024-01-01T06:00", "2024-01-01T12:00"],
        ),
        (np.array([20240131, 20240201]), ["2024-01-31", "2024-02-01"]),
        (np.array([0.5, 1.5]), ["0.5", "1.5"]),
    ],
)
def test_times_of_numpy_files_are_read_alike(tmp_path, times, expected):
    np.savez(tmp_path / "a.npz", load=np.ones((2, 3)), time=times)
    field = open_field(tmp_path / "a.npz")
    assert [time_text(time) for time in field.time.values] == expected
