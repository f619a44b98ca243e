"""Which class serves a kind of problem: the most specific pair of (task, data) that fits."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from stpatch_jax.errors import InputError

Served = TypeVar("Served")
Decorated = TypeVar("Decorated")


class Registry(Generic[Served]):
    """Finds what serves a task on its data; a subclass of either is served as its base is.

    The pair whose task is nearest in the method resolution order wins, among those the one whose
    data are nearest. Any class may be registered, also one of a user's own. Messages call what is
    registered `what`.

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

    def __call__(self, task: type, data: type) -> Callable[[Decorated], Decorated]:
        """Registers what it decorates for a pair of classes and their subclasses."""

        def register(served: Decorated) -> Decorated:
            # Its own type is given back, for a judge is more than any judge.
            self._served[task, data] = cast(Any, served)
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
