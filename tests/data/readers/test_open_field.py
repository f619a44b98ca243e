"""How a format is told, and what every reader refuses alike."""

import sys

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
    with pytest.raises(InputError, match=f"there must be a file at .*{name}, but none is"):
        open_field(tmp_path / name)


def test_a_format_may_be_given(tmp_path):
    (tmp_path / "table.csv").write_text(TABLE)
    field = open_field(tmp_path / "table.csv", format="table")
    np.testing.assert_array_equal(field.values.ravel(), [1, 2])
    with pytest.raises(InputError, match=r"format must be one of netcdf, zarr,.*got 'text'"):
        open_field(tmp_path / "table.csv", format="text")


def test_a_format_that_its_name_does_not_tell_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("words")
    for path in (tmp_path / "notes.txt", tmp_path):
        with pytest.raises(InputError, match=r"ends with none of .nc, .*; give format=, or read"):
            open_field(path)


def test_options_are_those_of_the_reader(tmp_path):
    (tmp_path / "table.csv").write_text(TABLE)
    with pytest.raises(InputError, match=r"options for table must be among .*, got dims"):
        open_field(tmp_path / "table.csv", dims=("time",))
    with pytest.raises(InputError, match="events must be counted over a period, got none; give"):
        open_field(tmp_path / "table.csv", format="events")


def test_a_library_that_is_missing_tells_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cfgrib", None)
    (tmp_path / "field.grib2").write_bytes(b"GRIB")
    with pytest.raises(InputError, match=r"reading grib needs the library cfgrib.*'cfgrib'"):
        open_field(tmp_path / "field.grib2")
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"reading video needs .* 'stpatch_jax\[video\]'"):
        open_field(tmp_path / "clip.mp4")
    assert require_library("json", purpose="this", install="json").loads("[1]") == [1]


def test_damaged_grib_is_refused(tmp_path):
    pytest.importorskip("cfgrib")
    (tmp_path / "field.grib2").write_bytes(b"no grib")
    with pytest.raises(InputError, match="must be a readable grib file"):
        open_field(tmp_path / "field.grib2")
