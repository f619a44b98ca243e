"""A video is one local file: whatever stands in it or in its name, no other one is read."""

import http.server
import threading

import numpy as np
import pytest

from stpatch_jax.data.readers import open_field, read_folder
from stpatch_jax.errors import InputError

av = pytest.importorskip("av")

LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile {name}\n",
    "absolute": "ffconcat version 1.0\nfile 'file:{path}'\noption safe 0\n",
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{name}\n#EXT-X-ENDLIST\n",
    "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet>'
    '<Representation id="1" bandwidth="1"><BaseURL>{name}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "http": "ffconcat version 1.0\nfile http://127.0.0.1:{port}/{name}\n",
    "playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:{port}/{name}\n",
}


def save(path, *, level=90, count=4, kind=None):
    """A grey video, whose container is told by its name or by `kind`."""
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream("gif" if path.suffix == ".gif" else "mpeg4", rate=10)
        stream.height = stream.width = 32
        stream.pix_fmt = "rgb8" if path.suffix == ".gif" else "yuv420p"
        for _ in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def neighbour(tmp_path):
    return save(tmp_path / "neighbour.mp4")


@pytest.fixture
def server(tmp_path):
    """Counts what is asked of an address."""
    asked = []

    class Counting(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".gif", ".ts"])
@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_files_is_no_video(tmp_path, neighbour, server, kind, suffix):
    port, asked = server
    text = LISTS[kind].format(name=neighbour.name, path=neighbour, port=port)
    (tmp_path / f"clip{suffix}").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"clip\..* must be a .*; .*give") as told:
        open_field(tmp_path / f"clip{suffix}")
    assert "\n" not in str(told.value)
    assert not asked


def test_a_list_of_files_is_told(tmp_path, neighbour):
    (tmp_path / "clip.mp4").write_text(f"ffconcat version 1.0\nfile {neighbour.name}\n")
    with pytest.raises(InputError, match="must be a file of its own such as an MP4 or AVI, got an"):
        open_field(tmp_path / "clip.mp4")


def test_a_list_in_a_folder_of_classes_is_no_video(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "a.mp4")
    (tmp_path / "cat" / "b.mp4").write_text("ffconcat version 1.0\nfile ../dog/a.mp4\n")
    items = read_folder(tmp_path)
    with pytest.raises(InputError, match="must be a file of its own"):
        _ = [items.items[at] for at in range(3)]


@pytest.mark.parametrize("name", ["concat:neighbour.mp4", "http:a.mp4", "a%d.mp4", "pipe:0.mp4"])
def test_a_name_is_no_address(tmp_path, neighbour, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        save(tmp_path / f"a{number}.mp4")
    with pytest.raises(InputError, match="there must be a file at"):
        open_field(name)
    own = save(tmp_path / "own.mp4", level=200, count=6)
    own.rename(tmp_path / name)
    field = open_field(name)
    assert len(field) == 6
    np.testing.assert_allclose(field.values.mean(), 200, atol=4)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((f"a.{kind}", None) for kind in ("mp4", "mov", "mkv", "avi", "3gp", "gif", "ts")),
        ("a.m4v", "mp4"),
        ("a.wmv", "asf"),
        ("a.m2ts", "mpegts"),
        ("a.avi", "mp4"),
        ("a.mp4", "mpegts"),
        ("a.mov", "matroska"),
    ],
)
def test_every_container_of_a_suffix_is_read(tmp_path, name, kind):
    field = open_field(save(tmp_path / name, kind=kind))
    assert len(field) == 4
    np.testing.assert_allclose(field.values.mean(), 90, atol=6)
