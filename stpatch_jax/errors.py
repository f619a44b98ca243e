"""The one exception of the public edge, and the checks that raise it.

Every message is one sentence of one form, `NAME must ..., got ...; WHAT TO DO`: what must hold,
what came, and what to do about it. A test reads the messages off the source and keeps them so.
"""

import difflib
import math
import typing
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from stpatch_jax.escapes import printable


class InputError(ValueError):
    r"""Something the user gave does not fit; the message is one sentence that says what to do.

    It names what must hold, what came, and what to do about it. The command line prints exactly
    this sentence on stderr and exits with code 2, so every message stands on its own. Signs that
    cannot be printed, as those of a damaged file, are escaped.

    >>> raise InputError("a name must be text, got a\x1bb; correct it")
    Traceback (most recent call last):
    stpatch_jax.errors.InputError: a name must be text, got a\x1bb; correct it
    """

    def __init__(self, message: str):
        super().__init__(printable(message))


def warn(message: str, *, category: type[Warning] = UserWarning, stacklevel: int = 1) -> None:
    """Warns as `warnings.warn` does, in one line without control characters."""
    warnings.warn(printable(message), category, stacklevel=stacklevel + 1)


def listed(names: Iterable[Any], *, most: int = 8) -> str:
    """Names out of a file for a message: the first of many, none longer than 40 characters.

    >>> listed(["a", "b"]), listed([]), listed(range(100), most=3)
    ('a, b', 'none', '0, 1, 2 and 97 more')
    """
    texts = [shortened(name, most=40) for name in names]
    if not texts:
        return "none"
    # No more than fit on two lines, whatever their number.
    while most > 1 and len(", ".join(texts[:most])) > 160:
        most -= 1
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")


def shortened(value: Any, *, most: int = 80) -> str:
    r"""A value out of a file for a message, on one line and of no more than so many characters.

    >>> shortened("one\ntwo three", most=10)
    'one two...'
    """
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 3].rstrip()}..."


def require(condition: bool, message: str) -> None:
    """Raises `InputError(message)` unless the condition holds.

    >>> require(2 > 1, "two must be more than one")
    """
    if not condition:
        raise InputError(message)


def check_range(name: str, value: float, low: float, high: float, *, bounds: str = "[]") -> None:
    """Refuses a number outside a range.

    Args:
        name: What the number is called, in the reader's terms.
        value: The number; NaN lies in no range.
        low: Lower end.
        high: Upper end, `math.inf` where there is none.
        bounds: Whether the ends belong to it: "[]" both, "()" none, "[)" and "(]" one of them.

    Raises:
        InputError: It lies outside.

    >>> check_range("momentum", 0.5, 0, 1, bounds="[)")
    >>> check_range("momentum", 1.0, 0, 1, bounds="[)")
    Traceback (most recent call last):
    stpatch_jax.errors.InputError: momentum must be in [0, 1), got 1.0; use such a number
    """
    above = value >= low if bounds[0] == "[" else value > low
    below = value <= high if bounds[1] == "]" else value < high
    if above and below:
        return
    if -low == high == math.inf:
        what = "a finite number"
    elif high == math.inf:
        what = f"at least {low:g}" if bounds[0] == "[" else f"above {low:g}"
    else:
        what = f"in {bounds[0]}{low:g}, {high:g}{bounds[1]}"
    raise InputError(f"{name} must be {what}, got {value!r}; use such a number")


MOST = 2**31 - 1
"""The largest size there is, and 32-bit number: no array or count of this package needs more."""
MOST_SEED = 2**32 - 1
"""The largest seed of a random stream."""


def check_size(name: str, value: Any, *, least: int = 1, most: int = MOST) -> None:
    """Refuses what is not a whole number of at least `least` and at most `most`.

    Raises:
        InputError: It is no such number.

    >>> check_size("features", 0)
    Traceback (most recent call last):
    stpatch_jax.errors.InputError: features must be a whole number >= 1, got 0; use such a number
    """
    # bool is an int; NumPy's integers are none, but count.
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not whole or value < least:
        raise InputError(
            f"{name} must be a whole number >= {least}, got {value!r}; use such a number"
        )
    if value > most:
        raise InputError(
            f"{name} must be a whole number <= {most}, got {value!r:.40}; use such a number"
        )


def check_seed(name: str, value: Any) -> None:
    """Refuses what no random stream can begin with.

    >>> check_seed("seed", 0)
    """
    check_size(name, value, least=0, most=MOST_SEED)


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuses what is not among the choices; of many, names those that are spelt alike.

    >>> check_choice("reduce", "max", ("sum", "mean"))
    Traceback (most recent call last):
    stpatch_jax.errors.InputError: reduce must be 'sum' or 'mean', got 'max'; choose one of them
    >>> check_choice("axis", "tine", ["time", *"abcdefghi"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    stpatch_jax.errors.InputError: axis must be 'time' or one of 9 others, got 'tine'; choose ...
    """
    # An array compares cell by cell, and is no choice.
    if any(isinstance(value, type(one)) and value == one for one in choices):
        return
    *most, last = map(repr, choices)
    if len(most) > 8 and isinstance(value, str):
        names = {str(one).casefold(): repr(one) for one in choices}
        alike = difflib.get_close_matches(value.casefold(), names, cutoff=0.7)
        if alike:
            most = [names[one] for one in alike]
            last = f"one of {len(choices) - len(alike)} others"
    listed = f"{', '.join(most)} or {last}" if most else last
    raise InputError(f"{name} must be {listed}, got {value!r}; choose one of them")


def spelt(asked: Iterable[Any], there: Iterable[Any]) -> list[str]:
    """Names as they are spelt where they are; capitals do not count, and unknown ones stay.

    Raises:
        InputError: One is written in no case that is there, but two are like it.

    >>> spelt(["T2M", "tp", "sst"], ["t2m", "tp", "TP"])
    ['t2m', 'tp', 'sst']
    """
    names = list(dict.fromkeys(map(str, there)))
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.casefold(), []).append(name)
    found = []
    for name in map(str, asked):
        known = [name] if name in names else alike.get(name.casefold(), [name])
        require(
            len(known) == 1,
            f"a name must be written as it is where several differ in capitals alone, got {name} "
            f"for {listed(known)}; give one of these",
        )
        found += known
    return found


def respelt(asked: Iterable[Any], found: Iterable[str]) -> list[str]:
    """A sentence on the names that are spelt another way than they were asked for, if any are.

    >>> respelt(["T2M", "tp"], ["t2m", "tp"])
    ['Read by another case: t2m for T2M.']
    """
    others = [f"{own} for {name}" for name, own in zip(asked, found, strict=True) if own != name]
    return [f"Read by another case: {listed(others)}."] if others else []


def same_names(what: str, asked: Sequence[str], there: Iterable[Any]) -> tuple[str, ...]:
    """Names as they are spelt where they are, in the order asked; capitals do not count.

    Raises:
        InputError: One is not there, or two are like it; `what` is the setting that names it.

    >>> same_names("data.known", ("TP",), ["t2m", "tp"])
    ('tp',)
    >>> same_names("data.known", ("t2",), ["t2m", "tp"])
    Traceback (most recent call last):
    stpatch_jax.errors.InputError: data.known must be among t2m, tp, got t2; give t2m, for example
    """
    names = list(map(str, there))
    found = spelt(asked, names)
    for name in found:
        if name not in names:
            advice = near([name], names)
            raise InputError(f"{what} must be among {listed(names)}, got {name}; {advice}")
    return tuple(found)


def near(unknown: Sequence[Any], there: Iterable[Any]) -> str:
    """What to do about names that are not there: give the one that is spelt most alike, if any is.

    >>> near(["t2"], ["t2m", "tp"]), near(["wind"], ["t2m", "tp"])
    ('give t2m, for example', 'choose from these')
    """
    plain = {str(name).casefold(): str(name) for name in reversed([*there])}
    alike = difflib.get_close_matches(str(unknown[0]).casefold(), plain, n=1, cutoff=0.5)
    return f"give {plain[alike[0]]}, for example" if alike else "choose from these"


def require_members(thing: Any, protocol: type, *, what: str) -> None:
    """Refuses an object that lacks a part of a protocol, by the names of its class and the part."""
    missing = sorted(name for name in _members(protocol) if not hasattr(type(thing), name))
    own = vars(thing) if hasattr(thing, "__dict__") else {}
    missing = [name for name in missing if name not in own]
    if missing:
        raise InputError(
            f"{what} must have the members of {protocol.__name__}, got {type(thing).__name__} "
            f"without {', '.join(missing)}; define them, or inherit what answers them alike"
        )


def _members(protocol: type) -> set[str]:
    """Names that a protocol and those it extends declare."""
    return {
        name
        for kind in protocol.__mro__
        if kind not in (object, typing.Generic, typing.Protocol)
        for name in (*vars(kind), *vars(kind).get("__annotations__", {}))
        if not name.startswith("_") or name in ("__len__", "__getitem__")
    }
