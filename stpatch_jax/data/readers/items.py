"""Labelled items: clips and volumes in folders, arrays with labels, labelled series."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stpatch_jax.data.readers.arrays import array_headers, load_array
from stpatch_jax.data.readers.encoded import open_text
from stpatch_jax.data.readers.video import VIDEO_SUFFIXES, open_video
from stpatch_jax.errors import InputError

_ARRAY_SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True, eq=False)
class LabelledItems:
    """Items and their classes.

    Attributes:
        items: What `items[number]` gives an item of: an array, lines, or files that are read where
            they are used.
        labels: Number of the class of each item [item], int32.
        names: Name of each item for messages, where it has one.
    """

    items: Any
    labels: np.ndarray
    classes: tuple[str, ...]
    names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, at: int) -> Any:
        return self.items[at]

    def stack(self) -> np.ndarray:
        """All items as one array [item, ...].

        Raises:
            InputError: If two items differ in their shape.
        """
        arrays = [np.asarray(self.items[at]) for at in range(len(self))]
        for at, array in enumerate(arrays):
            if array.shape != arrays[0].shape:
                first, this = (self.names[i] if self.names else f"item {i}" for i in (0, at))
                raise InputError(
                    f"items of one array must have one shape, got {arrays[0].shape} for {first} "
                    f"and {array.shape} for {this}; cut or resize them, or pack them as tokens"
                )
        return np.stack(arrays)


@dataclass(frozen=True)
class _Files:
    """Files that are read one by one: clips [time, height, width, channel], arrays as stored."""

    paths: tuple[Path, ...]

    def __getitem__(self, at: int) -> np.ndarray:
        return np.asarray(self.open(at))

    def open(self, at: int) -> Any:
        """An item of which only what is indexed is decoded: a `DataArray`, or an array."""
        path = self.paths[at]
        if path.suffix in VIDEO_SUFFIXES:
            return open_video(path)
        arrays = array_headers(path)
        if len(arrays) != 1:
            raise InputError(
                f"the file {path} of one item must hold one array, got {', '.join(arrays)}; split "
                "it"
            )
        return load_array(path, next(iter(arrays)))


def read_folder(path: str | Path) -> LabelledItems:
    """Reads a folder of `class/file`, where a file is a clip, or a volume or clip as one array.

    Clips are `.mp4`, `.avi`, ..., arrays `.npy` and `.npz`. Classes and files are sorted by name;
    names that start with a dot and other kinds of files are left out. Items are read where they
    are used, clips as [time, height, width, channel]; they may differ in length and size.

    Raises:
        InputError: If there are no classes, a class has no items, or an item lies in no class.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"there must be a folder of classes at {path}, got none; give one")
    if loose := [entry.name for entry in sorted(root.iterdir()) if _is_item(entry)]:
        raise InputError(
            f"every item of {path} must lie in the folder of its class, got {loose[0]} outside of "
            "them; move it into one"
        )
    folders = [e for e in sorted(root.iterdir()) if e.is_dir() and not e.name.startswith(".")]
    files = [[file for file in sorted(folder.iterdir()) if _is_item(file)] for folder in folders]
    if not folders or not all(files):
        empty = [f.name for f, own in zip(folders, files, strict=True) if not own]
        kinds = ", ".join((*VIDEO_SUFFIXES, *_ARRAY_SUFFIXES))
        raise InputError(
            f"{path} must hold one folder of items for each class, got "
            f"{f'none of class {empty[0]}' if empty else 'no folders'}; items are {kinds}"
        )
    labels = np.repeat(np.arange(len(folders), dtype=np.int32), [len(own) for own in files])
    paths = tuple(file for own in files for file in own)
    names = [f"{file.parent.name}/{file.name}" for file in paths]
    return LabelledItems(_Files(paths), labels, tuple(f.name for f in folders), names)


def read_labelled_arrays(
    path: str | Path, *, items: str, labels: str, classes: Sequence[str] | None = None
) -> LabelledItems:
    """Reads items and labels that are two arrays of one `.npz` file.

    Args:
        path: The file.
        items: Name of the array of the items [item, ...], which stay as stored.
        labels: Name of the array of the labels [item] or [item, 1]: whole numbers from 0.
        classes: Names of the classes; "0", "1", ... by default.

    Raises:
        InputError: If an array is missing, the lengths differ, or a label has no class.
    """
    arrays = array_headers(Path(path))
    if missing := [name for name in (items, labels) if name not in arrays]:
        raise InputError(
            f"{path} must hold the arrays {items} and {labels}, got {', '.join(arrays)}; "
            f"add {' and '.join(missing)}"
        )
    marks, stored = (load_array(Path(path), name) for name in (labels, items))
    values = marks[:, 0] if marks.ndim == 2 and marks.shape[1] == 1 else marks
    if values.shape != stored.shape[:1]:
        raise InputError(
            f"{labels} of {path} must be one label for each item of {items} {stored.shape}, "
            f"got shape {marks.shape}; correct the file"
        )
    numbers, names = numbered(values, classes, str(path), first_line=None)
    return LabelledItems(stored, numbers, names)


def read_labelled_series(
    path: str | Path, *, classes: Sequence[str] | None = None, encoding: str | None = None
) -> LabelledItems:
    """Reads series of equal length as the UCR archive stores them: the label, then its values.

    Series stand one a line, separated by tabs, and become [series, time, channel=1], float32.
    `classes` are the labels in the order of their numbers; those found, sorted, by default. For
    `encoding` see `open_text`.

    Raises:
        InputError: If the file is missing, a line has another number of values or something that
            is no number, or a label has no class.

    References:
        Dau et al., The UCR time series archive, 2019.
    """
    with open_text(path, kind="file of series", encoding=encoding) as text:
        rows = [line.split("\t") for line in text.read().rstrip("\n").split("\n")]
    usual = Counter(len(row) for row in rows).most_common(1)[0][0]
    series = np.empty((len(rows), usual - 1, 1), np.float32)
    for at, row in enumerate(rows):
        try:
            values = [float(cell) for cell in row[1:]]
        except ValueError:
            values = []
        if len(row) != usual or len(values) != usual - 1:
            raise InputError(
                f"every line of {path} must hold a label and {usual - 1} numbers separated by "
                f"tabs, got line {at + 1} with {len(row)} cells; correct it"
            )
        series[at, :, 0] = values
    numbers, names = numbered(np.asarray([r[0] for r in rows]), classes, str(path), first_line=1)
    return LabelledItems(series, numbers, names)


def _is_item(path: Path) -> bool:
    kinds = (*VIDEO_SUFFIXES, *_ARRAY_SUFFIXES)
    return path.is_file() and path.suffix in kinds and not path.name.startswith(".")


def numbered(
    values: np.ndarray, classes: Sequence[str] | None, name: str, *, first_line: int | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels [item] as numbers of classes, and the classes: whole numbers count, words name them.

    Classes are those found by default. Messages tell the line of an item where the first has one.

    Raises:
        InputError: A label has no class.
    """
    whole = values.dtype.kind in "biuf" and bool((values == np.floor(values)).all())
    values = values.astype(np.int64 if whole else str)
    if whole:
        count = int(values.max(initial=-1)) + 1 if classes is None else len(classes)
        names = tuple(classes or map(str, range(count)))
        wrong = (values < 0) | (values >= count)
    else:
        names = tuple(classes or np.unique(values).tolist())
        wrong = ~np.isin(values, names)
    if wrong.any():
        at = int(wrong.argmax())
        where = f"item {at}" if first_line is None else f"line {at + first_line}"
        raise InputError(
            f"every label of {name} must be one of the classes {', '.join(names)}, got "
            f"{values[at]} for {where}; name its class or remove it"
        )
    if whole:
        return values.astype(np.int32), names
    return np.asarray([names.index(value) for value in values.tolist()], np.int32), names
