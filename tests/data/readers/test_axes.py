"""Which axes and variables of gridded data make a field, whatever they are called."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stpatch_jax.data import FieldConfig
from stpatch_jax.data.fields.in_memory import as_field
from stpatch_jax.data.readers import open_field
from stpatch_jax.errors import InputError

netCDF4 = pytest.importorskip("netCDF4")
TIMES = pd.date_range("2020-01-01", periods=6, freq="6h")
SIZES = {"time": 6, "y": 3, "x": 4}


def values(**sizes: int):
    return np.arange(float(np.prod(list(sizes.values())))).reshape(list(sizes.values()))


def variable(attrs: Any = None, **sizes: int):
    return (tuple(sizes), values(**sizes), attrs or {})


def opened(tmp_path, data: xr.Dataset, **options):
    path = Path(tempfile.mkdtemp(dir=tmp_path)) / "a.nc"
    data.to_netcdf(path)
    return open_field(path, **options)


def notes(field):
    return " ".join(field.attrs.get("notes", ()))


# Of texts in format 3, when they are written.
@pytest.mark.filterwarnings("ignore:The data type", "ignore:The codec", "ignore:The dtype")
@pytest.mark.parametrize("zarr_format", [None, 2, 3])
@pytest.mark.parametrize("dims", [("time", "channel", "y", "x"), ("x", "channel", "time", "y")])
def test_an_axis_of_channels_becomes_the_channels(tmp_path, zarr_format: Any, dims):
    sizes = {dim: {**SIZES, "channel": 2}[dim] for dim in dims}
    data = xr.Dataset({"fields": variable(**sizes)}, {"time": TIMES, "channel": ["t2m", "u10"]})
    if zarr_format is None:
        field = opened(tmp_path, data)
    else:
        pytest.importorskip("zarr")
        data.to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format, consolidated=False)
        field = open_field(tmp_path / "a.zarr")
    assert field.dims == ("time", "y", "x", "channel")
    assert field.channel.values.tolist() == ["t2m", "u10"]
    np.testing.assert_array_equal(field, data["fields"].transpose("time", "y", "x", "channel"))
    np.testing.assert_array_equal(
        field.isel(time=[4, 1], x=slice(None, None, -2), channel=[1, 0, 1]),
        data["fields"].transpose(*field.dims)[[4, 1], :, ::-2, [1, 0, 1]],
    )
    assert "axis channel are the channels" in notes(field)
    xr.testing.assert_equal(as_field(data).drop_vars("units"), field.load().drop_vars("units"))


def test_channels_without_names_take_that_of_their_variable(tmp_path):
    data = xr.Dataset(
        {"a": variable(time=6, channel=2), "b": variable({"units": "K"}, time=6, channel=2)}
    )
    field = opened(tmp_path, data)
    assert field.channel.values.tolist() == ["a_0", "a_1", "b_0", "b_1"]
    assert field.units.values.tolist() == ["", "", "K", "K"]
    np.testing.assert_array_equal(field[:, 2:], data["b"])
    np.testing.assert_array_equal(field[:, [3, 0]], np.stack([data["b"][:, 1], data["a"][:, 0]], 1))


def test_a_field_that_was_written_is_read_as_it_was(tmp_path):
    field = as_field(xr.Dataset({"t": variable({"units": "K"}, **SIZES), "u": variable(**SIZES)}))
    again = opened(tmp_path, field.to_dataset(name="v"))
    xr.testing.assert_equal(again.load(), field)


def test_channels_of_one_name_are_refused(tmp_path):
    data = xr.Dataset({"v": variable(time=6, channel=2)}, {"channel": ["t", "t"]})
    with pytest.raises(InputError, match=r"axis channel must have a name each .* got t, t"):
        opened(tmp_path, data)


@pytest.mark.parametrize("dim", ["units", "init_time", "lead_time", "valid_time", "batch"])
def test_space_may_be_called_as_a_field_calls_its_own(tmp_path, dim):
    data = xr.Dataset({"v": variable(time=6, **{dim: 3})}, {"time": TIMES})
    own = dim if dim == "batch" else f"{dim}_axis"
    config = FieldConfig(context=1, horizon=1, train_share=0.5, test_share=0.2)
    assert config.of(data["v"]).field.dims == ("time", own, "channel")
    if "time" in dim:
        with pytest.raises(InputError, match=rf"beside time must be space, got {dim} of length 3"):
            opened(tmp_path, data)
    else:
        assert opened(tmp_path, data).dims == ("time", own, "channel")


def test_a_dim_called_time_may_be_another_one(tmp_path):
    data = xr.Dataset({"v": variable(day=6, time=24)}, {"day": TIMES})
    with pytest.raises(InputError, match=r"beside day must be space, got time of length 24"):
        opened(tmp_path, data)
    field = opened(tmp_path, data, time="day")
    assert field.dims == ("time", "time_axis", "channel")
    np.testing.assert_array_equal(field[..., 0], data["v"])
    assert "The axis time is called time_axis" in notes(field)


def test_one_level_of_some_variables_may_be_chosen(tmp_path):
    data = xr.Dataset(
        {"t": variable(time=6, level=3, y=3), "s": variable(time=6, y=3)},
        {"level": np.asarray([1000, 850.5, 500], "f4")},
    )
    with pytest.raises(InputError, match="must have the same dims"):
        opened(tmp_path, data)
    field = opened(tmp_path, data, select={"level": 850.5})
    np.testing.assert_array_equal(field.sel(channel="t"), data["t"][:, 1])


def forecasts(lead: Any, **coords: Any):
    data = xr.Dataset({"t": variable(init_time=6, lead_time=3, y=2)}, coords={"init_time": TIMES})
    return data.assign_coords(lead_time=("lead_time", *lead), **coords)


LEADS = (([0, 6, 12], {"units": "hours"}), (TIMES[:3] - TIMES[0],))


@pytest.mark.parametrize("lead", LEADS)
def test_forecasts_have_two_axes_of_time(tmp_path, lead):
    data = forecasts(lead)
    with pytest.raises(
        InputError,
        match=r"beside init_time must be space, got lead_time .*0, 6, 12 hours",
    ):
        opened(tmp_path, data)
    field = opened(tmp_path, data, select={"lead_time": 6})
    np.testing.assert_array_equal(field.time.values, TIMES + pd.Timedelta("6h"))
    np.testing.assert_array_equal(field[..., 0], data["t"][:, 1])
    assert "start plus their lead time" in notes(field)
    field = opened(tmp_path, data, select={"init_time": "2020-01-01T06:00"})
    np.testing.assert_array_equal(field.time.values, TIMES[1:4])
    np.testing.assert_array_equal(field[..., 0], data["t"][1])


def test_valid_times_of_a_file_are_the_times(tmp_path):
    valid = (("init_time", "lead_time"), TIMES.values[:, None] + np.array([0, 1, 2], "m8[D]"))
    field = opened(tmp_path, forecasts(([0, 1, 2],), valid_time=valid), select={"lead_time": 1})
    np.testing.assert_array_equal(field.time.values, TIMES + pd.Timedelta("1D"))
    assert "The times are those of the variable valid_time" in notes(field)


def test_times_may_stand_in_another_variable(tmp_path):
    data = xr.Dataset(
        {"t": (("time_counter", "y"), values(t=6, y=2))},
        {
            "time_counter": np.arange(6.0),
            "time_centered": ("time_counter", TIMES, {"standard_name": "time"}),
        },
    )
    field = opened(tmp_path, data)
    np.testing.assert_array_equal(field.time.values, TIMES)
    assert "those of the variable time_centered" in notes(field)
    np.testing.assert_array_equal(
        opened(tmp_path, data, time="time_counter").time.values, np.arange(6)
    )
    later = data.assign_coords(seen=("time_counter", TIMES + pd.Timedelta("1D")))
    np.testing.assert_array_equal(opened(tmp_path, later, time="seen").time.values, later.seen)


def test_a_file_of_one_time_has_an_axis_of_it(tmp_path):
    data = xr.Dataset({"t": variable(y=3, x=2)}, {"time": TIMES[0]})
    for day in range(3):
        (data.assign_coords(time=TIMES[day]) + day).to_netcdf(tmp_path / f"{day}.nc")
    field = open_field(tmp_path)
    np.testing.assert_array_equal(field.time.values, TIMES[:3])
    np.testing.assert_array_equal(field[[2, 0], 1:, :, 0], [data.t[1:] + 2, data.t[1:]])
    with pytest.raises(InputError, match=r"one time dim, got none among y, x in a.nc; name it"):
        opened(tmp_path, data.drop_vars("time"))


def test_what_describes_others_is_no_channel(tmp_path):
    data = xr.Dataset(
        {
            "t": variable({"grid_mapping": "crs", "ancillary_variables": "quality"}, **SIZES),
            "crs": ((), 0),
            "quality": variable(**SIZES),
            "flags": variable({"flag_values": [0, 1]}, **SIZES),
            "mask": variable(y=3, x=4),
            "co2": variable(time=6),
            "lat_bnds": variable(y=3, bnds=2),
        },
        {"time": TIMES},
    )
    field = opened(tmp_path, data)
    assert field.channel.values.tolist() == ["t"]
    for told in ("describe others: quality", "flags: flags", "no time: mask", "of space: co2"):
        assert told in notes(field)
    assert opened(tmp_path, data, variables=["flags"]).shape == field.shape
    assert as_field(data).channel.values.tolist() == ["t"]


@pytest.mark.parametrize("values", [np.ones((9, 2), complex), np.full((9, 2), "a")])
def test_what_is_no_number_is_no_field(values):
    with pytest.raises(InputError, match="a field must hold numbers, got "):
        as_field(values)


def test_rows_in_memory_are_put_in_order_as_those_of_a_file(tmp_path):
    rows = xr.DataArray(np.arange(6.0), [("time", pd.date_range("2024", periods=6))], name="a")
    back = rows[::-1].to_dataset()
    field = opened(tmp_path, back)
    np.testing.assert_array_equal(as_field(back.a).time, field.time)
    np.testing.assert_array_equal(as_field(back.a), field)
    assert field.values.ravel().tolist() == rows.values.tolist()
    assert "in order of time" in notes(as_field(back.a))
    with pytest.raises(InputError, match="the field must have every time once"):
        as_field(xr.concat([rows, rows], "time"))


def test_names_of_stations_are_no_times(tmp_path):
    data = xr.Dataset({"t": variable(time=6, station=2)}, {"station": np.array(["a", "b"], object)})
    assert opened(tmp_path, data).dims == ("time", "station", "channel")


def test_what_repeats_a_dim_is_left_out(tmp_path):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as data:
        data.createDimension("time", 4)
        data.createDimension("x", 3)
        data.createVariable("covariance", "f4", ("time", "x", "x"))[:] = 1
        data.createVariable("q", "f4", ("time", "x"))[:] = 2
    assert open_field(tmp_path / "a.nc").channel.values.tolist() == ["q"]
