"""Boxes and coming frames of clips of other files, as tables, arrays, pictures and videos."""

from pathlib import Path

import numpy as np
import xarray as xr

from stpatch_jax.files import has_suffix
from stpatch_jax.recipes.video.given import GivenClips
from stpatch_jax.runs.predicting import (
    SHOWN_SUFFIXES,
    ArrayPredictor,
    ClipDetectionPredictor,
    Room,
    coloured,
    enlarged,
    frame_rate,
    predictors,
    require_one,
    write_strip,
    write_video,
)
from stpatch_jax.tasks import Detect, Forecast

predictors(Detect, GivenClips)(ClipDetectionPredictor)


@predictors(Forecast, GivenClips)
class FramesPredictor(ArrayPredictor):
    """Forecasts the frames that follow on each clip, from its last ones.

    Its result has `frames` [item, lead_time, height, width, channel] from 0 to 1, and for every
    item what names it and `init_frame`, the number of the last frame that was seen. With `every`,
    forecasts begin at each so many frames from the first context on. Of one item a `.mp4` and a
    `.png` are pictures.
    """

    suffixes = (*ArrayPredictor.suffixes, *SHOWN_SUFFIXES)
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
        if has_suffix(target, *SHOWN_SUFFIXES):
            require_one(len(self.origins()), target)
        return super().write(target)

    def save(self, part: Path, made: xr.Dataset) -> None:
        """As in `ArrayPredictor`."""
        if not has_suffix(part, *SHOWN_SUFFIXES):
            super().save(part, made)
            return
        frames = [enlarged(frame)[0] for frame in coloured(made.frames.values[0])]
        if has_suffix(part, ".mp4"):
            write_video(part, frames, per_second=frame_rate(self.data.clips[0]))
        else:
            write_strip(part, frames)
