"""Clips of other files for a trained run: as its examples are, grey and on its canvas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from stpatch_jax.data import EVERYTHING, Batch, MadeExamples, Source
from stpatch_jax.data.labelled.boxed import UnboxedFields
from stpatch_jax.data.labelled.clips import resized
from stpatch_jax.data.protocols import chosen_split
from stpatch_jax.data.readers import read_items
from stpatch_jax.errors import InputError, require

# What red, green and blue add to brightness (ITU-R BT.601).
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, eq=False)
class GivenClips(UnboxedFields):
    """Clips of files, of each of which some frames are read where they are used.

    They are [time, height, width, channel], from 0 to 255 as integers or from 0 to 1 as floats;
    `config` are the settings of the run.
    """

    config: Any

    @classmethod
    def of(cls, config: Any, path: str, trained: Mapping[str, Any]) -> "GivenClips":
        """Opens a clip, all clips in a folder, or an array of clips."""
        clips, names, notes = _opened(path)
        reads, frames = [], config.seen
        for number, (clip, name) in enumerate(zip(clips, names["file"], strict=True)):
            require(
                len(clip) >= frames,
                f"every clip must have the {frames} frames that an example of the run sees, got "
                f"{len(clip)} in {name}; give longer clips",
            )
            reads += [(number, at) for at in config.read(len(clip))]
        canvas = config.canvas
        sizes = {tuple(map(int, clip.shape[1:3])) for clip in clips} - {(canvas, canvas)}
        for height, width in sorted(sizes)[:3]:
            notes.append(
                f"Of frames of {height} x {width} pixels the square in the middle was resized to "
                f"the {canvas} x {canvas} of the run."
            )
        return cls(clips, names, reads, trained, {"source": path, "notes": notes}, config)

    def source(self, split: str) -> Source:
        """The examples of the only split, `EVERYTHING`, without labels and targets."""
        reads = chosen_split({EVERYTHING: self.reads}, split)
        return MadeExamples(partial(self._example, reads), len(reads))

    def _example(self, reads: Sequence[tuple[int, np.ndarray]], i: int) -> Batch:
        clip, frames = reads[i]
        canvas = self.config.canvas
        corner, side = self.square(clip)
        seen = resized(self.grey(clip, frames), corner, side, canvas)
        return self.config.given(np.ascontiguousarray(seen))

    def square(self, clip: int) -> tuple[tuple[float, float], int]:
        """Upper left corner and side of the square of a clip that is seen, in pixels."""
        height, width = self.clips[clip].shape[1:3]
        side = min(height, width)
        return ((height - side) / 2, (width - side) / 2), side

    def in_pixels(self, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Boxes [n, bounds] of some examples [n] in pixels: out of the square that is seen."""
        squares = [self.square(self.reads[row][0]) for row in rows]
        corners = np.array([corner * 2 for corner, _ in squares]).reshape(-1, 4)
        sides = np.array([side for _, side in squares]).reshape(-1, 1)
        return boxes * sides / self.config.canvas + corners

    def grey(self, clip: int, frames: np.ndarray) -> np.ndarray:
        """Some frames of a clip [time, height, width, 1], float32 from 0 to 1."""
        pixels = self.frames(clip, frames)
        values = pixels.astype(np.float32) / (255 if pixels.dtype == np.uint8 else 1)
        low, high = float(values.min()), float(values.max())
        require(
            low >= 0 and high <= 1,
            f"{self.items['file'][clip]} must hold pixels from 0 to 255 as uint8, or numbers from "
            f"0 to 1, got {low:g} to {high:g}; bring it to one of these",
        )
        return values if values.shape[-1] == 1 else (values @ _GREY)[..., None]


def _opened(path: str) -> tuple[list[Any], dict[str, list[Any]], list[str]]:
    """Clips [time, height, width, channel], what tells them apart, and notes."""
    files = read_items(path)
    clips, names, items = [], [], []
    for at, name in enumerate(files.names):
        read = files.items.open(at)
        shape = tuple(map(int, read.shape))
        # Colours are the last axis of a clip; an array without one, and one of clips, get one.
        coloured = len(shape) > 3 and shape[-1] in (1, 3)
        axes = len(shape) - coloured
        if axes not in (3, 4):
            raise InputError(
                f"{name} must be a clip [time, height, width], with 1 or 3 channels behind if any, "
                f"or an array of clips [item, time, height, width], got shape {shape}; save it so"
            )
        whole = read if coloured else np.asarray(read)[..., None]
        several = [whole] if axes == 3 else list(whole)
        clips += several
        names += [name] * len(several)
        items += range(len(several))
    many = {"item": items} if len(clips) > len(files.names) else {}
    return clips, {"file": names, **many}, list(files.notes)
