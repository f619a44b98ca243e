"""Gridded files and arrays as they are found: read right or refused with a true sentence."""

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from strange import opened, refused

from stpatch_jax.data import FieldConfig, open_field

netCDF4 = pytest.importorskip("netCDF4")
LAT, LON = np.linspace(60, 50, 6), np.linspace(-5, 5, 5)
VALUES = np.random.default_rng(0).normal(280, 5, (24, 6, 5)).astype("f4")
HOURS = pd.date_range("2021-03-01", periods=24, freq="h")


def dataset(**variables):
    """A data set of hours on a small map."""
    coords = {
        "time": HOURS,
        "lat": ("lat", LAT, {"units": "degrees_north"}),
        "lon": ("lon", LON, {"units": "degrees_east"}),
    }
    return xr.Dataset(
        variables or {"t2m": (("time", "lat", "lon"), VALUES, {"units": "K"})}, coords
    )


def stored(path, kind, values, *, time=None, units="hours since 2021-03-01", fill=None, **attrs):
    """A file of the plain library: a variable v of numbers as they are stored."""
    values = np.asarray(values)
    with netCDF4.Dataset(path, "w") as data:
        for dim, size in zip(("time", "lat", "lon"), values.shape, strict=False):
            data.createDimension(dim, size)
        steps = data.createVariable("time", "f8", ("time",))
        if units:
            steps.units = units
        steps[:] = np.arange(len(values)) if time is None else time
        dims = ("time", "lat", "lon")[: values.ndim]
        variable = data.createVariable("v", kind, dims, fill_value=fill)
        variable.set_auto_maskandscale(False)
        variable.setncatts(attrs)
        variable[:] = values.astype(kind)
    return path


def test_two_fills_are_both_missing(tmp_path):
    path = stored(tmp_path / "a.nc", "f4", [1, -999, -9999, 4], fill=-999.0, missing_value=-9999.0)
    np.testing.assert_array_equal(opened(path).values[:, 0], [1, np.nan, np.nan, 4])
    path = stored(tmp_path / "b.nc", "f4", [1, -1, -2, 4], missing_value=np.asarray([-1, -2], "f4"))
    np.testing.assert_array_equal(opened(path).values[:, 0], [1, np.nan, np.nan, 4])


def test_packed_and_unsigned_numbers_with_limits(tmp_path):
    packing: dict[str, Any] = {"scale_factor": 0.01, "add_offset": 280.0}
    limits: dict[str, Any] = {"valid_range": np.asarray([-100, 100], "i2")}
    path = stored(tmp_path / "a.nc", "i2", [0, 100, 101, -32768], fill=-32768, **packing, **limits)
    np.testing.assert_allclose(opened(path).values[:, 0], [280, 281, np.nan, np.nan], rtol=1e-6)
    path = stored(tmp_path / "c.nc", "i2", [1, 2, 3], fill=2, add_offset=np.asarray(5, "i2"))
    np.testing.assert_array_equal(opened(path).values[:, 0], [6, np.nan, 8])
    path = stored(tmp_path / "b.nc", "i1", [0, -1, -2, 100], fill=-1, _Unsigned="true")
    np.testing.assert_array_equal(opened(path).values[:, 0], [0, np.nan, 254, 100])


def test_a_sentinel_is_missing_where_it_is_declared(tmp_path):
    path = stored(tmp_path / "a.nc", "f4", [1, -999, 3, 4])
    field = opened(path, missing_values=(-999,))
    np.testing.assert_array_equal(field.values[:, 0], [1, np.nan, 3, 4])


@pytest.mark.parametrize("calendar", ["julian", "360_day", "noleap", "all_leap"])
def test_days_of_model_calendars_stay(tmp_path, calendar):
    data = dataset()
    data["time"] = xr.date_range("2000-02-25", periods=24, calendar=calendar, use_cftime=True)
    data.to_netcdf(tmp_path / "a.nc")
    times = opened(tmp_path / "a.nc").time.values
    assert times[0].calendar == calendar
    days = {"julian": 29, "360_day": 30, "noleap": 28, "all_leap": 29}[calendar]
    assert [(t.month, t.day) for t in times[days - 25 : days - 23]] == [(2, days), (3, 1)]


@pytest.mark.parametrize("calendar", ["standard", "julian", "noleap", "360_day"])
@pytest.mark.parametrize("unit", ["months", "years"])
def test_months_and_years_of_any_calendar(tmp_path, calendar, unit):
    path = tmp_path / "a.nc"
    stored(path, "f4", np.ones(30), units=f"{unit} since 1999-11-01")
    with netCDF4.Dataset(path, "a") as data:
        data["time"].calendar = calendar
    times = opened(path).time.values
    months = np.arange(30) * (12 if unit == "years" else 1) + 10
    expected = [(1999 + int(m) // 12, int(m) % 12 + 1, 1) for m in months]
    if calendar == "standard":
        assert [tuple(map(int, str(t)[:10].split("-"))) for t in times] == expected
    else:
        assert [(t.year, t.month, t.day) for t in times] == expected


def test_times_that_are_not_there_are_told(tmp_path):
    path = tmp_path / "a.nc"
    data = dataset()
    data["time"] = data.time.where(np.arange(24) != 3)
    data.to_netcdf(path)
    refused(lambda: opened(path), "time", r"\b(3|4)\b")
    other = stored(tmp_path / "b.nc", "f4", np.ones(4), time=np.ma.masked_equal([0, 1, 9, 3], 9))
    refused(lambda: opened(other), "time")


def test_times_backwards_are_sorted_and_double_ones_refused(tmp_path):
    dataset().isel(time=slice(None, None, -1)).to_netcdf(tmp_path / "a.nc")
    field = opened(tmp_path / "a.nc")
    np.testing.assert_array_equal(field.time.values, HOURS)
    np.testing.assert_array_equal(field.values[..., 0], VALUES)
    assert field.attrs["notes"] or field.attrs["time_sorted"]
    xr.concat([dataset(), dataset()], "time").to_netcdf(tmp_path / "b.nc")
    refused(lambda: opened(tmp_path / "b.nc"), "2021-03-01")


def test_times_with_an_offset_are_utc(tmp_path):
    path = stored(
        tmp_path / "a.nc", "f4", np.ones(3), units="hours since 2021-03-01 00:00:00 +02:00"
    )
    assert opened(path).time.values[0] == np.datetime64("2021-02-28T22")


@pytest.mark.parametrize("kind", ["S1", "str"])
def test_times_as_text_are_dates(tmp_path, kind):
    path = tmp_path / "a.nc"
    texts = [time.isoformat() for time in HOURS]
    with netCDF4.Dataset(path, "w") as data:
        data.createDimension("time", 24)
        data.createDimension("length", 19)
        if kind == "str":
            data.createVariable("time", str, ("time",))[:] = np.asarray(texts, object)
        else:
            chars = netCDF4.stringtochar(np.asarray(texts, "S19"))
            data.createVariable("time", "S1", ("time", "length"))[:] = chars
        data.createVariable("v", "f4", ("time",))[:] = np.arange(24)
    np.testing.assert_array_equal(opened(path).time.values, HOURS)


@pytest.mark.parametrize("units", ["YYYYMMDD", "day as %Y%m%d.%f", ""])
def test_days_as_numbers_are_dates_or_asked_for(tmp_path, units):
    days = pd.date_range("2019-12-30", periods=4)
    numbers = [int(day.strftime("%Y%m%d")) for day in days]
    path = stored(tmp_path / "a.nc", "f4", np.ones(4), time=numbers, units=units)
    np.testing.assert_array_equal(opened(path).time.values, days)


@pytest.mark.parametrize(
    "units", ["days since", "hours since 2020-99-99", "fortnights since 2020-01-01"]
)
def test_a_time_unit_that_cannot_be_read_is_named(tmp_path, units):
    path = stored(tmp_path / "a.nc", "f4", np.ones(4), units=units)
    try:
        field = opened(path)
    except ValueError:
        said = refused(lambda: opened(path), "unit", units)
        assert "restore" not in said
        return
    # Numbers of nothing stay numbers, which is told.
    assert field.time.dtype.kind == "f"
    assert any(units in note for note in field.attrs["notes"])


def test_times_before_1678_are_dates(tmp_path):
    path = stored(tmp_path / "a.nc", "f4", np.ones(4), units="days since 0850-01-01")
    times = opened(path).time.values
    assert [str(t)[:10] for t in times] == [f"0850-01-0{d}" for d in (1, 2, 3, 4)]


def test_times_without_a_unit_are_steps(tmp_path):
    path = stored(tmp_path / "a.nc", "f4", np.ones(4), time=[1, 2, 3, 4], units="")
    assert opened(path).time.values.tolist() == [1, 2, 3, 4]
    dataset().drop_vars("time").to_netcdf(tmp_path / "b.nc")
    assert opened(tmp_path / "b.nc").time.values.tolist() == list(range(24))


def test_a_folder_of_files_in_capitals_beside_other_files(tmp_path):
    data = dataset()
    data.isel(time=slice(12)).to_netcdf(tmp_path / "a.NC4")
    data.isel(time=slice(12, None)).to_netcdf(tmp_path / "b.nc")
    (tmp_path / "readme.txt").write_text("what this is")
    with pytest.warns(UserWarning, match=r"readme\.txt"):
        field = open_field(tmp_path)
    np.testing.assert_array_equal(field.values[..., 0], VALUES)
    assert any("readme.txt" in note for note in field.attrs["notes"])


def test_a_folder_that_turns_in_longitude_is_one_field(tmp_path):
    whole = np.arange(0, 360, 60.0)
    values = np.random.default_rng(0).random((24, 6, 6)).astype("f4")
    coords = {"time": HOURS, "lat": LAT, "lon": whole}
    data = xr.Dataset({"v": (("time", "lat", "lon"), values)}, coords)
    data["lon"].attrs["units"] = "degrees_east"
    data.isel(time=slice(12)).to_netcdf(tmp_path / "a.nc")
    rolled = data.assign_coords(lon=("lon", (whole + 180) % 360 - 180, {"units": "degrees_east"}))
    rolled.sortby("lon").isel(time=slice(12, None)).to_netcdf(tmp_path / "b.nc")
    field = opened(tmp_path)
    np.testing.assert_array_equal(field.lon.values, whole)
    np.testing.assert_array_equal(field.values[..., 0], values)


@pytest.mark.parametrize(
    ("one", "other", "scale", "offset"),
    [("Pa", "hPa", 0.01, 0), ("K", "degF", 9 / 5, -459.67), ("m s-1", "km/h", 3.6, 0)],
)
def test_a_folder_of_two_units_is_in_the_first(tmp_path, one, other, scale, offset):
    first = dataset(v=(("time", "lat", "lon"), VALUES, {"units": one}))
    first.isel(time=slice(12)).to_netcdf(tmp_path / "a.nc")
    there = (VALUES.astype(float) * scale + offset).astype("f4")
    second = dataset(v=(("time", "lat", "lon"), there, {"units": other}))
    second.isel(time=slice(12, None)).to_netcdf(tmp_path / "b.nc")
    field = opened(tmp_path)
    assert field.units.values.tolist() == [one]
    np.testing.assert_allclose(field.values[..., 0], VALUES, rtol=1e-5)


def test_a_folder_of_two_variables_or_steps_is_refused(tmp_path):
    dataset().isel(time=slice(12)).to_netcdf(tmp_path / "a.nc")
    odd = dataset().isel(time=slice(12, None)).rename(t2m="temperature")
    odd.to_netcdf(tmp_path / "b.nc")
    refused(lambda: opened(tmp_path), r"b\.nc", "t2m")
    late = dataset().assign_coords(time=pd.date_range("2021-03-02", periods=24, freq="6h"))
    (tmp_path / "late").mkdir()
    dataset().to_netcdf(tmp_path / "late" / "a.nc")
    late.to_netcdf(tmp_path / "late" / "b.nc")
    refused(lambda: opened(tmp_path / "late"), r"b\.nc", "6 h")


def test_the_one_group_of_a_satellite_is_read(tmp_path):
    dataset().to_netcdf(tmp_path / "a.HDF5", group="Grid")
    field = opened(tmp_path / "a.HDF5")
    np.testing.assert_array_equal(field.values[..., 0], VALUES)
    assert "The group Grid of the file was read." in field.attrs["notes"]
    for group in ("Grid", "Other"):
        dataset().to_netcdf(tmp_path / "b.nc", group=group, mode="a")
    refused(lambda: opened(tmp_path / "b.nc"), "Grid, Other", "group")


def test_what_stands_beside_the_field_is_no_channel(tmp_path):
    data = dataset()
    data["crs"] = ((), 0, {"grid_mapping_name": "latitude_longitude"})
    data["mask"] = (("lat", "lon"), np.ones((6, 5), "i1"))
    data["time_bnds"] = (("time", "nv"), np.zeros((24, 2)))
    data["time"].attrs["bounds"] = "time_bnds"
    for name in ("time", "time_bnds"):
        data[name].encoding = {"units": "hours since 2021-03-01", "dtype": "f8"}
    data["quality"] = (("time", "lat", "lon"), np.zeros((24, 6, 5), "i1"))
    data["quality"].attrs = {"flag_values": np.asarray([0, 1], "i1"), "flag_meanings": "good bad"}
    data.to_netcdf(tmp_path / "a.nc")
    field = opened(tmp_path / "a.nc")
    assert field.channel.values.tolist() == ["t2m"]
    assert any("quality" in note for note in field.attrs["notes"])


def test_axes_of_one_are_dropped_and_longer_ones_chosen(tmp_path):
    data = dataset().expand_dims(number=[0, 1], surface=[0.0])
    data.to_netcdf(tmp_path / "a.nc")
    field = opened(tmp_path / "a.nc", select={"number": 1})
    assert field.dims == ("time", "lat", "lon", "channel")
    np.testing.assert_array_equal(field.values[..., 0], VALUES)
    assert any("surface" in note for note in field.attrs["notes"])
    refused(lambda: opened(tmp_path / "a.nc", select={"number": 7}), "number", r"0, 1")
    refused(lambda: opened(tmp_path / "a.nc", select={"nummer": 1}), "nummer", "number")


def test_new_names_of_era5_are_known(tmp_path):
    data = dataset().rename(time="valid_time", lat="latitude", lon="longitude")
    data = data.assign_coords(number=0, expver=("valid_time", ["0001"] * 20 + ["0005"] * 4))
    data.to_netcdf(tmp_path / "a.nc")
    field = opened(tmp_path / "a.nc")
    assert field.dims == ("time", "latitude", "longitude", "channel")
    np.testing.assert_array_equal(field.time.values, HOURS)


def test_wrf_and_nemo_name_their_axes_in_their_own_way(tmp_path):
    path = tmp_path / "wrf.nc"
    with netCDF4.Dataset(path, "w") as data:
        for dim, size in {"Time": 24, "DateStrLen": 19, "south_north": 6, "west_east": 5}.items():
            data.createDimension(dim, size)
        texts = np.asarray([time.strftime("%Y-%m-%d_%H:%M:%S") for time in HOURS], "S19")
        data.createVariable("Times", "S1", ("Time", "DateStrLen"))[:] = netCDF4.stringtochar(texts)
        dims = ("Time", "south_north", "west_east")
        data.createVariable("T2", "f4", dims)[:] = VALUES
        data.createVariable("XLAT", "f4", dims)[:] = np.broadcast_to(LAT[:, None], (24, 6, 5))
        data.createVariable("XLONG", "f4", dims)[:] = np.broadcast_to(LON, (24, 6, 5))
    field = opened(path, variables=["T2"])
    np.testing.assert_array_equal(field.time.values, HOURS)
    data = dataset().rename(time="time_counter", lat="y", lon="x").drop_vars(["y", "x"])
    data = data.assign_coords(
        nav_lat=(("y", "x"), np.broadcast_to(LAT[:, None], (6, 5))),
        nav_lon=(("y", "x"), np.broadcast_to(LON, (6, 5))),
    )
    data.to_netcdf(tmp_path / "nemo.nc")
    field = opened(tmp_path / "nemo.nc")
    np.testing.assert_array_equal(field.time.values, HOURS)
    assert field.dims == ("time", "y", "x", "channel")


def test_axes_in_any_order_are_put_in_order(tmp_path):
    dataset().transpose("lon", "lat", "time").to_netcdf(tmp_path / "a.nc")
    field = opened(tmp_path / "a.nc")
    assert field.dims == ("time", "lat", "lon", "channel")
    np.testing.assert_array_equal(field.values[..., 0], VALUES)


def test_what_is_no_field_over_time_is_told(tmp_path):
    dataset().isel(time=0, drop=True).to_netcdf(tmp_path / "static.nc")
    refused(lambda: opened(tmp_path / "static.nc"), "time")
    path = tmp_path / "empty.nc"
    dataset().isel(time=slice(0)).to_netcdf(path)
    refused(lambda: FieldConfig(str(path), context=4, horizon=2).load(), "rows")
    xr.Dataset({"name": ("time", list("abc"))}).to_netcdf(tmp_path / "text.nc")
    refused(lambda: opened(tmp_path / "text.nc"), "number")


def test_infinite_values_are_not_trained_on(tmp_path):
    values = VALUES.copy()
    values[3, 2, 2] = np.inf
    dataset(v=(("time", "lat", "lon"), values)).to_netcdf(tmp_path / "a.nc")

    def load():
        return FieldConfig(str(tmp_path / "a.nc"), context=4, horizon=2).load()

    with pytest.warns(UserWarning, match="Infinite values, 1 of them, are read as missing"):
        source = load().source("train")
    assert all(np.isfinite(source[at]["context"]).all() for at in range(len(source)))


def test_files_of_other_kinds_are_told_by_what_they_are(tmp_path):
    (tmp_path / "page.nc").write_text("<!DOCTYPE html><html>404 Not Found</html>")
    refused(lambda: opened(tmp_path / "page.nc"), r"page\.nc", damaged=True)
    (tmp_path / "empty.nc").touch()
    refused(lambda: opened(tmp_path / "empty.nc"), "empty", damaged=True)
    (tmp_path / "a.xyz").write_bytes(b"\x89HDF\r\n\x1a\n")
    refused(lambda: opened(tmp_path / "a.xyz"), r"end with \.nc")
    refused(lambda: opened(tmp_path / "none.nc"), "none")


# Zarr.


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
def test_a_store_of_xarray_is_itself(tmp_path, version, consolidated):
    pytest.importorskip("zarr")
    data = dataset()
    data["t2m"] = data.t2m.where(data.t2m > 275)
    data["rain"] = data.t2m.copy(data=np.maximum(VALUES - 280, 0))
    packed = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -1}
    path = tmp_path / "a.ZARR"
    data.to_zarr(path, zarr_format=version, consolidated=consolidated, encoding={"t2m": packed})
    field = opened(path, variables=["rain", "t2m"])
    np.testing.assert_array_equal(field.values[..., 0], data.rain.values)
    np.testing.assert_allclose(field.values[..., 1], data.t2m.values, atol=0.006)


def test_integers_of_a_zarr_store_with_zeros(tmp_path):
    zarr = pytest.importorskip("zarr")
    counts = np.random.default_rng(0).poisson(0.5, (24, 4)).astype("i4")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    array = group.create_array("count", shape=(24, 4), chunks=(24, 4), dtype="i4")
    array.attrs["_ARRAY_DIMENSIONS"] = ["time", "cell"]
    array[:] = counts
    field = opened(tmp_path / "a.zarr")
    np.testing.assert_array_equal(field.values[..., 0], counts)


def test_a_store_without_names_of_axes_is_told(tmp_path):
    zarr = pytest.importorskip("zarr")
    for version in (2, 3):
        path = tmp_path / f"{version}.zarr"
        group = zarr.open_group(path, mode="w", zarr_format=version)
        group.create_array("v", shape=(24, 4), chunks=(24, 4), dtype="f4")[:] = 1
        refused(lambda path=path: opened(path), "dim|ax[ei]s")


# Arrays.


def test_arrays_of_any_make(tmp_path):
    expected = np.arange(24.0).reshape(24, 1)
    makes = {
        "big": expected.astype(">f8"),
        "fortran": np.asfortranarray(np.hstack([expected, expected])),
        "half": expected.astype("f2"),
        "bool": expected > 3,
        "int": expected.astype("u8"),
    }
    for name, values in makes.items():
        np.save(tmp_path / f"{name}.npy", values)
        field = opened(tmp_path / f"{name}.npy", dims=("time", "x"))
        np.testing.assert_array_equal(field.values[..., 0].astype(float), values.astype(float))


@pytest.mark.parametrize("suffix", [".NPZ", ".npz"])
def test_dates_in_a_zip_are_dates(tmp_path, suffix):
    with (tmp_path / f"a{suffix}").open("wb") as file:
        np.savez(
            file,
            v=np.arange(12.0).reshape(6, 2),
            time=np.arange("2021-01", "2021-07", dtype="M8[M]"),
        )
    field = opened(tmp_path / f"a{suffix}")
    assert str(field.time.values[1])[:10] == "2021-02-01"
    with (tmp_path / f"b{suffix}").open("wb") as file:
        texts = np.asarray([str(date(2021, 1, day)) for day in range(1, 7)])
        np.savez(file, v=np.arange(12.0).reshape(6, 2), time=texts)
    field = opened(tmp_path / f"b{suffix}")
    assert field.time.values[1] == np.datetime64("2021-01-02")


def test_arrays_that_are_no_field_are_told(tmp_path):
    np.savez(tmp_path / "object.npz", v=np.asarray([{"a": 1}, None], object))
    refused(lambda: opened(tmp_path / "object.npz", dims=("time",)), "object")
    np.save(tmp_path / "complex.npy", np.ones((4, 2), complex))
    refused(lambda: opened(tmp_path / "complex.npy", dims=("time", "x")), "number")
    np.save(tmp_path / "axes.npy", np.ones((4, 2, 3)))
    refused(lambda: opened(tmp_path / "axes.npy"), "dims=", r"\(4, 2, 3\)")
    np.savez(tmp_path / "time.npz", v=np.ones((3, 2)), time=np.asarray(["NaT"] * 3, "M8[D]"))
    refused(lambda: opened(tmp_path / "time.npz"), "time")
    far = np.asarray([0, 1, 2**60], "M8[h]")
    np.savez(tmp_path / "far.npz", v=np.ones((3, 2)), time=far)
    refused(lambda: opened(tmp_path / "far.npz"), "time of far.npz", "correct its dates")
    np.savez(tmp_path / "two.npz", a=np.ones((3, 2)), b=np.ones((3, 2)))
    refused(lambda: opened(tmp_path / "two.npz"), "a", "b", "variables=")
    (tmp_path / "no.npz").write_text("text")
    refused(lambda: opened(tmp_path / "no.npz"), r"no\.npz", damaged=True)


def test_sentinels_in_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.asarray([[1.0, -9999], [2, 3]]))
    field = opened(tmp_path / "a.npy", dims=("time", "x"), missing_values=(-9999,))
    np.testing.assert_array_equal(field.values[..., 0], [[1, np.nan], [2, 3]])
    np.save(tmp_path / "b.npy", np.asarray([[1, -9999], [2, 3]], "i4"))
    field = opened(tmp_path / "b.npy", dims=("time", "x"), missing_values=(-9999,))
    np.testing.assert_array_equal(field.values[..., 0], [[1, np.nan], [2, 3]])
