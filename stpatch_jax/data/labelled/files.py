"""Labelled series and volumes as two archives store them, read as `LabelledConfig` reads them."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stpatch_jax.data.labelled.augmenting import NO_AUGMENTATION, Augmentation
from stpatch_jax.data.labelled.config import LabelledConfig
from stpatch_jax.data.labelled.found import Found
from stpatch_jax.data.protocols import DataConfig
from stpatch_jax.data.readers.labels import numbered
from stpatch_jax.errors import check_range, check_seed


@dataclass(frozen=True)
class _ArchiveConfig(DataConfig):
    """Base of a `LabelledConfig` in the words of an archive."""

    @property
    @abstractmethod
    def _labelled(self) -> LabelledConfig:
        """The same in the words of all items."""

    def of(self, values: Any) -> Any:
        """The problem on `(items, labels)` in memory; a fifth validates and a fifth tests."""
        return self._labelled.of(values)

    def restore(self, path: str, state: Mapping[str, Any]) -> Any:
        """Reads the items of another file for a trained run; their labels may be anything."""
        return self._labelled.restore(path, state)


@dataclass(frozen=True)
class _Numbered(LabelledConfig):
    """Its labels are numbers of which those behind a gap, such as 255, are no classes."""

    called = "items"

    def _answers(self, found: Found, train: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        labels, name = np.asarray(found.labels), found.source
        classes = self.classes or numbered(labels[train], None, name)[1]
        return numbered(labels, classes, name)


@dataclass(frozen=True)
class LabelledSeriesConfig(_ArchiveConfig):
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

    @property
    def _labelled(self) -> LabelledConfig:
        told: Any = {"classes": self.classes, "encoding": self.encoding, "seed": self.seed}
        return LabelledConfig(self.path, layout="series", **told)

    def load(self) -> Any:
        """Reads both files.

        Raises:
            InputError: One cannot be read, or the two do not belong together.
        """
        return self._labelled.load_as(validation_share=self.validation_share)


@dataclass(frozen=True)
class LabelledVolumesConfig(_ArchiveConfig):
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

    @property
    def _labelled(self) -> LabelledConfig:
        told: Any = {"inputs": self.items, "labels": self.labels, "classes": self.classes}
        told |= {"augmentation": self.augmentation, "seed": self.seed}
        return _Numbered(self.path, layout="volumes", **told)

    def load(self) -> Any:
        """Reads the file.

        Raises:
            InputError: The file cannot be read, lacks an array, or its volumes differ in size.
        """
        return self._labelled.load_as(train_share=self.train_share)
