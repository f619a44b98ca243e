"""Classification problems on labelled fields that fit into memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stpatch_jax.data.readers import LabelledItems
from stpatch_jax.data.sampling import Batch, Source
from stpatch_jax.data.scaling import StandardScaler
from stpatch_jax.errors import require


@dataclass(frozen=True, eq=False)
class LabelledSplit:
    """The examples of one split.

    Attributes:
        fields: [example, time, *space, channel], unscaled.
        labels: Number of the class of each example [example].
        groups: Number of the group of each example [example], such as its day: examples of one
            group are not independent of each other, and are resampled together.
    """

    fields: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True, eq=False)
class LabelledFields:
    """Labelled fields by split, scaled by the training ones; made by a config's `load`.

    Attributes:
        splits: Unscaled fields and class numbers of `train`, `validation` and `test`.
        classes: Names of the classes.
        scaler: Mean and standard deviation of each channel, of the training fields.
        report: What was read, and how many examples of each class the splits hold; JSON-able.
    """

    splits: Mapping[str, LabelledSplit]
    classes: tuple[str, ...]
    scaler: StandardScaler
    report: dict[str, Any]

    @classmethod
    def of(
        cls, splits: Mapping[str, LabelledSplit], classes: Sequence[str], *, source: str
    ) -> "LabelledFields":
        """Fits the scaling to the training fields.

        Raises:
            InputError: A split is empty.
        """
        for name, split in splits.items():
            require(
                len(split.labels) > 0,
                f"the {name} split of {source} must have an example, but it has none; use more "
                "data or other dates or shares",
            )
        train = splits["train"].fields
        scaler = StandardScaler.fit(train.reshape(-1, train.shape[-1]))
        counts = {
            name: dict(zip(classes, _counts(split.labels, classes), strict=True))
            for name, split in splits.items()
        }
        report = {"source": source, "shape": list(train.shape[1:]), "splits": counts}
        return cls(splits, tuple(classes), scaler, report)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of training examples of each class."""
        return _counts(self.splits["train"].labels, self.classes)

    def source(self, split: str) -> Source:
        """The examples of a split.

        Each is a dict of `field` [time, *space, channel], scaled, NaN as 0, float32, and `label`
        and `group`, int32 scalars.

        Raises:
            InputError: If there is no such split.
        """
        require(
            split in self.splits,
            f"split must be one of {', '.join(self.splits)}, but it is {split!r}; choose one of "
            "them",
        )
        chosen = self.splits[split]
        scaled = np.nan_to_num(self.scaler.transform(chosen.fields.astype(np.float64)))
        numbers = chosen.labels.astype(np.int32), chosen.groups.astype(np.int32)
        return _Examples(scaled.astype(np.float32), *numbers)

    def scaler_state(self) -> dict[str, Any]:
        """The fitted scaling and the classes, JSON-able."""
        return {"classes": list(self.classes), **self.scaler.to_dict()}


@dataclass(frozen=True, eq=False)
class _Examples:
    fields: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int, /) -> Batch:
        return {"field": self.fields[i], "label": self.labels[i], "group": self.groups[i]}


def _counts(labels: np.ndarray, classes: Sequence[str]) -> tuple[int, ...]:
    return tuple(np.bincount(labels, minlength=len(classes)).tolist())


def split_off(
    items: LabelledItems, share: float, *, seed: int
) -> tuple[LabelledSplit, LabelledSplit]:
    """Splits labelled items at random into training and validation, each class by the same share.

    Args:
        items: The items.
        share: Share of the items in validation, in [0, 1). With 0 both parts are all items: what
            was trained on is then validated on, for protocols without a validation set.
        seed: Decides which.

    Returns:
        Training and validation.

    Raises:
        InputError: A class has too few items to be in both parts.
    """
    labels = items.labels
    everything = as_split(items)
    if not share:
        return everything, everything
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for number, name in enumerate(items.classes):
        members = random.permutation(np.flatnonzero(labels == number))
        count = round(share * len(members))
        require(
            0 < count < len(members),
            f"class {name} must have items for training and validation, but a share of {share:g} "
            f"of its {len(members)} items is {count}; use more items or another share",
        )
        chosen[members[:count]] = True
    kept, held = (
        LabelledSplit(everything.fields[rows], labels[rows], everything.groups[rows])
        for rows in (~chosen, chosen)
    )
    return kept, held


def as_split(items: LabelledItems) -> LabelledSplit:
    """All of some labelled items, each a group of its own.

    Raises:
        InputError: Two items differ in their shape.
    """
    return LabelledSplit(items.stack(), items.labels, np.arange(len(items)))
