"""Small files of every kind, damaged and read: `python mutated_files.py`, a JSON request a line.

A process that has imported everything forks one a request, `[KIND, FIRST, END, FOLDER]`, which
prints one line of JSON for each file: its number, whether a value came or it was refused, and what
was said. A file that takes longer than `SECONDS` ends it with a traceback in `FOLDER.stderr`. The
line behind them is how it ended.
"""

import contextlib
import faulthandler
import json
import os
import random
import resource
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from mutating import mutate_folder, mutated_bytes, mutated_text, mutated_zip

from stpatch_jax.data import open_field
from stpatch_jax.data.labelled.found import Names, read_found
from stpatch_jax.data.readers import (
    read_folder,
    read_labelled_lines,
    read_lines,
)
from stpatch_jax.data.readers.items import read_series
from stpatch_jax.errors import InputError

SECONDS = 10
# What a process may take beyond what its libraries hold, and what of a field is asked at once.
MEMORY, ASKED = 2**30, 2**25


def write_netcdf(path: Path, dice: random.Random, *, format: Any) -> None:
    """A small grid; half of them have an attribute that says something odd."""
    import netCDF4

    with netCDF4.Dataset(path, "w", format=format) as data:
        data.createDimension("time", None if dice.random() < 0.5 else 24)
        data.createDimension("lat", 4)
        data.createDimension("lon", 5)
        data.createDimension("bnds", 2)
        kind = dice.choice(("f8", "f4", "i4"))
        time = data.createVariable("time", kind, ("time",))
        time.units = dice.choice(("hours since 2021-03-01", "days since 1850-01-01"))
        time.calendar = dice.choice(("standard", "noleap", "360_day"))
        time.bounds = "time_bnds"
        time[:] = np.arange(24)
        data.createVariable("time_bnds", "f8", ("time", "bnds"))[:] = np.zeros((24, 2))
        for name, unit, values in (
            ("lat", "degrees_north", np.linspace(60, 50, 4)),
            ("lon", "degrees_east", np.linspace(-5, 5, 5)),
        ):
            axis = data.createVariable(name, "f4", (name,))
            axis.units, axis[:] = unit, values
        values = np.linspace(270, 290, 480).reshape(24, 4, 5)
        zlib = format == "NETCDF4" and dice.random() < 0.5
        packed = data.createVariable("t2m", "i2", ("time", "lat", "lon"), zlib=zlib)
        packed.scale_factor, packed.add_offset, packed.units = 0.01, 280.0, "K"
        packed.grid_mapping = "crs"
        packed[:] = values
        wind = data.createVariable("wind", "f4", ("time", "lat", "lon"), fill_value=-999.0)
        wind.units, wind[:] = "m s-1", values - 280
        data.createVariable("crs", "i4").grid_mapping_name = "latitude_longitude"
        if dice.random() < 0.5:
            variable = data[dice.choice(list(data.variables))]
            name = dice.choice((*_ATTRIBUTES, *variable.ncattrs()))
            odd = dice.choice(_ODD_ATTRIBUTES)
            # What the library itself refuses to write.
            with contextlib.suppress(AttributeError, OSError):
                variable.setncattr(name, odd)


_ATTRIBUTES = (
    *("units", "calendar", "axis", "standard_name", "positive", "bounds", "coordinates"),
    *("grid_mapping", "scale_factor", "add_offset", "missing_value", "valid_range", "valid_min"),
    *("valid_max", "_Unsigned", "cell_methods", "flag_values", "ancillary_variables", "dtype"),
)
_ODD_ATTRIBUTES = (
    *("", "x", "nothing there", "time", "lat lon", "T", "X", "true", "360_day", "julian"),
    *("hours since", "hours since 2020-99-99", "months since 2000-01-01", "K", "\u00e9"),
    *("day as %Y%m%d.%f", 0, -1, 1e300, float("nan"), 255, "9.97e36"),
    *([1, 2, 3], [0.0, 1.0], ["a", "b"], np.int8(-1), np.float32(0), "since", "1 since 2 since 3"),
)


def write_zarr(path: Path, dice: random.Random, *, version: int) -> None:

    values = np.linspace(270, 290, 480, dtype=np.float32).reshape(24, 4, 5)
    data = xr.Dataset(
        {"t2m": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={
            "time": pd.date_range("2021-03-01", periods=24, freq="h"),
            "lat": np.linspace(60, 50, 4),
            "lon": np.linspace(-5, 5, 5),
        },
    )
    packed = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32768}
    encoding = {"t2m": packed} if dice.random() < 0.5 else {}
    data.to_zarr(
        path, mode="w", encoding=encoding, zarr_format=version, consolidated=dice.random() < 0.5
    )


def write_grib(path: Path, dice: random.Random) -> None:
    import xarray as xr
    from cfgrib.xarray_to_grib import (  # pyright: ignore[reportMissingImports]
        canonical_dataarray_to_grib,
    )

    coords = {
        "time": pd.date_range("2021-03-01", periods=6, freq="h").as_unit("ns"),
        "latitude": np.linspace(60, 50, 4),
        "longitude": np.linspace(0, 20, 5),
    }
    values = np.linspace(270, 290, 120, dtype=np.float32).reshape(6, 4, 5)
    names: dict[str, Any] = {"GRIB_shortName": "2t", "GRIB_typeOfLevel": "surface"}
    names["GRIB_edition"] = dice.choice((1, 2))
    with path.open("wb") as file:
        field = xr.DataArray(values, coords, tuple(coords), name="2t", attrs=names)
        canonical_dataarray_to_grib(field, file)


def _table(dice: random.Random, *, long: bool) -> pd.DataFrame:
    dates = pd.date_range("2021-01-01", periods=30, freq=dice.choice(("h", "D", "MS")))
    values = np.arange(30.0).round(3)
    if not long:
        return pd.DataFrame({"date": dates, "a": values, "b": -values})
    names = np.repeat(["x", "y"], 30)
    return pd.DataFrame({"store": names, "date": [*dates, *dates], "sales": [*values, *-values]})


def write_csv(path: Path, dice: random.Random) -> None:
    _table(dice, long=dice.random() < 0.5).to_csv(path, index=False)


def write_parquet(path: Path, dice: random.Random) -> None:
    table = _table(dice, long=dice.random() < 0.5)
    compression = dice.choice((None, "snappy", "zstd", "gzip"))
    table.to_parquet(path, index=False, compression=compression)


def write_events(path: Path, dice: random.Random) -> None:
    days = pd.date_range("2021-01-01", periods=40).strftime("%Y-%m-%d")
    customers = [f"c{number % 7}" for number in range(40)]
    amounts = [f"{number}.50" for number in range(40)]
    frame = pd.DataFrame({"customer": customers, "date": days, "amount": amounts})
    frame.to_csv(path, index=False)


def write_series(path: Path, dice: random.Random) -> None:
    rows = [[str(1 + at % 3), *(f"{at * 0.25 + k}" for k in range(8))] for at in range(20)]
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def write_lines(path: Path, dice: random.Random) -> None:
    words = ["bonne", "école", "voilà", "good", "naïf", "日本"]
    lines = [" ".join(words[(at + k) % 6] for k in range(4)) for at in range(30)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_npz(path: Path, dice: random.Random) -> None:
    values = np.linspace(0, 1, 240, dtype=dice.choice(("f4", "f8", "i2"))).reshape(20, 3, 4)
    time = np.datetime64("2021-01-01", "h") + np.arange(20)
    dice.choice((np.savez, np.savez_compressed))(path, field=values, time=time)


def write_npy(path: Path, dice: random.Random) -> None:
    np.save(path, np.linspace(0, 1, 240, dtype=dice.choice(("f4", "f8"))).reshape(20, 3, 4))


def write_labelled(path: Path, dice: random.Random) -> None:
    labels = (np.arange(12) % 3).astype(dice.choice(("i8", "u1", "f8")))
    images = np.arange(12 * 64, dtype="u2").astype("u1").reshape(12, 4, 4, 4)
    np.savez_compressed(path, train_images=images, train_labels=labels[:, None])


def write_video(path: Path, dice: random.Random) -> None:
    import av

    codec = dice.choice(("mpeg4", "libx264"))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        stream.codec_context.gop_size = 4
        stream.codec_context.max_b_frames = dice.choice((0, 2))
        for at in range(12):
            pixels = np.full((16, 32, 3), 20 * at, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def read_field(path: Path, **options: Any) -> None:
    """Opens a field and reads all of it, or the first time of one that claims to be large."""
    field = open_field(path, **options)
    assert field.dims[0] == "time"
    assert field.dims[-1] == "channel"
    for part in (field, field.isel(time=slice(1))):
        if part.nbytes <= ASKED:
            assert part.values.shape == part.shape
            break


def read_clips(path: Path) -> None:
    """Reads the clip as one of a class folder."""
    read_field(path)
    folder = path.with_suffix(".classes") / "a"
    folder.mkdir(parents=True)
    try:
        path.rename(folder / path.name)
        items = read_folder(folder.parent)
        assert np.asarray(items[0]).ndim == 4
    finally:
        shutil.rmtree(folder.parent)


def read_texts(path: Path) -> None:
    assert len(read_labelled_lines({"one": path})) == len(read_lines(path))


def read_archive(path: Path) -> None:
    assert read_series(path)[0].ndim == 3


def read_labelled(path: Path) -> None:
    found = read_found(str(path), Names(inputs=("train_images",), labels=("train_labels",)))
    assert len(found) == len(found.values)


read_array = partial(read_field, dims=("time", "y", "x"))
read_purchases = partial(read_field, format="events", period="7D")


class Kind(NamedTuple):
    """How files of a kind are written, damaged and read."""

    suffixes: tuple[str, ...]
    write: Callable[[Path, random.Random], None]
    mutate: Callable[..., bytes] | None
    read: Callable[[Path], None]


KINDS = {
    "npz": Kind((".npz",), write_npz, mutated_zip, read_array),
    "npy": Kind((".npy",), write_npy, mutated_bytes, read_array),
    "netcdf3": Kind(
        (".nc",), partial(write_netcdf, format="NETCDF3_CLASSIC"), mutated_bytes, read_field
    ),
    "netcdf4": Kind((".nc",), partial(write_netcdf, format="NETCDF4"), mutated_bytes, read_field),
    "zarr2": Kind((".zarr",), partial(write_zarr, version=2), None, read_field),
    "zarr3": Kind((".zarr",), partial(write_zarr, version=3), None, read_field),
    "grib": Kind((".grib",), write_grib, mutated_bytes, read_field),
    "csv": Kind((".csv",), write_csv, mutated_text, read_field),
    "parquet": Kind((".parquet",), write_parquet, mutated_bytes, read_field),
    "events": Kind((".csv",), write_events, mutated_text, read_purchases),
    "video": Kind((".mp4", ".mkv", ".avi"), write_video, mutated_bytes, read_clips),
    "series": Kind((".tsv",), write_series, mutated_text, read_archive),
    "lines": Kind((".txt",), write_lines, mutated_text, read_texts),
    "labelled": Kind((".npz",), write_labelled, mutated_zip, read_labelled),
}


def write_file(folder: Path, kind: str, number: int, *, sound: bool) -> Path:
    """Writes file `number` of a kind, always the same one, sound or damaged."""
    dice, what = random.Random(f"{kind} {number}"), KINDS[kind]
    path = folder / f"{number}{dice.choice(what.suffixes)}"
    what.write(path, dice)
    if sound:
        return path
    if what.mutate is None:
        mutate_folder(path, dice)
    else:
        path.write_bytes(what.mutate(path.read_bytes(), dice))
    return path


def outcome(kind: str, path: Path) -> tuple[str, str]:
    """Whether a file gave a value or was refused, and what was said of it."""
    try:
        KINDS[kind].read(path)
    except InputError as error:
        return "refused", str(error)
    except BaseException:
        return "failed", traceback.format_exc(limit=-8)
    return "value", ""


def read_all(kind: str, first: int, end: int, folder: str) -> None:
    warnings.simplefilter("ignore")
    # Libraries take most of their memory when they are first used.
    # What they read may stay open, so that it lies apart.
    (sound := Path(folder, "sound")).mkdir(exist_ok=True)
    KINDS[kind].read(write_file(sound, kind, 0, sound=True))
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    for number in range(first, end):
        path = write_file(Path(folder), kind, number, sound=False)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        what, said = outcome(kind, path)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps([number, what, said]), flush=True)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def main() -> None:
    threads = len([*Path("/proc/self/task").iterdir()])
    assert threads == 1, f"forking is sound in a process of one thread only, got {threads}"
    for line in sys.stdin:
        kind, first, end, folder = json.loads(line)
        pid = os.fork()
        if not pid:
            os.dup2(os.open(f"{folder}.stderr", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
            read_all(kind, first, end, folder)
            sys.exit()
        print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), flush=True)


if __name__ == "__main__":
    main()
