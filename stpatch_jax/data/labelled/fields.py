"""Problems on fields that fit into memory, each with a class or with numbers to tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from stpatch_jax.data.identity import FieldIdentity
from stpatch_jax.data.labelled.augmenting import Augmentation
from stpatch_jax.data.protocols import EVERYTHING, GivenProblem, InputAxes, Problem, chosen_split
from stpatch_jax.data.sampling.batches import Batch, Source
from stpatch_jax.data.transforms.steps import Affine
from stpatch_jax.data.transforms.unlike import items_unlike
from stpatch_jax.errors import InputError, check_range, check_seed, listed, require


@dataclass(frozen=True, eq=False)
class LabelledSplit:
    """The examples of one split.

    Attributes:
        fields: [example, time, *space, channel], unscaled.
        labels: Number of the class of each example [example], or its numbers [example, target].
        groups: Number of the group of each example [example], such as its day: examples of one
            group are not independent of each other, and are resampled together.
    """

    fields: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "LabelledSplit":
        """Some of the examples, by a mask or by their numbers."""
        return LabelledSplit(self.fields[rows], self.labels[rows], self.groups[rows])


@dataclass(frozen=True, eq=False)
class UnlabelledFields(GivenProblem):
    """The fields of another file for a trained run, scaled as its own; nothing is fitted.

    Attributes:
        fields: [item, time, *space, channel], unscaled.
        items: What tells the items apart, by the name of its column [item].
        trained: What `LabelledFields.state` gave.
    """

    fields: np.ndarray
    items: Mapping[str, np.ndarray]
    trained: Mapping[str, Any]
    report: dict[str, Any]

    @classmethod
    def of(
        cls,
        fields: np.ndarray,
        items: Mapping[str, np.ndarray],
        trained: Mapping[str, Any],
        *,
        source: str,
        notes: Sequence[str] = (),
    ) -> "UnlabelledFields":
        """Compares the fields of a file with those of the run.

        Raises:
            InputError: One holds pixels, the other one does not, or they differ in channels.
        """
        identity = FieldIdentity.of_state(trained)
        identity.match_type(fields.dtype, name=source)
        # A single channel would be scaled as each of several.
        require(
            fields.shape[-1] == len(identity.channels),
            f"the items of {source} must have the channels of the run, {len(identity.channels)}, "
            f"got {fields.shape[-1]}; give a file of the same kind",
        )
        notes = [*notes, *items_unlike([*fields], Affine.from_dict(trained), name=source)]
        return cls(fields, items, trained, {"source": source, "notes": notes})

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the numbers that the run tells."""
        return tuple(self.trained["targets"])

    def in_units(self, values: np.ndarray) -> np.ndarray:
        """Scaled targets [item, target] in their own units, float64."""
        return Affine.from_dict(self.trained["target_scaling"]).inverse(values)

    def source(self, split: str) -> Source:
        """The examples of the only split, `EVERYTHING`: each a dict of `field` alone, scaled."""
        fields = chosen_split({EVERYTHING: self.fields}, split)
        _count_missing(fields, self.report["source"])
        return [{"field": field} for field in as_inputs(fields, Affine.from_dict(self.trained))]

    def names(self, split: str) -> Mapping[str, np.ndarray]:
        """What tells the items apart."""
        return chosen_split({EVERYTHING: self.items}, split)


@dataclass(frozen=True, eq=False)
class ItemFields(Problem):
    """Fields by split, scaled by the training ones; base of those with classes and with numbers.

    Attributes:
        splits: Unscaled fields and labels of `train`, `validation` and `test`.
        scaler: Mean and standard deviation of each channel, of the training fields.
        report: What was read; JSON-able.
        identity: Shape and type of a field, and the step of the rows it is cut from, if any.
        augmentation: How training examples are changed each time they are trained on.
        words: Of texts the words that stand at the times of each example, by split.
        channels: Names of the channels.
        fitted: What else was fitted to the training examples, a part of `state`.
    """

    splits: Mapping[str, LabelledSplit]
    scaler: Affine
    report: dict[str, Any]
    identity: FieldIdentity
    augmentation: Augmentation | None = None
    words: Mapping[str, Sequence[Sequence[str]]] | None = None
    channels: tuple[str, ...] | None = None
    fitted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> dict[str, Any]:
        """The names of what labels mean."""
        raise NotImplementedError

    def answers(self, labels: np.ndarray) -> dict[str, np.ndarray]:
        """What examples [example] hold of their labels, by the name of the array."""
        raise NotImplementedError

    @staticmethod
    def fitting(
        splits: Mapping[str, LabelledSplit],
        *,
        source: str,
        augmentation: Augmentation | None = None,
        notes: Sequence[str] = (),
    ) -> dict[str, Any]:
        """The attributes of the fields alone: the scaling fitted to the training fields, a report.

        Raises:
            InputError: A split is empty or has infinite values, or its fields cannot be changed so.
        """
        for name, split in splits.items():
            require(
                len(split.labels) > 0,
                f"the {name} split of {source} must have an example, got none; use more data or "
                "other dates or shares",
            )
        # Those that are trained on may be validated on again.
        each = {id(split.fields): split.fields for split in splits.values()}
        missing = sum(_count_missing(fields, source) for fields in each.values())
        if missing:
            notes = [*notes, f"{missing:,} missing values are read as the mean of their channel."]
        train = splits["train"].fields
        identity = FieldIdentity.of_items(train.shape[1:], train.dtype)
        for name, split in splits.items():
            what = f"the {name} split of {source}"
            identity.match_type(split.fields.dtype, name=what, like="the training split")
        if augmentation is not None:
            augmentation.check(train.shape[1:])
        report = {"source": source, "shape": list(train.shape[1:]), "notes": [*notes]}
        scaler = Affine.standard(train.reshape(-1, train.shape[-1]))
        return {
            "splits": splits,
            "scaler": scaler,
            "report": report,
            "identity": identity,
            "augmentation": augmentation,
        }

    def source(self, split: str) -> Source:
        """The examples of a split.

        Each is a dict of `field` [time, *space, channel], scaled, NaN as 0, float32, of `answers`,
        and of `group`, an int32 scalar. Those of `train` are an `AugmentedSource` where there is an
        augmentation.
        """
        examples = chosen_split(self.splits, split)
        scaled = as_inputs(examples.fields, self.scaler)
        others = {**self.answers(examples.labels), "group": examples.groups.astype(np.int32)}
        if split == "train" and self.augmentation is not None:
            return _Augmented(scaled, others, self.augmentation)
        return _Examples(scaled, others)

    def state(self) -> dict[str, Any]:
        """The fitted scaling, the names of labels, and what tells another file of the kind."""
        own = {**self.told, "identity": self.identity.to_dict()}
        return {**own, **self.scaler.to_dict(), **self.fitted}

    def content(self, split: str) -> Mapping[str, Any]:
        """The unscaled fields, of texts their words, with labels, groups and all names."""
        own = chosen_split(self.splits, split)
        read = own.fields if self.words is None else self.words[split]
        names = {**self.told, "channels": self.channels}
        return {"fields": read, "labels": own.labels, "groups": own.groups, **names}

    def input_axes(self, split: str, number: int) -> InputAxes:
        """The names of the channels and the words of a text, where there are any."""
        words = None if self.words is None else self.words[split][number]
        return InputAxes(channels=self.channels, words=words)


@dataclass(frozen=True, eq=False)
class LabelledFields(ItemFields):
    """Labelled fields by split, see `ItemFields`; made by a config's `load`.

    Attributes:
        classes: Names of the classes.
    """

    classes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        splits: Mapping[str, LabelledSplit],
        classes: Sequence[str],
        *,
        source: str,
        augmentation: Augmentation | None = None,
        notes: Sequence[str] = (),
    ) -> "LabelledFields":
        """Fits the scaling to the training fields; `notes` go into the report.

        Raises:
            InputError: A split is empty or has infinite values, or its fields cannot be changed so.
        """
        own = cls.fitting(splits, source=source, augmentation=augmentation, notes=notes)
        counts = _counts(splits["train"].labels, classes)
        if none := [name for name, count in zip(classes, counts, strict=True) if not count]:
            own["report"]["notes"].append(f"No training example is of the class {listed(none)}.")
        labels = {name: split.labels for name, split in splits.items()}
        own["report"]["splits"] = class_table(labels, classes)
        return cls(**own, classes=tuple(classes))

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of training examples of each class."""
        return _counts(self.splits["train"].labels, self.classes)

    @property
    def told(self) -> dict[str, Any]:
        """The names of the classes."""
        return {"classes": list(self.classes)}

    def answers(self, labels: np.ndarray) -> dict[str, np.ndarray]:
        """The number of the class, `label`, int32."""
        return {"label": labels.astype(np.int32)}


@dataclass(frozen=True, eq=False)
class MeasuredFields(ItemFields):
    """Fields with numbers by split, see `ItemFields`; made by `MeasuredConfig.load`.

    Attributes:
        targets: Names of the numbers.
        target_scaler: Their mean and standard deviation, of the training examples.
    """

    targets: tuple[str, ...] = ()
    target_scaler: Affine = field(default_factory=lambda: Affine(np.zeros(1), np.ones(1)))

    @classmethod
    def of(
        cls,
        splits: Mapping[str, LabelledSplit],
        targets: Sequence[str],
        *,
        source: str,
        augmentation: Augmentation | None = None,
        notes: Sequence[str] = (),
    ) -> "MeasuredFields":
        """Fits both scalings to the training examples; `notes` go into the report.

        Raises:
            InputError: A split is empty or has infinite values, or its fields cannot be changed so;
                or a target is the same for all training examples.
        """
        own = cls.fitting(splits, source=source, augmentation=augmentation, notes=notes)
        train = splits["train"].labels
        if same := [n for n, of in zip(targets, np.ptp(train, axis=0), strict=True) if of == 0]:
            raise InputError(
                f"the targets of {source} must differ among the training items, got one value of "
                f"{listed(same)} for all; name another one with labels="
            )
        own["report"]["splits"] = {
            name: {"examples": len(split.labels)} for name, split in splits.items()
        }
        return cls(**own, targets=tuple(targets), target_scaler=Affine.standard(train))

    @property
    def target_medians(self) -> tuple[float, ...]:
        """Median of each target over the training examples, scaled."""
        scaled = self.target_scaler.transform(self.splits["train"].labels)
        return tuple(np.median(scaled, axis=0).tolist())

    @property
    def told(self) -> dict[str, Any]:
        """The names of the targets."""
        return {"targets": list(self.targets)}

    def state(self) -> dict[str, Any]:
        """As in `ItemFields`, with the scaling of the targets."""
        return {**super().state(), "target_scaling": self.target_scaler.to_dict()}

    def answers(self, labels: np.ndarray) -> dict[str, np.ndarray]:
        """The scaled numbers, `target` [target], float32."""
        return {"target": self.target_scaler.transform(labels).astype(np.float32)}

    def in_units(self, values: np.ndarray) -> np.ndarray:
        """Scaled targets [example, target] in their own units, float64."""
        return self.target_scaler.inverse(np.asarray(values, np.float64))


@dataclass(frozen=True, eq=False)
class _Examples:
    fields: np.ndarray
    others: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, i: int, /) -> Batch:
        return {"field": self.fields[i], **{name: of[i] for name, of in self.others.items()}}


@dataclass(frozen=True, eq=False)
class _Augmented(_Examples):
    augmentation: Augmentation

    def drawn(self, i: int, random: np.random.Generator, /) -> Batch:
        return {**self[i], "field": self.augmentation(self.fields[i], random)}


def _count_missing(fields: np.ndarray, source: str) -> int:
    """How many values are NaN."""
    if fields.dtype.kind != "f":
        return 0
    infinite = np.isinf(fields).reshape(len(fields), -1).any(axis=1)
    require(
        not infinite.any(),
        f"every value of {source} must be a number, or NaN where missing, got an infinite one in "
        f"item {int(infinite.argmax())}; correct it",
    )
    return int(np.isnan(fields).sum())


def as_inputs(fields: np.ndarray, scaler: Affine) -> np.ndarray:
    """Fields [..., channel] as a network takes them, NaN as 0, float32."""
    return np.nan_to_num(scaler.transform(fields.astype(np.float64))).astype(np.float32)


def _counts(labels: np.ndarray, classes: Sequence[str]) -> tuple[int, ...]:
    return tuple(np.bincount(labels, minlength=len(classes)).tolist())


def class_table(
    labels: Mapping[str, np.ndarray], classes: Sequence[str]
) -> dict[str, dict[str, int]]:
    """How many examples of each class each split holds, by split and class.

    Raises:
        InputError: There is one class alone, which nothing is told apart from.
    """
    require(
        len(classes) > 1,
        f"the labels must be of two classes or more, got {listed(classes)} alone; give items of "
        "another class, too",
    )
    return {
        name: dict(zip(classes, _counts(numbers, classes), strict=True))
        for name, numbers in labels.items()
    }


def class_splits(
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    validation: float,
    test: float,
    seed: int,
    told: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Splits items of classes `labels` [item] at random, each class by the same shares.

    Where the split of each item is told, only a split that has none is drawn, from the training. A
    share of 0 takes what is trained on.

    Returns:
        Numbers of the items of `train`, `validation` and `test`, ascending.

    Raises:
        InputError: A class has too few items to be in all that are drawn.
    """
    random = np.random.default_rng(seed)
    of = np.asarray(told or ["train"] * len(labels))
    rows = {name: np.flatnonzero(of == name) for name in ("train", "validation", "test")}
    left = 1 if len(rows["test"]) else 1 - test
    for name, share in (("test", test), ("validation", validation / left)):
        if not share:
            rows[name] = rows["train"]
        elif not len(rows[name]):
            held = drawn_share(labels[rows["train"]], classes, share, random=random)
            rows[name], rows["train"] = rows["train"][held], rows["train"][~held]
    return rows


def drawn_share(
    labels: np.ndarray, classes: Sequence[str], share: float, *, random: np.random.Generator
) -> np.ndarray:
    """Draws the same share, in (0, 1), of each class.

    Returns:
        Bool [item], True for those drawn, of items whose classes are numbers `labels` [item].

    Raises:
        InputError: None of a class would be drawn, or all of it.
    """
    drawn = np.zeros(len(labels), bool)
    for number, name in enumerate(classes):
        members = random.permutation(np.flatnonzero(labels == number))
        count = round(share * len(members))
        require(
            0 < count < len(members),
            f"class {name} must have items for training and validation, got {count} as a share of "
            f"{share:g} of its {len(members)} items; use more or another share, or leave it out",
        )
        drawn[members[:count]] = True
    return drawn


def k_fold(
    labels: Sequence[object] | np.ndarray, folds: int, *, seed: int, stratified: bool = True
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Splits items of classes `labels` [item] into folds; every item is tested exactly once.

    scikit-learn's `StratifiedKFold`, or `KFold`, with shuffling: the same folds for the same seed.
    For windows of one series use `chronological_splits`, as neighbours in time are no independent
    items. In stratified folds each class has about the same share.

    Returns:
        For each fold the numbers of its training items and of its test items, int64, ascending.

    Raises:
        InputError: If an item has no class, there are too few items, or too few of one class.

    >>> train, test = k_fold([0, 0, 1, 1], 2, seed=0)[0]
    >>> len(train), len(test)
    (2, 2)
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    classes = np.asarray(labels)
    missing = pd.isna(classes)
    require(
        not missing.any(),
        f"every item must have a class, got none for item {int(missing.argmax())}; label it or "
        "leave it out",
    )
    check_range("the number of folds of these items", folds, 2, len(classes))
    check_seed("seed", seed)
    if stratified:
        names, counts = np.unique(classes, return_counts=True)
        require(
            counts.min() >= folds,
            f"every class must have at least {folds} items for {folds} stratified folds, got "
            f"{counts.min()} of {names[counts.argmin()]!s}; use fewer folds or stratified=False",
        )
    kind = StratifiedKFold if stratified else KFold
    splitter = kind(n_splits=folds, shuffle=True, random_state=seed)
    return [
        (train.astype(np.int64), test.astype(np.int64))
        for train, test in splitter.split(np.zeros(len(classes)), classes)
    ]
