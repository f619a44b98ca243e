"""Named data sets: found, fetched from a server, and refused where bytes are missing or wrong."""

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stpatch_jax.data import catalog
from stpatch_jax.data.catalog import CATALOG, CatalogEntry, locate
from stpatch_jax.errors import InputError

CONTENT = b"published bytes " * 5000


class Handler(BaseHTTPRequestHandler):
    """Serves the content whole under /whole, half of it under /cut, other bytes under /wrong."""

    def do_GET(self):
        if self.path == "/gone":
            self.send_error(404)
            return
        body = {"/whole": CONTENT, "/cut": CONTENT[:40000], "/wrong": CONTENT[::-1]}[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def place(tmp_path, monkeypatch, address):
    """Makes `bytes` a data set at an address, with a cache of its own; returns its folder."""
    pytest.importorskip("pooch")
    monkeypatch.setenv("STPATCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def enter(url):
        entry = CatalogEntry(
            file="kind/file.bin",
            sha256=hashlib.sha256(CONTENT).hexdigest(),
            size=len(CONTENT),
            licence="none stated",
            source="the test",
            url=None if url is None else address + url,
        )
        monkeypatch.setitem(catalog.CATALOG, "bytes", entry)
        return tmp_path

    return enter


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_is_fetched_once_and_checked(place):
    folder = place("/whole")
    path = locate("bytes")
    assert path == folder / "cache/stpatch_jax/kind/file.bin"
    assert path.read_bytes() == CONTENT
    place("/gone")
    assert locate("bytes") == path
    assert files(folder) == ["file.bin"]


def test_the_data_folder_comes_first_and_is_checked_too(place):
    folder = place("/gone")
    path = folder / "data/kind/file.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert locate("bytes") == path
    path.write_bytes(CONTENT[1:])
    with pytest.raises(
        InputError,
        match=r"must be the published file of bytes, got the checksum \w+\.\.\. in place of",
    ):
        locate("bytes")


@pytest.mark.parametrize("fault", ["/cut", "/wrong", "/gone"])
def test_a_fault_on_the_way_is_one_error_and_leaves_no_file(place, fault):
    folder = place(fault)
    with pytest.raises(InputError, match=r"fetched whole from http://.*, got") as error:
        locate("bytes")
    assert "\n" not in str(error.value)
    assert files(folder) == []
    place("/whole")
    assert locate("bytes").read_bytes() == CONTENT


def test_no_server_is_an_error_too(place, monkeypatch):
    place("/whole")
    entry = CATALOG["bytes"]
    closed = replace(entry, url="http://127.0.0.1:9/x")
    monkeypatch.setitem(catalog.CATALOG, "bytes", closed)
    with pytest.raises(InputError, match=r"fetched whole from http://127\.0\.0\.1:9/x"):
        locate("bytes")


def test_names_and_files_that_are_not_there(place):
    place(None)
    with pytest.raises(InputError, match="got 'x'"):
        locate("x")
    with pytest.raises(InputError, match=r"STPATCH_DATA as kind/file\.bin, as it was made"):
        locate("bytes")


def test_entries_are_complete():
    assert len({entry.file for entry in CATALOG.values()}) == len(CATALOG)
    for entry in CATALOG.values():
        assert len(bytes.fromhex(entry.sha256)) == 32
        assert entry.licence
        assert entry.source
        assert entry.url is None or entry.url.startswith("https://")


@pytest.mark.parametrize("name", CATALOG)
def test_real_files_are_those_of_the_catalog(name, data_dir):
    assert locate(name) == data_dir / CATALOG[name].file
    assert locate(name).stat().st_size == CATALOG[name].size
