"""Detected objects as a table, one row a box, and as pictures with boxes."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stpatch_jax.data import UnboxedFields
from stpatch_jax.errors import require
from stpatch_jax.files import has_suffix
from stpatch_jax.runs.judging.detection import SURE
from stpatch_jax.runs.predicting.pictures import (
    SHOWN_SUFFIXES,
    coloured,
    frame_rate,
    with_boxes,
    write_each,
    write_frames,
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
    """As `DetectionPredictor`, in pixels of the clips; also as pictures, one a clip.

    A `.mp4` has every frame with its boxes that are scored 0.3 or more, a `.png` up to ten frames;
    see `write_each`. Data have `clips`, which `frames(clip, numbers)` reads, `items` that tell them
    apart, and know by `in_pixels` where boxes of examples lie in these.
    """

    suffixes = (*Predictor.suffixes, *SHOWN_SUFFIXES)

    def placed(self, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """As in `DetectionPredictor`."""
        return self.data.in_pixels(rows, boxes)

    def write(self, target: Path) -> str:
        """As in `Predictor`."""
        if not has_suffix(target, *SHOWN_SUFFIXES):
            return super().write(target)
        place = write_each(target, self.data.items, self._writers(target.suffix))
        count = len(self.data.clips)
        return f"boxes of {count} clip{'s' * (count > 1)}: {place}"

    def _writers(self, suffix: str) -> Iterator[Callable[[Path], None]]:
        """What writes the frames of each clip, of a `.png` a few of them."""
        for clip in self.data.clips:
            require(
                len(clip.shape) == 4 and clip.shape[-1] in (1, 3),
                f"a picture must be of [time, height, width, channel] with 1 or 3 channels, got "
                f"{clip.shape} for {suffix}; give a .csv",
            )
        table, names = self.table(), self.data.items
        sure = table.loc[table["score"] >= SURE]
        for number, clip in enumerate(self.data.clips):
            shown = range(len(clip))
            if has_suffix(suffix, ".png"):
                shown = np.linspace(0, len(clip) - 1, min(len(clip), _MOST)).round()
            own = sure
            for name, values in names.items():
                own = own.loc[own[name] == values[number]]
            frames = self._drawn(number, own, sorted({*map(int, shown)}))
            yield partial(write_frames, frames=frames, per_second=frame_rate(clip))

    def _drawn(self, clip: int, sure: pd.DataFrame, shown: list[int]) -> Iterator[np.ndarray]:
        """Frames of a clip with their boxes, one at a time."""
        by_frame, classes = sure.groupby("frame"), list(self.data.classes)
        for number in shown:
            frame = coloured(self.data.frames(clip, np.array([number])))[0]
            own = by_frame.get_group(number) if number in by_frame.groups else sure[:0]
            words = [f"{a} {b:.2f}" for a, b in zip(own["class"], own["score"], strict=True)]
            labels = [classes.index(name) for name in own["class"]]
            yield with_boxes(frame, own.iloc[:, -4:].to_numpy(), labels, words)
