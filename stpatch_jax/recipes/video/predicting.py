"""Boxes and coming frames of clips of other files, as tables, arrays, pictures and videos."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.errors import require
from stpatch_jax.files import has_suffix, replaced
from stpatch_jax.recipes.video.given import GivenClips
from stpatch_jax.runs.predicting import (
    ArrayPredictor,
    DetectionPredictor,
    Predictor,
    Room,
    coloured,
    enlarged,
    predictors,
    with_boxes,
    write_strip,
    write_video,
)
from stpatch_jax.tasks import Detect, Forecast

_PICTURES, _MOST = (".mp4", ".png"), 10


@predictors(Detect, GivenClips)
class ClipDetectionPredictor(DetectionPredictor):
    """As `DetectionPredictor`, in pixels of the clips; of one clip also as pictures.

    A `.mp4` has every frame with its boxes, a `.png` up to ten of them.
    """

    suffixes = (*Predictor.suffixes, *_PICTURES)
    data: GivenClips

    def placed(self, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """As in `DetectionPredictor`: out of the square that is seen."""
        squares = [self.data.square(self.data.reads[row][0]) for row in rows]
        corners = np.array([corner * 2 for corner, _ in squares]).reshape(-1, 4)
        sides = np.array([side for _, side in squares]).reshape(-1, 1)
        return boxes * sides / self.data.config.canvas + corners

    def write(self, target: Path) -> str:
        """As in `Predictor`."""
        if not has_suffix(target, *_PICTURES):
            return super().write(target)
        _require_one(len(self.data.clips), target)
        count, table = len(self.data.clips[0]), self.table()
        shown = np.arange(count)
        if has_suffix(target, ".png"):
            shown = np.unique(np.linspace(0, count - 1, min(count, _MOST)).round().astype(int))
        frames = self._drawn(table, shown)
        with replaced(target) as part:
            if has_suffix(target, ".mp4"):
                write_video(part, frames, per_second=_rate(self.data.clips[0]))
            else:
                write_strip(part, list(frames))
        return f"{len(table)} boxes in {len(shown)} frames: {target}"

    def _drawn(self, table: pd.DataFrame, shown: np.ndarray) -> Iterator[np.ndarray]:
        """Frames of the clip with their boxes, one at a time."""
        by_frame, classes = table.groupby("frame"), list(self.data.classes)
        for number in map(int, shown):
            frame = coloured(self.data.frames(0, np.array([number])))[0]
            own = by_frame.get_group(number) if number in by_frame.groups else table[:0]
            words = [f"{a} {b:.2f}" for a, b in zip(own["class"], own["score"], strict=True)]
            labels = [classes.index(name) for name in own["class"]]
            yield with_boxes(frame, own.iloc[:, -4:].to_numpy(), labels, words)


@predictors(Forecast, GivenClips)
class FramesPredictor(ArrayPredictor):
    """Forecasts the frames that follow on each clip, from its last ones.

    Its result has `frames` [item, lead_time, height, width, channel] from 0 to 1, and for every
    item what names it and `init_frame`, the number of the last frame that was seen. With `every`,
    forecasts begin at each so many frames from the first context on. Of one item a `.mp4` and a
    `.png` are pictures.
    """

    suffixes = (*ArrayPredictor.suffixes, *_PICTURES)
    takes = ("every",)
    task: Forecast
    data: GivenClips

    def filled(self, room: Room) -> xr.Dataset:
        """As in `ArrayPredictor`."""
        rows, config = self.origins(), self.data.config
        canvas, horizon = config.canvas, config.horizon
        values = room((len(rows), horizon, canvas, canvas, 1), np.dtype(np.float32))
        done = 0
        for part, outputs in self.answered(rows):
            values[done : done + len(part)] = np.clip(self.task.point(outputs), 0, 1)
            done += len(part)
        coords = self.named(rows)
        coords.pop("frame", None)
        coords["init_frame"] = ("item", [int(self.data.reads[row][1][-1]) for row in rows])
        coords["lead_time"] = (
            "lead_time",
            np.arange(1, horizon + 1),
            {"long_name": "frames ahead"},
        )
        dims = ["item", "lead_time", "height", "width", "channel"]
        return xr.Dataset({"frames": (dims, values)}, coords, self.run.identity)

    def origins(self) -> np.ndarray:
        """Numbers of the examples that end with the last frame of a clip, or every so many."""
        clips, every = np.array([clip for clip, _ in self.data.reads]), self.request.every
        own = (np.flatnonzero(clips == clip) for clip in range(len(self.data.clips)))
        return np.concatenate([rows[::every] if every else rows[-1:] for rows in own])

    def write(self, target: Path) -> str:
        """As in `Predictor`."""
        if has_suffix(target, *_PICTURES):
            _require_one(len(self.origins()), target)
        return super().write(target)

    def save(self, part: Path, made: xr.Dataset) -> None:
        """As in `ArrayPredictor`."""
        if not has_suffix(part, *_PICTURES):
            super().save(part, made)
            return
        frames = [enlarged(frame)[0] for frame in coloured(made.frames.values[0])]
        if has_suffix(part, ".mp4"):
            write_video(part, frames, per_second=_rate(self.data.clips[0]))
        else:
            write_strip(part, frames)


def _require_one(items: int, target: Path) -> None:
    require(
        items == 1,
        f"a picture must be of one item, got {items} for {target.suffix}; choose another of the "
        "outputs, or give one clip without every=",
    )


def _rate(clip: Any) -> float:
    """Frames per second of a clip; four of what tells no times."""
    times = xr.DataArray(clip).coords.get("time")
    steps = np.diff(times.values[:2]) if times is not None else []
    return float(np.clip(1 / steps[0], 1, 60)) if len(steps) else 4.0
