"""Zarr stores: only the chunks that are used are read; URLs; damage."""

import http.server
import threading
from functools import partial

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stpatch_jax.data.readers import open_field
from stpatch_jax.errors import InputError

zarr = pytest.importorskip("zarr")


def sample():
    values = np.arange(240.0, dtype=np.float32).reshape(10, 4, 6)
    times = pd.date_range("2020-01-01", periods=10)
    return xr.Dataset(
        {name: (("time", "y", "x"), values + at) for at, name in enumerate("ab")},
        coords={"time": times, "y": np.arange(4.0), "x": np.arange(6.0)},
    )


CHUNKS = {name: {"chunks": (2, 2, 6)} for name in "ab"}


@pytest.fixture
def path(tmp_path):
    sample().to_zarr(tmp_path / "field.zarr", encoding=CHUNKS, consolidated=False)
    return tmp_path / "field.zarr"


@pytest.fixture
def reads(monkeypatch):
    """The chunks that are read from local stores, by name."""
    found = []
    get = zarr.storage.LocalStore.get

    async def counted(self, key, *args, **kwargs):
        if "/c/" in key:
            found.append(key)
        return await get(self, key, *args, **kwargs)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", counted)
    return found


def test_only_the_chunks_that_are_used_are_read(path, reads):
    field = open_field(path)
    part = field.isel(time=slice(4, 6), y=3, channel=[1])
    coords_only = [key for key in reads if key[0] in "ab"]
    assert not coords_only
    np.testing.assert_array_equal(part, sample()["b"][4:6, 3].values[..., None])
    assert [key for key in reads if key[0] in "ab"] == ["b/c/2/1/0"]
    assert field.encoding["preferred_chunks"] == {"time": 2, "y": 2, "x": 6, "channel": 1}


def test_a_store_is_found_without_its_suffix(path):
    bare = path.rename(path.with_name("bare"))
    assert open_field(bare).shape == (10, 4, 6, 2)


def test_a_cut_chunk_is_told_when_it_is_read(path):
    chunk = path / "a" / "c" / "2" / "1" / "0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    field = open_field(path)
    np.testing.assert_array_equal(field[:2, ..., 0], sample()["a"][:2])
    with pytest.raises(InputError, match=r"every value of field.zarr must be readable"):
        _ = field.values


def test_a_store_without_its_metadata_is_refused(path):
    (path / "zarr.json").write_text("{")
    with pytest.raises(InputError, match="must be a readable zarr file, got"):
        open_field(path)
    (path / "zarr.json").unlink()
    with pytest.raises(InputError, match="must be a readable zarr file, got"):
        open_field(path)


def test_a_url_in_memory():
    pytest.importorskip("fsspec")
    url = "memory://stpatch-test/field.zarr"
    sample().to_zarr(url, encoding=CHUNKS, consolidated=False)
    field = open_field(url)
    np.testing.assert_array_equal(field.sel(channel="b"), sample()["b"])
    with pytest.raises(InputError, match="there must be a zarr file at"):
        open_field("memory://stpatch-test/none.zarr")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_a_url_of_a_web_server(tmp_path):
    pytest.importorskip("aiohttp")
    sample().to_zarr(tmp_path / "field.zarr", encoding=CHUNKS, consolidated=True)
    handler = partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        field = open_field(f"{url}/field.zarr")
        np.testing.assert_array_equal(field[3, ..., 0], sample()["a"][3])
        with pytest.raises(InputError, match="there must be a zarr file at"):
            open_field(f"{url}/none.zarr")
        server.shutdown()
