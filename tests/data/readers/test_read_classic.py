"""Classic netCDF files that end early are refused; a whole one never is."""

import hypothesis.strategies as some
import numpy as np
import pytest
from hypothesis import given
from strategies import examples

from stpatch_jax.data import open_field
from stpatch_jax.data.readers.classic import check_length
from stpatch_jax.errors import InputError

netCDF4 = pytest.importorskip("netCDF4")
FORMATS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]


def write(path, kinds, *, format, rows, unlimited):
    with netCDF4.Dataset(path, "w", format=format) as data:
        data.createDimension("time", None if unlimited else rows)
        data.createDimension("x", 3)
        data.history = "made"
        for at, kind in enumerate(kinds):
            dims = (("time",), ("time", "x"), ("x",))[at % 3]
            variable = data.createVariable(f"{'v' * (at + 1)}", kind, dims)
            variable.units = "K" * (at + 1)
            variable[:] = np.ones([len(data.dimensions[dim]) or rows for dim in dims])


@pytest.mark.parametrize("format", FORMATS)
@given(
    kinds=some.lists(some.sampled_from(["i1", "i2", "i4", "f4", "f8"]), min_size=1, max_size=5),
    rows=some.integers(1, 9),
    unlimited=some.booleans(),
)
@examples(15, 300)
def test_a_file_is_as_long_as_its_header_says(tmp_path_factory, format, kinds, rows, unlimited):
    path = tmp_path_factory.mktemp("classic") / "a.nc"
    write(path, kinds, format=format, rows=rows, unlimited=unlimited)
    check_length(path)
    content = path.read_bytes()
    # The last value may be padded to four bytes, which hold nothing.
    path.write_bytes(content[:-4])
    with pytest.raises(InputError, match=r"netCDF file.* got "):
        check_length(path)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("unlimited", [True, False])
def test_a_download_that_was_cut_is_refused(tmp_path, format, unlimited):
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w", format=format) as data:
        data.createDimension("time", None if unlimited else 100)
        data.createDimension("x", 10)
        time = data.createVariable("time", "f8", ("time",))
        time.units, time[:] = "hours since 2020-01-01", np.arange(100)
        data.createVariable("v", "f4", ("time", "x"))[:] = np.ones((100, 10))
    assert (open_field(path).values == 1).all()
    content = path.read_bytes()
    for share in (0.3, 0.7, 0.95, 0.999):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(InputError, match=r"a whole netCDF file of .* got its first"):
            open_field(path)


def test_other_files_are_left_to_their_readers(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"\x89HDF\r\n\x1a\n")
    check_length(tmp_path / "a.nc")
    check_length(tmp_path)
    (tmp_path / "a.nc").write_bytes(b"CDF\1\0\0")
    with pytest.raises(InputError, match="a header that ends early"):
        check_length(tmp_path / "a.nc")
