"""Where labelled fields come from: series of the UCR archive, and the movement of stocks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stpatch_jax.data.labelled.fields import (
    LabelledFields,
    UnlabelledFields,
    as_split,
    labelled_arrays,
    split_off,
)
from stpatch_jax.data.protocols import DataConfig, located
from stpatch_jax.data.readers import read_labelled_series
from stpatch_jax.errors import check_range, require


@dataclass(frozen=True)
class LabelledSeriesConfig(DataConfig):
    """Classification of series in a pair of files of the UCR archive, with their official split.

    `path` is the file `NAME_TRAIN.tsv`; `NAME_TEST.tsv` lies beside it. An example is a series
    [time, channel=1].

    Attributes:
        validation_share: Share of the training series to validate on, each class alike, in [0, 1);
            0 trains on all of them, and validates on the same.
        seed: Decides which series are validated on.

    References:
        Dau et al., The UCR time series archive, 2019.
    """

    validation_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("data.validation_share", self.validation_share, 0, 1, bounds="[)")

    def load(self) -> LabelledFields:
        """Reads both files.

        Raises:
            InputError: A file is missing or cannot be read, or the two do not belong together.
        """
        path = Path(self.file())
        folder, slash, name = str(self.path).rpartition("/")
        other = folder + slash + name.replace("_TRAIN", "_TEST").replace("_train", "_test")
        require(
            other != self.path,
            f"data.path must be the file NAME_TRAIN.tsv of a pair, got {path}; NAME_TEST.tsv must "
            "lie beside it",
        )
        test_path = Path(located(other))
        train = read_labelled_series(path)
        test = read_labelled_series(test_path, classes=train.classes)
        require(
            train[0].shape == test[0].shape,
            f"the series of {path.name} and {test_path.name} must be of one length, got "
            f"{len(train[0])} and {len(test[0])} values; correct the files",
        )
        kept, held = split_off(train, self.validation_share, seed=self.seed)
        splits = {"train": kept, "validation": held, "test": as_split(test)}
        return LabelledFields.of(splits, train.classes, source=str(path))

    def of(self, values: Any) -> LabelledFields:
        """The problem on series in memory, see `labelled_arrays`.

        Args:
            values: `(series, labels)`: [item, time, channel] and [item].

        Raises:
            InputError: They do not fit each other, or a class has too few series.
        """
        return labelled_arrays(*values, seed=self.seed)

    def restore(self, path: str, state: Mapping[str, Any]) -> UnlabelledFields:
        """Reads the series of another file for a trained run; their labels may be anything.

        Raises:
            InputError: The file is missing or cannot be read.
        """
        series = read_labelled_series(path).stack()
        numbers = {"line": np.arange(1, len(series) + 1)}
        return UnlabelledFields(series, numbers, state, {"source": path})
