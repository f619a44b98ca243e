"""How a format is told, and what every reader refuses alike."""

import sys
from typing import Any

import numpy as np
import pytest

from stpatch_jax.data import open_field
from stpatch_jax.data.readers import require_library
from stpatch_jax.errors import InputError

TABLE = "time,A\n2020-01-01,1\n2020-01-02,2\n"


@pytest.mark.parametrize(
    "name", ["none.nc", "none.zarr", "none.grib", "none.npz", "none.csv", "none.mp4", "none"]
)
def test_a_missing_file_is_told(tmp_path, name):
    with pytest.raises(InputError, match=f"there must be a file at .*{name}, got none"):
        open_field(tmp_path / name)


def test_what_is_in_memory_is_no_file():
    array: Any = np.zeros((3, 1))
    with pytest.raises(InputError, match="a path or URL, got ndarray; what is in memory goes to"):
        open_field(array)


def test_a_format_may_be_given(tmp_path):
    (tmp_path / "table.csv").write_text(TABLE)
    field = open_field(tmp_path / "table.csv", format="table")
    np.testing.assert_array_equal(field.values.ravel(), [1, 2])
    with pytest.raises(InputError, match=r"format must be one of netcdf, zarr,.*got 'text'"):
        open_field(tmp_path / "table.csv", format="text")


def test_a_format_that_its_name_does_not_tell_is_refused(tmp_path):
    (tmp_path / "notes.doc").write_text("words")
    with pytest.raises(InputError, match=r"ends with none of .nc, .*; say with format= which"):
        open_field(tmp_path / "notes.doc")
    with pytest.raises(InputError, match=r"folder .* must hold netCDF files .*, got notes\.doc"):
        open_field(tmp_path)


def test_options_are_those_of_the_reader(tmp_path):
    (tmp_path / "table.csv").write_text(TABLE)
    with pytest.raises(InputError, match=r"options for table must be among .*, got dims"):
        open_field(tmp_path / "table.csv", dims=("time",))
    with pytest.raises(InputError, match="events must be counted over a period, got none; give"):
        open_field(tmp_path / "table.csv", format="events")


def test_a_library_that_is_missing_tells_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cfgrib", None)
    (tmp_path / "field.grib2").write_bytes(b"GRIB")
    with pytest.raises(
        InputError, match=r"cfgrib must be installed for reading grib, got .*'cfgrib'"
    ):
        open_field(tmp_path / "field.grib2")
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"for reading video, got .* 'stpatch_jax\[video\]'"):
        open_field(tmp_path / "clip.mp4")
    assert require_library("json", purpose="this", install="json").loads("[1]") == [1]


def test_a_volume_without_time_is_told_as_such(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match="got a NIfTI volume; give it to classify or segment"):
        open_field(tmp_path / "a.nii.gz")


def test_damaged_grib_is_refused(tmp_path):
    pytest.importorskip("cfgrib")
    (tmp_path / "field.grib2").write_bytes(b"no grib")
    with pytest.raises(InputError, match="must be a readable grib file"):
        open_field(tmp_path / "field.grib2")


def test_grib_messages_become_a_field(tmp_path):
    pytest.importorskip("cfgrib")
    eccodes = pytest.importorskip("eccodes")
    frames = np.random.default_rng(0).normal(280, 2, (3, 5, 4)).astype(np.float32)
    grid = {
        "Ni": 4,
        "Nj": 5,
        "latitudeOfFirstGridPointInDegrees": 52.0,
        "latitudeOfLastGridPointInDegrees": 50.0,
        "longitudeOfFirstGridPointInDegrees": 0.0,
        "longitudeOfLastGridPointInDegrees": 1.5,
        "iDirectionIncrementInDegrees": 0.5,
        "jDirectionIncrementInDegrees": 0.5,
    }
    with (tmp_path / "field.grib2").open("wb") as file:
        for hour, frame in enumerate(frames):
            message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
            stamp = {"dataDate": 20240101, "dataTime": 100 * hour, "bitsPerValue": 24}
            for name, value in {"shortName": "2t", **grid, **stamp}.items():
                eccodes.codes_set(message, name, value)
            eccodes.codes_set_values(message, frame.ravel().astype(float))
            eccodes.codes_write(message, file)
            eccodes.codes_release(message)
    field = open_field(tmp_path / "field.grib2")
    assert field.dims == ("time", "latitude", "longitude", "channel")
    np.testing.assert_allclose(field.values[..., 0], frames, rtol=1e-6)
    assert str(field.time.values[2]) == "2024-01-01T02:00:00.000000000"
    assert field.latitude.values.tolist() == [52.0, 51.5, 51.0, 50.5, 50.0]
    assert field.units.values.tolist() == ["K"]
