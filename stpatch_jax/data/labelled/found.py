"""Items with labels as they lie in files or in memory, before labels have a meaning."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from stpatch_jax.data.catalog import CATALOG
from stpatch_jax.data.identity import FieldIdentity
from stpatch_jax.data.protocols import CATALOG_PREFIX, located
from stpatch_jax.data.readers.arrays import array_headers, load_array
from stpatch_jax.data.readers.cells import MISSING, Cells, is_number
from stpatch_jax.data.readers.columns import plain_name
from stpatch_jax.data.readers.delimited import TEXT_SUFFIXES
from stpatch_jax.data.readers.encoded import open_text
from stpatch_jax.data.readers.items import LabelledItems, read_folder, read_items, read_series
from stpatch_jax.data.readers.nifti import NIFTI_SUFFIXES, spacings_of
from stpatch_jax.data.readers.pairs import ALL, find_pairs, split_of, split_words
from stpatch_jax.data.readers.pictures import PICTURE_SUFFIXES
from stpatch_jax.data.readers.tables import any_cells
from stpatch_jax.data.readers.text import LABEL_WORDS, TEXT_WORDS, read_texts
from stpatch_jax.data.readers.typed import ARROW_SUFFIXES, PARQUET_SUFFIXES
from stpatch_jax.errors import InputError, listed, require, spelt, warn
from stpatch_jax.files import has_suffix

Layout = Literal["auto", "rows", "series", "images", "volumes", "fields", "clips", "texts"]
_TYPED = (*PARQUET_SUFFIXES, *ARROW_SUFFIXES)
_ROW_WORDS = ("index", "level0", "id", "row", "rowid", "rownames", "rownumber", "no", "")
# Up to so many numbers an item are taken for a row of a table, more for a series.
_MOST_IN_ROW = 16
_LEAST_SIDE = 8
# Less than what is no number: a class may be called M or NA.
_NO_LABEL = ("", "?", "nan", "NaN", "<NA>")


@dataclass(frozen=True)
class Names:
    """What is where in a file: names of arrays or columns, see `ItemConfig`."""

    inputs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    text: str | None = None
    group: str | None = None
    encoding: str | None = None
    layout: Layout = "auto"
    called: str = "inputs"
    """What messages call the setting of `inputs`."""


@dataclass(frozen=True, eq=False)
class Found:
    """Items as they were read.

    Attributes:
        layout: What an item is.
        values: Fields [item, time, *space, channel], clips that are read where they are indexed, or
            texts.
        labels: Words or numbers [item] or [item, target]; None where none were asked for.
        targets: Names of the labels.
        items: What tells the items apart, by the name of its column [item].
        source: What messages call where they are from.
        splits: Split of each item, where the source tells.
        groups: Name of the group of each item, where a group was named.
        notes: What was inferred or left out.
        channels: Names of the channels, where they have any.
        files: Files of clips.
        spacings: How far apart the cells of NIfTI volumes lie, by their files.
    """

    layout: str
    values: Any
    labels: np.ndarray | None
    targets: tuple[str, ...]
    items: Mapping[str, Any]
    source: str
    splits: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    channels: tuple[str, ...] | None = None
    files: Sequence[Path] = field(default_factory=tuple)
    spacings: Mapping[Path, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def labelled(self) -> "Found":
        """Those items that have all labels; the others are told.

        Raises:
            InputError: None has.
        """
        assert self.labels is not None
        columns = self.labels.reshape(len(self), -1)
        known = ~np.asarray([_missing(column) for column in columns.T]).any(axis=0)
        if known.all():
            return self
        require(
            bool(known.any()),
            f"the items of {self.source} must have labels, got none for all {len(self)}; name "
            "other ones with labels=",
        )
        note = f"{int((~known).sum()):,} of {len(self):,} items have no label and were left out."
        warn(note, stacklevel=3)
        kept = np.flatnonzero(known)
        lists = {
            name: [getattr(self, name)[at] for at in kept]
            for name in ("splits", "files")
            if len(getattr(self, name))
        }
        values = self.values[kept] if isinstance(self.values, np.ndarray) else None
        return replace(
            self,
            values=[self.values[at] for at in kept] if values is None else values,
            labels=self.labels[kept],
            items={name: np.asarray(of)[kept] for name, of in self.items.items()},
            groups=None if self.groups is None else self.groups[kept],
            notes=(*self.notes, note),
            **{name: tuple(of) for name, of in lists.items()},
        )


def _missing(values: np.ndarray) -> np.ndarray:
    """Whether each of some labels is missing."""
    if values.dtype.kind in "OUT":
        return np.asarray([pd.isna(v) or str(v).strip() in _NO_LABEL for v in values.tolist()])
    return np.asarray(pd.isna(values))


def read_found(path: str, names: Names, *, labelled: bool = True) -> Found:
    """Reads what lies at a path, by what it is.

    A folder holds one folder of files for each class, or a table `train`; a `.npz` file holds
    arrays; a text file series, a label and numbers in each line, or a table with a header: a text
    and a label in each row, or numbers and a label. Files of the same name with the word of another
    split in place of `train` are the other splits; without labels there are none.
    """
    place = Path(located(path))
    require(
        place.exists(), f"there must be a file or folder at {path}, got none; give an existing one"
    )
    if place.is_dir():
        tables = [file for file in sorted(place.iterdir()) if _is_table(file)]
        train = [file for file in tables if split_of(_stem(file.name)) == "train"]
        if not (labelled and len(train) == 1):
            return _folder(place, names, labelled=labelled)
        path, place = str(train[0]), train[0]
    if has_suffix(place, ".npz", ".npy"):
        return _arrays(place, names, labelled=labelled)
    if not (_is_table(place) or path.startswith(CATALOG_PREFIX)):
        require(
            not labelled,
            f"data.path must name a folder of class folders, an .npz file, or a table "
            f"({listed((*TEXT_SUFFIXES, *_TYPED))}), got {path}; give one of these",
        )
        return _folder(place, names, labelled=False)
    series = names.text is None and not names.inputs and _holds_series(place, names)
    read = _series if series else _table
    if not labelled:
        return read(place, names, labelled=False)
    files = _beside(path)
    parts, notes = {}, []
    for split, file in files.items():
        try:
            parts[split] = read(Path(located(file)), names, labelled=True)
        except InputError as error:
            if split == "train" or not _lacks_labels(read, Path(located(file)), names):
                raise
            notes.append(f"{Path(file).name} was not read: {error}.")
    return _joined(parts, notes, source=str(place))


def _lacks_labels(read: Callable[..., Found], file: Path, names: Names) -> bool:
    """Whether it is as those of competitions, whose labels are kept secret, and else whole."""
    try:
        return bool(len(read(file, names, labelled=False)))
    except InputError:
        return False


def _joined(parts: Mapping[str, Found], notes: Sequence[str], *, source: str) -> Found:
    """The items of several files, each a split, as one."""
    first = parts["train"]
    if len(parts) == 1:
        return replace(first, notes=(*first.notes, *notes))
    for split, part in parts.items():
        shapes = [np.shape(of.values)[1:] for of in (first, part)]
        if first.layout != "texts":
            like = FieldIdentity.of_items(shapes[0], first.values.dtype)
            name = f"the {split} split of {source}"
            like.match_type(part.values.dtype, name=name, like="the training split")
        require(
            shapes[0] == shapes[1] and part.channels == first.channels,
            f"the items of {source} must be of one shape, got {shapes[0]} in train and {shapes[1]} "
            f"in {split}; correct the files",
        )
    together = [*parts.values()]
    values = (
        [text for part in together for text in part.values]
        if first.layout == "texts"
        else np.concatenate([part.values for part in together])
    )
    splits = tuple(split for split, part in parts.items() for _ in range(len(part)))
    told = f"The splits are those of the files: {listed(parts)}."
    groups = [part.groups for part in together if part.groups is not None]
    return replace(
        first,
        values=values,
        labels=np.concatenate([part.labels for part in together if part.labels is not None]),
        items={},
        splits=splits,
        groups=np.concatenate(groups) if len(groups) == len(together) else None,
        notes=tuple(dict.fromkeys([*(n for of in together for n in of.notes), told, *notes])),
    )


def _is_table(path: Path) -> bool:
    # Files of the UCR archive may have no suffix.
    return has_suffix(path, *TEXT_SUFFIXES, *_TYPED) or (not path.suffix and path.is_file())


def _stem(name: str) -> str:
    return name.partition(".")[0]


def _beside(path: str) -> dict[str, str]:
    """The files of the splits, where the name of one tells that it is that of training."""
    folder, slash, name = path.rpartition("/")
    found = {"train": path}
    for word in split_words("train"):
        for form in (str.lower, str.upper, str.title):
            stem, own = _stem(name), form(word)
            if split_of(stem) != "train" or own not in stem:
                continue
            for split in ("validation", "test"):
                before, _, behind = name.rpartition(own)
                others = (before + form(w) + behind for w in split_words(split))
                for other in others:
                    if _exists(folder + slash + other):
                        found.setdefault(split, folder + slash + other)
    return found


def _exists(path: str) -> bool:
    name = path.removeprefix(CATALOG_PREFIX)
    return name in CATALOG if name != path else Path(path).is_file()


def _folder(place: Path, names: Names, *, labelled: bool) -> Found:
    items: LabelledItems = read_folder(place) if labelled else read_items(place)
    files = items.items.paths
    volumes = [file for file in files if has_suffix(file, *NIFTI_SUFFIXES)]
    stored = volumes or [file for file in files if has_suffix(file, ".npy", ".npz")]
    if stored and len(stored) < len(files):
        other = next(file for file in files if file not in stored)
        raise InputError(
            f"the items of {place} must be of one kind, got {stored[0].name} beside {other.name}; "
            "move one kind away"
        )
    labels = np.asarray(items.classes, object)[items.labels] if labelled else None
    own: dict[str, Any] = {"source": str(place), "targets": ("class",)}
    if not stored or (np.ndim(items[0]) == 4 and not volumes):
        still = has_suffix(files[0], *PICTURE_SUFFIXES)
        own |= {"items": {"file": list(items.names)}, "notes": items.notes, "files": files}
        return Found("images" if still else "clips", items, labels, **own)
    layout = "volumes" if volumes and names.layout == "auto" else names.layout
    found = given_arrays(items.stack(), labels, None, layout=layout, **own)
    notes = (*items.notes, *found.notes)
    own = {"items": {"file": list(items.names)}, "spacings": spacings_of(volumes)}
    return replace(found, **own, notes=notes, splits=items.splits)


def _series(place: Path, names: Names, *, labelled: bool) -> Found:
    series, labels = read_series(place, encoding=names.encoding)
    wanted = "series" if names.layout == "auto" else names.layout
    fields, layout, _ = laid_out(series[..., 0], wanted, str(place))
    lines = {"line": np.arange(1, len(series) + 1)}
    return Found(layout, fields, labels if labelled else None, ("label",), lines, str(place))


def _holds_series(place: Path, names: Names) -> bool:
    """Whether the first line of a text is a label and numbers."""
    if has_suffix(place, *_TYPED):
        return False
    with open_text(place, kind="table", encoding=names.encoding) as text:
        line = text.readline().strip()
    mark = next((mark for mark in "\t,;" if mark in line), None)
    cells = [cell.strip() for cell in line.split(mark)]
    return len(cells) > 2 and all(is_number(cell) or cell in MISSING for cell in cells[1:])


def _arrays(place: Path, names: Names, *, labelled: bool) -> Found:
    headers, file = array_headers(place), place.name
    own = {name: tuple(spelt(getattr(names, name), headers)) for name in ("inputs", "labels")}
    group = spelt([names.group], headers)[0] if names.group else None
    names = replace(names, **own, group=group)
    for array in (*names.inputs, *names.labels, *filter(None, [names.group])):
        require(
            array in headers or not labelled,
            f"{file} must hold the array {array}, got {listed(headers)}; name one of these with "
            f"{names.called}={', labels= or group=' if group else ' or labels='}",
        )
    if not labelled:
        return _inputs_alone(place, names)
    items, labels = names.inputs, names.labels
    if labels and not items:
        count = headers[labels[0]].shape[:1]
        numbers = {n: of for n, of in headers.items() if of.dtype.kind in "biuf"}
        free = [n for n, of in numbers.items() if n not in (*labels, names.group)]
        items = tuple(n for n in free if numbers[n].shape[:1] == count)
    if len(items) == 1 and labels:
        pairs = {ALL: (items[0], labels)}
    else:
        told = {"items": items, "labels": labels, "name": file, "fewest": 2}
        told |= {"setting": names.called}
        pairs = {split: (x, (y,)) for split, (x, y) in find_pairs(headers, **told).items()}
    parts = {}
    for split, (x, y) in pairs.items():
        stored = load_array(place, x)
        columns = [load_array(place, name) for name in y]
        groups = load_array(place, names.group) if names.group and split == ALL else None
        part = given_arrays(
            stored,
            columns[0] if len(columns) == 1 else columns,
            groups,
            layout=names.layout,
            source=str(place),
            targets=y,
        )
        parts["train" if split == ALL else split] = part
    told = f"The arrays are {listed(' and '.join([x, *y]) for x, y in pairs.values())}."
    return _joined(parts, [told], source=str(place))


def _inputs_alone(place: Path, names: Names) -> Found:
    """The last of the told arrays that is there, or the only one, or test's, of most axes."""
    headers = array_headers(place)
    held = [name for name in names.inputs[-1:] if name in headers]
    if not held:
        numbers = {n: len(of.shape) for n, of in headers.items() if of.dtype.kind in "biuf"}
        most = max(numbers.values(), default=0)
        held = [name for name, axes in numbers.items() if axes == most]
        held = [name for name in held if split_of(name) == "test"] or held
    require(
        len(held) == 1,
        f"it must be clear which array of {place} are the items, got {listed(held)} among "
        f"{listed(headers)}; name it with {names.called}=",
    )
    stored = load_array(place, held[0])
    found = given_arrays(stored, None, None, layout=names.layout, source=str(place), targets=())
    if names.inputs[-1:] in ((), (held[0],)):
        return found
    note = f"The items are the array {held[0]}, as there is no {names.inputs[-1]}."
    return replace(found, notes=(*found.notes, note))


def given_arrays(
    inputs: Any,
    labels: Any,
    groups: Any,
    *,
    layout: Layout,
    source: str,
    targets: Sequence[str] = (),
) -> Found:
    """Items in memory: arrays [item, ...], texts, or a `DataFrame` of a row each, with labels.

    Labels are [item], [item, 1], one-hot [item, class], or of several targets: a list of such
    columns, or [item, target].
    """
    channels = None
    if isinstance(inputs, pd.DataFrame):
        channels = tuple(map(str, inputs.columns))
    if isinstance(labels, pd.DataFrame | pd.Series):
        columns = labels.columns if isinstance(labels, pd.DataFrame) else [labels.name or "label"]
        targets = targets or tuple(map(str, columns))
    try:
        values: Any = np.asarray(inputs)
    except ValueError:  # NumPy makes no array of items that differ.
        raise InputError(
            f"the items of {source} must have one shape, got several; cut or pad them, or give a "
            "folder of clips"
        ) from None
    if isinstance(labels, list) and labels and isinstance(labels[0], np.ndarray):
        labels = np.stack([np.asarray(column).reshape(-1) for column in labels], axis=1)
    told = None if labels is None else np.asarray(labels)
    if told is not None:
        require(
            values.ndim > 0 and told.shape[:1] == values.shape[:1] and told.ndim in (1, 2),
            f"the labels of {source} must be one for each item, got shape {told.shape} for items "
            f"{values.shape}; give as many",
        )
        told = told[:, 0] if told.ndim == 2 and told.shape[1] == 1 else told
        width = 1 if told.ndim == 1 else told.shape[1]
        if len(targets) != width:
            name = targets[0] if len(targets) == 1 else "target"
            targets = (name,) if width == 1 else tuple(f"{name}_{at}" for at in range(width))
    rows = {"item": np.arange(len(values))}
    own: dict[str, Any] = {"groups": None if groups is None else np.asarray(groups)}
    if values.dtype.kind in "UOT" and values.ndim == 1 and not isinstance(inputs, pd.DataFrame):
        texts = ["" if pd.isna(text) else str(text) for text in values.tolist()]
        return Found("texts", texts, told, tuple(targets), rows, source, **own)
    fields, layout, note = laid_out(values, "rows" if channels else layout, source)
    notes = (note,) if note else ()
    own |= {"channels": channels if layout == "rows" else None, "notes": notes}
    return Found(layout, fields, told, tuple(targets), rows, source, **own)


def laid_out(values: np.ndarray, layout: str, source: str) -> tuple[np.ndarray, Any, str]:
    """Items [item, ...] as fields [item, time, *space, channel], their layout, and how it was told.

    By itself an item of one axis is a row of up to 16 numbers, else a series; of two axes an image
    where it holds pixels or is a square, else a series [time, channel]; of three an image with 1, 3
    or 4 channels, a volume where it is a cube or holds pixels, else [time, space, channel]; of four
    a volume with channels where it is a cube, else [time, *space, channel].

    >>> fields, layout, _ = laid_out(np.zeros((5, 28, 28)), "auto", "digits")
    >>> fields.shape, layout
    ((5, 1, 28, 28, 1), 'images')
    """
    require(
        values.dtype.kind in "biuf" and values.ndim > 1 and values.size > 0,
        f"the items of {source} must be numbers [item, ...], got {values.dtype} of shape "
        f"{values.shape}; give arrays of numbers, or texts [item]",
    )
    item = values.shape[1:]
    told = "" if layout != "auto" else _layout_of(item, values.dtype)
    wanted, axes = told or layout, len(item)
    shapes: Any = {
        "rows": {1: np.s_[:, None, :]},
        "series": {1: np.s_[:, :, None], 2: np.s_[:]},
        "images": {2: np.s_[:, None, :, :, None], 3: np.s_[:, None]},
        "volumes": {3: np.s_[:, None, :, :, :, None], 4: np.s_[:, None]},
    }.get(wanted, dict.fromkeys(range(2, 6), np.s_[:]))
    require(
        axes in shapes,
        f"the items of {source} must have the axes of layout={wanted}, got items of shape {item}; "
        "choose another layout",
    )
    note = f"Items of shape {item} were read as {wanted}; another way is named by data.layout."
    return values[shapes[axes]], wanted, note if told else ""


def _layout_of(item: tuple[int, ...], dtype: np.dtype) -> str:
    pixels, last = dtype == np.uint8, item[-1] in (1, 3, 4)
    square = len(item) > 1 and item[0] == item[1] >= _LEAST_SIDE
    if len(item) == 1:
        return "rows" if item[0] <= _MOST_IN_ROW else "series"
    if len(item) == 2:
        return "images" if pixels or square else "series"
    if len(item) == 3 and last and (pixels or square):
        return "images"
    cube = square and len(set(item[:3])) == 1
    return "volumes" if cube or (len(item) == 3 and pixels) else "fields"


def _table(place: Path, names: Names, *, labelled: bool) -> Found:
    words = [*names.labels, *filter(None, [names.text, names.group])]
    if not labelled and (names.layout == "texts" or names.text is not None):
        numbers, texts, notes = read_texts(place, text=names.text, encoding=names.encoding)
        return Found("texts", texts, None, (), {"line": numbers}, str(place), notes=tuple(notes))
    told: dict[str, Any] = {"kind": "table of items", "encoding": names.encoding, "fewest": 1}
    cells = any_cells(place, words=words, **told)
    return _of_cells(cells, names, str(place), labelled=labelled)


def of_frame(frame: pd.DataFrame, names: Names, *, labelled: bool = True) -> Found:
    """Reads a `DataFrame` as `read_found` reads a table with a header."""
    cells = any_cells(frame, words=(), kind="table of items")
    return _of_cells(cells, names, cells.name, labelled=labelled)


def _of_cells(cells: Cells, names: Names, source: str, *, labelled: bool) -> Found:
    labels = _columns(cells, "labels", names.labels, LABEL_WORDS) if labelled else []
    group = _columns(cells, "group", [names.group], ()) if names.group and labelled else []
    taken, text = {*labels, *group}, None
    if not names.inputs:
        text = _text_column(cells, names, taken)
    full = np.flatnonzero(~cells.blank_rows)
    own: dict[str, Any] = {
        "items": {cells.place: cells.lines[full]},
        "groups": cells.texts(group[0]).to_numpy(object)[full] if group else None,
        "targets": tuple(cells.header[at] for at in labels),
        "source": source,
    }
    told = [cells.texts(at).to_numpy(object)[full] for at in labels]
    own["labels"] = None if not told else told[0] if len(told) == 1 else np.stack(told, axis=1)
    if text is not None:
        texts = cells.texts(text).to_numpy(object)[full].tolist()
        note = f"Texts are those of the column {cells.header[text]}."
        return Found("texts", texts, notes=(*cells.notes, note), **own)
    chosen = _columns(cells, "inputs", names.inputs, ()) if names.inputs else _numbers(cells, taken)
    left = [name for at, name in enumerate(cells.header) if at not in {*chosen, *taken} and name]
    require(
        bool(chosen),
        f"the table {cells.name} must have columns of numbers or of a text beside the labels, got "
        f"{listed(cells.header)}; name them with inputs= or text=",
    )
    notes = [*cells.notes, *([f"Columns that were not read: {listed(left)}."] if left else [])]
    values = np.stack([cells.numbers(at) for at in chosen], axis=1)[full]
    layout = "rows" if names.layout == "auto" else names.layout
    fields, layout, _ = laid_out(values, layout, source)
    own["channels"] = tuple(cells.header[at] for at in chosen) if layout == "rows" else None
    return Found(layout, fields, notes=tuple(notes), **own)


def _columns(cells: Cells, role: str, told: Sequence[Any], words: Sequence[str]) -> list[int]:
    """The numbers of the columns that are told, else of the one called by one of the words."""
    header = [plain_name(name) for name in cells.header]
    found = [at for at, name in enumerate(header) if name in words]
    for name in told:
        own = [at for at, other in enumerate(cells.header) if other == name]
        own = own or [at for at, other in enumerate(header) if other == plain_name(name)]
        found = own if name == told[0] else [*found, *own]
    held = told or [cells.header[at] for at in found]
    require(
        len(found) == max(len(told), 1),
        f"the table {cells.name} must have the columns of {role}=, got {listed(held)} "
        f"among {listed(cells.header)}; name one of these with {role}=",
    )
    return found


def _text_column(cells: Cells, names: Names, taken: set[int]) -> int | None:
    if names.text is not None:
        return _columns(cells, "text", [names.text], ())[0]
    header = [plain_name(name) for name in cells.header]
    free = [at for at in range(len(header)) if at not in taken and cells.content(at) == "text"]
    called = [at for at in free if header[at] in TEXT_WORDS]
    return called[0] if len(called) == 1 else None


def _numbers(cells: Cells, taken: set[int]) -> list[int]:
    """The columns of numbers that are neither taken nor row numbers."""
    chosen = []
    for at, name in enumerate(cells.header):
        if at in taken or cells.content(at) not in ("number", "flag"):
            continue
        whole = cells.whole(at) if plain_name(name) in _ROW_WORDS else None
        if whole is None or len(whole) < 2 or (np.diff(whole) != 1).any():
            chosen.append(at)
    return chosen
