"""Labelled items: clips and volumes in folders, arrays with labels, labelled series."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stpatch_jax.data.readers.arrays import array_headers, load_array
from stpatch_jax.data.readers.encoded import open_text
from stpatch_jax.data.readers.nifti import NIFTI_SUFFIXES, read_nifti
from stpatch_jax.data.readers.pairs import ALL, split_of
from stpatch_jax.data.readers.pictures import PICTURE_SUFFIXES, open_picture
from stpatch_jax.data.readers.video import VIDEO_SUFFIXES, open_video
from stpatch_jax.data.sizes import check_bytes, limited, most_bytes
from stpatch_jax.errors import InputError, listed, shortened, warn
from stpatch_jax.files import has_suffix

ITEM_SUFFIXES = (".npy", ".npz", *NIFTI_SUFFIXES, *VIDEO_SUFFIXES, *PICTURE_SUFFIXES)


@dataclass(frozen=True, eq=False)
class LabelledItems:
    """Items and their classes.

    Attributes:
        items: What `items[number]` gives an item of: an array, lines, or files that are read where
            they are used.
        labels: Number of the class of each item [item], int32.
        names: Name of each item for messages, where it has one.
        notes: What was left out or taken for granted, in sentences.
        splits: `train`, `validation` or `test` of each item, where folders tell.
    """

    items: Any
    labels: np.ndarray
    classes: tuple[str, ...]
    names: Sequence[str] = ()
    notes: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, at: int) -> Any:
        return self.items[at]

    def stack(self) -> np.ndarray:
        """All items as one array [item, ...].

        Raises:
            InputError: If two items differ in their shape.
        """
        first = np.asarray(self.items[0])
        check_bytes(len(self) * first.nbytes, f"{len(self):,} items of shape {first.shape}")
        arrays = [np.asarray(self.items[at]) for at in range(len(self))]
        for at, array in enumerate(arrays):
            if array.shape != arrays[0].shape:
                other, this = (self.names[i] if self.names else f"item {i}" for i in (0, at))
                raise InputError(
                    f"items of one array must have one shape, got {arrays[0].shape} for {other} "
                    f"and {array.shape} for {this}; cut or resize them, or pack them as tokens"
                )
        return np.stack(arrays)


@dataclass(frozen=True)
class ItemFiles:
    """Files that are read one by one: clips [time, height, width, channel], arrays as stored."""

    paths: tuple[Path, ...]
    most: int = field(default_factory=most_bytes)

    def __getitem__(self, at: int) -> np.ndarray:
        return np.asarray(self.open(at))

    def open(self, at: int) -> Any:
        """An item of which only what is indexed is decoded: a `DataArray`, or an array."""
        path = self.paths[at]
        with limited(self.most):  # Threads that load batches know no other limit.
            if has_suffix(path, *VIDEO_SUFFIXES):
                return open_video(path)
            if has_suffix(path, *PICTURE_SUFFIXES):
                return open_picture(path)
            if has_suffix(path, *NIFTI_SUFFIXES):
                return read_nifti(path)
            arrays = array_headers(path)
            if len(arrays) != 1:
                raise InputError(
                    f"the file {path} of one item must hold one array, got {listed(arrays)}; split "
                    "it"
                )
            return load_array(path, next(iter(arrays)))


def read_folder(path: str | Path) -> LabelledItems:
    """Reads a folder of `class/file`, where a file is a clip, or a volume or clip as one array.

    Clips are `.mp4`, `.avi`, ..., arrays `.npy`, `.npz` and volumes `.nii`, `.nii.gz`. Where there
    are none of these, pictures (`.png`, `.jpg`, ...) are clips of one frame. Classes and files are
    sorted by name.
    Names that start with a dot are left out, and so is what is no item in the folder of a class,
    with a warning and a note. Items are read where they are used, clips as [time, height, width,
    channel]; they may differ in length and size.

    Where a folder called train holds folders of items, it and those called validation, val or test
    are splits, laid out as `train/class/file`; classes are those of the training.

    Raises:
        InputError: If there are no classes, a class has no items, an item lies in no class, or a
            class of another split has no training items.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"there must be a folder of classes at {path}, got none; give one")
    tops = [entry for entry in _shown(root) if entry.is_dir()]
    splits = {entry: split_of(entry.name) for entry in tops if split_of(entry.name) != ALL}
    if "train" in splits.values() and len(splits) == len(tops):
        return _read_splits(root, splits)
    return _read_classes(root, root)


def _read_classes(root: Path, folder: Path) -> LabelledItems:
    """The items of `folder/class/file`, by their names inside of the root."""
    if loose := [entry for entry in _shown(folder) if _is_item(entry)]:
        raise InputError(
            f"every item of {folder} must lie in the folder of its class, got {loose[0].name} "
            "outside of them; move it into one"
        )
    folders = [entry for entry in _shown(folder) if entry.is_dir()]
    files = [[file for file in _shown(own) if _is_item(file)] for own in folders]
    others = [[file for file in own if not _is_picture(file)] for own in files]
    # Beside clips, pictures are what a player shows before it begins.
    files = others if any(others) else files
    if not folders or not all(files):
        empty = [f.name for f, own in zip(folders, files, strict=True) if not own]
        raise InputError(
            f"{folder} must hold one folder of items for each class, got "
            f"{f'none of class {empty[0]}' if empty else 'no folders'}; items are files "
            f"{listed(ITEM_SUFFIXES)}, and splits are laid out as train/CLASS, validation/CLASS "
            "and test/CLASS"
        )
    labels = np.repeat(np.arange(len(folders), dtype=np.int32), [len(own) for own in files])
    paths = tuple(file for own in files for file in own)
    names = [file.relative_to(root).as_posix() for file in paths]
    notes = _skipped([entry for own in folders for entry in _shown(own)], set(paths))
    return LabelledItems(ItemFiles(paths), labels, tuple(f.name for f in folders), names, notes)


def _read_splits(root: Path, splits: Mapping[Path, str]) -> LabelledItems:
    parts = [(_read_classes(root, folder), split) for folder, split in splits.items()]
    trained = (name for part, split in parts if split == "train" for name in part.classes)
    classes = tuple(sorted(set(trained)))
    if others := {name for part, _ in parts for name in part.classes if name not in classes}:
        raise InputError(
            f"every class of {root} must have training items, got none of {listed(sorted(others))}"
            "; add them to the folder of training, or move the class away"
        )
    labels = [classes.index(part.classes[at]) for part, _ in parts for at in part.labels]
    told = f"The splits are those of the folders {listed(folder.name for folder in splits)}."
    return LabelledItems(
        ItemFiles(tuple(path for part, _ in parts for path in part.items.paths)),
        np.asarray(labels, np.int32),
        classes,
        [name for part, _ in parts for name in part.names],
        (told, *(note for part, _ in parts for note in part.notes)),
        tuple(split for part, split in parts for _ in part.labels),
    )


def read_items(path: str | Path) -> LabelledItems:
    """A file, or all items in a folder and those inside of it, as `read_folder` reads them.

    They have no classes, and the name of an item is its path inside of the folder.

    Raises:
        InputError: There is no such file or folder, or no item in it.
    """
    root = Path(path)
    inside = [file for file in sorted(root.rglob("*")) if file.is_file()] if root.is_dir() else []
    shown = [file for file in inside if not file.name.startswith(".")]
    files = [file for file in [root, *shown] if _is_item(file)]
    files = [file for file in files if not _is_picture(file)] or files
    if not files:
        raise InputError(
            f"there must be items at {path}, got none; give a file or a folder of files "
            f"{listed(ITEM_SUFFIXES)}"
        )
    names = [file.name if file == root else str(file.relative_to(root)) for file in files]
    labels = np.zeros(len(files), np.int32)
    return LabelledItems(ItemFiles(tuple(files)), labels, (), names, _skipped(shown, set(files)))


def _shown(folder: Path) -> list[Path]:
    return [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]


def _is_item(path: Path) -> bool:
    return path.is_file() and has_suffix(path, *ITEM_SUFFIXES)


def _is_picture(path: Path) -> bool:
    return has_suffix(path, *PICTURE_SUFFIXES)


def _skipped(entries: Sequence[Path], items: Set[Path]) -> tuple[str, ...]:
    """A note, also given as a warning, of what lies in the folders of classes and is no item."""
    others = [f"{entry.parent.name}/{entry.name}" for entry in entries if entry not in items]
    if not others:
        return ()
    note = f"{len(others)} of {len(entries)} files are no items and were left out: {listed(others)}"
    warn(note, stacklevel=3)
    return (f"{note}.",)


def read_series(path: str | Path, *, encoding: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Reads series of equal length as the UCR archive stores them: the label, then its values.

    Series stand one a line, values separated by tabs, commas or white space as in the first line,
    and become [series, time, channel=1], float32, NaN where missing; labels [series] are words. For
    `encoding` see `open_text`.

    Raises:
        InputError: If the file is missing, or a line has another number of values or something that
            is no number.

    References:
        Dau et al., The UCR time series archive, 2019.
    """
    with open_text(path, kind="file of series", encoding=encoding) as text:
        lines = text.read().rstrip("\n").split("\n")
    mark = next((mark for mark in "\t,;" if mark in lines[0]), None)
    rows = [line.split(mark) for line in lines]
    usual = max(Counter(len(row) for row in rows).most_common(1)[0][0], 2)
    series = np.empty((len(rows), usual - 1, 1), np.float32)
    for at, row in enumerate(rows):
        wrong = [cell for cell in row[1:] if not _is_value(cell)]
        if len(row) != usual or wrong:
            got = f"{len(row)} cells" if len(row) != usual else repr(shortened(wrong[0]))
            raise InputError(
                f"every line of {path} must hold a label and {usual - 1} numbers, got line "
                f"{at + 1} with {got}; correct it"
            )
        series[at, :, 0] = [float(cell) for cell in row[1:]]
    return series, np.asarray([row[0] for row in rows], object)


def _is_value(cell: str) -> bool:
    try:
        return not math.isinf(float(cell))
    except ValueError:
        return False
