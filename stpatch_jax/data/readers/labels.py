"""Labels as numbers of classes; what is no class is refused by item and value."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stpatch_jax.data.sizes import check_bytes
from stpatch_jax.errors import InputError, listed, shortened


def numbered(
    values: np.ndarray,
    classes: Sequence[str] | None,
    name: str,
    *,
    first_line: int | None = None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels [item], [item, 1] or one-hot [item, class] as numbers of classes, and the classes.

    Labels are names or whole numbers, of any dtype. Classes are those found by default: names
    sorted, numbers in their order from the first one up to a gap, as what lies behind it or below 0
    marks what has no class, like 255. Classes that are given are found by their names, or, where
    these are words and labels numbers, by their places from 0.

    Messages call the labels by `name` and tell the line of an item where the first has one.

    >>> numbers, classes = numbered(np.array([[2.0], [1.0]]), None, "labels")
    >>> numbers.tolist(), classes
    ([1, 0], ('1', '2'))
    """
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] > 1:
        values, classes = _of_one_hot(values, classes, name)
    values = values[:, 0] if values.ndim == 2 else values
    number = values.dtype.kind in "biuf"
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if not number and values.dtype.kind not in "UOT":
        raise InputError(
            f"{name} must be names or whole numbers, got {values.dtype}; save them as such"
        )
    found, where = (
        np.unique(values, return_inverse=True)
        if number
        else distinct((str(value).strip() for value in values), name=name)
    )
    words = [_word(value) for value in found.tolist()]
    names = _classes(words, number) if classes is None else tuple(map(str, classes))
    known = {word: at for at, word in enumerate(names)}
    if classes is not None and number and not any(map(_is_whole, names)):
        known = {str(at): at for at in range(len(names))}
    numbers = np.asarray([known.get(word or "", -1) for word in words], np.int32)[where]
    if (numbers < 0).any():
        at = int((numbers < 0).argmax())
        declared = "declare it with classes= if it is one, else leave that item out"
        place = f"item {at}" if first_line is None else f"line {at + first_line}"
        raise InputError(
            f"every label of {name} must be one of the classes {listed(names)}, got "
            f"{shortened(values[at], most=40) or 'none'} for {place}; "
            f"{declared if words[where[at]] else 'give that item a class or leave it out'}"
        )
    return numbers, names


def distinct(names: Any, *, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The texts among some names, sorted, and which of them each name is.

    NumPy gives every text the room of the longest: that is taken for those that differ alone.

    >>> distinct(["b", "a", "b"], name="labels")
    (array(['a', 'b'], dtype='<U1'), array([1, 0, 1]))
    """
    texts = [str(each) for each in names]
    found = sorted(set(texts))
    check_bytes(4 * len(found) * max(map(len, found), default=0), f"the names of {name}")
    number = {text: at for at, text in enumerate(found)}
    return np.asarray(found, str), np.asarray([number[text] for text in texts], np.intp)


def _word(value: object) -> str | None:
    """The name of a label; None for what names nothing: missing, infinite, or a fraction."""
    text = str(int(value) if isinstance(value, bool) else value).strip()
    try:
        number = float(text)
    except ValueError:
        return None if text in ("", "?") else text
    if not number.is_integer():
        return None
    return text if _is_whole(text) else str(int(number))


def _is_whole(text: str) -> bool:
    return text.lstrip("+-").isdigit()


def _classes(words: Sequence[str | None], number: bool) -> tuple[str, ...]:
    """The names of the labels found; of numbers those from the first at 0 or above to a gap."""
    names = [word for word in dict.fromkeys(words) if word is not None]
    if not number:
        return tuple(names)
    numbers = [int(word) for word in names if int(word) >= 0]
    held = [word for at, word in enumerate(numbers) if word - numbers[0] == at]
    return tuple(map(str, held))


def _of_one_hot(
    values: np.ndarray, classes: Sequence[str] | None, name: str
) -> tuple[np.ndarray, Sequence[str]]:
    """The column of the one 1 in each row, and the names of the columns."""
    ones = values == 1
    wrong = (ones.sum(axis=1) != 1) | ~(ones | (values == 0)).all(axis=1)
    if wrong.any():
        at = int(wrong.argmax())
        raise InputError(
            f"{name} must be one label for each item, got {listed(values[at])} for item {at}; "
            "give one number or name, or a row of zeros with a single 1"
        )
    names = tuple(map(str, classes or range(values.shape[1])))
    return np.asarray(names)[ones.argmax(axis=1)], names
