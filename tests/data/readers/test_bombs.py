"""Small files that ask for much memory: refused by what they declare, before any of it is taken."""

import gzip
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from stpatch_jax.data import FieldConfig, open_field
from stpatch_jax.data.readers import load_array, read_folder, read_labelled_table, read_lines
from stpatch_jax.data.readers.items import read_series
from stpatch_jax.data.sizes import limited
from stpatch_jax.errors import InputError

MOST = 2**22
TOLD = r"must take at most [\d,]+ bytes of memory, got [\d,]+; .* most_bytes="


def gzipped(path, line, count, *, head=b""):
    with gzip.GzipFile(path, "wb", compresslevel=6) as packed:
        packed.write(head)
        block = line * max(1, 2**20 // len(line))
        for _ in range(max(1, count * len(line) // len(block))):
            packed.write(block)
    return path


def zeros(path, shape):
    """An `.npz` file whose array of zeros is packed well."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("value.npy", "w") as entry,
    ):
        head = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(entry, head)
        for _ in range(int(np.prod(shape)) * 8 // 2**20):
            entry.write(bytes(2**20))
    return path


def long_header(path):
    """An `.npz` file whose header claims to be 64 MiB long, and is."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("value.npy", "w") as entry,
    ):
        entry.write(b"\x93NUMPY\x02\x00" + (2**26).to_bytes(4, "little"))
        for _ in range(64):
            entry.write(b" " * 2**20)
    return path


def refused(read, path, *, told=TOLD, most=2**18, **options):
    """Asserts that a file is small, and refused before memory is taken."""
    assert path.is_dir() or path.stat().st_size < most
    tracemalloc.start()
    try:
        with limited(MOST), pytest.raises(InputError, match=told) as error:
            read(path, **options)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert taken < 4 * MOST, f"{taken:,} bytes were taken"


@pytest.mark.parametrize("suffix", [".csv.gz", ".tsv.gz", ".txt.gz", ".csv"])
@pytest.mark.parametrize("line", [b"2024-01-01,0,0\n", b"0,", b"x"], ids=["rows", "cells", "sign"])
def test_text_is_counted_while_it_is_unpacked(tmp_path, suffix, line):
    refused(open_field, gzipped(tmp_path / f"a{suffix}", line, 2**25 // len(line)))


def test_every_reader_of_text_counts(tmp_path):
    bomb = gzipped(tmp_path / "a.txt", b"good film\n", 2**21)
    for read in (read_lines, read_series, read_labelled_table):
        refused(read, bomb)
    refused(open_field, bomb, format="events", period="1D")


def test_a_line_without_an_end_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("date," + ",".join(f"a{at}" for at in range(40000)))
    refused(open_field, tmp_path / "a.csv", told=r"at most 131,072 signs each, got", most=2**20)
    (tmp_path / "b.csv").write_text("date,a\n2024-01-01,1\n" + "2" * 2**20)
    refused(open_field, tmp_path / "b.csv", told=r"at most 131,072 signs each, got", most=2**23)


def test_numbers_of_a_table_take_more_than_its_text(tmp_path):
    rows = ",".join(["date", *(f"a{at}" for at in range(200))]) + "\n" + ("," * 200 + "\n") * 5000
    (tmp_path / "a.csv").write_text(rows)
    refused(open_field, tmp_path / "a.csv", told=f"the table of 201 columns .*{TOLD}", most=2**23)


def test_a_long_table_has_a_cell_for_every_time_and_series(tmp_path):
    rows = "".join(f"{1900 + at // 12}-{at % 12 + 1:02}-01,s{at},1\n" for at in range(1500))
    (tmp_path / "a.csv").write_text(f"date,store,load\n{rows}")
    refused(
        open_field, tmp_path / "a.csv", told=f"the table of 1,500 times and 1,500 series .*{TOLD}"
    )


def test_one_long_name_takes_no_room_in_every_row(tmp_path):
    rows = "".join(f"2024-01-01T{at // 60:02}:{at % 60:02},s{at % 9},1\n" for at in range(900))
    long = "n" * 500_000
    (tmp_path / "a.csv").write_text(f"date,store,load\n{rows}2024-01-01T20:00,{long},2\n")
    refused(open_field, tmp_path / "a.csv", told=f"the names of a.csv {TOLD}", most=2**20)
    (tmp_path / "a.tsv").write_text("label\ttext\n" + "1\tgood\n" * 900 + f"0\t{long}\n")
    with limited(MOST):
        assert len(read_labelled_table(tmp_path / "a.tsv")) == 901


def test_periods_of_events_are_counted_before_they_are_made(tmp_path):
    (tmp_path / "a.csv").write_text("customer,date,amount\na,2020-01-01,1\nb,2024-01-01,2\n")
    refused(
        open_field,
        tmp_path / "a.csv",
        told=f"the periods of 1s from .*{TOLD}",
        format="events",
        period="1s",
    )
    names = "".join(f"c{at},2024-01-0{1 + at % 9},1\n" for at in range(2000))
    (tmp_path / "b.csv").write_text(f"customer,date,amount\n{names}")
    refused(
        open_field,
        tmp_path / "b.csv",
        told=f"the counts of b.csv in .*{TOLD}",
        format="events",
        period="1min",
    )


def test_arrays_are_read_where_their_headers_allow_it(tmp_path):
    bomb = zeros(tmp_path / "a.npz", (2**18, 16))
    refused(open_field, bomb, dims=("time", "x"))
    refused(load_array, bomb, name="value")
    refused(open_field, long_header(tmp_path / "b.npz"), told="must be a readable .npz")
    empty = zeros(tmp_path / "c.npz", (0, 10**12))
    refused(open_field, empty, dims=("time", "x"))


def test_an_array_is_mapped_whatever_its_size_but_copied_within_the_limit(tmp_path):
    # A file with a hole takes no room on a disk.
    with (tmp_path / "a.npy").open("wb") as file:
        head = {"descr": "<f8", "fortran_order": False, "shape": (2**16, 2**10)}
        np.lib.format.write_array_header_1_0(file, head)
        file.truncate(file.tell() + 2**29)
    with limited(MOST):
        field = open_field(tmp_path / "a.npy", dims=("time", "x"))
    assert field.shape == (2**16, 2**10, 1)


def test_items_of_a_folder_are_within_the_limit_wherever_they_are_read(tmp_path):
    for name in "ab":
        (tmp_path / "root" / name).mkdir(parents=True)
        zeros(tmp_path / "root" / name / "0.npz", (2, 2**18, 2))
    with limited(MOST):
        items = read_folder(tmp_path / "root")
    with pytest.raises(InputError, match=TOLD):  # As a thread that knows no limit.
        items[0]


def test_a_window_is_within_the_limit_and_a_store_need_not_be(tmp_path):
    zarr = pytest.importorskip("zarr")
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array(
        "t2m",
        shape=(1000, 2**16, 2**10),
        chunks=(1, 2**8, 2**10),
        dtype="f4",
        dimension_names=("time", "lat", "lon"),
    )
    with limited(MOST):
        field = open_field(tmp_path / "a.zarr")
        assert field[:2, :100].values.shape == (2, 100, 2**10, 1)
    with pytest.raises(InputError, match=f"what is read at once of values .*{TOLD}"):
        field[0].load()


@pytest.mark.parametrize(
    ("shape", "chunks", "told"),
    [
        ((10**12, 4), (1, 4), "the axes of a.zarr"),
        ((1000, 2**16), (1000, 2**15), "a chunk of t2m in a.zarr"),
    ],
    ids=["axis", "chunk"],
)
def test_what_a_store_declares_is_compared_when_it_is_opened(tmp_path, shape, chunks, told):
    zarr = pytest.importorskip("zarr")
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array("t2m", shape=shape, chunks=chunks, dtype="f4", dimension_names=("time", "x"))
    refused(open_field, tmp_path / "a.zarr", told=f"{told} {TOLD}")


def test_what_a_netcdf_file_declares_is_compared_when_it_is_opened(tmp_path):
    netcdf = pytest.importorskip("netCDF4")
    for name, chunks in (("axis", (1, 4)), ("chunk", (2**18, 4)), ("coord", (1, 4))):
        with netcdf.Dataset(tmp_path / f"{name}.nc", "w") as file:
            file.createDimension("time", 2**30 if name != "chunk" else 2**18)
            file.createDimension("x", 4)
            file.createVariable("t2m", "f8", ("time", "x"), zlib=True, chunksizes=chunks)
            if name == "coord":
                file.createVariable("time", "f8", ("time",), zlib=True, chunksizes=(2**10,))
    for name, told in (("axis", "the axes"), ("chunk", "a chunk of t2m"), ("coord", "the axes")):
        refused(open_field, tmp_path / f"{name}.nc", told=f"{told} .*{TOLD}")


@pytest.mark.parametrize("kind", ["float", "text", "folder"])
def test_rows_of_a_parquet_table_that_repeat_are_stored_once(tmp_path, kind):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    count = 2**11 if kind == "text" else 2**19
    word = pa.array(["n" * 10000] * count if kind == "text" else np.zeros(count))
    table = pa.table({"a": word, "b": np.zeros(count)})
    if kind == "folder":
        path.mkdir()
        pq.write_table(table, path / "0.parquet")
    else:
        pq.write_table(table, path)
    del table, word
    refused(open_field, path, told=TOLD)


@pytest.mark.parametrize("place", ["container", "frame"])
def test_a_frame_of_a_video_is_within_the_limit(tmp_path, place):
    av = pytest.importorskip("av")
    path = tmp_path / "a.avi"
    side = 64 if place == "container" else 2048
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1" if place == "container" else "mjpeg", rate=1)
        stream.width, stream.height = side, side
        stream.pix_fmt = "yuv420p" if place == "container" else "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode()]:
            file.mux(packet)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"strf") + 12
    raw[at : at + 8] = struct.pack("<ii", *((16000, 16000) if place == "container" else (64, 64)))
    path.write_bytes(raw)
    refused(open_field, path, told=f"a frame of the video .*{TOLD}|must be a readable video")


def test_frames_read_at_once_are_within_the_limit(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((256, 256, 3), np.uint8), format="rgb24")
        for _ in range(40):
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with limited(MOST):
        video = open_field(path)
    assert video[:4].values.shape == (4, 256, 256, 3)
    refused(lambda _: video.load(), path, told=f"what is read at once of values .*{TOLD}")


def test_the_limit_is_an_argument_and_a_setting(tmp_path):
    (tmp_path / "a.csv").write_text("date,a\n2024-01-01,1\n2024-01-02,2\n")
    with pytest.raises(InputError, match=r"a\.csv must take at most 20 bytes"):
        open_field(tmp_path / "a.csv", most_bytes=20)
    with pytest.raises(InputError, match=r"a\.csv must take at most 20 bytes"):
        FieldConfig(str(tmp_path / "a.csv"), most_bytes=20, context=1, horizon=1).load()
    assert open_field(tmp_path / "a.csv", most_bytes=2**20).sizes["time"] == 2
