"""Servers that are silent, slow, endless or lie: refused in one sentence, in time."""

import gzip
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import xarray as xr

from stpatch_jax.data import catalog, fetching, open_field
from stpatch_jax.data.sizes import limited
from stpatch_jax.errors import InputError

pytest.importorskip("aiohttp")
pytest.importorskip("zarr")


@contextmanager
def serving(answer):
    """The address of a server that answers every request by a function of its handler."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                answer(self, ended)
            except OSError:  # The client has gone.
                self.close_connection = True

        do_HEAD = do_GET

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def send(handler, body=b"", *, status=200, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)


def silent(handler, ended):
    ended.wait(20)


def slow_head(handler, ended):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(200):
        handler.wfile.write(b"X")
        if ended.wait(0.1):
            return


def slow_body(handler, ended):
    send(handler, Content_Length=10**6)
    for _ in range(200):
        handler.wfile.write(b" ")
        if ended.wait(0.1):
            return


def endless(handler, ended):
    send(handler, b"{")
    while not ended.is_set():
        handler.wfile.write(b" " * 2**16)
    handler.close_connection = True


PACKED = gzip.compress(bytes(2**24))


def endless_packed(handler, ended):
    send(handler, PACKED, Content_Encoding="gzip")
    handler.close_connection = True


def too_long(handler, ended):
    send(handler, b"{}", Content_Length=10**15)
    handler.close_connection = True


def redirected(handler, ended):
    send(handler, status=302, Location="file:///etc/hostname", Content_Length=0)


def in_a_circle(handler, ended):
    send(handler, status=302, Location=handler.path, Content_Length=0)


def deep(handler, ended):
    body = b'{"a":' * 10**5
    send(handler, body, Content_Length=len(body))


@pytest.fixture
def quick(monkeypatch):
    """A second of silence is too long, and what is slower than 1 KiB/s too slow after it."""
    monkeypatch.setattr(fetching, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(fetching, "METADATA_BYTES", 2**22)
    monkeypatch.setattr("stpatch_jax.data.catalog.SILENT_SECONDS", 1.0)


CASES = {
    silent: r"no whole answer in 1 s|[Tt]imeout",
    slow_head: r"no whole answer in 1 s|[Tt]imeout",
    slow_body: r"must come at 1,024 bytes a second or faster, got \d+ bytes in 1 s; try again",
    endless: r"as far as it came, must take at most 4,194,304 bytes",
    endless_packed: r"as far as it came, must take at most 4,194,304 bytes",
    too_long: r"must be a readable zarr file, got .*; look at the address and the network",
    redirected: r"must be a readable zarr file, got .*; look at the address and the network",
    in_a_circle: r"must be a readable zarr file, got .*; look at the address and the network",
    deep: r"zarr file",
}


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("answer", CASES, ids=lambda of: of.__name__)
def test_a_hostile_store_is_refused_in_time(quick, answer):
    with serving(answer) as url:
        began = time.monotonic()
        with pytest.raises(InputError, match=CASES[answer]) as error:
            open_field(f"{url}/a.zarr")
        assert time.monotonic() - began < 15
        assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_chunks_of_a_server_are_within_the_limit_and_in_time(tmp_path, quick):
    field = xr.Dataset({"a": (("time", "x"), np.ones((4, 8), np.float32))})
    field.to_zarr(tmp_path / "a.zarr", consolidated=True)
    how = [slow_body, silent, endless]

    def answer(handler, ended):
        name = handler.path.removeprefix("/")
        file = tmp_path / name
        if "/c/" in name:
            return how[-1](handler, ended)
        body = file.read_bytes() if file.is_file() else b""
        send(handler, body, status=200 if file.is_file() else 404, Content_Length=len(body))
        return None

    with serving(answer) as url, limited(2**21):
        opened = open_field(f"{url}/a.zarr")
        for told in (
            r"must take at most 2,097,152 bytes",
            r"no whole answer in 1 s|[Tt]imeout",
            r"must come at 1,024 bytes a second",
        ):
            with pytest.raises(InputError, match=told):
                opened.load()
            how.pop()


def test_metadata_of_a_folder_is_within_a_limit_of_its_own(tmp_path, quick):
    (tmp_path / "a.zarr").mkdir()
    text = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"a": " " * 2**22}})
    (tmp_path / "a.zarr/zarr.json").write_text(text)
    with pytest.raises(InputError, match=r"zarr\.json of .* must take at most 4,194,304 bytes"):
        open_field(tmp_path / "a.zarr")


def test_netcdf_is_no_format_of_a_server():
    with pytest.raises(InputError, match=r"a URL must be that of a zarr store, got .*; download"):
        open_field("https://127.0.0.1:1/a.nc")


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """Makes `bytes` a data set of the catalog at an address, with a cache of its own."""
    pytest.importorskip("pooch")
    monkeypatch.delenv("STPATCH_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def enter(url):
        made = catalog.CatalogEntry("a/b.bin", "0" * 64, 1000, "none stated", "the test", url)
        monkeypatch.setitem(catalog.CATALOG, "bytes", made)
        return tmp_path

    return enter


FETCHED = {
    silent: "timed out",
    slow_body: "must come at 1,024 bytes a second or faster",
    endless: "must hold 1,000 bytes, got more",
    too_long: "checksum|hash",
    redirected: "fetched whole",
    in_a_circle: "fetched whole",
}


@pytest.mark.parametrize("answer", FETCHED, ids=lambda of: of.__name__)
def test_a_hostile_server_of_the_catalog_is_refused_in_time(quick, entry, answer):
    with serving(answer) as url:
        folder = entry(f"{url}/b.bin")
        began = time.monotonic()
        with pytest.raises(InputError, match=FETCHED[answer]) as error:
            catalog.locate("bytes")
        assert time.monotonic() - began < 15
    assert "\n" not in str(error.value)
    assert not [path for path in folder.rglob("*") if path.is_file()]
