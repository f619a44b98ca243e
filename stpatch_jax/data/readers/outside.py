"""HDF5 files whose values lie in other files, which HDF5 would read on the way."""

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK

from stpatch_jax.data.libraries import require_library
from stpatch_jax.errors import InputError, listed

_DATASET, _VIRTUAL, _LINK_OUTSIDE = 5, 3, 64  # H5I_DATASET, H5D_VIRTUAL, H5L_TYPE_EXTERNAL
_VISIT = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int64, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int), ctypes.c_void_p
)


@contextlib.contextmanager
def netcdf_alone() -> Iterator[None]:
    """Keeps other threads, which read through xarray, out of netCDF and HDF5.

    Neither is safe for threads: a file opened while another thread reads any is a crash.
    """
    with NETCDF4_PYTHON_LOCK:
        yield


def check_alone(path: str | Path) -> None:
    """Refuses a netCDF file in HDF5 with raw, virtual or linked values of other files.

    Whoever made it would choose which file of its reader is read. Other kinds of files pass, and
    all do where netCDF4 hides its HDF5, as on Windows.
    """
    file = Path(path)
    if file.is_file() and (outside := _outside(file)):
        raise InputError(
            f"{path} must hold all of its values, got some of other files in {listed(outside)}; "
            "copy it into one file, for example with h5repack or xarray"
        )


def _outside(file: Path) -> list[str]:
    """The names of what an HDF5 file takes from others."""
    netcdf = require_library("netCDF4", purpose="reading netcdf", install="stpatch_jax[netcdf]")
    library, found = ctypes.PyDLL(netcdf._netCDF4.__file__), []
    try:
        # It has a number for its version from 1.12 on.
        visit = getattr(library, "H5Lvisit2", None) or library.H5Lvisit
        opened = library.H5Fopen
    except AttributeError:
        return []
    for name in ("H5Fopen", "H5Oopen", "H5Dget_create_plist"):
        getattr(library, name).restype = ctypes.c_int64

    @_VISIT
    def look(group: int, name: bytes, kind: "ctypes._Pointer[ctypes.c_int]", _: object) -> int:
        if kind[0] == _LINK_OUTSIDE or (kind[0] == 0 and _lies_outside(library, group, name)):
            found.append(name.decode(errors="replace"))
        return 0

    with netcdf_alone():
        library.H5open()
        library.H5Eset_auto2(ctypes.c_int64(0), None, None)
        number = opened(str(file).encode(), ctypes.c_uint(0), ctypes.c_int64(0))
        if number >= 0:
            visit(ctypes.c_int64(number), 0, 0, look, None)
            library.H5Fclose(ctypes.c_int64(number))
    return found


def _lies_outside(library: ctypes.PyDLL, group: int, name: bytes) -> bool:
    thing = ctypes.c_int64(library.H5Oopen(ctypes.c_int64(group), name, ctypes.c_int64(0)))
    if thing.value < 0:
        return False
    outside = False
    if library.H5Iget_type(thing) == _DATASET:
        made = ctypes.c_int64(library.H5Dget_create_plist(thing))
        outside = library.H5Pget_layout(made) == _VIRTUAL or library.H5Pget_external_count(made) > 0
        library.H5Pclose(made)
    library.H5Oclose(thing)
    return outside
