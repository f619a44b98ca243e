"""Video files, decoded where they are used, as a player shows them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from stpatch_jax.data.libraries import require_library
from stpatch_jax.data.readers.containers import declared_bytes
from stpatch_jax.data.readers.conventions import add_note
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.data.readers.lazy import LazyArray
from stpatch_jax.data.sizes import check_bytes, most_bytes
from stpatch_jax.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")
VIDEO_SUFFIXES += (".m2ts", ".wmv", ".flv", ".3gp", ".ogv", ".gif")
# Their packets are no list of frames: a recording begins and ends where it was switched on and off.
_STREAMS = ("mpegts", "mpeg")
_PIXEL = 3  # Bytes.
_ATTACHED = 1 << 10  # The disposition of a cover picture.
# The containers of these suffixes as FFmpeg calls them, and bare streams. It knows others by what a
# file begins with, whatever its name, and some of these are lists of other files and addresses.
_CONTAINERS = "mov,matroska,avi,gif,mpeg,mpegvideo,m4v,mpegts,asf,flv,ogg"
_CONTAINERS += ",mjpeg,h264,hevc,obu,ivf,yuv4mpegpipe,dv,mxf"
_LOCAL = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}


def open_video(path: str | Path) -> xr.DataArray:
    """Opens a video file as a field that is decoded where it is used, by FFmpeg.

    Frames are those that a player shows: turned as the file says, without those that its edit list
    hides, at their own times, of the default stream. Opening a file reads the times of all frames
    and decodes the first one. Frames are decoded from the last key frame before the first one asked
    for, so that reading a short range does not decode what comes before it; files that do not tell
    when frames are shown are decoded once when they are opened.

    Returns:
        Field [time, height, width, channel], uint8 from 0 to 255, with the time in seconds since
        the first frame, rows from the top, columns from the left, and the channels red, green and
        blue. Its notes tell what a player does and this field does not.

    Raises:
        InputError: If the file is missing, damaged or ends early, or holds no video.
    """
    frames = VideoFrames(path)
    coords: dict[Any, Any] = {"time": ("time", frames.times, {"units": "s"})}
    coords |= {dim: np.arange(frames.shape[at]) for at, dim in ((1, "height"), (2, "width"))}
    coords["channel"] = ["red", "green", "blue"]
    field = frames.field(("time", "height", "width", "channel"), coords)
    field = field.assign_attrs(source=str(path))
    return add_note(field, *frames.notes)


class VideoFrames(LazyArray):
    """The frames of a video file as an array [time, height, width, channel] of uint8.

    Attributes:
        times: Seconds from the first frame to each frame [time], float64.
        notes: What was left out, or is otherwise than a player shows it, in sentences.
    """

    def __init__(self, path: str | Path):
        self.path = path
        self.dtype = np.dtype(np.uint8)
        packets, first = [], None
        with _opened(path) as (container, stream):
            for packet in container.demux(stream):
                if first is None:
                    first = next(iter(packet.decode()), None)
                if packet.size:
                    packets.append(_Packet.of(packet, stream.codec_context.name))
            _check_whole(path, sum(packet.whole for packet in packets), stream.frames)
            if first is None:
                raise _empty(path)
            self._turn = _Turn.of(first, stream.metadata)
            self.notes = _told(container, stream, first, self._turn)
            timed = container.format.name not in _STREAMS and _are_frames(packets)
            rate, tick = float(stream.average_rate or stream.guessed_rate or 1), stream.time_base
        # Else packets are no frames, or do not tell when these are shown: decoding does.
        stamps = _shown(packets, first.pts) if timed else self._decoded()
        if not stamps:
            raise _empty(path)
        self._timed = timed
        if None not in stamps and stamps == sorted(stamps):
            self.times = _seconds(np.asarray(stamps), float(tick), rate)
        else:
            self.times = np.arange(len(stamps)) / rate
            self.notes.append(f"Frames are {rate:g} a second, for want of their times.")
        self._stamps = np.asarray(stamps) if timed else np.arange(len(stamps))
        self._keys = _seekable(packets, self._stamps) if timed else []
        if edited := sum(packet.edited for packet in packets):
            self.notes.append(f"{edited} frames that the edit list hides are left out.")
        self.shape = (len(stamps), *self._turn.size(first.height, first.width), 3)

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Decodes the frames asked for and picks their pixels and channels."""
        wanted = np.arange(self.shape[0])[key[0]]
        frames = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        if len(wanted):
            decoded = 0
            for at, frame in self._decode(int(wanted.min()), int(wanted.max())):
                where = wanted == at
                if where.any():
                    frames[where] = frame
                    decoded += int(where.sum())
            if decoded < len(wanted):
                raise InputError(
                    f"all {self.shape[0]} frames of {self.path} must be readable, got "
                    f"{len(wanted) - decoded} damaged ones among those asked for; restore the file"
                )
        for axis, part in enumerate(key[1:], start=1):
            frames = frames[(slice(None),) * axis + (part,)]
        return frames

    def _decode(self, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """Positions and pixels of the frames from `first` to `last`."""
        # Frames between a key frame and its successor in decoding may be shown before it, so
        # only what is shown after a key frame can be decoded from there.
        before = [seek for shown, seek in self._keys if shown <= self._stamps[first]]
        for seek in dict.fromkeys([before[-1] if len(before) > 1 else None, None]):
            with _opened(self.path) as (container, stream):
                if seek is not None:
                    container.seek(seek, stream=stream)
                unsure = seek is not None
                for at, frame in self._placed(container.decode(stream)):
                    if unsure and at > first:
                        break  # Some containers seek too far; then all is decoded.
                    unsure = False
                    if at > last:
                        return
                    if at >= first:
                        yield at, self._pixels(frame, at)
                else:
                    if not unsure:
                        return

    def _placed(self, frames: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        """Undamaged frames and their positions; frames of one time follow each other."""
        previous, repeated = None, 0
        for number, frame in enumerate(frame for frame in frames if not frame.is_corrupt):
            stamp = frame.pts if self._timed else number
            repeated = repeated + 1 if stamp == previous else 0
            previous = stamp
            at = int(np.searchsorted(self._stamps, stamp)) + repeated
            if at < len(self._stamps) and self._stamps[at] == stamp:
                yield at, frame

    def _pixels(self, frame: Any, at: int) -> np.ndarray:
        pixels = self._turn(frame.to_ndarray(format="rgb24"))
        if pixels.shape != self.shape[1:]:
            raise InputError(
                f"all frames of {self.path} must be {self.shape[1:3]} pixels, got "
                f"{pixels.shape[:2]} for frame {at}; encode it again at one size"
            )
        return pixels

    def _decoded(self) -> list[Any]:
        with _opened(self.path) as (container, stream):
            frames = [(frame.is_corrupt, frame.pts) for frame in container.decode(stream)]
        if damaged := sum(corrupt for corrupt, _ in frames):
            self.notes.append(f"{damaged} frames that are cut off or damaged are left out.")
        return [pts for corrupt, pts in frames if not corrupt]


class _Packet(NamedTuple):
    """What a packet tells of its frame: when it is shown, if at all, and where to seek it."""

    shown: Any
    seek: Any
    key: bool
    edited: bool
    hidden: bool
    whole: bool

    @classmethod
    def of(cls, packet: Any, codec: str) -> "_Packet":
        edited = packet.is_discard
        # VP8 has frames that only others refer to; a bit tells those that are shown.
        hidden = edited or (codec in ("vp8", "libvpx") and not memoryview(packet)[0] & 0x10)
        # Some containers seek by the time of decoding, which comes first.
        times = [time for time in (packet.pts, packet.dts) if time is not None]
        seek = min(times, default=None)
        return cls(packet.pts, seek, packet.is_keyframe, edited, hidden, not packet.is_corrupt)


def _are_frames(packets: list[_Packet]) -> bool:
    """Whether every packet is a frame whose time it tells, and times do not begin again."""
    if any(packet.shown is None for packet in packets):
        return False
    keys = [packet.shown for packet in packets if packet.key and not packet.hidden]
    return keys == sorted(keys)


def _shown(packets: list[_Packet], first: int) -> list[Any]:
    """When frames are shown, ascending; what leads the first key frame cannot be decoded."""
    return sorted(p.shown for p in packets if not p.hidden and p.shown >= first)


def _seekable(packets: list[_Packet], stamps: np.ndarray) -> list[tuple[int, int]]:
    """When key frames are shown, ascending, and where to seek each."""
    repeated = set(stamps[1:][stamps[1:] == stamps[:-1]].tolist())
    keys = [(p.shown, p.seek) for p in packets if p.key and p.shown not in repeated]
    return sorted(keys)


def _seconds(stamps: np.ndarray, tick: float, rate: float) -> np.ndarray:
    """Seconds from the first of the times [time] in ticks.

    Frames at a constant rate are at multiples of its step, to which the ticks of some containers
    are rounded. Frames of one time are spread over the time to the next one.
    """
    times = (stamps - stamps[0]) * tick
    even = np.arange(len(times)) / rate
    if 4 * tick * rate <= 1 and (np.abs(times - even) <= tick).all():
        return even
    unique, where, counts = np.unique(times, return_inverse=True, return_counts=True)
    steps = np.diff(unique, append=unique[-1] + 1 / rate)
    within = np.arange(len(times)) - np.searchsorted(times, times)
    return unique[where] + within / counts[where] * steps[where]


class _Turn(NamedTuple):
    """How a stored frame is turned: rows and columns are exchanged, then each reversed."""

    exchanged: bool = False
    up: bool = False
    left: bool = False
    exact: bool = True

    @classmethod
    def of(cls, frame: Any, tags: Mapping[str, str]) -> "_Turn":
        """What the display matrix of a frame tells, or else the tag `rotate` of old files."""
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            by_tag = {name.lower(): value for name, value in tags.items()}.get("rotate", "0")
            return _TURNS.get(by_tag, cls())
        # A pixel at x, y is shown at a x + c y, b x + d y.
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(float)
        straight, across = abs(a) + abs(d), abs(b) + abs(c)
        exact = min(straight, across) <= 0.02 * max(straight, across)
        if across > straight:
            return cls(True, bool(b < 0), bool(c < 0), exact)
        return cls(False, bool(d < 0), bool(a < 0), exact)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size of a frame that is shown."""
        return (width, height) if self.exchanged else (height, width)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Turns a frame [height, width, channel]."""
        pixels = pixels.swapaxes(0, 1) if self.exchanged else pixels
        return pixels[:: -1 if self.up else 1, :: -1 if self.left else 1]


_TURNS = {"90": _Turn(True, left=True), "180": _Turn(up=True, left=True), "270": _Turn(True, True)}


def _told(container: Any, stream: Any, frame: Any, turn: _Turn) -> list[str]:
    """What a player would do otherwise, in sentences."""
    notes = []
    if not turn.exact:
        notes.append("Frames are shown at an angle; they are turned to the nearest quarter turn.")
    elif turn != _Turn():
        notes.append("Frames are turned as the file says.")
    ratio = float(stream.sample_aspect_ratio or 1)
    if ratio != 1:
        wide = 1 / ratio if turn.exchanged else ratio
        notes.append(f"Pixels are shown {wide:.4g} times as wide as high.")
    if frame.interlaced_frame:
        notes.append("Frames are interlaced: their rows are of two times in turn.")
    if any(part.is_alpha for part in frame.format.components):
        notes.append("Transparency is left out.")
    if (bits := max(part.bits for part in frame.format.components)) > 8:
        notes.append(f"Values of {bits} bits are rounded to 8.")
    if (videos := len(_videos(container))) > 1:
        notes.append(f"Stream {stream.index} is read, one of {videos} videos in the file.")
    return notes


def _check_whole(path: str | Path, packets: int, frames: int) -> None:
    """Refuses a file that was cut; edit lists and still pictures make packets fewer than frames."""
    size, declared = Path(path).stat().st_size, declared_bytes(path) or 0
    if size < declared and not packets >= frames > 0:
        got = f"{packets} of {frames} frames" if frames else f"{size:,} of {declared:,} bytes"
        raise InputError(f"the video {path} must be complete, got {got}; restore the file")


def _empty(path: str | Path) -> InputError:
    return InputError(
        f"the video {path} must have a frame, got none that can be shown; restore the file"
    )


def _videos(container: Any) -> list[Any]:
    """The video streams that are no cover pictures; the first versions of PyAV do not tell."""
    kinds = [(stream, getattr(stream, "disposition", 0)) for stream in container.streams.video]
    return [stream for stream, kind in kinds if not kind & _ATTACHED]


def _container(av: Any, path: str | Path) -> Any:
    file = f"file:{path}"  # Else a name may be taken for an address.
    try:
        return av.open(file, options=_LOCAL)
    except UnicodeDecodeError:  # Early PyAV reads a title in other characters on request alone.
        return av.open(file, options=_LOCAL, metadata_errors="replace")
    except av.ArgumentError as error:
        raise InputError(
            f"the video {path} must be a file of its own such as an MP4 or AVI, got another "
            "kind of file, as is a list of files; give the videos themselves, or restore "
            "it if it is damaged"
        ) from error


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, Any]]:
    """An open container and its video stream; errors of FFmpeg become one sentence."""
    av = require_library("av", purpose="reading video", install="stpatch_jax[video]")
    with parsing(path, "video"), _container(av, path) as container:
        if not (videos := _videos(container)):
            raise InputError(f"{path} must hold video, got none; give another file")
        best = container.streams.best("video")
        stream = best if best in videos else videos[0]
        told = stream.codec_context
        check_bytes(_PIXEL * told.width * told.height, f"a frame of the video {path}")
        # A frame may be larger than the container says.
        told.options = {"max_pixels": str(min(most_bytes() // _PIXEL, 2**31 - 1))}
        yield container, stream
