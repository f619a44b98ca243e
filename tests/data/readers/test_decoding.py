"""What a gridded file calls missing is missing: netCDF4-python and xarray are the references."""

import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data.readers import open_field
from stpatch_jax.data.readers.decoding import decode_values
from stpatch_jax.errors import InputError

netCDF4 = pytest.importorskip("netCDF4")
zarr = pytest.importorskip("zarr")

TYPES = ("i2", "u2", "i4", "u4", "i8", "f4", "f8")
DEFAULT = netCDF4.default_fillvals


def write(path, values: Any, kind="f4", fill: Any = None, **attrs):
    """A file of one variable over time, its values stored as they are."""
    with netCDF4.Dataset(path, "w") as data:
        data.createDimension("time", len(values))
        variable = data.createVariable("v", kind, ("time",), fill_value=fill)
        variable.set_auto_maskandscale(False)
        for name, value in attrs.items():
            variable.setncattr(name, value)
        variable[:] = np.asarray(values, kind)
    return path


def by_netcdf4(path):
    with warnings.catch_warnings(), netCDF4.Dataset(path) as data:
        warnings.simplefilter("ignore")  # Attributes that it does not use.
        values = np.ma.asarray(data["v"][:])
    return np.ma.filled(values.astype(float), np.nan)


def ours(path, **options):
    return open_field(path, **options).values[:, 0]


@pytest.mark.parametrize("kind", TYPES)
def test_default_fills_are_those_of_the_netcdf_library(tmp_path, kind):
    path = write(tmp_path / "a.nc", [1, 2, DEFAULT[kind], 3], kind)
    np.testing.assert_array_equal(ours(path), [1, 2, np.nan, 3])
    np.testing.assert_array_equal(ours(path), by_netcdf4(path))
    assert open_field(path).dtype == {"i2": "f4", "u2": "f4", "f4": "f4"}.get(kind, "f8")


@pytest.mark.parametrize("kind", ["i1", "u1"])
def test_bytes_have_no_default_fill(tmp_path, kind):
    path = write(tmp_path / "a.nc", [1, 2, DEFAULT[kind]], kind)
    np.testing.assert_array_equal(ours(path), [1, 2, DEFAULT[kind]])
    assert open_field(path).dtype == kind


def test_a_fill_value_of_its_own_takes_the_place_of_the_default(tmp_path):
    path = write(tmp_path / "a.nc", [1, -9, DEFAULT["i4"]], "i4", fill=-9)
    np.testing.assert_array_equal(ours(path), [1, np.nan, DEFAULT["i4"]])
    np.testing.assert_array_equal(ours(path), by_netcdf4(path))


@pytest.mark.parametrize(
    "missing", [np.float64(-9999.9), np.float32(-9999.9), "-9999.9", np.array([-1, -9999.9])]
)
def test_missing_value_may_be_of_another_type(tmp_path, missing):
    path = write(tmp_path / "a.nc", [1, -9999.9, -5, 3], "f4", -5.0, missing_value=missing)
    np.testing.assert_array_equal(ours(path), [1, np.nan, np.nan, 3])


def test_a_missing_value_that_no_value_can_be_is_of_no_effect(tmp_path):
    for missing in (1e20, -1, 0.5, "none", np.nan):
        path = write(tmp_path / "a.nc", [0, 1, 255], "u1", missing_value=missing)
        np.testing.assert_array_equal(ours(path), [0, 1, 255])


# Types that netCDF4 casts to that of the variable without a loss are read alike.
numbers = st.integers(-6, 6)


@given(
    kind=st.sampled_from(TYPES),
    values=st.lists(st.one_of(numbers, st.none()), min_size=1, max_size=8),
    fill=st.one_of(st.none(), numbers),
    missing=st.one_of(st.none(), st.lists(numbers, min_size=1, max_size=2)),
    limits=st.one_of(st.none(), st.tuples(st.integers(-5, 0), st.integers(0, 5))),
    pair=st.booleans(),
    scale=st.sampled_from([None, 0.5, 2.0]),
    offset=st.sampled_from([None, 10.0]),
    attribute=st.sampled_from(["own", "i8"]),
)
def test_masks_are_those_of_netcdf4(
    tmp_path_factory, kind, values, fill, missing, limits, pair, scale, offset, attribute
):
    unsigned = kind.startswith("u")
    of = np.dtype(kind if attribute == "own" or unsigned else attribute).type
    own = [
        DEFAULT[kind] if value is None else abs(value) if unsigned else value for value in values
    ]
    sign = abs if unsigned else int
    attrs: dict[str, Any] = {}
    if missing is not None:
        attrs["missing_value"] = np.array([of(sign(each)) for each in missing])
    if limits is not None:
        low, high = (of(sign(end)) for end in limits)
        low, high = min(low, high), max(low, high)
        attrs |= {"valid_range": [low, high]} if pair else {"valid_min": low, "valid_max": high}
    attrs |= {} if scale is None else {"scale_factor": scale}
    attrs |= {} if offset is None else {"add_offset": offset}
    fill = None if fill is None else sign(fill)
    path = write(tmp_path_factory.mktemp("law") / "a.nc", own, kind, fill, **attrs)
    np.testing.assert_allclose(ours(path), by_netcdf4(path), rtol=1e-6)


@given(
    kind=st.sampled_from(["i1", "u1", *TYPES]),
    scale=st.sampled_from([None, 0.01, np.float32(0.01)]),
    offset=st.sampled_from([None, 273.15, np.float32(273.15)]),
    fill=st.sampled_from([None, 7]),
)
def test_what_xarray_reads_right_is_the_same_to_the_last_bit(kind, scale, offset, fill):
    attrs = {"scale_factor": scale, "add_offset": offset, "_FillValue": fill}
    attrs = {name: value for name, value in attrs.items() if value is not None}
    stored = xr.Dataset({"v": ("x", np.arange(9).astype(kind), attrs)})
    read, _ = decode_values(stored, default_fills=False)
    expected = xr.decode_cf(stored)
    assert read["v"].dtype == expected["v"].dtype
    np.testing.assert_array_equal(read["v"], expected["v"])


def test_unsigned_bytes_and_their_range(tmp_path):
    stored = np.array([0, 100, 200, 254, 255], "u1").view("i1")
    attrs = {"_Unsigned": "true", "valid_range": np.array([0, -56], "i1")}
    path = write(tmp_path / "a.nc", stored, "i1", -1, **attrs)
    np.testing.assert_array_equal(ours(path), [0, 100, 200, np.nan, np.nan])
    np.testing.assert_array_equal(ours(path), by_netcdf4(path))


def test_a_range_counts_in_stored_numbers_or_in_values_by_its_type(tmp_path):
    stored, packing = [-5, 0, 100, 300], {"scale_factor": 0.1, "add_offset": 273.15}
    path = write(tmp_path / "a.nc", stored, "i2", **packing, valid_range=np.asarray([0, 200], "i2"))
    np.testing.assert_allclose(ours(path), [np.nan, 273.15, 283.15, np.nan])
    path = write(tmp_path / "b.nc", stored, "i2", **packing, valid_range=[273.0, 290.0])
    np.testing.assert_allclose(ours(path), [np.nan, 273.15, 283.15, np.nan])
    note = open_field(path).attrs["notes"][-1]
    assert "are missing where valid_range" in note
    assert "290" in note


def test_a_range_without_any_number_is_told_and_not_used(tmp_path):
    path = write(tmp_path / "a.nc", [1, 2], valid_min=np.float32(5), valid_max=np.float32(3))
    np.testing.assert_array_equal(ours(path), [1, 2])
    assert "leaves nothing out" in open_field(path).attrs["notes"][-1]


def test_a_scale_that_is_a_text_is_a_number_or_refused(tmp_path):
    path = write(tmp_path / "a.nc", [1, 2], "i2", scale_factor="0.5")
    np.testing.assert_array_equal(ours(path), [0.5, 1])
    path = write(tmp_path / "b.nc", [1, 2], "i2", scale_factor="a half")
    with pytest.raises(InputError, match=r"scale_factor must be one number, got a half; correct"):
        open_field(path)


def test_missing_values_may_be_declared_in_units_of_the_values(tmp_path):
    path = write(tmp_path / "a.nc", [10, -9990, 20], "i2", scale_factor=0.1)
    np.testing.assert_allclose(ours(path, missing_values=(-999,)), [1, np.nan, 2])
    path = write(tmp_path / "b.nc", [0, 255], "u1")
    np.testing.assert_array_equal(ours(path, missing_values=(0, 3)), [np.nan, 255])


def test_coordinates_have_fills_too(tmp_path):
    fill = DEFAULT["f8"]
    stored = xr.Dataset(
        {"v": (("time", "y", "x"), np.zeros((2, 2, 2)), {"coordinates": "lat lon"})},
        {
            "time": ("time", [0.0, fill], {"units": "days since 2000-01-01"}),
            "lat": (("y", "x"), [[1.0, fill], [3, 4]]),
            "lon": (("y", "x"), [[1.0, 2], [-1, 4]], {"missing_value": -1}),
        },
    )
    plain = {"lat": {"_FillValue": None}, "lon": {"_FillValue": None}}
    stored.isel(time=[0]).to_netcdf(tmp_path / "a.nc", encoding=plain)
    field = open_field(tmp_path / "a.nc")
    np.testing.assert_array_equal(field.lat, [[1, np.nan], [3, 4]])
    np.testing.assert_array_equal(field.lon, [[1, 2], [np.nan, 4]])
    stored.to_netcdf(tmp_path / "b.nc", encoding={"time": {"_FillValue": None}})
    with pytest.raises(InputError, match=r"every time of b.nc must be known, got none at number 2"):
        open_field(tmp_path / "b.nc")


def test_whole_coordinates_keep_their_type(tmp_path):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as data:
        for name, kind in (("time", "i4"), ("x", "i2")):
            data.createDimension(name, 3)
            data.createVariable(name, kind, (name,))[:] = [1, 2, 3]
        data.createVariable("v", "f4", ("time", "x"))[:] = 1
    field = open_field(tmp_path / "a.nc")
    assert (field.time.dtype, field.x.dtype) == (np.int32, np.int16)


def rain(path, time: int = 0, **attrs: Any):
    """A store of zarr format 2 as the zarr library writes it, with its own fill value, 0."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    values = np.asarray([0, 1, 0, 2], "f4")
    dims = {"_ARRAY_DIMENSIONS": ["time"]}
    for name, each, more in (
        ("rain", values, attrs),
        ("time", time + np.arange(4), {"units": "hours since 2020-01-01"}),
    ):
        array = group.create_array(name, shape=(4,), chunks=(2,), dtype=each.dtype)
        array.attrs.update({**dims, **more})
        array[:] = each
    return path


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_a_zero_that_zarr_fills_in_is_a_value(tmp_path):
    path = rain(tmp_path / "a.zarr")
    np.testing.assert_array_equal(ours(path), [0, 1, 0, 2])
    assert open_field(path).time.values[0] == np.datetime64("2020-01-01")
    assert "A 0 of rain is a value" in open_field(path).attrs["notes"][0]
    np.testing.assert_array_equal(ours(path, missing_values=(0,)), [np.nan, 1, np.nan, 2])
    for more in ({"_FillValue": 0.0}, {"missing_value": 0}, {"missing_value": "0"}):
        path = rain(tmp_path / "b.zarr", 0, **more)
        np.testing.assert_array_equal(ours(path), [np.nan, 1, np.nan, 2])


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "encoding",
    [
        {"_FillValue": 0, "dtype": "u1"},
        {"_FillValue": 0.0},
        {"_FillValue": -9.0},
        {"_FillValue": 0, "dtype": "i2", "scale_factor": 0.5, "add_offset": 1.0},
    ],
)
@pytest.mark.parametrize("times", [True, False])
def test_stores_of_xarray_keep_their_fill_values(
    tmp_path, zarr_format: Any, encoding: dict[str, Any], times
):
    if not times and zarr_format == 2 and encoding["_FillValue"] == 0:
        encoding = encoding | {"scale_factor": 1.0}  # Else nothing tells who wrote it.
    data = xr.Dataset({"v": ("time", [3.0, np.nan, 4])})
    data = data.assign_coords(time=[0, 1, 2]) if times else data
    path = tmp_path / "a.zarr"
    data.to_zarr(path, encoding={"v": encoding}, zarr_format=zarr_format, consolidated=False)
    np.testing.assert_array_equal(ours(path), [3, np.nan, 4])


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path, zarr_format):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=zarr_format)
    names = {} if zarr_format == 2 else {"dimension_names": ["time"]}
    array = group.create_array("v", shape=(4,), chunks=(2,), dtype="f4", fill_value=np.nan, **names)
    array.attrs["_ARRAY_DIMENSIONS"] = ["time"]
    array[:2] = [0, 1]
    np.testing.assert_array_equal(ours(tmp_path / "a.zarr"), [0, 1, np.nan, np.nan])


def test_packed_values_are_decoded_where_they_are_read(tmp_path):
    stored = np.arange(24).reshape(4, 6)
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as data:
        data.createDimension("time", 4)
        data.createDimension("x", 6)
        variable = data.createVariable("v", "i2", ("time", "x"), fill_value=7)
        variable.set_auto_maskandscale(False)
        variable.scale_factor = 0.5
        variable[:] = stored
    field, expected = open_field(tmp_path / "a.nc"), np.where(stored == 7, np.nan, 0.5 * stored)
    np.testing.assert_array_equal(field[:, :, 0], expected)
    np.testing.assert_array_equal(field[1:3, [0, 1, 4], 0], expected[1:3, [0, 1, 4]])
    np.testing.assert_array_equal(field[[3, 1], ::-2, 0], expected[[3, 1], ::-2])
