"""Pictures and videos of frames, to be looked at."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.readers import require_library
from stpatch_jax.errors import require
from stpatch_jax.files import has_suffix, replaced
from stpatch_jax.plotting.style import COLOURS

SHOWN_SUFFIXES = (".mp4", ".png")
"""How the names of what people look at end."""
WRITE = "w"
"""The mode of archives and videos, which know no other for bytes."""

_LEAST = 256
"""Pixels that a side of a picture has at least: a frame of few is drawn larger."""
_ACROSS = 5
"""Frames in a row of a picture."""
_MOST_LETTERS = 80
"""Of the name of a picture's file."""


def coloured(frames: np.ndarray) -> np.ndarray:
    """Frames [..., height, width, 1 or 3] in red, green and blue [..., height, width, 3], uint8.

    Floats are from 0 to 1, and cut off there; uint8 stay.

    >>> coloured(np.array([[[[0.0], [0.5], [2.0]]]])).tolist()
    [[[[0, 0, 0], [128, 128, 128], [255, 255, 255]]]]
    """
    if frames.dtype != np.uint8:
        frames = np.rint(255 * np.clip(frames, 0, 1)).astype(np.uint8)
    return np.broadcast_to(frames, (*frames.shape[:-1], 3))


def enlarged(frame: np.ndarray) -> tuple[np.ndarray, int]:
    """A small picture [height, width, channel] with every pixel repeated, and how many times."""
    times = max(1, -(-_LEAST // max(frame.shape[:2])))
    return frame.repeat(times, 0).repeat(times, 1), times


def with_boxes(
    frame: np.ndarray, boxes: np.ndarray, labels: Sequence[int], words: Sequence[str]
) -> np.ndarray:
    """A coloured picture of a frame with boxes and a word at each, one colour a class.

    The frame is [height, width, 3] uint8, boxes [n, 4] are bounds `(top, left, bottom, right)` in
    its pixels.
    """
    from PIL import Image, ImageDraw

    pixels, times = enlarged(frame)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    draw = ImageDraw.Draw(picture)
    for (top, left, bottom, right), label, word in zip(boxes * times, labels, words, strict=True):
        colour = COLOURS[int(label) % 6]
        draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=2)
        at = (max(left, 0) + 3, max(top, 0) + 2)
        draw.rectangle(draw.textbbox(at, word), fill=colour)
        draw.text(at, word, fill="white")
    return np.asarray(picture)


def write_each(
    target: Path, names: Mapping[str, Sequence[Any]], writers: Iterable[Callable[[Path], object]]
) -> Path:
    """Writes a picture or video of each item; of several into a new folder.

    Args:
        target: The file, such as `boxes.mp4`. Of several items it names the folder `boxes`, which
            gets a file of each.
        names: What tells the items apart, by column [item].
        writers: Of each item what writes its file, made where it is asked for.

    Returns:
        The file, or the folder.

    Raises:
        InputError: The folder exists; nothing was computed then.
    """
    files = _file_names(names)
    place = target if len(files) == 1 else target.with_suffix("")
    require(
        place == target or not place.exists(),
        f"the folder of {len(files)} pictures must be new, got {place}, which exists; choose "
        "another name",
    )
    with replaced(place) as part:
        if place != target:
            part.mkdir()
        for name, write in zip(files, writers, strict=True):
            write(part if place == target else part / f"{name}{target.suffix}")
    return place


def _file_names(names: Mapping[str, Sequence[Any]]) -> list[str]:
    """A name for the file of each item, which every file system knows, no two alike.

    >>> _file_names({"file": ["a.npy", "a.npy", "../b c.mp4"], "item": [0, 1, 0]})
    ['a_0', 'a_1', 'b_c_0']
    >>> _file_names({"file": ["a.mp4", "A.avi", "b"]})
    ['a_0', 'A_1', 'b']
    """
    words = []
    for number, row in enumerate(zip(*names.values(), strict=True)):
        parts = (re.sub(r"\.[a-z]\w{1,4}$", "", Path(str(of)).name, flags=re.I) for of in row)
        word = re.sub(r"[^\w.-]+", "_", "_".join(parts)).strip("._")[:_MOST_LETTERS]
        words.append(word or str(number))
    counts = Counter(map(str.lower, words))
    return [f"{w}_{at}" if counts[w.lower()] > 1 else w for at, w in enumerate(words)]


def write_frames(part: Path, frames: Iterable[np.ndarray], *, per_second: float) -> None:
    """Writes coloured frames of one size as a video, or as one picture where that is a `.png`."""
    if has_suffix(part, ".png"):
        write_strip(part, list(frames))
    else:
        write_video(part, frames, per_second=per_second)


def write_video(part: Path, frames: Iterable[np.ndarray], *, per_second: float) -> None:
    """Writes coloured frames [height, width, 3], uint8, as a video that players know.

    Sizes are even there: an odd side ends with its last pixel twice.
    """
    av = require_library("av", purpose="writing video", install="stpatch_jax[video]")
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(part), WRITE) as container:
        stream: Any = None
        for frame in frames:
            height, width = frame.shape[:2]
            pixels = np.pad(frame, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
            if stream is None:
                stream = container.add_stream(codec, rate=round(per_second))
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_strip(part: Path, frames: Sequence[np.ndarray]) -> None:
    """Writes coloured frames of one size as one picture, five in a row, white lines between."""
    from PIL import Image

    framed = [np.pad(frame, [(1, 1), (1, 1), (0, 0)], constant_values=255) for frame in frames]
    across = min(_ACROSS, len(framed))
    framed += [np.full_like(framed[0], 255)] * (-len(framed) % across)
    rows = [np.concatenate(framed[at : at + across], 1) for at in range(0, len(framed), across)]
    Image.fromarray(np.concatenate(rows)).save(part, "PNG")


def frame_rate(clip: Any) -> float:
    """Frames per second of a clip; four of what tells no times."""
    times = xr.DataArray(clip).coords.get("time")
    steps = np.diff(times.values[:2]) if times is not None else []
    return float(np.clip(1 / steps[0], 1, 60)) if len(steps) else 4.0
