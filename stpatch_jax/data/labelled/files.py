"""Labelled series and volumes in files that say how they are split."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stpatch_jax.data.labelled.augmenting import NO_AUGMENTATION, Augmentation
from stpatch_jax.data.labelled.fields import (
    LabelledFields,
    LabelledSplit,
    UnlabelledFields,
    as_split,
    class_splits,
    drawn_share,
    labelled_arrays,
)
from stpatch_jax.data.protocols import DataConfig, located
from stpatch_jax.data.readers import read_labelled_arrays, read_labelled_series
from stpatch_jax.data.readers.arrays import array_headers, load_array
from stpatch_jax.data.readers.items import read_series
from stpatch_jax.data.readers.pairs import ALL, find_pairs
from stpatch_jax.errors import check_range, check_seed, listed, require

_TEST = {"TRAIN": "TEST", "Train": "Test", "train": "test"}
_TRAIN = re.compile(r"(?<=_)(TRAIN|Train|train)(?=\.|$)")


@dataclass(frozen=True)
class LabelledSeriesConfig(DataConfig):
    """Classification of series in a pair of files of the UCR archive, with their official split.

    `path` is the file `NAME_TRAIN.tsv`; `NAME_TEST.tsv` lies beside it. Of a file of another name a
    fifth of each class validates and a fifth tests. An example is a series [time, channel=1].

    Attributes:
        validation_share: Share of the training series to validate on, each class alike, in [0, 1);
            0 trains on all of them, and validates on the same.
        classes: The labels that are classes, in their order; those of the training file by default.
        encoding: How the characters are stored, UTF-8 by default.
        seed: Decides which series are validated on.

    References:
        Dau et al., The UCR time series archive, 2019.
    """

    validation_share: float = 0.0
    classes: tuple[str, ...] = ()
    encoding: str | None = None
    seed: int = 0

    reading: ClassVar[tuple[str, ...]] = ("encoding", "most_bytes")

    def __post_init__(self) -> None:
        check_range("data.validation_share", self.validation_share, 0, 1, bounds="[)")
        check_seed("data.seed", self.seed)

    def load(self) -> LabelledFields:
        """Reads both files.

        Raises:
            InputError: A file is missing or cannot be read, or the two do not belong together.
        """
        path, options = Path(self.file()), {"encoding": self.encoding}
        train = read_labelled_series(path, classes=self.classes or None, **options)
        folder, slash, name = str(self.path).rpartition("/")
        other = _TRAIN.sub(lambda match: _TEST[match[0]], name)
        if other == name:
            splits, notes = completed({ALL: as_split(train)}, train.classes, seed=self.seed)
            return LabelledFields.of(splits, train.classes, source=str(path), notes=notes)
        test_path = Path(located(folder + slash + other))
        test = read_labelled_series(test_path, classes=train.classes, **options)
        require(
            train[0].shape == test[0].shape,
            f"the series of {path.name} and {test_path.name} must be of one length, got "
            f"{len(train[0])} and {len(test[0])} values; correct the files",
        )
        splits = {"train": as_split(train), "test": as_split(test)}
        share = self.validation_share
        splits, _ = completed(splits, train.classes, seed=self.seed, share=share)
        return LabelledFields.of(splits, train.classes, source=str(path))

    def of(self, values: Any) -> LabelledFields:
        """The problem on `(series, labels)` in memory, see `labelled_arrays`.

        Raises:
            InputError: They do not fit each other, or a class has too few series.
        """
        return labelled_arrays(*values, seed=self.seed)

    def restore(self, path: str, state: Mapping[str, Any]) -> UnlabelledFields:
        """Reads the series of another file for a trained run; their labels may be anything.

        Raises:
            InputError: The file is missing or cannot be read.
        """
        series, _ = read_series(path, encoding=self.encoding)
        numbers = {"line": np.arange(1, len(series) + 1)}
        return UnlabelledFields.of(series, numbers, state, source=path)


@dataclass(frozen=True)
class LabelledVolumesConfig(DataConfig):
    """Classification of volumes in an `.npz` file such as those of MedMNIST, with its own split.

    The file holds volumes [item, z, y, x] or [item, z, y, x, channel] and labels [item] or
    [item, 1], of training, validation and test; which arrays these are is found by `find_pairs`.
    Without a split for validation a fifth of the training volumes of each class validates; without
    any, another fifth tests. An example is a volume of one time [1, z, y, x, channel].

    Attributes:
        items: Names of the arrays of the volumes: of training, validation and test, of training and
            test, or of all; found by default.
        labels: Names of the arrays of their labels.
        classes: The labels that are classes, in their order; those of the training by default.
        augmentation: How training volumes are changed each time they are trained on.
        train_share: Share of the training volumes of each class that are trained on, in (0, 1].
        seed: Decides which.

    References:
        Yang et al., "MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical
        image classification", Scientific Data 2023.
    """

    items: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    augmentation: Augmentation = NO_AUGMENTATION
    train_share: float = 1.0
    seed: int = 0

    reading: ClassVar[tuple[str, ...]] = ("items", "most_bytes")

    def __post_init__(self) -> None:
        check_range("data.train_share", self.train_share, 0, 1, bounds="(]")
        check_seed("data.seed", self.seed)

    def load(self) -> LabelledFields:
        """Reads the file.

        Raises:
            InputError: The file cannot be read, lacks an array, or its volumes differ in size.
        """
        path = Path(self.file())
        headers, name = array_headers(path), path.name
        pairs = find_pairs(headers, items=self.items, labels=self.labels, name=name)
        splits, classes = {}, self.classes or None
        for name, (items, labels) in pairs.items():
            read = read_labelled_arrays(path, items=items, labels=labels, classes=classes)
            fields, classes = _fields(read.items, path), read.classes
            splits[name] = LabelledSplit(fields, read.labels, np.arange(len(read)))
        splits, notes = completed(splits, classes or (), seed=self.seed)
        for name, split in splits.items():
            shapes = split.fields.shape[1:], splits["train"].fields.shape[1:]
            require(
                shapes[0] == shapes[1],
                f"the volumes of {path} must be of one shape, got {shapes[0]} in {name} and "
                f"{shapes[1]} in train; resize them",
            )
        if self.train_share < 1:
            random = np.random.default_rng(self.seed)
            labels = splits["train"].labels
            drawn = drawn_share(labels, classes or (), self.train_share, random=random)
            splits["train"] = splits["train"][drawn]
        data = LabelledFields.of(
            splits,
            classes or (),
            source=str(path),
            augmentation=self.augmentation,
            notes=notes,
        )
        arrays = {split: list(names) for split, names in pairs.items()}
        return replace(data, report={**data.report, "arrays": arrays})

    def of(self, values: Any) -> LabelledFields:
        """The problem on `(volumes, labels)` in memory, see `labelled_arrays`.

        Volumes are [item, z, y, x] or [item, z, y, x, channel].

        Raises:
            InputError: They do not fit each other, or a class has too few volumes.
        """
        volumes, labels = values
        fields = _fields(np.asarray(volumes), "memory")
        return labelled_arrays(fields, labels, seed=self.seed, augmentation=self.augmentation)

    def restore(self, path: str, state: Mapping[str, Any]) -> UnlabelledFields:
        """Reads another file for a trained run: the last of `items`, or its only volumes or test's.

        Raises:
            InputError: The file cannot be read, or it is not clear where its volumes are.
        """
        headers = array_headers(Path(path))
        volumes = [name for name, header in headers.items() if len(header.shape) > 3]
        volumes = [name for name in volumes if "test" in name.lower()] or volumes
        if self.items:
            volumes = [name for name in self.items[-1:] if name in headers]
        require(
            len(volumes) == 1,
            f"it must be clear which array of {path} are the volumes, got {listed(volumes)} among "
            f"{listed(headers)}; name it with items=",
        )
        fields = _fields(load_array(Path(path), volumes[0]), Path(path))
        numbers = {"item": np.arange(len(fields))}
        return UnlabelledFields.of(fields, numbers, state, source=path)


def completed(
    splits: Mapping[str, LabelledSplit], classes: Sequence[str], *, seed: int, share: float = 0.2
) -> tuple[dict[str, LabelledSplit], list[str]]:
    """The splits, where a fifth of each class is drawn for those that a file does not have.

    Of a file without a validation split alone it is the `share`, in [0, 1); with a share of 0 what
    was trained on is then validated on, for protocols without a validation set.

    Returns:
        `train`, `validation` and `test`, and a note of what was drawn.

    Raises:
        InputError: A class has too few items for that.
    """
    if ALL in splits:
        whole = splits[ALL]
        rows = class_splits(whole.labels, classes, validation=0.2, test=0.2, seed=seed)
        note = "The file has no splits: a fifth of each class validates, another one tests."
        return {name: whole[at] for name, at in rows.items()}, [note]
    if "validation" not in splits:
        train, random = splits["train"], np.random.default_rng(seed)
        if not share:
            return {"train": train, "validation": train, "test": splits["test"]}, []
        held = drawn_share(train.labels, classes, share, random=random)
        note = "The file has no validation split: a fifth of each class of the training validates."
        return {"train": train[~held], "validation": train[held], "test": splits["test"]}, [note]
    return dict(splits), []


def _fields(volumes: np.ndarray, path: Path | str) -> np.ndarray:
    require(
        volumes.ndim in (4, 5),
        f"the images of {path} must be volumes [item, z, y, x] or [item, z, y, x, channel], got "
        f"{volumes.shape}; give a file of volumes",
    )
    return volumes[:, None, ..., None] if volumes.ndim == 4 else volumes[:, None]
