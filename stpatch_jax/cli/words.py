"""The words of Python in a message as the flags of a command."""

import ast
import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from stpatch_jax import data, nn, tasks
from stpatch_jax.data import DataConfig
from stpatch_jax.nn import BackboneConfig
from stpatch_jax.on_demand import load_all
from stpatch_jax.patches import WindowSpec
from stpatch_jax.tasks import TaskConfig
from stpatch_jax.training import TrainConfig

_VALUE = r"""=(\([^()]*\)|\[[^][]*\]|\{[^{}]*\}|"[^"]*"|'[^']*'|(?![\w.]))"""
# An argument by its name, with a value where one is written out: time=, dims=("time", "y").
_ARGUMENT = re.compile(r"(?<![\w./-])([a-z][a-z_]*)" + _VALUE)
_SETTING = re.compile(
    rf"(?<![\w./-])((data|model|task|train)\.([a-z]\w*(?:\.\w+)*+))(?:{_VALUE}|(?!=))"
)


def in_flags(message: str, *, own: Collection[str] = ()) -> str:
    """A message in which what Python calls an argument or a setting is the flag that gives it.

    Arguments are those of data, which are flags `--data.*`, and the command's `own`; settings are
    fields of a configuration. All other words stay.

    >>> in_flags('name it with time= or dims=("time", "y"); data.train_share must fit')
    'name it with --data.time or --data.dims time y; --data.train-share must fit'
    >>> in_flags('give every= or lowering="auto"', own=["every"])
    'give --every or lowering="auto"'
    """
    # What windows are cut by has the same names in other places.
    arguments = _fields("data") - {field.name for field in dataclasses.fields(WindowSpec)}

    def argument(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in own and name not in arguments:
            return match.group()
        return f"{_flag(name if name in own else f'data.{name}')} {_as_words(value)}".rstrip()

    def setting(match: re.Match[str]) -> str:
        name, room, path, value = match.groups()
        if path.partition(".")[0] not in _fields(room):
            return match.group()
        return f"{_flag(name)} {_as_words(value or '')}".rstrip()

    return _SETTING.sub(setting, _ARGUMENT.sub(argument, message))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _as_words(value: str) -> str:
    """A literal of Python as the words of a command line."""
    try:
        given: Any = ast.literal_eval(value)
    except (SyntaxError, ValueError):  # none was written out
        return value
    if isinstance(given, Mapping):
        return " ".join(f"{name}={of}" for name, of in given.items())
    return " ".join(map(str, given)) if isinstance(given, tuple | list) else str(given)


def _fields(room: str) -> set[str]:
    """Names of the fields of all configurations of a room, those of users that are known here."""
    for each in (data, nn, tasks):
        load_all(each)
    base = {"data": DataConfig, "model": BackboneConfig, "task": TaskConfig, "train": TrainConfig}
    kinds = (base[room], *_subclasses(base[room]))
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}


def _subclasses(kind: type) -> Iterator[Any]:
    for found in kind.__subclasses__():
        yield found
        yield from _subclasses(found)
