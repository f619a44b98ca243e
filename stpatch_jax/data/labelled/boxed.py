"""Detection: pictures, clips and volumes with boxes of objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from stpatch_jax.data.digests import file_bytes
from stpatch_jax.data.identity import FieldIdentity
from stpatch_jax.data.labelled.augmenting import NO_AUGMENTATION, Augmentation
from stpatch_jax.data.labelled.boxes import ITEMS, BoxedItems, checked, given_boxes, read_boxes
from stpatch_jax.data.labelled.clips import resized, side_by_side
from stpatch_jax.data.labelled.fields import as_inputs, class_splits
from stpatch_jax.data.protocols import EVERYTHING, DataConfig, GivenProblem, Problem, chosen_split
from stpatch_jax.data.readers.arrays import array_headers, load_array
from stpatch_jax.data.readers.items import read_items
from stpatch_jax.data.readers.pairs import ALL
from stpatch_jax.data.sampling.batches import Batch, MadeExamples, Source
from stpatch_jax.data.sampling.splits import check_shares
from stpatch_jax.data.transforms.steps import Affine
from stpatch_jax.data.transforms.unlike import items_unlike
from stpatch_jax.errors import InputError, check_seed, check_size, listed, require, warn
from stpatch_jax.files import has_suffix

# Pixels that the longer side of a picture has at most where nothing is told.
_MOST_SIDE = 256
# Mean and deviation are known from so many examples.
_FITTED = 256
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class BoxedConfig(DataConfig):
    """Detection: the boxes of objects in pictures, clips or volumes.

    `path` is a file of boxes or a folder, see `read_boxes`. Items without splits are split at
    random, those of a group together; where only a split for validation or test lacks, it is drawn
    from the training items.

    An example is [time, *space, channel] with the boxes of the objects in every frame, in its
    cells. Pictures are resized to fit into it, height and width by the same factor, and what is
    left over at the lower or right end is filled up with the mean. Items of one or three space axes
    must be of one size, and are taken as they are.

    Attributes:
        size: Height and width of an example in pixels; "auto" for what the largest picture needs
            where no side is longer than 256.
        frames: Frames of an example of clips, that follow each other. Only those count that the
            boxes name; a frame without a box is named by a row without bounds.
        classes: The classes in their order; those of the training boxes by default.
        group: Column, key of COCO's images or array that names the group of each item, such as a
            person; by default the video, where COCO's images tell it.
        augmentation: How training examples are changed each time they are trained on, boxes with
            them.
        validation_share: Share of the items to validate on, in (0, 1), where they have no splits.
        test_share: Share of the items to test on, in (0, 1), where they have no splits.
        encoding: How the characters of a table are stored, UTF-8 by default.
        seed: Decides which items are validated and tested on.
    """

    size: tuple[int, ...] | Literal["auto"] = "auto"
    frames: int = 1
    classes: tuple[str, ...] = ()
    group: str | None = None
    augmentation: Augmentation = NO_AUGMENTATION
    validation_share: float = 0.2
    test_share: float = 0.2
    encoding: str | None = None
    seed: int = 0

    reading: ClassVar[tuple[str, ...]] = ("most_bytes",)

    def __post_init__(self) -> None:
        for cells in () if self.size == "auto" else self.size:
            check_size("data.size", cells)
        require(
            self.size == "auto" or len(self.size) == 2,
            f"data.size must be height and width in pixels, got {self.size}; give both",
        )
        check_size("data.frames", self.frames)
        check_seed("data.seed", self.seed)
        check_shares(validation_share=self.validation_share, test_share=self.test_share)

    def load(self) -> "BoxedFields":
        """Reads the boxes, and of their items the sizes.

        Raises:
            InputError: They cannot be read, or items and boxes do not fit each other.
        """
        return _loaded(self, read_boxes(self.file(), group=self.group, encoding=self.encoding))

    def of(self, values: Any) -> "BoxedFields":
        """The problem on `(items, boxes, labels)` in memory, see `given_boxes`.

        Raises:
            InputError: They do not fit each other.
        """
        require(
            isinstance(values, tuple) and len(values) == 3,
            f"data must be (items, boxes, labels), got {type(values).__name__}; give the three",
        )
        return _loaded(self, given_boxes(*values, source="memory"))

    def settled(self, data: "BoxedFields") -> tuple["BoxedConfig", dict[str, str]]:
        """The settings with the size that the data chose, as in `DataConfig.settled`."""
        if self.size != "auto" or len(data.cells) != 2:
            return self, {}
        why = f"{data.cells[0]} x {data.cells[1]}: the largest picture, as far as 256 pixels a side"
        return replace(self, size=data.cells), {"data.size": why}

    def restore(self, path: str, state: Mapping[str, Any]) -> "UnboxedFields":
        """Opens pictures, clips or arrays for a trained run; they need no boxes.

        Raises:
            InputError: They cannot be read, or have other axes or channels than those of the run.
        """
        if has_suffix(path, ".npz") and len(headers := array_headers(Path(path))) > 1:
            names = [name for name in headers if name.lower() in ITEMS]
            require(
                len(names) == 1,
                f"it must be clear which array of {path} are the items, got {listed(headers)}; "
                "call one images, or give an .npy",
            )
            return self.restore_values(load_array(Path(path), names[0]), state, source=path)
        files = read_items(path)
        stored = [files.items.open(at) for at in range(len(files))]
        if len(stored) == 1 and has_suffix(files.names[0], ".npy", ".npz"):
            return self.restore_values(stored[0], state, source=path)
        return self._restored(stored, {"file": list(files.names)}, state, path, files.notes)

    def restore_values(
        self, values: Any, state: Mapping[str, Any], *, source: str = "memory"
    ) -> "UnboxedFields":
        """Items in memory for a trained run: an array [item, ...], or a list of items.

        Raises:
            InputError: They have other axes or channels than those of the run.
        """
        return self._restored(list(values), {"item": list(range(len(values)))}, state, source, ())

    def _restored(
        self,
        stored: Sequence[Any],
        items: Mapping[str, Sequence[Any]],
        state: Mapping[str, Any],
        source: str,
        notes: Sequence[str],
    ) -> "UnboxedFields":
        cells, channels = tuple(state["cells"]), len(np.atleast_1d(state["center"]))
        identity = FieldIdentity.of_state(state)
        clips, reads = [], []
        for at, (item, name) in enumerate(zip(stored, next(iter(items.values())), strict=True)):
            clip = as_clip(item, len(cells), name=f"the item {name} of {source}")
            identity.match_type(clip.dtype, name=f"the item {name} of {source}")
            length, *own, depth = map(int, clip.shape)
            require(
                depth == channels
                and length >= self.frames
                and (len(cells) == 2 or own == [*cells]),
                f"every item of {source} must have the {channels} channels of the run, "
                f"{self.frames} frames and, but for pictures, its {cells} cells, got shape "
                f"{clip.shape} for {name}; give such items",
            )
            clips.append(clip)
            reads += [(at, frames) for frames in side_by_side(length, self.frames)]
        shown = [np.asarray(clip[: self.frames]) for clip in clips[:1]]
        unlike = items_unlike(shown, Affine.from_dict(state), name=source)
        report = {"source": source, "notes": [*notes, *unlike]}
        return UnboxedFields(clips, items, reads, state, report)


@dataclass(frozen=True, eq=False)
class UnboxedFields(GivenProblem):
    """Items of other files for a trained run; nothing is fitted.

    Attributes:
        clips: The items, [time, *space, channel] each, read where they are indexed.
        items: What tells them apart, by column [item].
        reads: Of each example the number of its item and the frames it sees.
        trained: What `BoxedFields.state` gave.
    """

    clips: Sequence[Any]
    items: Mapping[str, Sequence[Any]]
    reads: Sequence[tuple[int, np.ndarray]]
    trained: Mapping[str, Any]
    report: dict[str, Any]

    def source(self, split: str) -> Source:
        """The examples of the only split, `EVERYTHING`: each a dict of `field` alone, scaled."""
        reads = chosen_split({EVERYTHING: self.reads}, split)
        scaler, cells = Affine.from_dict(self.trained), tuple(self.trained["cells"])

        def example(at: int) -> Batch:
            item, frames = reads[at]
            return {"field": _filled(_fitted(self.frames(item, frames), cells), cells, scaler)}

        return MadeExamples(example, len(reads))

    def frames(self, clip: int, frames: np.ndarray) -> np.ndarray:
        """Some frames of an item as stored [time, *space, channel]."""
        return np.asarray(self.clips[clip][frames])

    def in_pixels(self, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Boxes [n, bounds] of some examples [n] in cells of their items, cut off at their ends."""
        sizes = [self.clips[self.reads[row][0]].shape[1:-1] for row in rows]
        factors = [_factors(size, tuple(self.trained["cells"])) for size in sizes]
        most, factor = (
            np.tile(np.reshape(of, (-1, boxes.shape[1] // 2)), 2) for of in (sizes, factors)
        )
        return np.clip(boxes / factor, 0, most)

    def names(self, split: str) -> dict[str, Any]:
        """What tells the items apart, and the first frame where they have several examples."""
        reads = chosen_split({EVERYTHING: self.reads}, split)
        own = {name: [of[item] for item, _ in reads] for name, of in self.items.items()}
        first = [int(frames[0]) for _, frames in reads]
        return own if len(reads) == len(self.clips) else {**own, "frame": first}


@dataclass(frozen=True, eq=False)
class BoxedFields(Problem):
    """Items with boxes, by split; made by `BoxedConfig.load`.

    Attributes:
        config: Its settings.
        clips: The items, [time, *space, channel] each, read where they are indexed.
        read: Their boxes that count, in cells of an example, and what else was read.
        labels: Number of the class of each box [box].
        examples: Of each example the number of its item and the frames it sees.
        rows: Numbers of the examples of each split.
        classes: Names of the classes.
        cells: Cells of an example along its space axes.
        report: What was read; JSON-able.
    """

    config: BoxedConfig
    clips: Sequence[Any]
    read: BoxedItems
    labels: np.ndarray
    examples: Sequence[tuple[int, np.ndarray]]
    rows: Mapping[str, np.ndarray]
    classes: tuple[str, ...]
    cells: tuple[int, ...]
    report: dict[str, Any]

    @cached_property
    def scaler(self) -> Affine:
        """Mean and standard deviation of each channel of the training items."""
        train = self.rows["train"]
        chosen = (self.examples[at] for at in train[:: -(-len(train) // _FITTED)])
        fields = (_fitted(np.asarray(self.clips[item][of]), self.cells) for item, of in chosen)
        return Affine.standard(field.reshape(-1, field.shape[-1]) for field in fields)

    @cached_property
    def _objects(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each example the frames, from 0, and the numbers of its boxes."""
        at = {
            (item, int(frame)): (number, step)
            for number, (item, frames) in enumerate(self.examples)
            for step, frame in enumerate(frames)
        }
        found: list[list[tuple[int, int]]] = [[] for _ in self.examples]
        for box, key in enumerate(zip(self.read.item, self.read.frame, strict=True)):
            if (place := at.get((int(key[0]), int(key[1])))) is not None:
                found[place[0]].append((place[1], box))
        pairs = [np.array(own, int).reshape(-1, 2) for own in found]
        return [(pair[:, 0], pair[:, 1]) for pair in pairs]

    @cached_property
    def most(self) -> int:
        """Number of objects of the frame that has most."""
        return max(int(np.bincount(frames).max(initial=1)) for frames, _ in self._objects)

    @cached_property
    def _trained(self) -> np.ndarray:
        """Numbers of the training boxes."""
        return np.concatenate([self._objects[at][1] for at in self.rows["train"]])

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of training objects of each class."""
        counts = np.bincount(self.labels[self._trained], minlength=len(self.classes))
        return tuple(counts.tolist())

    @property
    def mean_box(self) -> tuple[float, ...]:
        """Mean bounds `(lo..., hi...)` of the training objects, in cells of an example."""
        return tuple(self.read.bounds[self._trained].mean(axis=0).tolist())

    def shown(self, field: np.ndarray) -> np.ndarray:
        """Scaled fields [..., channel] as people look at them, from 0 to 1."""
        if self.clips[0].dtype == np.uint8:
            return np.clip(self.scaler.inverse(field) / 255, 0, 1)
        return np.clip((field + 2) / 4, 0, 1)

    def source(self, split: str) -> Source:
        """The examples of a split; those of `train` are an `AugmentedSource`.

        Each is a dict of `field` [time, *space, channel], scaled, float32, `boxes` [time, object,
        2 * space axes], float32, `label` [time, object], int32, and `object_mask` of that shape.
        """
        rows = chosen_split(self.rows, split)
        return (_Changed if split == "train" else _Examples)(self, rows)

    def example(self, number: int) -> Batch:
        """An example by its number, of all splits."""
        item, frames = self.examples[number]
        stored = _fitted(np.asarray(self.clips[item][frames]), self.cells)
        times, own = self._objects[number]
        shape = (len(frames), self.most)
        batch = {
            "field": _filled(stored, self.cells, self.scaler),
            "boxes": np.zeros((*shape, 2 * len(self.cells)), np.float32),
            "label": np.zeros(shape, np.int32),
            "object_mask": np.zeros(shape, bool),
        }
        for time in range(len(frames)):
            here = own[times == time]
            batch["boxes"][time, : len(here)] = self.read.bounds[here]
            batch["label"][time, : len(here)] = self.labels[here]
            batch["object_mask"][time, : len(here)] = True
        return batch

    def state(self) -> dict[str, Any]:
        """The fitted scaling, the classes, and what tells another file of the kind."""
        identity = FieldIdentity.of_items(self.report["shape"], self.clips[0].dtype)
        own = {"classes": list(self.classes), "cells": list(self.cells)}
        return {**own, "identity": identity.to_dict(), **self.scaler.to_dict()}

    def content(self, split: str) -> Mapping[str, Any]:
        """The files, or items in memory, of a split with their boxes and all names."""
        rows = chosen_split(self.rows, split)
        items = sorted({self.examples[at][0] for at in rows})
        files = [self.read.files[at] for at in items] if self.read.files else []
        own = np.concatenate([self._objects[at][1] for at in rows])
        return {
            "files": file_bytes(files),
            "items": [] if files else [np.asarray(self.clips[at]) for at in items],
            "frames": [self.examples[at][1] for at in rows],
            "bounds": self.read.bounds[own],
            "labels": self.labels[own],
            "names": [self.read.names[at] for at in items],
            "classes": self.classes,
        }

    def names(self, split: str) -> dict[str, list[str]]:
        """What tells the items apart."""
        rows = chosen_split(self.rows, split)
        return {"item": [str(self.read.names[self.examples[at][0]]) for at in rows]}


@dataclass(frozen=True, eq=False)
class _Examples:
    data: BoxedFields
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int, /) -> Batch:
        return self.data.example(int(self.rows[i]))


class _Changed(_Examples):
    """Examples that are changed at random with their boxes."""

    def drawn(self, i: int, random: np.random.Generator, /) -> Batch:
        batch, augmentation = self[i], self.data.config.augmentation
        field, boxes = augmentation.moved_with(batch["field"], batch["boxes"], random)
        most = np.tile(self.data.cells, 2)
        boxes = np.clip(boxes, 0, most).astype(np.float32)
        lo, hi = np.split(boxes, 2, axis=-1)
        mask = batch["object_mask"] & (lo < hi).all(axis=-1)
        field = augmentation.recoloured(field, random)
        return {"field": field, "boxes": boxes, "label": batch["label"], "object_mask": mask}


def as_clip(stored: Any, axes: int, *, name: str) -> Any:
    """An item as [time, *space, channel] of so many space axes; what it lacks is put in.

    Pictures and videos have all axes. Of an array with one axis more than space, it is that of up
    to 4 channels at the end, else of time.
    """
    shape = tuple(map(int, stored.shape))
    require(
        axes <= len(shape) <= axes + 2
        and stored.dtype.kind in "biuf"
        and min(shape, default=0) > 0,
        f"{name} must be numbers along {axes} space axes, with time before and channels behind "
        f"them if any, got {stored.dtype} of shape {shape}; save it so",
    )
    if len(shape) == axes + 2:
        return stored
    if len(shape) == axes:
        return np.asarray(stored)[None, ..., None]
    return np.asarray(stored)[None] if shape[-1] in (1, 3, 4) else np.asarray(stored)[..., None]


def _loaded(config: BoxedConfig, read: BoxedItems) -> BoxedFields:
    source, axes, count = read.source, read.bounds.shape[1] // 2, len(read.names)
    named = [f"the item {name} of {source}" for name in read.names]
    clips = [as_clip(read.open(at), axes, name=named[at]) for at in range(count)]
    identity = FieldIdentity.of_items(clips[0].shape[1:], clips[0].dtype)
    for clip, name in zip(clips, named, strict=True):
        identity.match_type(clip.dtype, name=name, like="the others")
        require(
            clip.shape[-1] == clips[0].shape[-1],
            f"{name} must have as many channels as the others, {clips[0].shape[-1]}, got "
            f"{clip.shape[-1]}; convert it",
        )
    sizes = np.array([clip.shape[1:-1] for clip in clips])
    cells = _cells(config, sizes, read)
    read, notes = checked(read, np.array([len(clip) for clip in clips]), sizes)
    factors = np.array([_factors(size, cells) for size in sizes.tolist()])
    read = replace(read, bounds=read.bounds * np.tile(factors[read.item], 2))
    examples, told = _examples(config, read, [len(clip) for clip in clips])
    rows, drawn = _rows(config, read, examples)
    notes = [*read.notes, *told, *notes, *drawn]
    if resizing := int((sizes != cells).any(axis=1).sum()):
        size = " x ".join(map(str, cells))
        notes.append(f"{resizing:,} of {count:,} pictures are resized to fit into {size} pixels.")
    classes, labels = _classes(config, read)
    shape = [config.frames, *cells, clips[0].shape[-1]]
    report = {"source": source, "shape": shape, "notes": notes}
    data = BoxedFields(config, clips, read, labels, examples, rows, classes, cells, report)
    config.augmentation.check(tuple(shape))
    report["splits"] = {name: _counted(data, of) for name, of in rows.items()}
    for name, of in report["splits"].items():
        require(
            sum(of["objects"].values()) > 0,
            f"the {name} split of {source} must have an object, got none in {of['examples']} "
            "examples; give more items, or another data.seed",
        )
    if lost := [name for name, n in report["splits"]["train"]["objects"].items() if not n]:
        notes.append(f"No training object is of the class {listed(lost)}.")
        warn(notes[-1], stacklevel=3)
    return data


def _counted(data: BoxedFields, rows: np.ndarray) -> dict[str, Any]:
    own = np.concatenate([data._objects[at][1] for at in rows])
    counts = np.bincount(data.labels[own], minlength=len(data.classes)).tolist()
    return {"examples": len(rows), "objects": dict(zip(data.classes, counts, strict=True))}


def _cells(config: BoxedConfig, sizes: np.ndarray, read: BoxedItems) -> tuple[int, ...]:
    """Cells of an example along its space axes."""
    if sizes.shape[1] == 2:
        if config.size != "auto":
            return config.size
        share = np.minimum(1, min(_MOST_SIDE, int(sizes.max())) / sizes.max(axis=1))
        most = np.rint(sizes * share[:, None]).max(axis=0)
        return tuple(np.maximum(1, most).astype(int).tolist())
    other = (sizes != sizes[0]).any(axis=1)
    require(
        not other.any() and config.size == "auto",
        f"items without two space axes must be of one size, without data.size, got "
        f"{tuple(sizes[0].tolist())} and {tuple(sizes[int(other.argmax())].tolist())} in "
        f"{read.names[int(other.argmax())]}; bring them to one",
    )
    return tuple(sizes[0].tolist())


def _factors(size: Sequence[int], cells: Sequence[int]) -> tuple[float, ...]:
    """What the cells of an item are multiplied by along each space axis to fit into an example."""
    extent = _extent(size, cells)
    return tuple(n / of for n, of in zip(extent, size, strict=True))


def _extent(size: Sequence[int], cells: Sequence[int]) -> tuple[int, ...]:
    share = min(n / of for n, of in zip(cells, size, strict=True))
    return tuple(min(n, max(1, round(share * of))) for n, of in zip(cells, size, strict=True))


def _fitted(frames: np.ndarray, cells: tuple[int, ...]) -> np.ndarray:
    """Frames [time, *space, channel], resized to fit into an example."""
    size = frames.shape[1:-1]
    extent = _extent(size, cells)
    return frames if extent == size else resized(frames, (0, 0), size, extent)


def _filled(frames: np.ndarray, cells: tuple[int, ...], scaler: Affine) -> np.ndarray:
    """Frames as a network takes them: scaled, what lacks and what is missing 0, float32."""
    lacks = [(0, n - of) for n, of in zip(cells, frames.shape[1:-1], strict=True)]
    return np.pad(as_inputs(frames, scaler), [(0, 0), *lacks, (0, 0)])


def _examples(
    config: BoxedConfig, read: BoxedItems, lengths: Sequence[int]
) -> tuple[list[tuple[int, np.ndarray]], list[str]]:
    """Item and frames of each example, and a note of the frames that are of none."""
    examples, count, longest = [], config.frames, 0
    for item, (length, seen) in enumerate(zip(lengths, read.seen, strict=True)):
        require(
            seen is not None or length == 1 or not read.files,
            f"the boxes of clips must tell their frames, got none for {read.names[item]} of "
            f"{read.source}, which has {length}; add a column frame",
        )
        named = np.arange(length) if seen is None else seen[seen < length]
        for run in np.split(named, np.flatnonzero(np.diff(named) > 1) + 1):
            longest = max(longest, len(run))
            starts = range(0, len(run) - count + 1, count)
            examples += [(item, run[start : start + count]) for start in starts]
    require(
        len(examples) > 0,
        f"data.frames must be at most {longest}, as so many frames with boxes follow each other in "
        f"{read.source}, got {count}; give less",
    )
    left = sum(lengths) - count * len(examples)
    note = f"{left:,} of {sum(lengths):,} frames are of no example, as no row names them or they "
    return examples, [f"{note}are too few behind each other."] if left else []


def _rows(
    config: BoxedConfig, read: BoxedItems, examples: Sequence[tuple[int, np.ndarray]]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Numbers of the examples of each split, and a note of what was drawn."""
    told = ["train" if split == ALL else split for split in read.splits]
    splits = dict(zip(read.groups, told, strict=True))
    both = sorted({g for g, split in zip(read.groups, told, strict=True) if splits[g] != split})
    names, of = [*splits], [*splits.values()]
    require(
        not both,
        f"the items of a group of {read.source} must be of one split, got {listed(both)} in "
        "several; move them into one",
    )
    shares = {"validation": config.validation_share, "test": config.test_share}
    drawn = [name for name in shares if name not in of]
    require(
        not drawn or of.count("train") > 2 * len(drawn),
        f"{read.source} must have an item, or a group of them, for each split and more, got "
        f"{len(names)}; give more",
    )
    alike = np.zeros(len(names), np.int32)
    parts = class_splits(alike, ["of all items"], **shares, seed=config.seed, told=of)
    place = {name: at for at, name in enumerate(names)}
    group = [place[read.groups[item]] for item, _ in examples]
    rows = {name: np.flatnonzero(np.isin(group, parts[name])) for name in _SPLITS}
    empty = [name for name, own in rows.items() if not len(own)]
    require(
        not empty,
        f"every split of {read.source} must have {config.frames} frames that follow each other, "
        f"got none in {listed(empty)}; give less data.frames",
    )
    whole = f", {len(names):,} groups as a whole" if len(names) < len(read.names) else ""
    note = f"Of the items, those of {' and '.join(drawn)} are drawn at random{whole}."
    return rows, [note] if drawn else []


def _classes(config: BoxedConfig, read: BoxedItems) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the classes, and the number of that of each box."""
    there = {*read.label}
    known = config.classes or tuple(name for name in read.classes if name in there)
    if not known:
        numbers = all(name.lstrip("-").isdigit() for name in there)
        known = tuple(sorted(there, key=int if numbers else str))
    if unknown := sorted(there - {*known}):
        at = int(np.isin(read.label, unknown).argmax())
        raise InputError(
            f"the class of every box of {read.source} must be one of {listed(known)}, got "
            f"{listed(unknown)}, as in {read.places[at]}; name all in classes=, or leave its boxes "
            "out"
        )
    place = {name: at for at, name in enumerate(known)}
    return known, np.array([place[name] for name in read.label], np.int32)
