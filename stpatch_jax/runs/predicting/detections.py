"""Detected objects as a table, one row a box, and as pictures with boxes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stpatch_jax.data import UnboxedFields
from stpatch_jax.errors import require
from stpatch_jax.files import has_suffix, replaced
from stpatch_jax.runs.judging.detection import SURE
from stpatch_jax.runs.predicting.pictures import (
    SHOWN_SUFFIXES,
    coloured,
    frame_rate,
    require_one,
    with_boxes,
    write_strip,
    write_video,
)
from stpatch_jax.runs.predicting.predictor import Predictor, predictors
from stpatch_jax.tasks import Detect

_AXES = ("z", "y", "x")
_MOST = 10


@predictors(Detect, object)
class DetectionPredictor(Predictor):
    """Finds the objects in every frame of the items of a file.

    One row a box, by falling score in each frame: what names the item, `frame` (of the item, from
    0), `class`, `score`, and the bounds in cells, such as `y_min`, `x_min`, `y_max` and `x_max`: a
    cell reaches from its number to the next one. A frame without an object has no row.
    """

    task: Detect
    data: Any

    def table(self) -> pd.DataFrame:
        """As the class says."""
        parts = list(self.found())
        rows, frame, label, score = (np.concatenate([x[at] for x in parts]) for at in range(4))
        boxes = np.concatenate([part[4] for part in parts])
        table = pd.DataFrame(self.names()).iloc[rows].reset_index(drop=True)
        table["frame"] = frame
        table["class"] = [self.data.classes[number] for number in label]
        table["score"] = score
        axes = _AXES[-(boxes.shape[-1] // 2) :]
        bounds = [f"{axis}_{end}" for end in ("min", "max") for axis in axes]
        return table.assign(**dict(zip(bounds, boxes.T, strict=True)))

    def found(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Of each box its example, frame, class, score and bounds; some examples at a time.

        A frame that several examples of an item see is that of the first one.
        """
        names = pd.DataFrame(self.names())
        first = names.pop("frame").to_numpy() if "frame" in names else np.zeros(len(names), int)
        seen: dict[Any, int] = {}
        for rows, answers in self.answered(np.arange(len(self.examples))):
            frames = first[rows, None] + np.arange(answers.valid.shape[1])
            keys = list(names.iloc[rows].itertuples(index=False, name=None))
            new = np.zeros(frames.shape, bool)
            for at, key in enumerate(keys):
                new[at] = frames[at] > seen.get(key, -1)
                seen[key] = int(frames[at].max())
            example, time, detection = np.nonzero(answers.valid & new[..., None])
            picked = (example, time, detection)
            boxes = self.placed(rows[example], answers.boxes[picked].astype(np.float64))
            yield (
                rows[example],
                frames[example, time],
                answers.label[picked],
                answers.score[picked],
                boxes,
            )

    def placed(self, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Boxes [n, bounds] of some examples [n] in the cells of their items."""
        return boxes


@predictors(Detect, UnboxedFields)
class ClipDetectionPredictor(DetectionPredictor):
    """As `DetectionPredictor`, in pixels of the clips; of one clip also as pictures.

    A `.mp4` has every frame with its boxes that are scored 0.3 or more, a `.png` up to ten frames.
    Data have `clips`, which `frames(clip, numbers)` reads, and know by `in_pixels` where boxes of
    examples lie in these.
    """

    suffixes = (*Predictor.suffixes, *SHOWN_SUFFIXES)

    def placed(self, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """As in `DetectionPredictor`."""
        return self.data.in_pixels(rows, boxes)

    def write(self, target: Path) -> str:
        """As in `Predictor`."""
        if not has_suffix(target, *SHOWN_SUFFIXES):
            return super().write(target)
        require_one(len(self.data.clips), target)
        shape = self.data.clips[0].shape
        require(
            len(shape) == 4 and shape[-1] in (1, 3),
            f"a picture must be of [time, height, width, channel] with 1 or 3 channels, got "
            f"{shape} for {target.suffix}; give a .csv",
        )
        count, table = len(self.data.clips[0]), self.table()
        shown = np.arange(count)
        if has_suffix(target, ".png"):
            shown = np.unique(np.linspace(0, count - 1, min(count, _MOST)).round().astype(int))
        frames = self._drawn(table, shown)
        with replaced(target) as part:
            if has_suffix(target, ".mp4"):
                write_video(part, frames, per_second=frame_rate(self.data.clips[0]))
            else:
                write_strip(part, list(frames))
        return f"{len(table)} boxes in {len(shown)} frames: {target}"

    def _drawn(self, table: pd.DataFrame, shown: np.ndarray) -> Iterator[np.ndarray]:
        """Frames of the clip with their boxes, one at a time."""
        sure: Any = table[table["score"] >= SURE]
        by_frame, classes = sure.groupby("frame"), list(self.data.classes)
        for number in map(int, shown):
            frame = coloured(self.data.frames(0, np.array([number])))[0]
            own = by_frame.get_group(number) if number in by_frame.groups else sure[:0]
            words = [f"{a} {b:.2f}" for a, b in zip(own["class"], own["score"], strict=True)]
            labels = [classes.index(name) for name in own["class"]]
            yield with_boxes(frame, own.iloc[:, -4:].to_numpy(), labels, words)
