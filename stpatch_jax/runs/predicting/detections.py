"""Detected objects as a table: one row a box."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from stpatch_jax.runs.predicting.predictor import Predictor, predictors
from stpatch_jax.tasks import Detect

_AXES = ("z", "y", "x")


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
