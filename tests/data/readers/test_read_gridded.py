"""NetCDF and zarr: what was written is read, space in order, times honoured, only what is used."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stpatch_jax.data.readers import open_field
from stpatch_jax.errors import InputError

TIMES = pd.date_range("2020-01-01", periods=6, freq="h")


def sample(dims=("time", "lat", "lon"), times: Any = TIMES):
    """Two variables over time and a map, in any order of dims."""
    sizes = {"time": len(times), "lat": 3, "lon": 4}
    values = np.arange(72.0, dtype=np.float32).reshape([sizes[dim] for dim in dims])
    return xr.Dataset(
        {"t": (dims, values, {"units": "K"}), "u": (dims, -values)},
        coords={
            "time": times,
            "lat": ("lat", [50.0, 51, 52], {"units": "degrees_north"}),
            "lon": ("lon", [0.0, 1, 2, 3], {"units": "degrees_east"}),
        },
    )


@pytest.fixture(params=["field.nc", "field.zarr"])
def store(request, tmp_path):
    """Writes a data set as netCDF and as zarr; skips where a library is missing."""
    zarr = request.param.endswith("zarr")
    pytest.importorskip("zarr" if zarr else "netCDF4")

    def write(data, **encoding):
        path = tmp_path / request.param
        if zarr:
            data.to_zarr(path, encoding=encoding, consolidated=False)
        else:
            data.to_netcdf(path, encoding=encoding, engine="netcdf4")
        return path

    return write


def test_what_was_written_is_read(store):
    data = sample()
    field = open_field(store(data))
    assert field.dims == ("time", "lat", "lon", "channel")
    assert field.channel.values.tolist() == ["t", "u"]
    assert field["units"].values.tolist() == ["K", ""]
    assert field.dtype == np.float32
    np.testing.assert_array_equal(field.time.values, TIMES.to_numpy("datetime64[ns]"))
    for name in ("t", "u"):
        np.testing.assert_array_equal(field.sel(channel=name), data[name])
    assert field.attrs["source"].endswith(("field.nc", "field.zarr"))


def test_any_part_equals_the_same_part_of_the_whole(store):
    field = open_field(store(sample(("lon", "time", "lat"))))
    whole = field.values
    assert field.dims == ("time", "lat", "lon", "channel")
    rng = np.random.default_rng(0)
    kinds = (
        lambda n: int(rng.integers(n)),
        lambda n: slice(int(rng.integers(n)), None, int(rng.integers(1, 3))),
        lambda n: rng.integers(0, n, 3),
        lambda n: slice(None, None, -1),
        lambda n: slice(0, 0),
    )
    for _ in range(30):
        key = [kinds[rng.integers(len(kinds))](n) for n in whole.shape]
        parts = dict(zip(field.dims, key, strict=True))
        expected = whole
        for axis in reversed(range(4)):
            expected = expected[(slice(None),) * axis + (key[axis],)]
        np.testing.assert_array_equal(field.isel(parts).values, expected)


def test_space_follows_the_conventions_whatever_the_names(store):
    dims = ("a", "c", "time", "b")
    data = xr.Dataset(
        {"v": (dims, np.arange(48.0).reshape(2, 3, 4, 2))},
        coords={
            "a": ("a", [1.0, 2], {"standard_name": "longitude"}),
            "b": ("b", [1.0, 2], {"positive": "down"}),
            "c": ("c", [1.0, 2, 3], {"axis": "Y"}),
            "time": TIMES[:4],
        },
    )
    field = open_field(store(data))
    assert field.dims == ("time", "b", "c", "a", "channel")
    np.testing.assert_array_equal(field[..., 0], data["v"].transpose("time", "b", "c", "a"))


def test_packed_and_missing_values_are_honoured(store):
    data = sample()
    data["t"][0, 0, 0] = np.nan
    packed = {"dtype": "int16", "scale_factor": 0.5, "add_offset": 10.0, "_FillValue": -999}
    field = open_field(store(data, t=packed), variables=["t"])
    np.testing.assert_allclose(field.values[..., 0], data["t"].values)
    assert np.isnan(field.values).sum() == 1


def test_offsets_from_utc_are_undone(store):
    data = sample(times=np.arange(6))
    data["time"].attrs = {"units": "hours since 2020-01-01 02:00:00 +02:00"}
    field = open_field(store(data))
    np.testing.assert_array_equal(field.time.values, TIMES.to_numpy("datetime64[ns]"))


def test_steps_without_dates_stay_numbers(store):
    data = sample().drop_vars("time")
    np.testing.assert_array_equal(open_field(store(data)).time.values, np.arange(6))


def test_unsorted_times_are_sorted(store):
    data = sample()
    field = open_field(store(data.isel(time=[3, 0, 5, 1, 2, 4])))
    assert field.attrs["notes"] == ("The rows were put in order of time.",)
    np.testing.assert_array_equal(field.sel(channel="t"), data["t"])


def test_repeated_times_name_the_first(store):
    path = store(sample(times=TIMES[[0, 1, 2, 2, 1, 3]]))
    with pytest.raises(InputError, match="every time once, got 2020-01-01T01:00 more than once"):
        open_field(path)


@pytest.mark.parametrize("calendar", ["noleap", "all_leap", "360_day", "julian"])
def test_dates_of_a_model_calendar_are_kept(store, calendar):
    times = xr.date_range("2021-02-26", periods=6, calendar=calendar, use_cftime=True)
    field = open_field(store(sample(times=times)))
    assert field.time.values.tolist() == np.asarray(times).tolist()
    assert field.time.encoding["calendar"] == calendar


def test_unknown_variables_list_those_there_are(store):
    path = store(sample())
    with pytest.raises(InputError, match=r"among those of field.*\(t, u\), got w, z"):
        open_field(path, variables=["t", "w", "z"])


def test_variables_of_other_dims_are_told(store):
    data = sample()
    data["static"] = ("lat", [1.0, 2, 3])
    path = store(data)
    # What has no time is no channel unless it is asked for.
    assert open_field(path).sizes["channel"] == 2
    with pytest.raises(InputError, match="must have the same dims"):
        open_field(path, variables=["t", "static"])
    with pytest.raises(InputError, match="one time dim, got none among"):
        open_field(path, variables=["static"])


def test_a_time_dim_may_be_named(store):
    path = store(sample().drop_vars("time").rename(time="run"))
    with pytest.raises(InputError, match="one time dim, got none among"):
        open_field(path)
    assert open_field(path, time="run").sizes["time"] == 6


def test_a_field_may_be_chunked_for_dask(store):
    pytest.importorskip("dask.array")
    path = store(sample())
    field = open_field(path, chunks={"time": 2})
    assert field.chunks is not None
    np.testing.assert_array_equal(field.values, open_field(path).values)


def test_what_is_read_can_be_written_again(store, tmp_path):
    pytest.importorskip("netCDF4")
    field = open_field(store(sample()))
    field.to_dataset(name="v").to_netcdf(tmp_path / "again.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "again.nc", engine="netcdf4") as again:
        np.testing.assert_array_equal(again["v"], field)


def test_a_truncated_netcdf_file_is_refused(tmp_path):
    pytest.importorskip("netCDF4")
    sample().to_netcdf(tmp_path / "whole.nc", engine="netcdf4")
    content = (tmp_path / "whole.nc").read_bytes()
    for share in (0.02, 0.5, 0.9):
        (tmp_path / "cut.nc").write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match="must be a readable netcdf file, got"):
            open_field(tmp_path / "cut.nc")


def test_era5_is_read_as_xarray_reads_it(data_dir):
    pytest.importorskip("netCDF4")
    path = data_dir / "weather" / "era5_t2m_uk_2019-03.nc"
    field = open_field(path)
    assert field.shape == (744, 33, 49, 1)
    assert field.dims == ("time", "latitude", "longitude", "channel")
    assert field["units"].values.tolist() == ["K"]
    with xr.open_dataset(path, engine="netcdf4") as data:
        np.testing.assert_array_equal(field[..., 0], data["t2m"])
    assert str(field.time.values[-1]).startswith("2019-03-31T23")


def test_lists_records_and_texts_are_no_channels(tmp_path):
    netcdf = pytest.importorskip("netCDF4")
    with netcdf.Dataset(tmp_path / "a.nc", "w") as data:
        data.createDimension("time", 3)
        lists = data.createVLType("f8", "lists")
        record = data.createCompoundType(np.dtype([("a", "f8"), ("b", "i4")]), "record")
        for name, kind in {"time": "f8", "x": "f4", "v": lists, "c": record, "s": str}.items():
            data.createVariable(name, kind, ("time",))
        data["time"][:], data["x"][:] = range(3), [1, 2, 3]
        data["v"][0], data["s"][0] = np.arange(2.0), "a"
    assert open_field(tmp_path / "a.nc").channel.values.tolist() == ["x"]
    with pytest.raises(InputError, match=r"must be among those of a.nc .*got v; choose"):
        open_field(tmp_path / "a.nc", variables=["v"])
    with pytest.raises(InputError, match="must hold numbers, got texts or objects in s; choose"):
        open_field(tmp_path / "a.nc", variables=["s", "x"])
