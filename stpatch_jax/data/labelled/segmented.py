"""Segmentation: fields with a class for each cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from stpatch_jax.data.identity import FieldIdentity
from stpatch_jax.data.labelled.augmenting import NO_AUGMENTATION, Augmentation
from stpatch_jax.data.labelled.fields import as_inputs
from stpatch_jax.data.labelled.shapes import made_shapes
from stpatch_jax.data.protocols import EVERYTHING, DataConfig, GivenProblem, Problem, chosen_split
from stpatch_jax.data.readers.masks import (
    PICTURES,
    MaskedImages,
    paired,
    read_images,
    read_masked_images,
    ways_of,
)
from stpatch_jax.data.readers.nifti import NIFTI_SUFFIXES, spacings_of, told_spacings
from stpatch_jax.data.readers.pairs import ALL
from stpatch_jax.data.sampling.batches import Batch, MadeExamples, Source
from stpatch_jax.data.sampling.splits import check_shares
from stpatch_jax.data.transforms.steps import Affine
from stpatch_jax.data.transforms.unlike import items_unlike
from stpatch_jax.errors import (
    MOST,
    InputError,
    check_seed,
    check_size,
    listed,
    require,
    warn,
)
from stpatch_jax.files import has_suffix

IGNORED = -1
"""The label of a cell that counts for nothing."""
# Most cells along an axis of a crop that is left to the data, by the number of axes.
_CROP = {1: 1024, 2: 256, 3: 64, 4: 32}
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SegmentedFieldsConfig(DataConfig):
    """Segmentation: a class for each cell of images, volumes or clips.

    `path` is an `.npz` file or a folder, see `read_masked_images`; without one, volumes of bright
    balls and tubes in noise are made of the seed. Items of a file without splits are split at
    random; where only a split for validation lacks, it is drawn from the training items.

    An example is [time, *space, channel] with a class for each cell, of one time but with `time`.
    To train on, it is a `crop` of an item, wherever that lies; validation and test are on whole
    items. Where items differ in size, smaller ones are filled up with cells that are ignored.

    Attributes:
        images: Names of the arrays or folders of images, see `read_masked_images`.
        masks: Names of those of their masks.
        classes: Names of the classes: of the values 0, 1, ... of the masks, or of as many others in
            ascending order. By default the values that there are.
        ignored: Values of masks whose cells count for nothing.
        time: Whether the first axis of an item is time, as of clips.
        crop: Cells of a crop along each axis of an item; "auto" for the smallest item, up to 256
            along two axes and 64 along three.
        augmentation: How crops are changed each time they are trained on.
        validation_share: Share of the items to validate on, in (0, 1).
        test_share: Share of the items to test on, in (0, 1).
        seed: Decides which, and what is made where there is no file.
    """

    images: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    ignored: tuple[int, ...] = ()
    time: bool = False
    crop: tuple[int, ...] | Literal["auto"] = "auto"
    augmentation: Augmentation = NO_AUGMENTATION
    validation_share: float = 0.2
    test_share: float = 0.2
    seed: int = 0

    reading: ClassVar[tuple[str, ...]] = ("images", "most_bytes")

    def __post_init__(self) -> None:
        check_seed("data.seed", self.seed)
        for value in self.ignored:
            check_size("data.ignored", value, least=-MOST)
        for cells in () if self.crop == "auto" else self.crop:
            check_size("data.crop", cells)
        check_shares(validation_share=self.validation_share, test_share=self.test_share)
        require(
            len(set(self.classes)) == len(self.classes) != 1,
            f"data.classes must be two names or more, each another, got {self.classes}; name all",
        )

    def load(self) -> "SegmentedFields":
        """Reads the file or folder.

        Raises:
            InputError: It cannot be read, or images and masks do not fit each other.
        """
        if self.path is None:
            images, masks, classes = made_shapes(seed=self.seed)
            config = replace(self, classes=self.classes or classes)
            return _loaded(config, paired(images, masks, name="memory"), "balls and tubes, made")
        path = self.file()
        items = read_masked_images(path, images=self.images, masks=self.masks)
        require(
            not (self.time and any(has_suffix(name, *NIFTI_SUFFIXES) for name in items.names)),
            f"data.time must be left out of NIfTI volumes, whose fourth axis is of channels, got "
            f"{path}; save clips as .npy, time first",
        )
        return _loaded(self, items, path)

    def of(self, values: Any) -> "SegmentedFields":
        """The problem on `(images, masks)` in memory: arrays [item, ...], or lists of items.

        Raises:
            InputError: They do not fit each other.
        """
        return _loaded(self, paired(*values, name="memory"), "memory")

    def settled(self, data: "SegmentedFields") -> tuple["SegmentedFieldsConfig", dict[str, str]]:
        """The settings with the crop that the data chose, as in `DataConfig.settled`."""
        if self.crop != "auto":
            return self, {}
        told = " x ".join(map(str, data.crop))
        why = f"{told}: the smallest item, as far as a network takes it at once"
        return replace(self, crop=data.crop), {"data.crop": why}

    def restore(self, path: str, state: Mapping[str, Any]) -> "UnsegmentedFields":
        """Reads the images of another file for a trained run; they need no masks.

        Raises:
            InputError: They cannot be read, or have other axes or channels than those of the run.
        """
        images, names = read_images(path, images=self.images)
        found = self._unsegmented(images, names, state, path)
        place, trained = Path(path), state.get("ways", ())
        files = [*place.rglob("*")] if place.is_dir() else [place]
        files = [file for file in files if file.name in names]
        others = ways_of(files)
        if trained and (turned := [way for way in others if way not in trained]):
            note = (
                f"Axes lead to {turned[0]} in {others[turned[0]][0]}, and to {listed(trained)} in "
                "the run; none is turned."
            )
            found.report["notes"].append(note)
            warn(note, stacklevel=2)
        if apart := state.get("spacing"):
            found.report["notes"] += told_spacings(spacings_of(files), trained=apart)[1]
        return found

    def restore_values(self, values: Any, state: Mapping[str, Any]) -> "UnsegmentedFields":
        """As `restore`, of images in memory: an array [item, ...], or a list of items."""
        several = isinstance(values, list | tuple)
        images = [np.asarray(item) for item in (values if several else [values])]
        names = [f"item {at}" for at in range(len(images))] if several else ["item"]
        return self._unsegmented(images, names, state, "memory")

    def _unsegmented(
        self,
        images: Sequence[np.ndarray],
        names: Sequence[str],
        state: Mapping[str, Any],
        path: str,
    ) -> "UnsegmentedFields":
        axes, channels = int(state["axes"]), len(np.atleast_1d(state["center"]))
        fields, items = [], []
        for image, name in zip(images, names, strict=True):
            # A stack of items has an axis more; of one channel the axis may be left out.
            stacks = image.ndim == axes + 1 + (channels > 1 or image.shape[-1:] == (1,))
            stacks &= not has_suffix(name, *PICTURES, *NIFTI_SUFFIXES)
            for at, item in enumerate(image if stacks else [image]):
                fields.append(_as_field(item, axes, channels, time=self.time, name=name))
                items.append(f"{name} {at}" if stacks else name)
        identity = FieldIdentity.of_state(state)
        for field, name in zip(fields, items, strict=True):
            identity.match_type(field.dtype, name=name)
        notes = items_unlike(fields, Affine.from_dict(state), name=path)
        return UnsegmentedFields(fields, items, state, {"source": path, "notes": list(notes)})


@dataclass(frozen=True, eq=False)
class UnsegmentedFields(GivenProblem):
    """The fields of another file for a trained run; nothing is fitted.

    Attributes:
        fields: [time, *space, channel] each, as stored.
        items: Name of each.
        trained: What `SegmentedFields.state` gave.
    """

    fields: Sequence[np.ndarray]
    items: Sequence[str]
    trained: Mapping[str, Any]
    report: dict[str, Any]

    @property
    def axes(self) -> int:
        """Number of axes of a mask: without the time that is put in."""
        return int(self.trained["axes"])

    @property
    def codes(self) -> np.ndarray:
        """The value of each class in the masks of the run [class]."""
        return np.asarray(self.trained["codes"])

    def source(self, split: str) -> Source:
        """The fields of the only split, `EVERYTHING`: each a dict of `field` alone, scaled."""
        fields = chosen_split({EVERYTHING: self.fields}, split)
        scaler = Affine.from_dict(self.trained)
        return MadeExamples(lambda at: {"field": as_inputs(fields[at], scaler)}, len(fields))

    def names(self, split: str) -> Mapping[str, Sequence[str]]:
        """What tells the items apart."""
        return {"item": chosen_split({EVERYTHING: self.items}, split)}


@dataclass(frozen=True, eq=False)
class SegmentedFields(Problem):
    """Fields with a class for each cell, by split; made by `SegmentedFieldsConfig.load`.

    Attributes:
        fields: [time, *space, channel] each, as stored.
        labels: Number of the class of each cell, [time, *space] each, -1 where ignored.
        rows: Numbers of the items of each split.
        items: Name of each item.
        classes: Names of the classes.
        codes: The value of each class in the masks [class].
        crop: Cells of a training example along each axis of an item.
        augmentation: How training examples are changed each time they are trained on.
        time: Whether the first axis of an item is time.
        report: What was read; JSON-able.
    """

    fields: Sequence[np.ndarray]
    labels: Sequence[np.ndarray]
    rows: Mapping[str, np.ndarray]
    items: Sequence[str]
    classes: tuple[str, ...]
    codes: np.ndarray
    crop: tuple[int, ...]
    augmentation: Augmentation
    time: bool
    report: dict[str, Any]

    @cached_property
    def scaler(self) -> Affine:
        """Mean and standard deviation of each channel of the training fields."""
        fields = (self.fields[at] for at in self.rows["train"])
        return Affine.standard(field.reshape(-1, field.shape[-1]) for field in fields)

    @cached_property
    def class_counts(self) -> tuple[int, ...]:
        """Number of training cells of each class."""
        return tuple(self.counts("train").tolist())

    def counts(self, split: str) -> np.ndarray:
        """Number of cells of each class in a split [class]."""
        rows = self.rows[split]
        return np.sum([_counts(self.labels[at], len(self.classes)) for at in rows], axis=0)

    @cached_property
    def usual(self) -> np.ndarray | None:
        """The most frequent class of each cell in training; None where items differ in size."""
        labels = [self.labels[at] for at in self.rows["train"]]
        if len({label.shape for label in self.labels}) > 1:
            return None
        counts = [sum(label == at for label in labels) for at in range(len(self.classes))]
        return np.argmax(counts, axis=0).astype(np.int32)

    @property
    def window(self) -> tuple[int, ...]:
        """Cells (time, *space) of a training example."""
        return self.crop if self.time else (1, *self.crop)

    def extent(self, split: str) -> tuple[int, ...]:
        """Cells (time, *space) of the examples of a split."""
        if split == "train":
            return self.window
        return tuple(np.max([self.labels[at].shape for at in self.rows[split]], axis=0).tolist())

    def source(self, split: str) -> Source:
        """The examples of a split; those of `train` are an `AugmentedSource`.

        Each is a dict of `field` [time, *space, channel], scaled, float32, and `label` [time,
        *space], int32, -1 where ignored; of other splits also `usual`, the most frequent class of
        each cell in training, where all items are of one size.
        """
        rows = chosen_split(self.rows, split)
        return (_Crops if split == "train" else _Items)(self, rows, self.extent(split))

    def state(self) -> dict[str, Any]:
        """The fitted scaling, the classes, and what tells another file of the kind."""
        channels, first = self.fields[0].shape[-1], self.fields[0].dtype
        identity = FieldIdentity.of_items((*self.window, channels), first)
        own = {"classes": list(self.classes), "codes": self.codes.tolist()}
        own |= {"axes": len(self.crop), "identity": identity.to_dict()}
        if ways := self.report.get("ways"):
            own |= {"ways": list(ways), "spacing": list(self.report["spacing"])}
        return {**own, **self.scaler.to_dict()}

    def content(self, split: str) -> Mapping[str, Any]:
        """The fields as stored with their masks and all names."""
        rows = chosen_split(self.rows, split)
        names = {"classes": self.classes, "items": [self.items[at] for at in rows]}
        own = ({"field": self.fields[at], "label": self.labels[at]} for at in rows)
        return {**names, "read": list(own)}

    def names(self, split: str) -> dict[str, list[str]]:
        """What tells the items apart."""
        return {"item": [self.items[int(at)] for at in chosen_split(self.rows, split)]}


@dataclass(frozen=True, eq=False)
class _Items:
    """Whole items, filled up to the extent of the largest."""

    data: SegmentedFields
    rows: np.ndarray
    extent: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int, /) -> Batch:
        field, label = (of[self.rows[i]] for of in (self.data.fields, self.data.labels))
        usual = {} if self.data.usual is None else {"usual": self.data.usual}
        return {**self._batch(field, label), **usual}

    def _batch(self, field: np.ndarray, label: np.ndarray) -> Batch:
        missing = [(0, most - n) for most, n in zip(self.extent, label.shape, strict=True)]
        if np.any(missing):
            field = np.pad(field, [*missing, (0, 0)], mode="edge")
            label = np.pad(label, missing, constant_values=IGNORED)
        return {"field": as_inputs(field, self.data.scaler), "label": label}


class _Crops(_Items):
    """Crops of items: the middle one, or any, changed at random."""

    def __getitem__(self, i: int, /) -> Batch:
        return self._batch(*self._cut(self.rows[i], lambda free: free // 2))

    def drawn(self, i: int, random: np.random.Generator, /) -> Batch:
        cut = self._cut(self.rows[i], lambda free: int(random.integers(free + 1)))
        batch, augmentation = self._batch(*cut), self.data.augmentation
        # As a channel more, so that every cell keeps its class.
        both = np.concatenate([batch["field"], batch["label"][..., None]], axis=-1, dtype="f4")
        moved = augmentation.moved(both, random)
        field = augmentation.recoloured(moved[..., :-1], random)
        return {"field": field, "label": moved[..., -1].astype(np.int32)}

    def _cut(self, row: int, first: Any) -> tuple[np.ndarray, np.ndarray]:
        label, cut = self.data.labels[row], []
        for cells, size in zip(label.shape, self.extent, strict=True):
            start = first(max(cells - size, 0))
            cut.append(slice(start, start + size))
        return self.data.fields[row][*cut], label[*cut]


def _loaded(config: SegmentedFieldsConfig, items: MaskedImages, source: str) -> SegmentedFields:
    """The problem on images and masks."""
    masks = [_as_mask(mask, name) for mask, name in zip(items.masks, items.names, strict=True)]
    axes = masks[0].ndim
    fields = []
    for image, mask, name in zip(items.images, masks, items.names, strict=True):
        # An image without channels has the shape of its mask.
        channels = image.shape[-1] if image.ndim == mask.ndim + 1 else 1
        require(
            mask.ndim == axes,
            f"all masks must have as many axes, got {axes} and {mask.ndim} for {name} of {source}; "
            "give items of one kind",
        )
        require(
            image.shape in (mask.shape, (*mask.shape, channels)),
            f"an image must have the cells of its mask, and a channel axis behind them or none, "
            f"got {image.shape} and {mask.shape} for {name} of {source}; cut or resize it",
        )
        fields.append(_as_field(image, axes, channels, time=config.time, name=name))
    _check_alike(fields, items.names, source)
    rows, notes = _rows(config, items.splits, source)
    codes, classes, told = _classes(config, masks, items.names, source)
    labels = [_labels(mask, codes) for mask in masks]
    labels = [label if config.time else label[None] for label in labels]
    smallest = np.min([masks[at].shape for at in rows["train"]], axis=0).tolist()
    largest = np.max([masks[at].shape for at in rows["train"]], axis=0).tolist()
    crop = config.crop
    if crop == "auto":
        crop = tuple(min(cells, _CROP.get(axes, 32)) for cells in smallest)
    require(
        len(crop) == axes and all(0 < cut <= most for cut, most in zip(crop, largest, strict=True)),
        f"data.crop must be a number of cells along each of {axes} axes, at most {largest}, got "
        f"{crop}; give such numbers",
    )
    config.augmentation.check((*(crop if config.time else (1, *crop)), 1))
    data = SegmentedFields(
        fields,
        labels,
        rows,
        items.names,
        classes,
        codes,
        crop,
        config.augmentation,
        config.time,
        {"source": source},
    )
    notes = [*items.notes, *notes, *told, *_told_of(data, source)]
    splits = {}
    for name, own in rows.items():
        counts = dict(zip(classes, data.counts(name).tolist(), strict=True))
        splits[name] = {"items": len(own), "cells": counts}
    extents = {"smallest": smallest, "largest": largest, "crop": list(crop)}
    if items.ways:
        extents |= {"ways": list(items.ways), "spacing": list(items.spacing)}
    data.report.update(extents, notes=notes, splits=splits)
    return data


def _check_alike(fields: Sequence[np.ndarray], names: Sequence[str], source: str) -> None:
    """Refuses images of which one has other channels or values than the first."""
    for field, name in zip(fields, names, strict=True):
        require(
            field.shape[-1] == fields[0].shape[-1],
            f"all images must have as many channels, got {fields[0].shape[-1]} for "
            f"{names[0]} and {field.shape[-1]} for {name} of {source}; convert them alike",
        )
        like = FieldIdentity.of_items((1, field.shape[-1]), fields[0].dtype)
        like.match_type(field.dtype, name=name, like=names[0])


def _as_mask(mask: np.ndarray, name: str) -> np.ndarray:
    """A mask [*cells] of whole numbers."""
    # An axis of one channel says nothing.
    mask = mask[..., 0] if mask.ndim > 2 and mask.shape[-1] == 1 else mask
    if mask.dtype.kind == "f":
        whole = np.isfinite(mask) & (mask == np.floor(mask)) & (abs(mask) < 2**31)
        require(
            bool(whole.all()),
            f"a mask must hold whole numbers, got {mask[~whole][:1].tolist()} in {name}; round or "
            "threshold it",
        )
        mask = mask.astype(np.int32)
    require(
        mask.dtype.kind in "biu" and mask.size > 0,
        f"a mask must hold a whole number for each cell, got {mask.dtype} of shape {mask.shape} in "
        f"{name}; number the classes",
    )
    return mask.astype(np.uint8) if mask.dtype.kind == "b" else mask


def _as_field(image: np.ndarray, axes: int, channels: int, *, time: bool, name: str) -> np.ndarray:
    """An image as [time, *space, channel]."""
    image = image[..., None] if image.ndim == axes else image
    require(
        image.ndim == axes + 1 and image.shape[-1] == channels and image.size > 0,
        f"an image must have {axes} axes and {channels} channels behind them, got shape "
        f"{image.shape} for {name}; give one of the kind",
    )
    require(
        image.dtype.kind in "biuf",
        f"an image must be of numbers, got {image.dtype} for {name}; convert it",
    )
    require(
        image.dtype.kind != "f" or not np.isinf(image).any(),
        f"every value of {name} must be a number, or NaN where missing, got an infinite one; "
        "correct it",
    )
    return image if time else image[None]


def _rows(
    config: SegmentedFieldsConfig, told: Sequence[str], source: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The items of each split, ascending, and a note of what was drawn."""
    of = np.array(["train" if split == ALL else split for split in told])
    rows = {name: np.flatnonzero(of == name) for name in _SPLITS}
    drawn = [name for name in ("test", "validation") if not len(rows[name])]
    random, count = np.random.default_rng(config.seed), len(rows["train"])
    for name in drawn:
        share = config.test_share if name == "test" else config.validation_share
        held = random.permutation(len(rows["train"]))[: max(round(share * count), 1)]
        rows[name], rows["train"] = rows["train"][np.sort(held)], np.delete(rows["train"], held)
    require(
        len(rows["train"]) > 0,
        f"{source} must have an item to train on beside those of validation and test, got "
        f"{len(told)} items; give more",
    )
    note = f"The splits that the file does not have are drawn at random: {listed(drawn)}."
    return rows, [note] if drawn else []


def _classes(
    config: SegmentedFieldsConfig, masks: Sequence[np.ndarray], names: Sequence[str], source: str
) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """The value and the name of each class, and a note of how they were found."""
    found = [np.setdiff1d(_values(mask), config.ignored) for mask in masks]
    values = np.unique(np.concatenate(found))
    count = len(config.classes)
    require(
        len(values) > 1,
        f"the masks must hold two classes or more, got {listed(values)} alone in {source}; give "
        "masks of another class, too",
    )
    if not count:
        return values, tuple(map(str, values.tolist())), []
    if values[0] >= 0 and values[-1] < count:
        return np.arange(count), config.classes, []
    if len(values) == count:
        pairs = (f"{v} is {n}" for v, n in zip(values, config.classes, strict=True))
        return values, config.classes, [f"Of the values of the masks {listed(pairs)}."]
    wrong = next(at for at, of in enumerate(found) if np.any((of < 0) | (of >= count)))
    least, most = found[wrong][[0, -1]].tolist()
    raise InputError(
        f"the masks of {source} must hold at most the {count} declared classes, as 0 to "
        f"{count - 1}, got {len(values)} values, such as {least if least < 0 else most} in "
        f"{names[wrong]}; name all in classes=, or leave values out with ignored="
    )


def _values(mask: np.ndarray) -> np.ndarray:
    if mask.dtype == np.uint8:
        return np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    return np.unique(mask).astype(np.int64)


def _labels(mask: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The number of the class of each cell, int32, -1 where it has none."""
    at = np.minimum(np.searchsorted(codes, mask), len(codes) - 1)
    return np.where(codes[at] == mask, at, IGNORED).astype(np.int32)


def _counts(label: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(label.ravel() + 1, minlength=classes + 1)[1:]


def _told_of(data: SegmentedFields, source: str) -> list[str]:
    """What is strange of the masks, in sentences.

    Raises:
        InputError: No cell of a split counts.
    """
    counts = np.stack([_counts(label, len(data.classes)) for label in data.labels])
    for split, rows in data.rows.items():
        require(
            counts[rows].sum() > 0,
            f"the {split} split of {source} must have a cell that counts, got none of "
            f"{len(rows)} items; give others, or ignore less",
        )
    notes, alone = [], counts.astype(bool).sum(axis=1) == 1
    if alone.any():
        single = np.unique(counts[alone].argmax(axis=1))
        names = listed(data.classes[at] for at in single)
        notes.append(f"{alone.sum()} of {len(counts)} masks hold one class alone: {names}.")
    if none := int((counts.sum(axis=1) == 0).sum()):
        notes.append(f"No cell of {none} of {len(counts)} masks counts.")
    trained = counts[data.rows["train"]].sum(axis=0)
    if lost := [name for name, own in zip(data.classes, trained, strict=True) if not own]:
        notes.append(f"No training cell is of the class {listed(lost)}.")
    missing = sum(int(np.isnan(x).sum()) for x in data.fields if x.dtype.kind == "f")
    if missing:
        notes.append(f"{missing:,} missing values are read as the mean of their channel.")
    return notes
