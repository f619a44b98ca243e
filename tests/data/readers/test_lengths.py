"""Classic netCDF files that end early are refused; a whole one never is."""

import hypothesis.strategies as some
import numpy as np
import pytest
from hypothesis import given
from strategies import examples

from stpatch_jax.data import open_field
from stpatch_jax.data.readers.lengths import check_length
from stpatch_jax.data.sizes import limited
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
    check_length(path, "netcdf")
    content = path.read_bytes()
    # The last value may be padded to four bytes, which hold nothing.
    path.write_bytes(content[:-4])
    with pytest.raises(InputError, match=r"netcdf file.* got "):
        check_length(path, "netcdf")


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
        with pytest.raises(InputError, match=r"a whole netcdf file of .* got its first"):
            open_field(path)


def test_other_files_are_left_to_their_readers(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"\x89HDF\r\n\x1a\n")
    check_length(tmp_path / "a.nc", "netcdf")
    check_length(tmp_path, "netcdf")
    (tmp_path / "a.nc").write_bytes(b"CDF\1\0\0")
    with pytest.raises(InputError, match="a header that ends early"):
        check_length(tmp_path / "a.nc", "netcdf")


def message(edition, *sizes):
    """A message of GRIB of sections of some sizes, whose contents are nothing."""
    sections = b"".join(n.to_bytes(4, "big") + bytes([at]) + bytes(n - 5) for at, n in sizes)
    size = len(sections) + (20 if edition == 2 else 12)
    length = bytes(2) + b"\0\2" + size.to_bytes(8, "big")
    if edition == 1:
        length = size.to_bytes(3, "big") + b"\1"
    return b"GRIB" + length + sections + b"7777"


@pytest.mark.parametrize("edition", [1, 2])
def test_messages_that_are_cut_or_broken_are_refused(tmp_path, edition):
    path = tmp_path / "a.grib"
    whole = b"WMO header\n" + 3 * (message(edition, (1, 21), (3, 72)) + b"\r\n")
    path.write_bytes(whole)
    check_length(path, "grib")
    for cut in (5, 30, 60):
        path.write_bytes(whole[:-cut])
        with pytest.raises(InputError, match=r"a whole grib file of .* got its first"):
            check_length(path, "grib")
    if edition == 2:
        points = message(2, (1, 21), (3, 72)).replace(b"\3" + bytes(5), b"\3\0" + b"\xff" * 4)
        path.write_bytes(points)
        with (
            limited(2**30),
            pytest.raises(InputError, match=r"at most 1,073,741,824 .* got 34,359"),
        ):
            check_length(path, "grib")
        for broken in (message(2, (1, 21), (9, 30)), message(2, (1, 21))[:-4] + b"7776"):
            path.write_bytes(broken)
            with pytest.raises(InputError, match=r"a readable grib file, got .*(section|message)"):
                check_length(path, "grib")
