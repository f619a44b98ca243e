"""Which class serves a kind of problem: the most specific pair of (task, data) that fits."""

import typing
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from stpatch_jax.errors import InputError

Served = TypeVar("Served")


class Registry(Generic[Served]):
    """Finds what serves a task on its data; a subclass of either is served as its base is.

    The pair whose task is nearest in the method resolution order wins, among those the one whose
    data are nearest. Any class may be registered, also one of a user's own.

    Args:
        what: What is registered, for messages.

    >>> rooms = Registry("room")
    >>> @rooms(int, object)
    ... class Number: ...
    >>> @rooms(int, str)
    ... class Text: ...
    >>> rooms.of(True, "a").__name__, rooms.of(1, 1.0).__name__
    ('Text', 'Number')
    """

    def __init__(self, what: str):
        self.what = what
        self._served: dict[tuple[type, type], Served] = {}

    def __call__(self, task: type, data: type) -> Callable[[Served], Served]:
        """Registers what it decorates for a pair of classes and their subclasses."""

        def register(served: Served) -> Served:
            self._served[task, data] = served
            return served

        return register

    def of(self, task: Any, data: Any) -> Served:
        """What serves a task on data.

        Raises:
            InputError: Nothing does.
        """
        for kind in type(task).__mro__:
            for data_kind in type(data).__mro__:
                if (kind, data_kind) in self._served:
                    return self._served[kind, data_kind]
        known = ", ".join(f"{a.__name__} on {b.__name__}" for a, b in self._served)
        raise InputError(
            f"a {self.what} must be registered for the task and its data, got "
            f"{type(task).__name__} on {type(data).__name__}; register one, as there are for "
            f"{known}"
        )


def kind_of(thing: Any) -> str:
    """The name of the class of a task or a data set, for reports."""
    return type(thing).__name__


def require_members(thing: Any, protocol: type, *, what: str) -> None:
    """Refuses an object that lacks a part of a protocol, by the name of its class and of the part.

    Args:
        thing: The object.
        protocol: The protocol.
        what: What the object is, for the message.

    Raises:
        InputError: A member is missing.
    """
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
        if kind not in (object, Generic, typing.Protocol)
        for name in (*vars(kind), *vars(kind).get("__annotations__", {}))
        if not name.startswith("_")
    }
