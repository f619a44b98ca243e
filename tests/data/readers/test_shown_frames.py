"""Frames of video as players show them: turned, trimmed, at their own times, whole files only."""

import struct
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from stpatch_jax.data.readers import open_field
from stpatch_jax.errors import InputError

av = pytest.importorskip("av")
# The red corner tells how a frame is turned, the green which one it is.
FRAMES = np.full((20, 32, 48, 3), 40, np.uint8)
FRAMES[:, :16, :24, 0] = 200
FRAMES[..., 1] = 40 + 8 * np.arange(20)[:, None, None]


def encoded(stream, frames, *, pts=None):
    for at, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        if pts is not None:
            frame.pts, frame.time_base = int(pts[at]), Fraction(1, 1000)
        yield from stream.encode(frame)
    yield from stream.encode()


def save(path, frames=FRAMES, *, codec="mpeg4", rate=10, pts=None, pixels="yuv420p", **options):
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.codec_context.gop_size = 5
        stream.bit_rate = 4_000_000
        if codec == "mpeg4":
            stream.codec_context.max_b_frames = 2
        if pts is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for packet in encoded(stream, frames, pts=pts):
            container.mux(packet)
    return path


def copied(source, target, change):
    """The packets of a file in another one, each as `change(number, packet)` gives it."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(p for p in old.demux(video=0) if p.size):
            if (packet := change(number, packet)) is not None:
                packet.stream = stream
                new.mux(packet)
    return target


def boxes(content, start, end):
    while start < end:
        length, name = struct.unpack_from(">I4s", content, start)
        yield name, start, length
        start += length


def edited(source, target, edits):
    """An MP4 file, its index at the end, with an edit list of (milliseconds, first tick)."""
    content = bytearray(source.read_bytes())
    outer, start, end = [], 0, len(content)
    for wanted in (b"moov", b"trak", b"edts"):
        _, at, length = next(box for box in boxes(content, start, end) if box[0] == wanted)
        outer.append(at)
        start, end = at + 8, at + length
    entries = b"".join(struct.pack(">IiI", span, first, 1 << 16) for span, first in edits)
    table = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    content[at : at + length] = struct.pack(">I4s", 8 + len(table), b"edts") + table
    for box in outer[:-1]:
        old = struct.unpack_from(">I", content, box)[0]
        struct.pack_into(">I", content, box, old + 8 + len(table) - length)
    target.write_bytes(content)
    return target


def greens(field):
    return field.values[:, 24:, 30:, 1].mean((1, 2))


def test_frames_that_an_edit_list_hides_are_left_out(tmp_path):
    whole = save(tmp_path / "whole.mp4")
    values = open_field(whole).values
    with av.open(str(whole)) as container:
        stream = container.streams.video[0]
        step = round(0.1 / stream.time_base)
        # The first frame of B-frames is shown after the tick 0 of the table.
        begin = min(p.pts for p in container.demux(stream) if p.size) - stream.start_time + step
    for edits, shown in (
        ([(1300, begin + 7 * step)], range(7, 20)),
        ([(900, begin)], range(9)),
        ([(600, begin + 3 * step)], range(3, 9)),
        ([(500, -1), (2000, begin)], range(20)),
        ([(500, begin), (500, begin + 12 * step)], [*range(5), *range(12, 17)]),
        ([(500, begin + 7 * step), (500, begin + 7 * step)], [*range(7, 12), *range(7, 12)]),
    ):
        field = open_field(edited(whole, tmp_path / "edited.mp4", edits))
        np.testing.assert_array_equal(field.values, values[list(shown)])
        with av.open(str(tmp_path / "edited.mp4")) as container:
            times = [frame.time for frame in container.decode(video=0)]
        np.testing.assert_allclose(field.time.values, np.asarray(times) - times[0], atol=1e-9)
        parts = [field[at : at + 3].values for at in range(0, len(field), 3)]
        np.testing.assert_array_equal(np.concatenate(parts), field.values)
        hidden = "edit list" in str(field.attrs.get("notes"))
        assert hidden == (len(shown) < 20)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("first", [1, -1])
@pytest.mark.parametrize("second", [1, -1])
def test_frames_are_turned_as_the_file_says(tmp_path, across, first, second):
    plain = save(tmp_path / "plain.mp4")
    stored = open_field(plain).values
    content = bytearray(plain.read_bytes())
    at = content.find(b"tkhd") + 44
    a, b, c, d = (0, first, second, 0) if across else (first, 0, 0, second)
    one = 1 << 16
    content[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, *[0] * 4)
    (tmp_path / "turned.mp4").write_bytes(content)
    field = open_field(tmp_path / "turned.mp4")
    # A pixel at (x, y) is shown at (a x + c y, b x + d y), moved to begin at 0.
    y, x = np.indices(stored.shape[1:3])
    rows, columns = b * x + d * y, a * x + c * y
    rows, columns = rows - rows.min(), columns - columns.min()
    shown = np.zeros((20, rows.max() + 1, columns.max() + 1, 3), np.uint8)
    shown[:, rows, columns] = stored
    np.testing.assert_array_equal(field.values, shown)
    assert field.sizes["height"] == len(field.height) == shown.shape[1]
    np.testing.assert_array_equal(field[3:5, 4, 5:9].values, shown[3:5, 4, 5:9])
    assert bool(field.attrs.get("notes")) == ((a, d) != (1, 1))


def test_the_old_tag_of_a_turn_counts_where_no_matrix_is(tmp_path):
    plain = save(tmp_path / "plain.mkv")
    with av.open(str(plain)) as old, av.open(str(tmp_path / "tag.mkv"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        stream.metadata["rotate"] = "90"
        for packet in (p for p in old.demux(video=0) if p.size):
            packet.stream = stream
            new.mux(packet)
    clockwise = np.rot90(open_field(plain).values, -1, (1, 2))
    np.testing.assert_array_equal(open_field(tmp_path / "tag.mkv").values, clockwise)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("late", [0, 5000])
def test_frames_have_times_of_their_own(tmp_path, suffix, late):
    pts = np.cumsum([0, 100, 50, 250, 600, 33, *[40] * 14])
    field = open_field(save(tmp_path / f"uneven{suffix}", pts=late + pts))
    np.testing.assert_allclose(field.time.values, pts / 1000, atol=1e-9)
    np.testing.assert_allclose(greens(field), FRAMES[:, -1, -1, 1], atol=4)


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), 24, 60])
def test_times_rounded_by_the_container_are_even(tmp_path, rate):
    field = open_field(save(tmp_path / "clip.mkv", rate=rate))
    np.testing.assert_allclose(field.time.values, np.arange(20) / float(rate), atol=1e-12)


def test_frames_of_one_time_are_all_there_in_their_order(tmp_path):
    single = save(tmp_path / "single.avi", codec="mjpeg", pixels="yuvj420p", rate=10)

    def repeat(number, packet):
        packet.pts = packet.dts = {4: 3, 5: 3}.get(number, number)
        return packet

    field = open_field(copied(single, tmp_path / "repeated.mkv", repeat))
    np.testing.assert_array_equal(field.values, open_field(single).values)
    expected = [0, 1, 2, 3, 4, 5, *range(6, 20)]
    np.testing.assert_allclose(field.time.values, np.asarray(expected) / 10, atol=1e-9)
    for at in range(2, 8):
        np.testing.assert_array_equal(field[at : at + 1].values, field.values[at : at + 1])


def test_a_recording_whose_times_begin_again_is_read_in_its_order(tmp_path):
    content = save(tmp_path / "one.ts", codec="mpeg2video", rate=25).read_bytes()
    (tmp_path / "two.ts").write_bytes(2 * content)
    field = open_field(tmp_path / "two.ts")
    np.testing.assert_allclose(greens(field), np.tile(FRAMES[:, -1, -1, 1], 2), atol=4)
    np.testing.assert_allclose(field.time.values, np.arange(40) / 25)
    assert field.attrs["notes"] == ("Frames are 25 a second, for want of their times.",)


def test_what_leads_the_first_key_frame_is_not_shown(tmp_path):
    if "libx264" not in av.codecs_available:
        pytest.skip("this FFmpeg has no libx264")
    options = "open-gop=1:keyint=8:min-keyint=8:bframes=3:b-adapt=0:scenecut=0"
    whole = tmp_path / "whole.mkv"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"x264-params": options})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for packet in encoded(stream, FRAMES):
            container.mux(packet)
    with av.open(str(whole)) as container:
        keys = [n for n, p in enumerate(container.demux(video=0)) if p.is_keyframe]
    cut = copied(whole, tmp_path / "cut.mkv", lambda n, packet: packet if n >= keys[1] else None)
    with av.open(str(cut)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    if not shown:
        pytest.skip("this FFmpeg copies no frames from there")
    np.testing.assert_array_equal(open_field(cut).values, shown)
    assert len(shown) < 20


def test_frames_that_only_others_refer_to_are_not_shown(tmp_path):
    if "libvpx" not in av.codecs_available:
        pytest.skip("this FFmpeg has no libvpx")

    def hide(number, packet):
        if number not in (3, 12):
            return packet
        content = bytearray(bytes(packet))
        content[0] &= ~0x10
        hidden = av.Packet(bytes(content))
        hidden.pts, hidden.dts, hidden.time_base = packet.pts, packet.dts, packet.time_base
        return hidden

    plain = save(tmp_path / "plain.webm", codec="libvpx")
    field = open_field(copied(plain, tmp_path / "hidden.webm", hide))
    at = np.delete(np.arange(20), [3, 12])
    np.testing.assert_array_equal(field.values, open_field(plain).values[at])
    np.testing.assert_allclose(field.time.values, at / 10, atol=1e-9)


@pytest.mark.parametrize("share", [0.7, 0.9, 0.99])
def test_a_file_that_was_cut_is_refused_without_a_count_of_frames(tmp_path, share):
    kinds: dict[str, dict[str, Any]] = {
        "clip.mkv": {},
        "clip.webm": {"codec": "libvpx"},
        "clip.mp4": {"movflags": "frag_keyframe+empty_moov"},
    }
    for name, options in kinds.items():
        if options.get("codec", "mpeg4") not in av.codecs_available:
            continue
        whole = save(tmp_path / name, **options)
        assert len(open_field(whole)) == 20
        content = whole.read_bytes()
        whole.write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match=r"must be complete, got [\d,]+ of [\d,]+ bytes; rest"):
            open_field(whole)


def test_a_stream_without_a_length_has_the_frames_that_came(tmp_path):
    whole = save(tmp_path / "live.mkv", live="1")
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) * 2 // 3])
    field = open_field(whole)
    assert 5 < len(field) < 20
    np.testing.assert_allclose(greens(field), FRAMES[: len(field), -1, -1, 1], atol=4)


def test_pauses_of_an_old_container_are_no_damage(tmp_path):
    def later(number, packet):
        packet.pts = packet.dts = number + 3 * (number >= 10)
        return packet

    plain = save(tmp_path / "plain.avi", codec="mjpeg", pixels="yuvj420p")
    field = open_field(copied(plain, tmp_path / "paused.avi", later))
    expected = [*range(10), *range(13, 23)]
    np.testing.assert_allclose(field.time.values, np.asarray(expected) / 10, atol=1e-9)
    np.testing.assert_array_equal(field.values, open_field(plain).values)


def with_cover(path, *, video):
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = 1 << 10
        sound = container.add_stream("aac", rate=44100)
        stream = container.add_stream("mpeg4", rate=10) if video else None
        if stream is not None:
            stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        packets = list(encoded(cover, np.full((1, 64, 64, 3), 200, np.uint8)))
        packets += [] if stream is None else encoded(stream, FRAMES)
        for number in range(20):
            silence = np.zeros((1, 1024), np.float32)
            heard = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            heard.sample_rate, heard.pts = 44100, 1024 * number
            packets += sound.encode(heard)
        for packet in [*packets, *sound.encode()]:
            container.mux(packet)
    return path


def test_a_cover_picture_is_no_video(tmp_path):
    if not hasattr(av.stream, "Disposition"):
        pytest.skip("this PyAV writes no cover pictures")
    field = open_field(with_cover(tmp_path / "film.mp4", video=True))
    assert field.shape == (20, 32, 48, 3)
    with pytest.raises(InputError, match="must hold video, got none; give another file"):
        open_field(with_cover(tmp_path / "sound.mp4", video=False))


def test_the_default_one_of_several_videos_is_read(tmp_path):
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        for height in (16, 32):
            stream = container.add_stream("mpeg4", rate=10)
            stream.height, stream.width, stream.pix_fmt = height, 48, "yuv420p"
        small, large = container.streams.video
        for packet in [*encoded(small, FRAMES[:5, :16]), *encoded(large, FRAMES)]:
            container.mux(packet)
    field = open_field(tmp_path / "two.mkv")
    with av.open(str(tmp_path / "two.mkv")) as container:
        best = container.streams.best("video")
        assert best is not None
        index, shown = best.index, [frame.width for frame in container.decode(best)]
    assert len(field) == len(shown)
    assert field.attrs["notes"] == (f"Stream {index} is read, one of 2 videos in the file.",)


def test_what_a_player_does_otherwise_is_told(tmp_path):
    def notes(name, **options):
        return open_field(save(tmp_path / name, **options)).attrs.get("notes", ())

    assert notes("deep.mkv", codec="ffv1", pixels="yuv420p10le") == (
        "Values of 10 bits are rounded to 8.",
    )
    assert notes("clear.mkv", codec="ffv1", pixels="bgra") == ("Transparency is left out.",)
    assert notes("gray.mkv", codec="ffv1", pixels="gray") == ()
    with av.open(str(tmp_path / "wide.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for packet in encoded(stream, FRAMES):
            container.mux(packet)
    assert open_field(tmp_path / "wide.mp4").attrs["notes"] == (
        "Pixels are shown 1.333 times as wide as high.",
    )


def test_sizes_may_be_odd_and_names_in_capitals(tmp_path):
    frames = np.full((4, 31, 45, 3), 90, np.uint8)
    for name in ("A.MKV", "b.Mp4", "c.AVI"):
        path = save(tmp_path / name.lower(), frames).rename(tmp_path / name)
        field = open_field(path)
        assert field.shape == (4, 31, 45, 3)
        assert abs(np.median(field.values) - 90) < 4


def test_a_title_in_other_characters_does_no_harm(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        container.metadata["title"] = "caf__"
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for packet in encoded(stream, FRAMES):
            container.mux(packet)
    content = (tmp_path / "a.mkv").read_bytes().replace(b"caf__", b"caf\xe9_")
    (tmp_path / "a.mkv").write_bytes(content)
    assert len(open_field(tmp_path / "a.mkv")) == 20
