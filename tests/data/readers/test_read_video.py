"""Video files: parts equal the whole, damage and ragged frames are told."""

from fractions import Fraction

import numpy as np
import pytest

from stpatch_jax.data.readers import open_field, read_folder
from stpatch_jax.errors import InputError

av = pytest.importorskip("av")
FRAMES = np.random.default_rng(0).integers(0, 256, (30, 2, 2, 3)).repeat(16, 1).repeat(16, 2)


def save(path, frames, *, rate=10, options=None):
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264" if path.suffix == ".h264" else "mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.gop_size = 7
        stream.codec_context.max_b_frames = 2
        for pixels in frames.astype(np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


# The bare stream of H.264 does not tell when its frames are shown.
@pytest.fixture(scope="module", params=["clip.mp4", "clip.mkv", "clip.avi", "clip.h264"])
def path(tmp_path_factory, request):
    if request.param == "clip.h264" and "libx264" not in av.codecs_available:
        pytest.skip("this FFmpeg has no libx264")
    return save(tmp_path_factory.mktemp("video") / request.param, FRAMES)


def test_frames_are_those_that_were_written(path):
    field = open_field(path, format="video")
    assert field.dims == ("time", "height", "width", "channel")
    assert field.shape == (30, 32, 32, 3)
    assert field.dtype == np.uint8
    assert field.channel.values.tolist() == ["red", "green", "blue"]
    if path.suffix != ".h264":
        np.testing.assert_allclose(field.time.values, np.arange(30) / 10, atol=1e-6)
    # The codec halves colours in space and rounds; the mean of a frame stays.
    np.testing.assert_allclose(field.values.mean((1, 2, 3)), FRAMES.mean((1, 2, 3)), atol=4)


def test_any_range_equals_the_same_frames_of_the_whole(path):
    field = open_field(path, format="video")
    whole = field.values
    ranges = [slice(at, at + 2) for at in range(0, 29, 3)]
    for key in (*ranges, 0, 29, slice(20, 3, -4), slice(2, 2), np.asarray([17, 3, 3, 28])):
        np.testing.assert_array_equal(field.isel(time=key).values, whole[key])
    part = field.isel(time=slice(12, 14), height=3, width=slice(0, 30, 7), channel=[2, 0])
    np.testing.assert_array_equal(part.values, whole[12:14, 3, 0:30:7][..., [2, 0]])


def test_a_truncated_video_is_refused(tmp_path):
    content = save(tmp_path / "whole.mp4", FRAMES).read_bytes()
    cut = tmp_path / "cut.mp4"
    for share in (0.01, 0.5, 0.95):
        cut.write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match="must be a readable video, got"):
            open_field(cut)


def test_a_truncated_video_with_its_index_in_front_is_refused(tmp_path):
    whole = save(tmp_path / "whole.mp4", FRAMES, options={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    for share in (0.6, 0.9, 0.999):
        cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
        with pytest.raises(InputError, match=r"must be complete, got \d+ of 30 frames"):
            open_field(cut)


def test_frames_of_another_size_are_told_where_they_are_read(tmp_path):
    path, content = tmp_path / "ragged.mjpeg", b""
    for height, width in [(32, 32)] * 3 + [(16, 48)] * 2:
        codec = av.CodecContext.create("mjpeg", "w")
        codec.height, codec.width, codec.pix_fmt = height, width, "yuvj420p"
        codec.time_base = Fraction(1, 10)
        frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 99, np.uint8), "rgb24")
        content += b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode()])
    path.write_bytes(content)
    field = open_field(path, format="video")
    assert field[:3].values.shape == (3, 32, 32, 3)
    with pytest.raises(InputError, match=r"must be \(32, 32\) pixels, got \(16, 48\) for frame 3"):
        _ = field.values


def test_clips_of_other_lengths_and_sizes_are_told_when_they_are_stacked(tmp_path):
    for name, frames in (("a/1.mp4", FRAMES), ("b/1.mp4", FRAMES[:8]), ("c/1.mp4", FRAMES[:, :16])):
        (tmp_path / name).parent.mkdir()
        save(tmp_path / name, frames)
    clips = read_folder(tmp_path)
    assert [clips[at].shape[:3] for at in range(3)] == [(30, 32, 32), (8, 32, 32), (30, 16, 32)]
    with pytest.raises(InputError, match=r"got \(30, 32, 32, 3\) for a/1\.mp4 and"):
        clips.stack()


def test_a_file_without_video_is_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match="must be a readable video"):
        open_field(tmp_path / "text.mp4")


def test_the_real_clip_is_read(data_dir):
    path = data_dir / "video" / "mmaction2_demo.mp4"
    field = open_field(path)
    assert field.shape == (280, 256, 340, 3)
    assert field.time.values[-1] == pytest.approx(279 / 28)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    np.testing.assert_array_equal(
        field.isel(time=[0, 199, 279]), [frames[i] for i in (0, 199, 279)]
    )
