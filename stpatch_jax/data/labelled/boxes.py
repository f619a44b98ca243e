"""Items with boxes as they lie in files: COCO's JSON, tables of boxes, arrays."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stpatch_jax.data.readers.arrays import array_headers, load_array
from stpatch_jax.data.readers.cells import Cells
from stpatch_jax.data.readers.columns import plain_name
from stpatch_jax.data.readers.delimited import CSV_SUFFIXES, read_cells
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.data.readers.items import ITEM_SUFFIXES, ItemFiles
from stpatch_jax.data.readers.pairs import ALL, split_of
from stpatch_jax.data.sizes import file_content
from stpatch_jax.errors import InputError, listed, require, shortened, warn
from stpatch_jax.files import has_suffix

_TABLES = (*CSV_SUFFIXES, ".tsv", ".tsv.gz")
_COLUMNS = {
    "file": ("file", "filename", "path", "filepath", "image", "imagename", "imagepath", "imageid"),
    "class": ("class", "label", "classname", "category", "categoryname", "labelname"),
    "frame": ("frame", "framenumber", "frameindex", "frameid"),
    "split": ("split", "subset", "partition"),
    "crowd": ("crowd", "iscrowd", "difficult", "isdifficult", "ignore", "ignored", "isgroupof"),
}
# Names of lower and upper bounds, or of lower bounds and sizes.
_ENDS = (
    ("top", "left", "bottom", "right"),
    *(
        tuple(end.format(axis) for end in ends for axis in axes)
        for axes in ("zyx", "yx")
        for ends in (("{}min", "{}max"), ("{}0", "{}1"), ("{}1", "{}2"))
    ),
)
_SIZES = (
    *((y, x, h, w) for y, x in (("y", "x"), ("top", "left"), ("ymin", "xmin"))
      for h, w in (("height", "width"), ("h", "w"))),
    ("bboxy", "bboxx", "bboxheight", "bboxwidth"),
)  # fmt: skip
ITEMS = ("images", "image", "x", "clips", "volumes", "items")
"""What an array of items is called in an `.npz` file."""
_ARRAYS = {
    "images": ITEMS,
    "boxes": ("boxes", "bboxes", "bbox"),
    "labels": ("labels", "label", "classes", "class", "y"),
}
_NONE = ("", "nan", "None")


class _Row(NamedTuple):
    """A box, or an item or frame without one, and what is told beside it."""

    item: Any
    name: str
    frame: int | None
    bounds: Sequence[float] | np.ndarray | None
    label: str
    split: str
    group: str
    place: str
    size: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class BoxedItems:
    """Items with boxes.

    Attributes:
        open: What gives an item by its number, as stored.
        names: Name of each item.
        item: Number of the item of each box [box].
        frame: Number of its frame.
        bounds: `(lo..., hi...)` in cells [box, 2 * space axes], float64.
        label: Its class, as text.
        places: What messages call where each box stands.
        seen: Numbers of the frames of each item that are named; None where all count.
        source: What messages call where they are from.
        splits: Split of each item, `ALL` where nothing tells.
        groups: Name of the group of each item.
        classes: Names of the classes in their order, where the file has one.
        files: Files of the items, where each is one.
        notes: What was left out or inferred, in sentences.
        told: Height and width of each item as they stand beside its boxes, empty where they do not.
    """

    open: Any
    names: Sequence[str]
    item: np.ndarray
    frame: np.ndarray
    bounds: np.ndarray
    label: np.ndarray
    places: np.ndarray
    seen: Sequence[np.ndarray | None]
    source: str
    splits: Sequence[str]
    groups: Sequence[str]
    classes: tuple[str, ...] = ()
    files: Sequence[Path] = ()
    notes: tuple[str, ...] = ()
    told: Sequence[tuple[float, ...]] = ()

    def chosen(self, boxes: np.ndarray) -> dict[str, np.ndarray]:
        """What is told of some boxes."""
        names = ("item", "frame", "bounds", "label", "places")
        return {name: getattr(self, name)[boxes] for name in names}


def read_boxes(path: str, *, group: str | None = None, encoding: str | None = None) -> BoxedItems:
    """Reads items and their boxes, whatever they lie in.

    | path | items and boxes |
    |---|---|
    | a `.json` of COCO | `images`, `annotations` with `bbox` [x, y, width, height], `categories` |
    | a table | a row a box: file, bounds, class; maybe frame, split, crowd or difficult |
    | a folder | one of these in it, or one for each split, or in the folder of each split |
    | `.npz` | arrays of images, boxes [item, box, bound] and labels [item, box]; maybe split |

    Files are looked for beside what names them, then in the folder and all inside of it. Boxes
    called crowd or difficult are left out. A table has a header with bounds called as `xmin`, `x0`
    or `x1`, or as `x`, `y`, `width` and `height` from the upper left corner; a row without bounds
    is an item, or a frame, without a box. Arrays of boxes hold bounds `(lo..., hi...)` along the
    axes of an item, so rows before columns, and NaN, or a label below 0, where there is none; of
    clips they are [item, time, box, bound].
    """
    place = Path(path)
    require(
        place.exists(), f"there must be a file or folder at {path}, got none; give an existing one"
    )
    if has_suffix(place, ".npz"):
        return _arrays(place, group)
    rows, classes, notes = [], {}, []
    told = _described(place) if place.is_dir() else {ALL: place}
    for split, file in told.items():
        places = _Places(place if place.is_dir() else place.parent, file.parent, split)
        if has_suffix(file, ".json"):
            rows += _coco(file, places, group, classes)
        else:
            require(
                has_suffix(file, *_TABLES),
                f"data.path must name a folder, a .json of COCO, an .npz file or a table of boxes "
                f"({listed(_TABLES)}), got {path}; give one of these",
            )
            rows += _table(file, places, group, encoding, notes)
    if len(told) > 1:
        notes.append(f"The splits are those of the files: {listed(told)}.")
    files = [*dict.fromkeys(row.item for row in rows)]
    read = {"open": ItemFiles(tuple(files)).open, "files": files, "classes": tuple(classes)}
    return _collected(rows, files, source=path, notes=notes, **read)


def _described(folder: Path) -> dict[str, Path]:
    """The files in a folder, or in the folders inside of it, that tell boxes, by split."""
    shown = [*sorted(folder.glob("*")), *sorted(folder.glob("*/*"))]
    files = [entry for entry in shown if entry.is_file() and not entry.name.startswith(".")]
    for suffixes in ((".json",), _TABLES):
        found = [file for file in files if has_suffix(file, *suffixes)]
        # Beside them COCO has captions and key points.
        found = [file for file in found if file.name.startswith("instances")] or found
        if len(found) == 1:
            return {ALL: found[0]}
        if found:
            pairs = [(split_of(file.stem), split_of(file.parent.name)) for file in found]
            splits = [beside if own == ALL else own for own, beside in pairs]
            require(
                "train" in splits and ALL not in splits and len(set(splits)) == len(splits),
                f"one file of {folder} must tell the boxes, or one of each split, got "
                f"{listed(file.relative_to(folder) for file in found)}; give the one that is "
                "meant as data.path, or call them train, validation and test",
            )
            return dict(zip(splits, found, strict=True))
    raise InputError(
        f"a file of {folder} must tell the boxes, got none; put a .json of COCO or a table of "
        f"boxes ({listed(_TABLES)}) beside the images"
    )


class _Places:
    """Where the files lie that a description names."""

    def __init__(self, root: Path, beside: Path, split: str):
        self.root, self.beside, self.split = root, beside, split
        self._inside: dict[str, list[Path]] | None = None

    def of(self, names: Iterable[str], source: Path) -> dict[str, Path]:
        """The files of some names."""
        names = [*dict.fromkeys(names)]
        found = {name: file for name in names if (file := self._find(name))}
        missing = [name for name in names if name not in found]
        require(
            not missing,
            f"the files that {source.name} names must lie beside it or in {self.root}, each name "
            f"once, got {len(missing)} of {len(names)} that do not, such as {listed(missing)}; put "
            "them there or leave them out",
        )
        counts = Counter(found.values())
        require(
            len(counts) == len(found),
            f"every file of {source.name} must have one name, got several for "
            f"{listed(file for file, count in counts.items() if count > 1)}; write it alike",
        )
        return found

    def _find(self, name: str) -> Path | None:
        for folder in (self.beside, self.beside / "images", self.root, self.root / "images"):
            if (folder / name).is_file():
                return (folder / name).absolute()
        if self._inside is None:
            self._inside = {}
            for entry in sorted(self.root.absolute().rglob("*")):
                if entry.is_file() and has_suffix(entry, *ITEM_SUFFIXES):
                    for key in {entry.name, entry.stem}:
                        self._inside.setdefault(key, []).append(entry)
        wanted = Path(name).parts
        found = self._inside.get(wanted[-1] if wanted else "", [])
        found = [file for file in found if file.parts[-len(wanted) :] == wanted] or found
        if len(found) > 1:
            found = [file for file in found if split_of(file.parent.name) == self.split]
        return found[0] if len(found) == 1 else None


def _coco(
    file: Path, places: _Places, group: str | None, classes: dict[str, None]
) -> Iterator[_Row]:
    with parsing(file, "COCO file"):
        told = json.loads(file_content(file))
    lists = {}
    for name in ("images", "annotations", "categories"):
        lists[name] = told.get(name) if isinstance(told, dict) else None
        require(
            isinstance(lists[name], list) and all(isinstance(x, dict) for x in lists[name]),
            f"{file.name} must be a COCO file with lists of images, annotations and categories, "
            f"got no list {name}; write one, or a table of boxes",
        )
    images = _by_id(lists["images"], ("file_name", *([group] if group else [])), "images", file)
    categories = _by_id(lists["categories"], ("name",), "categories", file)
    classes |= dict.fromkeys(str(entry["name"]) for entry in categories.values())
    files = places.of((str(image["file_name"]) for image in images.values()), file)
    require(
        len(files) == len(images),
        f"every file of {file.name} must be one image, got {len(images)} images of {len(files)} "
        "files; keep one entry of each",
    )

    def row(image: Mapping[str, Any], bounds: Any, label: str, at: int) -> _Row:
        name, place = str(image["file_name"]), f"annotation {at} of {file.name}"
        own = str(image.get(group or "video_id", name))
        sides: Any = tuple(image.get(side) for side in ("height", "width"))
        size = sides if all(isinstance(side, int | float) and side > 0 for side in sides) else ()
        return _Row(files[name], name, None, bounds, label, places.split, own, place, size)

    yield from (row(image, None, "", 0) for image in images.values())
    for at, entry in enumerate(lists["annotations"]):
        for key, known in (("image_id", images), ("category_id", categories)):
            require(
                entry.get(key) in known,
                f"{key} of every annotation of {file.name} must be one of those that are listed, "
                f"got {shortened(entry.get(key), most=40)} in annotation {at}; correct it, or "
                "leave the annotation out",
            )
        try:
            x, y, width, height = map(float, entry.get("bbox"))
        except (ValueError, TypeError):
            x = y = width = height = np.nan
        bounds = (y, x, y + height, x + width)
        require(
            bool(np.isfinite(bounds).all()),
            f"bbox of every annotation of {file.name} must be the numbers [x, y, width, height], "
            f"got {shortened(entry.get('bbox'), most=40)} in annotation {at}; correct it, or leave "
            "it out",
        )
        label = "" if entry.get("iscrowd") else str(categories[entry["category_id"]]["name"])
        yield row(images[entry["image_id"]], bounds, label, at)


def _by_id(
    entries: Sequence[Mapping[str, Any]], needed: Sequence[str], what: str, file: Path
) -> dict[Any, Mapping[str, Any]]:
    """Entries of a list by their id, in the order of these."""
    found: dict[Any, Mapping[str, Any]] = {}
    for at, entry in enumerate(entries):
        lacks = [n for n in ("id", *needed) if isinstance(entry.get(n), list | dict | None)]
        told = f"no {listed(lacks)}" if lacks else f"the id {entry['id']} again"
        require(
            not lacks and entry["id"] not in found,
            f"every entry of {what} of {file.name} must have {listed(('id', *needed))}, the id "
            f"once, got {told} in entry {at}; correct it",
        )
        found[entry["id"]] = entry
    order = sorted(found, key=lambda key: (isinstance(key, str), key))
    return {key: found[key] for key in order}


def _table(
    file: Path, places: _Places, group: str | None, encoding: str | None, notes: list[str]
) -> Iterator[_Row]:
    known = {**_COLUMNS, "group": (plain_name(group),) if group else ()}
    words = {name for role, names in known.items() if role != "frame" for name in names}

    def texts(head: Cells) -> list[int]:
        return [at for at, name in enumerate(head.header) if plain_name(name) in words]

    cells = read_cells(file, texts, kind="table of boxes", encoding=encoding)
    header = [plain_name(name) for name in cells.header]
    rows, columns = np.flatnonzero(~cells.blank_rows), {}
    for role, names in known.items():
        found = [header.index(name) for name in names if name in header]
        require(
            bool(found) or role not in ("file", "class", *(["group"] if group else [])),
            f"the table {cells.name} must have a column of the {role}, called as {listed(names)}, "
            f"got {listed(cells.header)}; rename it",
        )
        if found and role != "frame":
            columns[role] = cells.texts(found[0]).to_numpy(object)[rows]
        elif found:
            columns[role] = cells.numbers(found[0])[rows]
    notes += cells.notes
    bounds = _bounds(cells, header)[rows]
    blank = np.full(len(rows), "", object)
    files = places.of(columns["file"].tolist(), file)
    frames = columns.get("frame", np.zeros(len(rows)))
    sizes = _told_sizes(cells, header)[rows]
    for at, name in enumerate(columns["file"]):
        label, empty, place = columns["class"][at], np.isnan(bounds[at]), cells.where(rows[at])
        hard = str(columns.get("crowd", blank)[at]).lower() not in ("", "0", "0.0", "false", "no")
        require(
            empty.all() or (not empty.any() and label not in _NONE),
            f"every row of {cells.name} must have all bounds and a class, or no bounds, got some "
            f"in {place}; fill them in, or leave the row out",
        )
        require(
            frames[at] >= 0 and frames[at] % 1 == 0,
            f"the frames of {cells.name} must be whole numbers from 0, got {frames[at]:g} in "
            f"{place}; correct it",
        )
        split = columns.get("split", blank)[at]
        require(
            not split or split_of(split) != ALL,
            f"every split of {cells.name} must be train, validation or test, got "
            f"{shortened(split, most=40)} in {place}; correct it",
        )
        yield _Row(
            files[name],
            name,
            int(frames[at]) if "frame" in columns else None,
            None if empty.all() else bounds[at],
            "" if hard else label,
            split_of(split) if split else places.split,
            str(columns.get("group", columns["file"])[at]),
            f"{place} of {cells.name}",
            tuple(sizes[at].tolist()) if (sizes[at] > 0).all() else (),
        )


def _bounds(cells: Cells, header: Sequence[str]) -> np.ndarray:
    """Bounds `(lo..., hi...)` of every row [row, 2 * space axes], NaN where missing."""
    for names in (*_ENDS, *_SIZES):
        if {*names} <= {*header}:
            found = np.stack([cells.numbers(header.index(name)) for name in names], axis=1)
            if names in _SIZES:
                found[:, 2:] += found[:, :2]
            return found
    raise InputError(
        f"the table {cells.name} must have the bounds of boxes, as the columns x0, y0, x1, y1, or "
        f"xmin, ymin, xmax, ymax, or x, y, width, height, got {listed(cells.header)}; rename them"
    )


def _told_sizes(cells: Cells, header: Sequence[str]) -> np.ndarray:
    """Height and width of the item of every row [row, 2], NaN where they are not told."""
    sides = [header.index(name) for name in ("height", "width") if name in header]
    known = len(sides) == 2 and all(cells.content(at) == "number" for at in sides)
    if not known or not any({*names} <= {*header} for names in _ENDS):
        return np.full((len(cells.frame), 2), np.nan)
    return np.stack([cells.numbers(at) for at in sides], axis=1)


def _arrays(place: Path, group: str | None) -> BoxedItems:
    headers = array_headers(place)
    plain = {plain_name(name): name for name in headers}
    found = {role: [plain[word] for word in of if word in plain] for role, of in _ARRAYS.items()}
    require(
        all(len(names) == 1 for names in found.values()) and (not group or group in headers),
        f"{place.name} must hold one array each of images, boxes and labels"
        f"{f' and {group}' if group else ''}, called so, got "
        f"{listed(f'{name} {header.shape}' for name, header in headers.items())}; rename them",
    )
    items, boxes, labels = (load_array(place, names[0]) for names in found.values())
    told = {"splits": plain.get("split", plain.get("splits")), "groups": group}
    more = {role: load_array(place, name) for role, name in told.items() if name}
    return given_boxes(items, boxes, labels, source=str(place), **more)


def given_boxes(
    items: Any, boxes: Any, labels: Any, *, source: str, splits: Any = None, groups: Any = None
) -> BoxedItems:
    """Items in memory with boxes [box, bound] and labels [box] each, see `read_boxes`."""
    count = len(items)
    counts = {name: len(of) for name, of in (("boxes", boxes), ("labels", labels))}
    counts |= {n: len(of) for n, of in (("split", splits), ("group", groups)) if of is not None}
    wrong = [f"{own} of {name}" for name, own in counts.items() if own != count]
    require(
        not wrong and count > 0,
        f"{source} must have boxes and labels for each item, got {count} items and "
        f"{listed(wrong)}; give as many",
    )
    rows = []
    for at, (own, named) in enumerate(zip(boxes, labels, strict=True)):
        bounds, label = np.asarray(own, float), np.asarray(named)
        bounds = bounds.reshape(*label.shape, -1) if not bounds.size else bounds
        require(
            bounds.shape[:-1] == label.shape and label.ndim in (1, 2),
            f"the boxes of item {at} of {source} must be [box, bound] with a label [box], got "
            f"shapes {bounds.shape} and {label.shape}; give as many",
        )
        told = ALL if splits is None else split_of(str(splits[at]))
        group = str(at if groups is None else groups[at])
        rest = (told, group, f"item {at} of {source}")
        rows.append(_Row(at, f"item {at}", None, None, "", *rest))
        whole = label.dtype.kind == "f" and bool((label % 1 == 0).all())
        none = label < 0 if label.dtype.kind in "if" else np.isin(label.astype(str), _NONE)
        for where in np.argwhere(~none & ~np.isnan(bounds).any(axis=-1)):
            frame = int(where[0]) if label.ndim == 2 else None
            name = str(int(label[*where]) if whole else label[*where])
            rows.append(_Row(at, f"item {at}", frame, bounds[*where], name, *rest))
    read = {"open": lambda at: items[at], "every": True}
    return _collected(rows, range(count), source=source, notes=(), **read)


def _collected(
    rows: Sequence[_Row],
    items: Sequence[Any],
    *,
    source: str,
    notes: Sequence[str],
    every: bool = False,
    **read: Any,
) -> BoxedItems:
    """The items of all rows; where not `every` frame counts, those that rows name do."""
    number = {item: at for at, item in enumerate(items)}
    first: dict[int, _Row] = {}
    seen: list[set[int]] = [set() for _ in items]
    for row in rows:
        at = number[row.item]
        own = first.setdefault(at, row)
        require(
            (own.split, own.group) == (row.split, row.group),
            f"all rows of an item of {source} must tell one split and group, got "
            f"{listed((own.split, own.group))} and {listed((row.split, row.group))} for "
            f"{row.name}; correct them",
        )
        if row.frame is not None:
            seen[at].add(row.frame)
    boxes = [row for row in rows if row.bounds is not None and row.label]
    if crowds := sum(row.bounds is not None and not row.label for row in rows):
        notes = [*notes, f"{crowds:,} boxes of crowds or difficult objects were left out."]
    widths = {len(row.bounds) for row in boxes if row.bounds is not None}
    require(
        len(widths) == 1 and widths <= {2, 4, 6},
        f"{source} must hold boxes, all of 2, 4 or 6 bounds, got "
        f"{listed(sorted(widths)) if widths else f'no box for {len(items)} items'}; give items "
        "with boxes",
    )
    return BoxedItems(
        names=[first[at].name for at in range(len(items))],
        item=np.array([number[row.item] for row in boxes]),
        frame=np.array([row.frame or 0 for row in boxes]),
        bounds=np.array([row.bounds for row in boxes], float),
        label=np.array([row.label for row in boxes], object),
        places=np.array([row.place for row in boxes], object),
        seen=[np.array(sorted(own)) if own and not every else None for own in seen],
        source=source,
        splits=[first[at].split for at in range(len(items))],
        groups=[first[at].group for at in range(len(items))],
        notes=tuple(dict.fromkeys(notes)),
        told=[first[at].size for at in range(len(items))],
        **read,
    )


def checked(
    read: BoxedItems, lengths: np.ndarray, sizes: np.ndarray
) -> tuple[BoxedItems, list[str]]:
    """The boxes that are real, and what was done with the others.

    Raises:
        InputError: One ends before it begins, or lies outside of its item.
    """
    notes, axes, bounds = [], sizes.shape[1], read.bounds
    pairs = enumerate(zip(read.told, map(tuple, sizes.tolist()), strict=True))
    if other := [at for at, (told, size) in pairs if len(told) == 2 and told != size]:
        told, size = (" x ".join(f"{n:g}" for n in of[other[0]]) for of in (read.told, sizes))
        notes.append(
            f"{len(other):,} pictures have another size than the file tells of them, such as "
            f"{read.names[other[0]]}, {size} in place of {told}: their boxes may lie elsewhere."
        )
        warn(notes[-1], stacklevel=4)
    most = np.tile(sizes[read.item], 2)
    if bounds.max() <= 1 and (bounds % 1).any():
        bounds = bounds * most
        notes.append("Bounds are shares of height and width, as none is above 1.")
    lo, hi = bounds[:, :axes], bounds[:, axes:]
    outside = ((hi <= 0) & (lo < 0)) | (lo >= sizes[read.item])
    for wrong, must, advice in (
        ((lo > hi).any(axis=1), "end behind where it begins", "swap its bounds, or leave it out"),
        (outside.any(axis=1), "reach into its item", "correct it, or leave it out"),
        (read.frame >= lengths[read.item], "be of a frame of its item", "count frames from 0"),
    ):
        at = int(wrong.argmax())
        require(
            not wrong.any(),
            f"every box of {read.source} must {must}, got {bounds[at].round(3).tolist()} (lo..., "
            f"hi...) in frame {read.frame[at]} of {sizes[read.item[at]].tolist()} cells, "
            f"{read.places[at]}; {advice}",
        )
    cut = np.clip(bounds, 0, most)
    empty = (cut[:, :axes] >= cut[:, axes:]).any(axis=1)
    keys = list(map(tuple, np.column_stack([read.item, read.frame, cut, read.label]).tolist()))
    first = {key: at for at, key in reversed([*enumerate(keys)])}
    twice = np.array([first[key] != at for at, key in enumerate(keys)]) & ~empty
    for chosen, what in (
        ((np.abs(cut - bounds) > 1e-6).any(axis=1), "reach out of their items and are cut off"),
        (empty, "have no volume and were left out"),
        (twice, "are listed twice and count once"),
    ):
        notes += [f"{int(chosen.sum()):,} boxes {what}."] if chosen.any() else []
    return replace(read, **replace(read, bounds=cut).chosen(~empty & ~twice)), notes
