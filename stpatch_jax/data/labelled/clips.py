"""Labelled clips in a folder, of which some frames are read where they are used."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.digests import file_bytes
from stpatch_jax.data.identity import FieldIdentity
from stpatch_jax.data.labelled.augmenting import NO_AUGMENTATION, Augmentation
from stpatch_jax.data.labelled.fields import as_inputs, class_splits, class_table
from stpatch_jax.data.protocols import EVERYTHING, DataConfig, GivenProblem, Problem, chosen_split
from stpatch_jax.data.readers import LabelledItems, read_folder
from stpatch_jax.data.readers.conventions import notes_of
from stpatch_jax.data.readers.items import read_items
from stpatch_jax.data.sampling.batches import Batch, Source
from stpatch_jax.data.sampling.splits import check_shares
from stpatch_jax.data.transforms.steps import Affine
from stpatch_jax.errors import (
    InputError,
    check_range,
    check_seed,
    check_size,
    listed,
    require,
    warn,
)

# Mean and deviation of pixels are known from these; to decode all files twice would gain nothing.
_FITTED = 256


@dataclass(frozen=True)
class LabelledClipsConfig(DataConfig):
    """Classification of clips in a folder that holds a folder of files for each class.

    `path` is the folder, see `read_folder`: video files, or arrays [time, height, width, channel].
    Folders called train, validation and test with a folder for each class in them are the splits;
    of these, what lacks is drawn from the training files as if there were none.
    Files are read when an example is made of them, and belong to one split as a whole. A file that
    cannot be opened is left out and named in a warning and in the report.

    An example is [time, height, width, channel]: a few frames, spread evenly over the clip, of a
    square of the picture. In evaluation these are the frames in the middle of equal segments of
    time and the largest square in the middle; in training any frame of each segment, and any square
    that `zoom` allows.

    Attributes:
        frames: Number of frames of an example.
        size: Height and width of an example in pixels; the square is resized to it.
        zoom: Smallest side of a square to train on, as a share of the shorter side of the picture.
        augmentation: How training examples are changed besides.
        validation_share: Share of the files of each class to validate on, in (0, 1).
        test_share: Share of the files of each class to test on, in (0, 1).
        seed: Decides which.

    References:
        Wang et al., "Temporal segment networks", ECCV 2016, for the sampling of frames.
    """

    frames: int = 8
    size: int = 64
    zoom: float = 0.7
    augmentation: Augmentation = NO_AUGMENTATION
    validation_share: float = 0.2
    test_share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("frames", "size"):
            check_size(f"data.{name}", getattr(self, name))
        check_seed("data.seed", self.seed)
        check_range("data.zoom", self.zoom, 0, 1, bounds="(]")
        check_shares(validation_share=self.validation_share, test_share=self.test_share)

    def load(self) -> "LabelledClips":
        """Opens every file, without decoding it, and splits the files.

        Raises:
            InputError: The folder or all of its files cannot be read, or a class has too few files.
        """
        path = self.file()
        folder = read_folder(path)
        clips, kept, unreadable = _opened(folder)
        labels = folder.labels[kept]
        shares = {"validation": self.validation_share, "test": self.test_share}
        told = [folder.splits[at] for at in kept] if folder.splits else []
        rows = class_splits(labels, folder.classes, **shares, seed=self.seed, told=told)
        drawn = [name for name in shares if told and name not in told]
        self.augmentation.check((self.frames, self.size, self.size, clips[0].shape[-1]))
        report = {
            "source": path,
            "shape": [self.frames, self.size, self.size, clips[0].shape[-1]],
            "notes": [
                *folder.notes,
                *(f"The {name} split is drawn from the training files." for name in drawn),
                *_notes(clips, [folder.names[at] for at in kept], unreadable),
            ],
            "splits": class_table({n: labels[at] for n, at in rows.items()}, folder.classes),
            "unreadable": unreadable,
        }
        files = [Path(path, folder.names[at]) for at in kept]
        return LabelledClips(self, clips, labels, rows, folder.classes, report, files)

    def restore(self, path: str, state: Mapping[str, Any]) -> "UnlabelledClips":
        """Opens a clip, or all clips in a folder, for a trained run.

        Raises:
            InputError: None can be read, or one has other channels or values than those of the run.
        """
        files = read_items(path)
        clips, kept, unreadable = _opened(files)
        names = [files.names[at] for at in kept]
        FieldIdentity.of_state(state).match_type(clips[0].dtype, name=names[0])
        channels = len(np.atleast_1d(state["center"]))
        require(
            clips[0].shape[-1] == channels,
            f"the clip {names[0]} must have the {channels} channels of the run, got "
            f"{clips[0].shape[-1]}; give clips of these",
        )
        report = {"source": path, "notes": [*files.notes, *_notes(clips, names, unreadable)]}
        return UnlabelledClips(self, clips, names, state, report)


def _opened(folder: LabelledItems) -> tuple[list[Any], list[int], dict[str, str]]:
    """The clips that can be opened, their numbers, and why the others cannot, by name."""
    clips, kept, unreadable = [], [], {}
    for at, name in enumerate(folder.names):
        try:
            clip = folder.items.open(at)
            require(
                len(clip.shape) == 4 and clip.shape[-1] == (clips or [clip])[0].shape[-1],
                f"the clip {name} must be an array [time, height, width, channel] of as many "
                f"channels as the others, got {clip.shape}; save it as one",
            )
            first = (clips or [clip])[0]
            identity = FieldIdentity.of_items(first.shape[1:], first.dtype)
            identity.match_type(clip.dtype, name=f"the clip {name}", like="the others")
        except InputError as error:
            unreadable[name] = str(error)
            continue
        clips.append(clip)
        kept.append(at)
    if unreadable:
        first = next(iter(unreadable.values()))
        require(bool(clips), f"a file of {len(folder)} must be readable, got none; {first}")
        warn(
            f"{len(unreadable)} of {len(folder)} files left out: {listed(unreadable)}; {first}",
            stacklevel=3,
        )
    return clips, kept, unreadable


def _notes(
    clips: Sequence[Any], names: Sequence[str], unreadable: Mapping[str, str]
) -> Iterator[str]:
    """The notes of all clips, those alike but for a number before them as one."""
    if unreadable:
        yield f"{len(unreadable)} files cannot be read and were left out: {listed(unreadable)}."
    files: dict[str, list[str]] = {}
    for clip, name in zip(clips, names, strict=True):
        for note in notes_of(clip) if isinstance(clip, xr.DataArray) else ():
            files.setdefault(note.lstrip("0123456789, "), []).append(name)
    for note, own in files.items():
        others = f" and {len(own) - 1} more files" if len(own) > 1 else ""
        yield f"{own[0]}{others}: {note[0].lower()}{note[1:]}"


class LabelledClips(Problem):
    """Labelled clips by split, scaled by the training ones; made by `LabelledClipsConfig.load`.

    Args:
        config: Its settings.
        clips: The clips, each [time, height, width, channel] and read where it is indexed.
        labels: Number of the class of each clip [clip], int32.
        rows: Numbers of the clips of each split.
        classes: Names of the classes.
        report: What was read; JSON-able.
        files: The files of the clips.
    """

    def __init__(
        self,
        config: LabelledClipsConfig,
        clips: Sequence[Any],
        labels: np.ndarray,
        rows: Mapping[str, np.ndarray],
        classes: tuple[str, ...],
        report: dict[str, Any],
        files: Sequence[Path],
    ):
        self.config, self.clips, self.labels, self.rows = config, clips, labels, rows
        self.classes, self.report, self.files = classes, report, files
        train = rows["train"]
        spread = train[:: -(-len(train) // _FITTED)]
        self.scaler = Affine.standard(_pixels(self, at) for at in spread)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of training clips of each class."""
        return tuple(self.report["splits"]["train"].values())

    def source(self, split: str) -> Source:
        """The examples of a split; those of `train` are an `AugmentedSource`.

        Each is a dict of `field` [time, height, width, channel], scaled, float32, and `label` and
        `group` (the number of the file), int32 scalars.
        """
        rows = chosen_split(self.rows, split)
        return (_DrawnClips if split == "train" else _Clips)(self, rows)

    def state(self) -> dict[str, Any]:
        """The fitted scaling, the classes, and the kind of the clips."""
        identity = FieldIdentity.of_items(self.report["shape"], self.clips[0].dtype)
        own = {"classes": list(self.classes), "identity": identity.to_dict()}
        return {**own, **self.scaler.to_dict()}

    def content(self, split: str) -> Mapping[str, Any]:
        """The bytes of the files, see `file_bytes`, which are no others where they are decoded."""
        rows = chosen_split(self.rows, split)
        files = [self.files[at] for at in rows]
        names = {"names": [file.name for file in files], "classes": self.classes}
        return {"files": file_bytes(files), "labels": self.labels[rows], **names}


@dataclass(frozen=True, eq=False)
class UnlabelledClips(GivenProblem):
    """The clips of other files for a trained run; nothing is fitted.

    Attributes:
        clips: The clips, each [time, height, width, channel] and read where it is indexed.
        files: Names of their files.
        trained: What `LabelledClips.state` gave.
    """

    config: LabelledClipsConfig
    clips: Sequence[Any]
    files: Sequence[str]
    trained: Mapping[str, Any]
    report: dict[str, Any]

    @cached_property
    def scaler(self) -> Affine:
        """The scaling of the run."""
        return Affine.from_dict(self.trained)

    def source(self, split: str) -> Source:
        """The examples of the only split, `EVERYTHING`: each a dict of `field` alone, scaled."""
        return _Fields(self, chosen_split({EVERYTHING: np.arange(len(self.clips))}, split))

    def names(self, split: str) -> Mapping[str, Sequence[str]]:
        """The files of the clips."""
        return {"file": chosen_split({EVERYTHING: self.files}, split)}


def _pixels(data: Any, at: int) -> np.ndarray:
    """All pixels of the middle frames and square of a clip, [pixel, channel], unscaled."""
    clip = data.clips[at]
    height, width = clip.shape[1:3]
    side = min(height, width)
    frames = np.asarray(clip[segments(len(clip), data.config.frames)])
    square = resized(frames, ((height - side) / 2, (width - side) / 2), side, data.config.size)
    return square.reshape(-1, clip.shape[-1])


class _Fields:
    """Clips as evaluation sees them, without their labels."""

    def __init__(self, data: Any, rows: np.ndarray):
        self.data, self.rows = data, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int, /) -> Batch:
        at, config = self.rows[i], self.data.config
        shape = (config.frames, config.size, config.size, -1)
        return self._batch(at, _pixels(self.data, at).reshape(shape))

    def _batch(self, at: int, pixels: np.ndarray) -> Batch:
        return {"field": as_inputs(pixels, self.data.scaler)}


class _Clips(_Fields):
    def _batch(self, at: int, pixels: np.ndarray) -> Batch:
        numbers = {"label": self.data.labels[at], "group": at}
        numbers = {name: np.asarray(number, np.int32) for name, number in numbers.items()}
        return {**super()._batch(at, pixels), **numbers}


class _DrawnClips(_Clips):
    def drawn(self, i: int, random: np.random.Generator, /) -> Batch:
        at, config = self.rows[i], self.data.config
        clip = self.data.clips[at]
        height, width = clip.shape[1:3]
        side = min(height, width) * random.uniform(config.zoom, 1)
        corner = random.uniform(0, height - side), random.uniform(0, width - side)
        frames = np.asarray(clip[segments(len(clip), config.frames, random=random)])
        batch = self._batch(at, resized(frames, corner, side, config.size))
        return {**batch, "field": config.augmentation(batch["field"], random)}


def segments(length: int, count: int, *, random: np.random.Generator | None = None) -> np.ndarray:
    """One time step of each of `count` equal segments of a clip, ascending [count], int64.

    It is drawn where `random` is given, else the middle one. More segments than steps repeat some.

    >>> segments(10, 3).tolist()
    [1, 5, 8]
    """
    within = np.full(count, 0.5) if random is None else random.random(count)
    return np.minimum((np.arange(count) + within) * length / count, length - 1).astype(np.int64)


def side_by_side(length: int, count: int) -> list[np.ndarray]:
    """All frames of a clip in examples of so many; the last one may repeat some of those before.

    >>> [frames.tolist() for frames in side_by_side(5, 2)]
    [[0, 1], [2, 3], [3, 4]]
    """
    starts = [*range(0, length - count, count), length - count]
    return [np.arange(start, start + count) for start in starts]


def resized(
    frames: np.ndarray,
    corner: tuple[float, float],
    side: float | Sequence[float],
    size: int | Sequence[int],
) -> np.ndarray:
    """Cuts a rectangle out of every frame and resizes it, linearly, without aliasing.

    A pixel of the result is the mean of the pixels of the frame under a triangle around its place,
    which reaches to the next pixels of the result, or of the frame where those are wider apart.
    Frames are [time, height, width, channel], numbers of any kind; top and left edge `corner` and
    `side` are in pixels of the frame and may be fractions. Height and width, of the rectangle and
    of the result, are one number where they are equal.

    Returns:
        float32 [time, *size, channel].

    >>> resized(np.arange(4.0).reshape(1, 2, 2, 1), (0, 0), 2, 1).ravel()
    array([1.5], dtype=float32)
    """
    sides, sizes = np.broadcast_to(side, 2).tolist(), np.broadcast_to(size, 2).tolist()
    parts = zip(frames.shape[1:3], corner, sides, sizes, strict=True)
    (top, bottom, down), (left, right, across) = (_weights(*part) for part in parts)
    cut = frames[:, top:bottom, left:right].astype(np.float32)
    times, height, width, channels = cut.shape
    rows = (down @ cut.reshape(times, height, -1)).reshape(times, sizes[0], width, channels)
    return across @ rows


def _weights(length: int, start: float, side: float, size: int) -> tuple[int, int, np.ndarray]:
    """The part of an axis that counts, and the weights [size, part] of its cells."""
    step = side / size
    centers = start + (np.arange(size) + 0.5) * step
    cells = np.arange(length) + 0.5
    weights = np.maximum(0, 1 - np.abs(cells - centers[:, None]) / max(step, 1))
    first, last = np.flatnonzero(weights.any(axis=0))[[0, -1]]
    part = weights[:, first : last + 1]
    return first, last + 1, (part / part.sum(axis=1, keepdims=True)).astype(np.float32)
