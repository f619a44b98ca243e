"""Video files, decoded where they are used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.libraries import require_library
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.data.readers.lazy import LazyArray
from stpatch_jax.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")


def open_video(path: str | Path) -> xr.DataArray:
    """Opens a video file as a field that is decoded where it is used, its first stream by FFmpeg.

    Opening it reads the times of all frames and decodes none. Frames are decoded from the last key
    frame before the first one asked for, so that reading a short range does not decode what comes
    before it; containers that do not tell when frames are shown are decoded from their start.

    Returns:
        Field [time, height, width, channel], uint8 from 0 to 255, with the time in seconds since
        the first frame, rows from the top, columns from the left, and the channels red, green and
        blue.

    Raises:
        InputError: If the file is missing, damaged or ends early, or holds no video.
    """
    frames = VideoFrames(path)
    coords: dict[Any, Any] = {"time": ("time", frames.times, {"units": "s"})}
    coords |= {dim: np.arange(frames.shape[at]) for at, dim in ((1, "height"), (2, "width"))}
    coords["channel"] = ["red", "green", "blue"]
    return frames.field(("time", "height", "width", "channel"), coords).assign_attrs(
        source=str(path)
    )


class VideoFrames(LazyArray):
    """The frames of a video file as an array [time, height, width, channel] of uint8.

    Attributes:
        times: Seconds from the first frame to each frame [time], float64.
    """

    def __init__(self, path: str | Path):
        self.path = path
        self.dtype = np.dtype(np.uint8)
        with _opened(path) as (container, stream):
            packets = [packet for packet in container.demux(stream) if packet.size]
            if not packets or len(packets) < stream.frames or any(p.is_corrupt for p in packets):
                raise InputError(
                    f"the video {path} must be complete, got {len(packets)} of "
                    f"{stream.frames or 'its'} frames; restore the file"
                )
            height, width = stream.codec_context.height, stream.codec_context.width
            rate = float(stream.average_rate or 1)
        # Some old containers do not tell when a frame is shown: its number does.
        self._timed = all(packet.pts is not None for packet in packets)
        if self._timed:
            self._stamps = np.sort(np.asarray([packet.pts for packet in packets], np.int64))
            self.times = (self._stamps - self._stamps[0]) * float(packets[0].time_base)
        else:
            with _opened(path) as (container, stream):
                self._stamps = np.arange(sum(1 for _ in container.decode(stream)))
            self.times = self._stamps / rate
        # Some containers seek by the time of decoding, which comes first.
        keys = [packet for packet in packets if packet.is_keyframe and self._timed]
        self._keys = [(p.pts, p.pts if p.dts is None else min(p.pts, p.dts)) for p in keys]
        self.shape = (len(self._stamps), height, width, 3)

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Decodes the frames asked for and picks their pixels and channels.

        Raises:
            InputError: If frames are damaged or of another size than the first one.
        """
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
        with _opened(self.path) as (container, stream):
            # Frames between a key frame and its successor in decoding may be shown before it, so
            # only what is shown after a key frame can be decoded from there.
            before = [seek for shown, seek in self._keys if shown <= self._stamps[first]]
            if len(before) > 1:
                container.seek(before[-1], stream=stream)
            for number, frame in enumerate(container.decode(stream)):
                stamp = frame.pts if self._timed else number
                if stamp is None or stamp < self._stamps[first]:
                    continue
                if stamp > self._stamps[last]:
                    return
                at = int(np.searchsorted(self._stamps, stamp))
                pixels = frame.to_ndarray(format="rgb24")
                if pixels.shape != self.shape[1:]:
                    raise InputError(
                        f"all frames of {self.path} must be {self.shape[1:3]} pixels, got "
                        f"{pixels.shape[:2]} for frame {at}; encode it again at one size"
                    )
                yield at, pixels


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, Any]]:
    """An open container and its first video stream; FFmpeg's errors become one sentence."""
    av = require_library("av", purpose="reading video", install="stpatch_jax[video]")
    # Cameras write titles in encodings of their own.
    with parsing(path, "video"), av.open(str(path), metadata_errors="replace") as container:
        if not container.streams.video:
            raise InputError(f"{path} must hold video, got none; give another file")
        yield container, container.streams.video[0]
