"""Videos, labels and folders as they are found: read right or refused with a true sentence."""

import struct
from typing import Any

import numpy as np
import pytest
from strange import opened, refused

from stpatch_jax.data.labelled.files import LabelledVolumesConfig
from stpatch_jax.data.readers import read_folder

av = pytest.importorskip("av")


def clip(path, *, codec="mpeg4", count=8, shape=(32, 48), pixel="yuv420p", rate=10):
    """A clip that is red at its top left and turns green with the time."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *shape, pixel
        for at in range(count):
            pixels = np.full((*shape, 3), 40, np.uint8)
            pixels[: shape[0] // 2, : shape[1] // 2, 0] = 220
            pixels[..., 1] = 40 + 10 * at % 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def turned(path, matrix):
    """Writes the display matrix of a telephone into a file of MP4."""
    content = bytearray(path.read_bytes())
    at = content.find(b"tkhd")
    at += 8 + (20 if content[at + 4] == 0 else 32) + 16
    content[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    return path


ONE, W, H = 65536, 48 << 16, 32 << 16
TURNS = {
    0: ((ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30), "top left"),
    90: ((0, ONE, 0, -ONE, 0, 0, H, 0, 1 << 30), "top right"),
    180: ((-ONE, 0, 0, 0, -ONE, 0, W, H, 1 << 30), "bottom right"),
    270: ((0, -ONE, 0, ONE, 0, 0, 0, W, 1 << 30), "bottom left"),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("suffix", [".MOV", ".mp4"])
def test_a_telephone_held_in_any_way(tmp_path, turn, suffix):
    matrix, corner = TURNS[turn]
    field = opened(turned(clip(tmp_path / f"a{suffix}"), matrix))
    height, width = field.shape[1:3]
    assert (height, width) == ((48, 32) if turn in (90, 270) else (32, 48))
    red = field.values[0, ..., 0].astype(int)
    rows, columns = corner.split()
    half = red[: height // 2] if rows == "top" else red[height // 2 :]
    there = half[:, : width // 2] if columns == "left" else half[:, width // 2 :]
    assert there.mean() > 150
    assert (red > 150).mean() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".webm", "libvpx-vp9"), (".mkv", "mpeg4"), (".AVI", "mpeg4"), (".mov", "libx264")],
)
def test_containers_and_codecs(tmp_path, suffix, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    field = opened(clip(tmp_path / f"a{suffix}", codec=codec))
    assert field.shape == (8, 32, 48, 3)
    np.testing.assert_allclose(field.time.values, np.arange(8) / 10, atol=2e-3)
    greens = field.values[:, 20:, 30:, 1].mean((1, 2))
    np.testing.assert_allclose(greens, 40 + 10 * np.arange(8), atol=6)


def test_odd_sizes_and_grey_pixels(tmp_path):
    assert opened(clip(tmp_path / "odd.mkv", codec="ffv1", shape=(33, 47), pixel="bgr0")).shape[
        1:3
    ] == (33, 47)
    grey = opened(clip(tmp_path / "grey.mkv", codec="ffv1", pixel="gray")).values
    np.testing.assert_allclose(grey[..., 0], grey[..., 2])


def test_a_cut_video_is_told(tmp_path):
    for suffix in (".mp4", ".mkv", ".avi"):
        content = clip(tmp_path / f"a{suffix}", count=40).read_bytes()
        for share in (0.2, 0.6, 0.9):
            path = tmp_path / f"cut{suffix}"
            path.write_bytes(content[: int(len(content) * share)])
            refused(lambda path=path: opened(path).values, "cut", damaged=True)


def test_what_is_no_video_is_told(tmp_path):
    (tmp_path / "empty.mp4").touch()
    refused(lambda: opened(tmp_path / "empty.mp4"), "empty", damaged=True)
    (tmp_path / "text.mp4").write_text("no video")
    refused(lambda: opened(tmp_path / "text.mp4"), "text", damaged=True)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), "f4"), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    refused(lambda: opened(tmp_path / "sound.mp4"), "sound.mp4", "video")
    (tmp_path / "a.xyz").write_bytes(b"GIF89a")
    refused(lambda: opened(tmp_path / "a.xyz"), "format")


def test_a_folder_with_other_files_tells_them(tmp_path):
    for name in ("run", "walk"):
        (tmp_path / name).mkdir()
        clip(tmp_path / name / "0.MOV", codec="mpeg4")
        np.save(tmp_path / name / "1.npy", np.zeros((8, 32, 48, 3), "u1"))
        (tmp_path / name / "Thumbs.db").write_bytes(b"x")
        (tmp_path / name / ".DS_Store").write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"2 .*Thumbs\.db"):
        items = read_folder(tmp_path)
    assert items.labels.tolist() == [0, 0, 1, 1]
    assert {items[at].shape for at in range(4)} == {(8, 32, 48, 3)}


def test_items_of_one_class_are_refused(tmp_path):
    images = np.zeros((12, 4, 8, 8), "u1")
    splits: dict[str, Any] = {f"{split}_images": images for split in ("train", "val", "test")}
    splits |= {f"{split}_labels": np.ones(12, int) for split in ("train", "val", "test")}
    np.savez(tmp_path / "a.npz", **splits)
    config = LabelledVolumesConfig(str(tmp_path / "a.npz"))
    refused(config.load, "two classes", "got 1 alone")
