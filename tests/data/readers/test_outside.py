"""A netCDF file whose values lie in other files is refused, before these are read."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from stpatch_jax.data.readers import open_field
from stpatch_jax.errors import InputError

netcdf = pytest.importorskip("netCDF4")


class Hdf5:
    """The HDF5 of netCDF4, which itself makes no such files."""

    def __init__(self, path):
        self.library = ctypes.PyDLL(netcdf._netCDF4.__file__)
        self.library.H5open()
        self.file = self("H5Fopen", str(path).encode(), ctypes.c_uint(1), 0)

    def __call__(self, name, *given):
        function = getattr(self.library, name)
        function.restype = ctypes.c_int64
        plain = (one if not isinstance(one, int) else ctypes.c_int64(one) for one in given)
        answer = function(*plain)
        assert ctypes.c_int32(answer).value >= 0, name
        return answer

    def constant(self, name):
        return ctypes.c_int64.in_dll(self.library, name).value

    def dataset(self, name, prepare):
        space = self("H5Screate_simple", 1, (ctypes.c_uint64 * 1)(12), None)
        made = self("H5Pcreate", self.constant("H5P_CLS_DATASET_CREATE_ID_g"))
        prepare(made, space)
        kind = self.constant("H5T_NATIVE_FLOAT_g")
        self("H5Dclose", self("H5Dcreate2", self.file, name, kind, space, 0, made, 0))

    def close(self):
        self("H5Fclose", self.file)


def write(path, name="x"):
    with netcdf.Dataset(path, "w") as data:
        data.createDimension("time", 12)
        data.createVariable("time", "f8", ("time",))[:] = np.arange(12)
        data.createVariable(name, "f4", ("time",))[:] = np.arange(12)
        data.createGroup("inside")
    return path


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").write_bytes(np.arange(12, dtype="f4").tobytes())
    return str(tmp_path / "raw").encode()


@pytest.mark.parametrize("place", [b"y", b"inside/y"])
@pytest.mark.parametrize("kind", ["raw", "virtual", "link"])
def test_values_of_other_files_are_refused(tmp_path, raw, kind, place):
    path, other = write(tmp_path / "a.nc"), str(write(tmp_path / "other.nc", "secret")).encode()
    library = Hdf5(path)
    if kind == "link":
        library("H5Lcreate_external", other, b"/secret", library.file, place, 0, 0)
    elif kind == "raw":
        size = ctypes.c_uint64(48)
        library.dataset(place, lambda made, _: library("H5Pset_external", made, raw, 0, size))
    else:
        library.dataset(
            place,
            lambda made, space: library("H5Pset_virtual", made, space, other, b"/secret", space),
        )
    library.close()
    with pytest.raises(InputError, match=r"must hold all of its values, got .* in (inside/)?y"):
        open_field(path)
    with pytest.raises(InputError, match="must hold all of its values"):
        open_field(path, variables=["x"])


def test_links_inside_of_a_file_are_its_own(tmp_path):
    path = write(tmp_path / "a.nc")
    library = Hdf5(path)
    library("H5Lcreate_hard", library.file, b"x", library.file, b"inside/hard", 0, 0)
    library("H5Lcreate_soft", b"/x", library.file, b"inside/soft", 0, 0)
    library.close()
    assert open_field(path).values.ravel().tolist() == list(range(12))


def test_a_block_before_the_file_hides_nothing(tmp_path, raw):
    path = write(tmp_path / "a.nc")
    library = Hdf5(path)
    size = ctypes.c_uint64(48)
    library.dataset(b"y", lambda made, _: library("H5Pset_external", made, raw, 0, size))
    library.close()
    path.write_bytes(bytes(512) + path.read_bytes())
    with pytest.raises(InputError, match="must"):
        open_field(path, format="netcdf")


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_DATA", "NETCDF4_CLASSIC"])
def test_other_forms_pass(tmp_path, form):
    with netcdf.Dataset(tmp_path / "a.nc", "w", format=form) as data:
        data.createDimension("time", 3)
        data.createVariable("time", "f8", ("time",))[:] = np.arange(3)
        data.createVariable("x", "f4", ("time",))[:] = np.arange(3)
    assert open_field(tmp_path / "a.nc").shape == (3, 1)


_MANY_AT_ONCE = """
import sys, threading
from stpatch_jax.data import open_field
from stpatch_jax.data.readers.outside import check_alone
first, *others = sys.argv[1:]
field, left = open_field(first), threading.Event()

def read():
    while not left.is_set():
        for row in range(40):
            field[row : row + 10].to_numpy()

readers = [threading.Thread(target=read) for _ in range(2)]
[reader.start() for reader in readers]
for _ in range(500):
    for other in others:
        check_alone(other)
left.set()
[reader.join() for reader in readers]
"""


@pytest.mark.slow
def test_files_are_looked_into_while_others_are_read(tmp_path):
    values = np.random.default_rng(0).normal(size=(50, 20, 20)).astype("f4")
    for name in ("a", "b", "c"):
        one = xr.Dataset({"t": (("time", "y", "x"), values)}, {"time": np.arange(50)})
        one["time"].attrs["units"] = "hours since 2020-01-01"
        packed = {"t": {"zlib": True, "chunksizes": (1, 20, 20)}}
        one.to_netcdf(tmp_path / f"{name}.nc", engine="netcdf4", encoding=packed)
    files = [str(tmp_path / f"{name}.nc") for name in ("a", "b", "c")]
    # In a process of its own: what goes wrong there is a crash of HDF5.
    done = subprocess.run(
        [sys.executable, "-c", _MANY_AT_ONCE, *files],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
