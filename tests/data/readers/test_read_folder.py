"""A folder of netCDF files is one field, or the file that differs is named."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stpatch_jax.data.readers import open_field
from stpatch_jax.errors import InputError

pytest.importorskip("netCDF4")


def day(number: int = 0, *, rows: int = 24, freq: str = "h", **changes) -> xr.Dataset:
    """A day of January 2021 on a small map."""
    times = pd.date_range(f"2021-01-{number + 1:02d}", periods=rows, freq=freq)
    values = 280 + np.random.default_rng(number).random((rows, 3, 4)).astype(np.float32)
    data = xr.Dataset(
        {"t2m": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={
            "time": times,
            "lat": ("lat", [60.0, 55, 50], {"units": "degrees_north"}),
            "lon": ("lon", [0.0, 90, 180, 270], {"units": "degrees_east"}),
        },
    )
    return data.assign(changes)


def write(folder, **files: xr.Dataset):
    for name, data in files.items():
        data.to_netcdf(folder / f"{name}.nc", engine="netcdf4")
    return folder


def test_what_is_but_told_otherwise_is_brought_to_the_first_file(tmp_path):
    celsius = day(1)
    celsius["t2m"] = celsius.t2m.astype(np.float64) - 273.15
    celsius["t2m"].attrs["units"] = "degC"
    turned = day(2).isel(lat=slice(None, None, -1))
    rolled = day(3).roll(lon=2, roll_coords=True)
    rolled["lon"] = ("lon", (rolled.lon.values + 180) % 360 - 180, {"units": "degrees_east"})
    more = day(4, rain=day(4).t2m.assign_attrs(units="mm"))
    write(tmp_path, a=day(), b=celsius, c=turned, d=rolled, e=more.transpose("lon", "time", "lat"))
    field = open_field(tmp_path)
    expected = xr.concat([day(at).t2m for at in range(5)], "time")
    np.testing.assert_allclose(field.values[..., 0], expected.to_numpy(), rtol=1e-6)
    np.testing.assert_array_equal(field.time, expected.time)
    np.testing.assert_array_equal(field.lon, expected.lon)
    assert field.units.values.tolist() == ["K"]
    assert field.attrs["source"] == str(tmp_path)
    assert field.attrs["notes"] == (
        "In b.nc: t2m is converted from degC to K.",
        "In c.nc: The axis lat is turned round, to go from 60 to 50.",
        "In d.nc: The axis lon is rolled, to begin at 0, as in a.nc.",
        "In e.nc: Along channel, rain is left out, as not in a.nc.",
    )
    # Read where it is used, in any part.
    part = field.isel(time=[100, 3, 25], lat=slice(2, 0, -1), lon=1)
    np.testing.assert_array_equal(part.values, field.values[[100, 3, 25], 2:0:-1, 1])


def test_files_may_be_packed_each_in_its_own_way(tmp_path):
    for at, scale in enumerate((0.01, 0.02)):
        packed = {"dtype": "int16", "scale_factor": scale, "add_offset": 280.0, "_FillValue": -9}
        day(at).to_netcdf(tmp_path / f"{at}.nc", engine="netcdf4", encoding={"t2m": packed})
    expected = xr.concat([day(at).t2m for at in range(2)], "time")
    np.testing.assert_allclose(open_field(tmp_path).values[..., 0], expected, atol=0.011)


def shifted(data: xr.Dataset) -> xr.Dataset:
    return data.assign_coords(lat=("lat", [61.0, 56, 51], data.lat.attrs))


def in_unit(unit: str) -> xr.Dataset:
    data = day(1)
    data.t2m.attrs["units"] = unit
    return data


OTHERS = {
    "unit": (in_unit("Pa"), "b.nc must have t2m in K, as a.nc, got Pa, which is not converted"),
    "grid": (shifted(day(1)), "b.nc must lie on the grid of a.nc, lat 60 to 50 degrees_north, got"),
    "cells": (day(1).isel(lon=[0, 1]), "b.nc must lie on the grid of a.nc, lon 0 to 270 degrees"),
    "step": (day(1, rows=8, freq="3h"), "b.nc must have rows 1 hour apart, as a.nc, got rows 3 h"),
    "calendar": (
        day(1).convert_calendar("noleap", use_cftime=True),
        "b.nc must have dates of the calendar standard, as a.nc, got noleap",
    ),
    "variable": (
        day(1).rename(t2m="sst"),
        "b.nc must have every channel of a.nc, got none called t2m among sst",
    ),
    "overlap": (
        day(0, rows=30).isel(time=slice(20, None)),
        "every time of a folder must be in one of its files, got 2021-01-01T20:00 in a.nc and in "
        "b.nc, and 4 such times in all",
    ),
    "no dates": (
        day(1).drop_vars("time"),
        "must tell times alike, got dates in a.nc and numbers in b.nc",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_of_another_kind_is_named_with_both_sides(kind, tmp_path):
    other, told = OTHERS[kind]
    write(tmp_path, a=day(), b=other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if kind == "no dates" else "error")
        with pytest.raises(InputError, match=re.escape(told)):
            open_field(tmp_path)


def test_files_of_another_level_are_told(tmp_path):
    def at(level: float, number: int) -> xr.Dataset:
        level_ = {"level": ("level", [level], {"units": "hPa", "positive": "down"})}
        return day(number).expand_dims("level").assign_coords(level_)

    write(tmp_path, a=at(500.0, 0), b=at(500.0, 1), c=at(850.0, 2))
    with pytest.raises(InputError, match=r"c.nc must be at level 500 hPa, as a.nc, got 850 hPa;"):
        open_field(tmp_path)


def test_a_file_without_a_unit_is_told_once(tmp_path):
    write(tmp_path, a=day(), b=in_unit(""), c=in_unit("").assign_coords(time=day(2).time))
    note = "In b.nc, c.nc: t2m tells no unit here; it is taken to be in K, as a.nc."
    with pytest.warns(UserWarning, match=note) as caught:
        field = open_field(tmp_path)
    assert len(caught) == 1
    assert field.attrs["notes"] == (note,)


def test_files_of_one_time_each_follow_each_other(tmp_path):
    for at in range(5):
        day().isel(time=[at]).to_netcdf(tmp_path / f"{9 - at}.nc", engine="netcdf4")
    field = open_field(tmp_path)
    np.testing.assert_array_equal(field.values[..., 0], day().t2m[:5])
    np.testing.assert_array_equal(field.time, day().time[:5])
    day(1, rows=8, freq="3h").to_netcdf(tmp_path / "z.nc", engine="netcdf4")
    day().isel(time=[7, 8]).to_netcdf(tmp_path / "y.nc", engine="netcdf4")
    with pytest.raises(
        InputError, match=r"z.nc must have rows 1 hour apart, as 5.nc, got rows 3 h"
    ):
        open_field(tmp_path)


def test_rows_without_times_are_counted_through_all_files(tmp_path):
    write(tmp_path, a=day(0).drop_vars("time"), b=day(1).drop_vars("time"))
    field = open_field(tmp_path)
    np.testing.assert_array_equal(field.time, np.arange(48))
    assert field.attrs["notes"] == (
        "The rows are numbered, as time has no coordinate.",
        "The files tell no times: their rows are counted, in the order of their names.",
    )


def test_suffixes_may_be_in_capitals_and_other_files_are_told(tmp_path):
    write(tmp_path, a=day(), b=day(1))
    (tmp_path / "b.nc").rename(tmp_path / "B.NC")
    (tmp_path / ".hidden.nc").write_text("none of the data")
    assert open_field(tmp_path).sizes["time"] == 48
    (tmp_path / "readme.txt").write_text("none of the data")
    (tmp_path / "2020").mkdir()
    note = "Not read, as no netCDF files: 2020, readme.txt."
    with pytest.warns(UserWarning, match=re.escape(note)):
        field = open_field(tmp_path)
    assert field.sizes["time"] == 48
    assert field.attrs["notes"] == (note,)
    (tmp_path / "a.nc").unlink()
    with pytest.warns(UserWarning, match=note):
        assert open_field(tmp_path).sizes["time"] == 24
