"""Pairs of an image and its mask, which has a class for each cell: in arrays, folders, pictures."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stpatch_jax.data.libraries import require_library
from stpatch_jax.data.readers.arrays import array_headers, load_array
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.data.readers.nifti import (
    NIFTI_SUFFIXES,
    affine_of,
    orientation_of,
    read_nifti,
    same_places,
    spacings_of,
    told_spacings,
)
from stpatch_jax.data.readers.pairs import ALL, name_words, split_of, told_pairs
from stpatch_jax.data.sizes import check_bytes
from stpatch_jax.errors import InputError, listed, require, spelt, warn
from stpatch_jax.files import has_suffix

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_ARRAYS = (".npy", ".npz")
_FILES = (*_ARRAYS, *NIFTI_SUFFIXES, *PICTURES)
_WORDS = {
    "images": {"image", "images", "img", "imgs", "x", "volume", "volumes", "scan", "scans"},
    "masks": {"mask", "masks", "label", "labels", "y", "seg", "segmentation", "segmentations"},
}
# What the name of a mask may have behind that of its image.
_BEHIND = re.compile(r"[-_. ](mask|label|seg|segmentation|gt)$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class MaskedImages:
    """Images and masks, item by item.

    Attributes:
        images: [*cells] or [*cells, channel] each, as stored.
        masks: [*cells] each, as stored.
        names: Name of each item.
        splits: `train`, `validation` or `test` of each item; `all` where nothing tells.
        notes: What was left out, in sentences.
        ways: Where the axes of NIfTI volumes lead, see `orientation_of`.
        spacing: How far apart their cells usually lie, see `told_spacings`.
    """

    images: Sequence[np.ndarray]
    masks: Sequence[np.ndarray]
    names: Sequence[str]
    splits: Sequence[str]
    notes: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    spacing: tuple[float, ...] = ()


def read_masked_images(
    path: str | Path, *, images: Sequence[str] = (), masks: Sequence[str] = ()
) -> MaskedImages:
    """Reads images and their masks of an `.npz` file or of a folder.

    A file holds an array of images [item, *cells] or [item, *cells, channel] and one of masks
    [item, *cells]. A folder holds a folder of images and one of masks, files `.npy`, `.npz` (of one
    array), `.nii`, `.nii.gz`, `.png`, `.jpg`, `.bmp` or `.tif`; a mask has the name of its image,
    or that with `_mask` or the like behind it. Volumes of NIfTI are read along their stored axes,
    and must lie where their masks do. Which these are is told by the words of their names, as
    `images` and `masks`, and so are the splits, as `train_images` or `train/images`.

    Args:
        path: The file or folder.
        images: Names of the arrays or folders of images: of all, of training and test, or of
            training, validation and test; found by default.
        masks: Names of those of the masks.

    Raises:
        InputError: It cannot be read, it is not clear which are meant, or an image has no mask.
    """
    file = Path(path)
    if not file.is_dir():
        headers = array_headers(file)
        require(
            not has_suffix(file, ".npy"),
            f"{path} must hold images and masks, got the one array of a .npy file; put both into "
            "an .npz file, or into the folders images and masks",
        )
        parts = {}
        for split, (own, other) in _pairs(file, list(headers), images, masks).items():
            parts[split] = (load_array(file, own), load_array(file, other))
            counts = [len(array) if array.ndim else 0 for array in parts[split]]
            require(
                counts[0] == counts[1] > 0,
                f"{own} and {other} of {path} must be of as many items and one at least, got "
                f"{counts[0]} and {counts[1]}; give one mask for each image",
            )
        names = [f"item {at}" for split in parts for at in range(len(parts[split][0]))]
        if len(parts) > 1:
            names = [f"{split} {at}" for split in parts for at in range(len(parts[split][0]))]
        return MaskedImages(
            [image for of in parts.values() for image in of[0]],
            [mask for of in parts.values() for mask in of[1]],
            names,
            [split for split, of in parts.items() for _ in of[0]],
        )
    folders = _folders(file)
    found = _pairs(file, list(folders), images, masks)
    pictures, truths, names, splits, notes, ways = [], [], [], [], [], {}
    apart: dict[Path, np.ndarray] = {}
    for split, (own, other) in found.items():
        matched, left = _matched(folders[own], folders[other])
        names += [image.relative_to(file).as_posix() for image, _ in matched]
        for image, mask in matched:
            pictures.append(read_image(image))
            truths.append(read_image(mask, indices=True))
            check_bytes(
                sum(array.nbytes for array in (*pictures, *truths)), f"what is read of {path}"
            )
        splits += [split] * len(matched)
        notes += _told_of_volumes(matched)
        ways |= ways_of(image for image, _ in matched)
        apart |= spacings_of(image for image, _ in matched)
        if left:
            note = f"{len(left)} files of {file.name} are of no pair and were left out: "
            notes.append(f"{note}{listed(left)}.")
            warn(notes[-1], stacklevel=3)
    spacing, told = told_spacings(apart)
    told = (*notes, *told)
    return MaskedImages(pictures, truths, names, splits, told, tuple(ways), tuple(spacing))


def read_images(
    path: str | Path, *, images: Sequence[str] = ()
) -> tuple[list[np.ndarray], list[str]]:
    """Reads images alone, each as one array or a stack of them, and their names.

    They are those of an `.npz` file in the array that `images` names, or that its name tells, or in
    its only one; of a file of one image or stack; of a folder of images, or of its folder `images`.
    """
    file = Path(path)
    if file.is_dir():
        folders = _folders(file)
        chosen = [name for name in images if name in folders]
        chosen = chosen or [name for name in folders if _kind(name) == "images"]
        inside = folders[chosen[-1]] if chosen else file
        files = [entry for entry in _shown(inside) if _is_image(entry)]
        require(
            bool(files),
            f"there must be images in {inside}, got none; give a folder of "
            f"{listed(_FILES, most=12)}",
        )
        return [read_image(entry) for entry in files], [entry.name for entry in files]
    if not has_suffix(file, ".npz"):
        return [read_image(file)], [file.name]
    headers = array_headers(file)
    chosen = [name for name in images if name in headers]
    chosen = chosen or [name for name in headers if _kind(name) == "images"]
    chosen = chosen[-1:] or list(headers)
    require(
        len(chosen) == 1,
        f"it must be clear which array of {path} are the images, got {listed(headers)}; name it "
        "with images=",
    )
    return [load_array(file, chosen[0])], [file.name]


def read_image(path: Path, *, indices: bool = False) -> np.ndarray:
    """One image as an array: a `.npy` or `.npz` file of one array, a NIfTI volume or a picture.

    Of a picture of a palette come its colours, or the `indices` of these.
    """
    if has_suffix(path, *_ARRAYS):
        headers = array_headers(path)
        require(
            len(headers) == 1,
            f"the file {path} of one image must hold one array, got {listed(headers)}; split it",
        )
        return np.asarray(load_array(path, next(iter(headers))))
    if has_suffix(path, *NIFTI_SUFFIXES):
        return read_nifti(path)
    require(
        has_suffix(path, *PICTURES),
        f"an image must be a file {listed(_FILES, most=12)}, got {path.name}; convert it",
    )
    pillow = require_library("PIL.Image", purpose="pictures", install="pillow")
    with parsing(path, "picture"), pillow.open(path) as picture:
        check_bytes(8 * picture.width * picture.height, f"the picture {path.name}")
        if picture.mode == "P" and not indices:
            picture = picture.convert("RGB")
        return np.asarray(picture)


def _pairs(
    root: Path, names: Sequence[str], images: Sequence[str], masks: Sequence[str]
) -> Mapping[str, tuple[str, str]]:
    """By split the names of images and masks, as told or as their words tell."""
    images, masks = spelt(images, names), spelt(masks, names)
    unknown = [name for name in (*images, *masks) if name not in names]
    if not unknown and (images or masks):
        if pairs := told_pairs(images, masks):
            return pairs
    elif not unknown and (found := _found(names)):
        return found
    told = f"; {listed(unknown)} is none of them" if unknown else ""
    raise InputError(
        f"it must be clear what of {root.name} are images and what their masks, got "
        f"{listed(names) or 'nothing'}; name both with images= and masks=, as many of each: of "
        f"all, of training and test, or of training, validation and test{told}"
    )


def _found(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """What the words of the names tell; nothing where that is not one pair a split."""
    by_split: dict[str, dict[str, list[str]]] = {}
    for name in names:
        if kind := _kind(name):
            by_split.setdefault(split_of(name), {}).setdefault(kind, []).append(name)
    if "train" in by_split:
        by_split.pop(ALL, None)
    if not all(sorted(map(len, of.values())) == [1, 1] for of in by_split.values()):
        return {}
    ordered = [split for split in ("train", "validation", "test", ALL) if split in by_split]
    known = not ordered or ordered == [ALL] or ordered[0] == "train"
    return {s: (by_split[s]["images"][0], by_split[s]["masks"][0]) for s in ordered if known}


def _kind(name: str) -> str:
    """What the words of a name tell that it holds: images, masks, or nothing."""
    words = name_words(name.removesuffix("Tr"))
    kinds = [kind for kind, known in _WORDS.items() if words & known]
    return kinds[0] if len(kinds) == 1 else ""


def _folders(root: Path) -> dict[str, Path]:
    """The folders in a folder, and those in these, by their names inside of it."""
    first = [entry for entry in _shown(root) if entry.is_dir()]
    second = [entry for folder in first for entry in _shown(folder) if entry.is_dir()]
    return {entry.relative_to(root).as_posix(): entry for entry in (*first, *second)}


def _matched(images: Path, masks: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Images with their masks, and the names of the files that are of no pair."""
    stems = {_BEHIND.sub("", _stem(entry)): entry for entry in _shown(masks) if _is_image(entry)}
    pairs = [(entry, stems.get(_stem(entry))) for entry in _shown(images) if _is_image(entry)]
    whole = [(image, mask) for image, mask in pairs if mask is not None]
    require(
        bool(whole),
        f"an image in {images} must have a mask of its name in {masks}, got "
        f"{listed(entry.name for entry, _ in pairs) or 'no image'} and "
        f"{listed(entry.name for entry in stems.values()) or 'no mask'}; name them alike",
    )
    used = {entry for pair in whole for entry in pair}
    return whole, [e.name for e in (*_shown(images), *_shown(masks)) if e not in used]


def _told_of_volumes(pairs: Sequence[tuple[Path, Path]]) -> list[str]:
    """Where the axes of NIfTI volumes lead.

    Raises:
        InputError: A mask lies at other places than its volume.
    """
    found = ways_of(image for image, _ in pairs)
    for image, mask in pairs:
        if has_suffix(image, *NIFTI_SUFFIXES):
            require(
                not has_suffix(mask, *NIFTI_SUFFIXES)
                or same_places(affine_of(image), affine_of(mask)),
                f"a mask must lie where its volume does, got another affine in {mask.name} than in "
                f"{image.name}; resample one of them to the other",
            )
    if len(found) > 1:
        ends = listed(f"{way} as in {names[0]}" for way, names in found.items())
        warn(told := f"Volumes lie in several ways, and none is turned: {ends}.", stacklevel=4)
        return [told]
    return [f"Volumes are read as stored, their axes lead to {way}." for way in found]


def ways_of(files: Iterable[Path]) -> dict[str, list[str]]:
    """Where the axes of those that are NIfTI volumes lead, with the names of these."""
    found: dict[str, list[str]] = {}
    for file in files:
        if has_suffix(file, *NIFTI_SUFFIXES):
            found.setdefault(orientation_of(file), []).append(file.name)
    return found


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0]


def _shown(folder: Path) -> list[Path]:
    return [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]


def _is_image(path: Path) -> bool:
    return path.is_file() and has_suffix(path, *_FILES)


def paired(images: Any, masks: Any, *, name: str) -> MaskedImages:
    """Images and masks in memory: arrays of all items, or rows of one array each."""
    require(
        len(images) == len(masks) > 0,
        f"the images and masks of {name} must be as many and one at least, got {len(images)} and "
        f"{len(masks)}; give one mask for each image",
    )
    own, other = ([np.asarray(array) for array in of] for of in (images, masks))
    return MaskedImages(own, other, [f"item {at}" for at in range(len(own))], [ALL] * len(own))
