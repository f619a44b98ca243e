"""Stores, folders and archives as they are found: read right or refused with a true sentence."""

import gzip
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from strange import opened, refused

pytest.importorskip("netCDF4")
zarr = pytest.importorskip("zarr")
HOURS = pd.date_range("2021-03-01", periods=24, freq="h")
VALUES = np.random.default_rng(0).normal(280, 5, (24, 4, 3)).astype("f4")
COORDS = {"time": HOURS, "lat": np.linspace(60, 50, 4), "lon": np.linspace(-5, 5, 3)}
DIMS = ("time", "y", "x")


def dataset(dims=("time", "lat", "lon"), **coords):
    return xr.Dataset({"t2m": (dims, VALUES, {"units": "K"})}, {**COORDS, **coords})


def notes(field):
    return " ".join(field.attrs.get("notes", ()))


# Zarr.


def array(path, values, fill, *, version, written=slice(None)):
    """An array of the plain library, of which some rows are written."""
    group = zarr.open_group(path, mode="w", zarr_format=version)
    names = {"dimension_names": DIMS} if version == 3 else {}
    one = group.create_array(
        "v", shape=values.shape, chunks=(8, 4, 3), dtype=values.dtype, fill_value=fill, **names
    )
    if version == 2:
        one.attrs["_ARRAY_DIMENSIONS"] = list(DIMS)
    one[written] = values[written]
    return path


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("fill", [-9999.0, np.nan])
def test_what_was_never_written_is_missing(tmp_path, version, fill):
    path = array(tmp_path / "a.zarr", VALUES, fill, version=version, written=slice(8))
    values = opened(path).values[..., 0]
    np.testing.assert_array_equal(values[:8], VALUES[:8])
    assert np.isnan(values[8:]).all()


def test_a_fill_of_whole_numbers_is_told(tmp_path):
    path = array(tmp_path / "a.zarr", (VALUES - 200).astype("u1"), 255, version=3, written=slice(8))
    field = opened(path)
    assert field.dtype == np.uint8
    assert "A 255 of v is a value" in notes(field)
    assert np.isnan(opened(path, missing_values=(255,)).values[8:]).all()


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("version", [2, 3])
def test_the_group_of_a_store_is_read_or_chosen(tmp_path, version):
    dataset().to_zarr(tmp_path / "a.zarr", group="daily", zarr_format=version)
    field = opened(tmp_path / "a.zarr")
    np.testing.assert_array_equal(field.values[..., 0], VALUES)
    assert "The group daily of the file was read." in notes(field)
    dataset().to_zarr(tmp_path / "a.zarr", group="hourly", zarr_format=version, mode="a")
    refused(lambda: opened(tmp_path / "a.zarr"), "daily, hourly", "group")


@pytest.mark.parametrize("version", [2, 3])
def test_a_store_of_one_array_is_told(tmp_path, version):
    zarr.create_array(tmp_path / "a.zarr", shape=(3, 2), dtype="f4", zarr_format=version)
    said = refused(lambda: opened(tmp_path / "a.zarr"), "one array", r"\(3, 2\)", "group")
    assert "damaged" not in said


# Times and coordinates.


def test_times_along_a_dim_of_another_name(tmp_path):
    values = xr.Dataset(
        {"v": (("obs", "lat", "lon"), VALUES)},
        {"time": ("obs", HOURS), "lat": COORDS["lat"], "lon": COORDS["lon"]},
    )
    values.to_netcdf(tmp_path / "a.nc")
    field = opened(tmp_path / "a.nc")
    np.testing.assert_array_equal(field.time.values, HOURS)
    assert field.dims == ("time", "lat", "lon", "channel")
    # Stations one below the other have every time more than once.
    values["time"] = ("obs", np.tile(HOURS[:12], 2))
    values.to_netcdf(tmp_path / "b.nc")
    refused(lambda: opened(tmp_path / "b.nc"), "station")


def test_cells_without_a_place_are_refused(tmp_path):
    dataset(lat=[60, np.nan, 54, 50]).to_netcdf(tmp_path / "a.nc")
    refused(lambda: opened(tmp_path / "a.nc"), "lat", "cell 2 of 4")


def test_true_and_false_are_told(tmp_path):
    data = dataset()
    data["valid"] = data.t2m > 280
    data.to_netcdf(tmp_path / "a.nc")
    field = opened(tmp_path / "a.nc")
    assert field.channel.values.tolist() == ["t2m", "valid"]
    assert "True and false of valid were read as 1 and 0." in notes(field)


def test_a_time_unit_is_refused_with_the_numbers_of_the_file(tmp_path):
    data = dataset(time=("time", np.arange(24.0) + 700_000, {"units": "days since 0000-00-00"}))
    data.to_netcdf(tmp_path / "a.nc")
    refused(lambda: opened(tmp_path / "a.nc"), "0000-00-00", "from 700000 to 700023")


@pytest.mark.filterwarnings("error")
def test_julian_days_are_dates(tmp_path):
    units = {"units": "days since -4713-01-01T00:00:00Z"}
    dataset(time=("time", 2459275.0 + np.arange(24), units)).to_netcdf(tmp_path / "a.nc")
    times = opened(tmp_path / "a.nc").time.values
    np.testing.assert_array_equal(times, pd.date_range("2021-03-01", periods=24))


# Folders and archives.


@pytest.mark.parametrize(("first", "advice"), [(4, "cut"), (12, "leave one of them out")])
def test_files_that_overlap_are_told_what_to_do(tmp_path, first, advice):
    dataset().isel(time=slice(12)).to_netcdf(tmp_path / "a.nc")
    dataset().isel(time=slice(12 - first, 24 - first)).to_netcdf(tmp_path / "b.nc")
    said = refused(lambda: opened(tmp_path), r"a\.nc", r"b\.nc", advice)
    assert f"{first} such times" in said


def test_a_folder_of_something_else_is_told(tmp_path):
    (tmp_path / "a.csv").write_text("date,a\n")
    said = refused(lambda: opened(tmp_path), "folder", r"a\.csv", "netCDF")
    assert "format" not in said


def test_what_is_no_netcdf_file_is_called_by_what_it_is(tmp_path):
    dataset().to_netcdf(tmp_path / "a.nc")
    (tmp_path / "b.nc").write_bytes(gzip.compress((tmp_path / "a.nc").read_bytes()))
    refused(lambda: opened(tmp_path / "b.nc"), "gzip", "unpack")
    (tmp_path / "c.nc").write_bytes(b"PK\3\4" + bytes(99))
    refused(lambda: opened(tmp_path / "c.nc"), "ZIP", "unpack")
    (tmp_path / "d.nc").write_text("<!DOCTYPE html><html>Log in</html>")
    refused(lambda: opened(tmp_path / "d.nc"), "web page", "download")
    shutil.copy(tmp_path / "a.nc", tmp_path / "e.csv")
    refused(lambda: opened(tmp_path / "e.csv"), "netCDF", r"end with \.nc")
    shutil.copy(tmp_path / "b.nc", tmp_path / "a.nc.gz")
    said = refused(lambda: opened(tmp_path / "a.nc.gz"), "archive", "unpack")
    assert "format=" not in said


# Arrays.


def arrays(path, **content):
    np.savez(path, **content)
    return path


@pytest.mark.parametrize(
    "times",
    [HOURS.values, HOURS.values.astype("M8[m]"), HOURS.astype(str).to_numpy("U19")],
    ids=str,
)
def test_dates_of_an_array_are_the_times(tmp_path, times):
    path = arrays(tmp_path / "a.npz", flow=VALUES, dates=times, area=np.ones((4, 3)))
    field = opened(path, dims=DIMS, variables=["flow"])
    np.testing.assert_array_equal(field.time.values, HOURS)
    assert "array dates" in notes(field)
    assert "not read: area" in notes(field)


def test_rows_without_times_are_told(tmp_path):
    field = opened(arrays(tmp_path / "a.npz", flow=VALUES), dims=DIMS)
    assert field.time.values.tolist() == list(range(24))
    assert "numbered" in notes(field)


def test_python_objects_are_told_by_their_name(tmp_path):
    objects = HOURS.to_pydatetime()
    path = arrays(tmp_path / "a.npz", flow=VALUES, time=np.asarray(objects, object))
    said = refused(lambda: opened(path, dims=DIMS), "time", "Python objects", "save it again")
    assert "damaged" not in said
    path = arrays(tmp_path / "b.npz", flow=VALUES.astype(object))
    said = refused(lambda: opened(path, dims=DIMS), "flow", "Python objects")
    assert "choose" not in said


def test_axes_with_names_of_the_field_are_renamed(tmp_path):
    path = arrays(tmp_path / "a.npz", flow=VALUES)
    field = opened(path, dims=("time", "units", "lead_time"))
    assert field.dims == ("time", "units_axis", "lead_time_axis", "channel")
    assert "units_axis" in notes(field)


@pytest.mark.parametrize("shape", [(24,), (24, 3), (24, 4, 3), (24, 2, 4, 3)])
def test_the_example_of_dims_fits_the_array(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    said = refused(lambda: opened(tmp_path / "a.npy"), "dims=")
    dims = eval(said.rpartition("dims=")[2])
    assert len(dims) == len(shape)
    assert opened(tmp_path / "a.npy", dims=dims).sizes["time"] == 24


# Projections.


def projected(path, start, mapping):
    values = VALUES[start : start + 12]
    metres = {"units": "m"}
    data = xr.Dataset(
        {"t2m": (("time", "y", "x"), values, {"grid_mapping": "crs"}), "crs": ((), 0, mapping)},
        {
            "time": HOURS[start : start + 12],
            "y": ("y", np.arange(4) * 1e3, metres),
            "x": ("x", np.arange(3) * 1e3, metres),
        },
    )
    data.to_netcdf(path)


def test_the_same_numbers_on_another_projection_are_refused(tmp_path):
    lambert = {"grid_mapping_name": "lambert_conformal_conic", "standard_parallel": [40.0, 60.0]}
    projected(tmp_path / "a.nc", 0, {**lambert, "semi_major_axis": 6371229.0})
    projected(tmp_path / "b.nc", 12, {**lambert, "semi_major_axis": 6371200.0})
    np.testing.assert_array_equal(opened(tmp_path).values[..., 0], VALUES)
    for other in (
        {**lambert, "standard_parallel": [45.0, 60.0]},
        {"grid_mapping_name": "polar_stereographic"},
    ):
        (tmp_path / "b.nc").rename(tmp_path / "b.old")
        projected(tmp_path / "b.nc", 12, other)
        refused(lambda: opened(tmp_path), r"b\.nc", "projection", "in place of")
