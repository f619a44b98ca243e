"""Which arrays of a file are items and which their labels, split by split."""

import re
from collections.abc import Mapping, Sequence

from stpatch_jax.data.readers.arrays import Header
from stpatch_jax.errors import InputError, check_choice, listed, spelt

ALL = "all"
"""The split of a file that has none."""

_WORDS = {
    "train": ("train", "training", "tr"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "te"),
}
_SPLITS = {1: (ALL,), 2: ("train", "test"), 3: ("train", "validation", "test")}

Pairs = dict[str, tuple[str, str]]


def find_pairs(
    headers: Mapping[str, Header],
    *,
    items: Sequence[str],
    labels: Sequence[str],
    name: str,
    fewest: int = 3,
    setting: str = "items",
) -> Pairs:
    """The names of items and labels of each split, as told or where the file leaves no doubt.

    Told are the arrays of all items, of `train` and `test`, or of `train`, `validation` and `test`.
    Else the words of their names tell the split, and items are the one array of `fewest` axes or
    more in it, labels the one of fewer with as many entries.

    Args:
        headers: The arrays of the file.
        items: Names of the arrays of items, or none.
        labels: Names of the arrays of their labels, or none.
        name: What messages call the file.
        fewest: The fewest axes of an array of items.
        setting: What messages call the setting of `items`.

    >>> import numpy as np
    >>> arrays = {name: Header((5, 4, 4)[: 1 + 2 * (name[0] == "x")], np.dtype("u1"))
    ...           for name in ("x_train", "y_train", "x_test", "y_test")}
    >>> find_pairs(arrays, items=(), labels=(), name="digits.npz")
    {'train': ('x_train', 'y_train'), 'test': ('x_test', 'y_test')}
    """
    items, labels = spelt(items, headers), spelt(labels, headers)
    for array in (*items, *labels):
        check_choice(f"the array of items or labels in {name}", array, tuple(headers))
    if items or labels:
        if pairs := told_pairs(items, labels):
            return pairs
    elif pairs := _found(headers, fewest):
        return pairs
    shapes = (f"{array} {header.shape}" for array, header in headers.items())
    raise InputError(
        f"it must be clear which arrays of {name} are items and which their labels, got "
        f"{listed(shapes)}; name both with {setting}= and labels=, as many of each: those of "
        "training, validation and test, of training and test, or of all"
    )


def told_pairs(items: Sequence[str], labels: Sequence[str]) -> Pairs:
    """Those of each split, as many of both: of all, of training and test, or of all three."""
    if len(items) != len(labels):
        return {}
    return dict(zip(_SPLITS.get(len(items), ()), zip(items, labels, strict=True), strict=False))


def name_words(name: str) -> set[str]:
    """The words of a name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


def split_words(split: str) -> tuple[str, ...]:
    """The words that name a split, in lower case, the usual one first."""
    return _WORDS[split]


def split_of(name: str) -> str:
    """The split that the words of a name tell, `ALL` where they tell none or several.

    >>> [split_of(name) for name in ("x_train", "Val", "testimony")]
    ['train', 'validation', 'all']
    """
    words = name_words(name)
    splits = [split for split, known in _WORDS.items() if words & set(known)]
    return splits[0] if len(splits) == 1 else ALL


def _found(headers: Mapping[str, Header], fewest: int) -> Pairs:
    """What the names tell; nothing where a split has no pair, or more than one."""
    by_split: dict[str, list[str]] = {}
    for array in headers:
        by_split.setdefault(split_of(array), []).append(array)
    # What is beside the splits, such as names of classes, is of none.
    if {"train", "test"} <= by_split.keys():
        by_split.pop(ALL, None)
    pairs = {}
    for split in ("train", "validation", "test", ALL):
        if split not in by_split:
            continue
        own = {array: headers[array] for array in by_split[split]}
        items = [a for a, of in own.items() if len(of.shape) > 2 and of.dtype.kind in "biuf"]
        if fewest == 2 and not items:
            items = [a for a, of in own.items() if len(of.shape) == 2 and of.shape[1] > 1]
        count = own[items[0]].shape[0] if items else -1
        others = {a: of for a, of in own.items() if a not in items}
        labels = [a for a, of in others.items() if len(of.shape) in (1, 2) and of.shape[0] == count]
        if len(items) != 1 or len(labels) != 1:
            return {}
        pairs[split] = (items[0], labels[0])
    return pairs if tuple(pairs) in _SPLITS.values() else {}
