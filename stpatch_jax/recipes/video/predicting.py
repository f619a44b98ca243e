"""Coming frames of clips of other files, as tables, arrays, pictures and videos."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.files import has_suffix
from stpatch_jax.recipes.video.given import GivenClips
from stpatch_jax.runs.predicting import (
    SHOWN_SUFFIXES,
    ArrayPredictor,
    Room,
    coloured,
    enlarged,
    frame_rate,
    predictors,
    write_each,
    write_frames,
)
from stpatch_jax.tasks import Forecast


@predictors(Forecast, GivenClips)
class FramesPredictor(ArrayPredictor):
    """Forecasts the frames that follow on each clip, from its last ones.

    Its result has `frames` [item, lead_time, height, width, channel] from 0 to 1, and for every
    item what names it and `init_frame`, the number of the last frame that was seen. With `every`,
    forecasts begin at each so many frames from the first context on. A `.mp4` and a `.png` are
    pictures, one an item: see `write_each`.
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
        coords: dict[str, Any] = {name: ("item", of) for name, of in self._items(rows).items()}
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

    def _items(self, rows: np.ndarray) -> dict[str, Any]:
        """What tells forecasts apart, by column [item]."""
        names = {name: np.asarray(of)[rows] for name, of in self.names().items() if name != "frame"}
        return {**names, "init_frame": [int(self.data.reads[row][1][-1]) for row in rows]}

    def write(self, target: Path) -> str:
        """As in `Predictor`."""
        if not has_suffix(target, *SHOWN_SUFFIXES):
            return super().write(target)
        rows = self.origins()
        place = write_each(target, self._items(rows), self._writers(rows))
        return f"{len(rows)} item{'s' * (len(rows) > 1)}: {place}"

    def _writers(self, rows: np.ndarray) -> Iterator[Callable[[Path], None]]:
        """What writes the frames of each forecast."""
        for some, outputs in self.answered(rows):
            for row, made in zip(some, coloured(self.task.point(outputs)), strict=True):
                frames = [enlarged(frame)[0] for frame in made]
                rate = frame_rate(self.data.clips[self.data.reads[row][0]])
                yield partial(write_frames, frames=frames, per_second=rate)
