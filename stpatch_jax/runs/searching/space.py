"""What a search tries: fields of a configuration by dotted name, and the values for each."""

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from stpatch_jax.errors import InputError
from stpatch_jax.runs.run import RunConfig
from stpatch_jax.runs.values import from_values, to_values


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """Values drawn evenly on a logarithmic scale, as suits a learning rate.

    Attributes:
        low: Least value, positive.
        high: Greatest value.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = _fits(self.low, float) and _fits(self.high, float)
        if not numbers or not 0 < self.low < self.high < math.inf:
            raise InputError(
                f"log_uniform needs two numbers 0 < low < high, got {self.low!r} and "
                f"{self.high!r}; use for example log_uniform(1e-4,1e-2)"
            )

    def draw(self, random: np.random.Generator) -> float:
        """Draws a value, rounded to six digits."""
        exponent = random.uniform(math.log(self.low), math.log(self.high))
        return float(f"{math.exp(exponent):.6g}")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Reads `log_uniform(low,high)`; None where the text is something else.

        Raises:
            InputError: Its ends are no numbers, or not in order.

        >>> LogUniform.parse("log_uniform(1e-4,1e-2)")
        LogUniform(low=0.0001, high=0.01)
        """
        found = re.fullmatch(r"log_uniform\(([^,]*),([^,]*)\)", text.strip())
        if not found:
            return None
        ends: list[Any] = []
        for end in found.groups():
            try:
                ends.append(float(end))
            except ValueError:
                ends.append(end)
        return cls(*ends)


Space = Mapping[str, Sequence[Any] | LogUniform]
"""What is tried: for each field, by its dotted name, a list of values or a `LogUniform`."""


def read_space(entries: Sequence[str]) -> dict[str, Any]:
    """Reads a space from the words of a command line.

    Each is `FIELD=VALUE,VALUE` (JSON values, or bare words), `FIELD=log_uniform(low,high)` or the
    path of a JSON file `{"FIELD": [VALUE, ...], "FIELD": "log_uniform(low,high)"}`.

    Raises:
        InputError: A file cannot be read or holds something else.

    >>> read_space(["model.spec.window=[4,1],[8,1]", "train.optimizer.name=adam,sgd"])
    {'model.spec.window': [[4, 1], [8, 1]], 'train.optimizer.name': ['adam', 'sgd']}
    """
    space: dict[str, Any] = {}
    for entry in entries:
        name, equals, text = entry.partition("=")
        found = {name: _listed(text)} if equals else _read_file(Path(entry))
        space |= {name.replace("-", "_"): choice for name, choice in found.items()}
    return space


def _listed(text: str) -> Sequence[Any] | LogUniform:
    if drawn := LogUniform.parse(text):
        return drawn
    try:
        return json.loads(f"[{text}]")
    except ValueError:
        return [word.strip() for word in text.split(",")]


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"--space needs FIELD=VALUE,VALUE or a JSON file, but {str(path)!r} cannot be read "
            f"({error}); give for example model.patch_kernel_size=3,5"
        ) from error
    if not isinstance(values, dict):
        raise InputError(
            f"the search space {path} must hold one JSON object, but it does not; write "
            '{"FIELD": [VALUE, ...]}'
        )
    return {
        name: LogUniform.parse(choice) or choice if isinstance(choice, str) else choice
        for name, choice in values.items()
    }


def candidates(space: Space, trials: int | None, seed: int) -> list[dict[str, Any]]:
    """Lists what is tried: the whole grid, or `trials` of the space at random.

    Of lists alone no combination is drawn twice. More trials begin with the same ones.

    Raises:
        InputError: The space is empty or no space, or has fewer combinations than `trials`.

    >>> candidates({"a": [1, 2], "b": [3]}, None, 0)
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    _check_space(space)
    drawn = sorted(name for name, choice in space.items() if isinstance(choice, LogUniform))
    if trials is None and drawn:
        raise InputError(
            f"a grid needs a list of values for {drawn[0]}, got a log_uniform; list the values, or "
            "give the number of random --trials"
        )
    random = np.random.default_rng(seed)
    lists = [[choice] if isinstance(choice, LogUniform) else choice for choice in space.values()]
    combinations = math.prod(map(len, lists))
    if trials is not None and not 1 <= trials <= (math.inf if drawn else combinations):
        most = "" if drawn else f" and at most the {combinations} combinations of the space"
        raise InputError(
            f"--trials must be 1 or more{most}, but it is {trials}; without it a grid is tried"
        )
    if trials is None:
        chosen: Any = range(combinations)
    elif drawn:
        chosen = (random.integers(combinations) for _ in range(trials))
    else:
        chosen = random.permutation(combinations)[:trials]
    rows = []
    for number in chosen:
        picks = np.unravel_index(number, [len(choices) for choices in lists])
        values = (choices[pick] for choices, pick in zip(lists, picks, strict=True))
        rows.append(
            {
                name: value.draw(random) if isinstance(value, LogUniform) else value
                for name, value in zip(space, values, strict=True)
            }
        )
    return rows


def _check_space(space: Space) -> None:
    if not space:
        raise InputError(
            "the search space must name a field with its values, but it is empty; give for example "
            "model.patch_kernel_size=3,5"
        )
    for name, choice in space.items():
        listed = isinstance(choice, Sequence) and not isinstance(choice, str)
        if not isinstance(choice, LogUniform) and not (listed and choice):
            raise InputError(
                f"the search space needs a list of values or a log_uniform for {name}, got "
                f"{choice!r}; give at least one value"
            )


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Returns a configuration in which the named fields have other values.

    Args:
        config: The configuration.
        values: By dotted name, fields of `model`, `task` and `train`, and `data.context`.

    Raises:
        InputError: A field is not there or may not be searched, or a value does not fit it.
    """
    tree = to_values(config)
    known = dict(_leaves(tree))
    for name, value in values.items():
        *path, last = name.split(".")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)[:3]
            raise InputError(
                f"a search needs fields of the recipe, got {name!r}; near are {', '.join(near)}"
            )
        if path[:1] not in (["model"], ["task"], ["train"]) and name != "data.context":
            raise InputError(
                "a search may change fields of model, task and train, and data.context, got "
                f"{name}; errors on other data cannot be compared, so search once for each"
            )
        owner, branch = config, tree
        for step in path:
            owner, branch = getattr(owner, step), branch[step]
        kind = typing.get_type_hints(type(owner)).get(last, Any)
        if not _fits(value, kind):
            raise InputError(
                f"{name} must be {_said(kind)}, got {value!r}; give values of that type"
            )
        branch[last] = float(value) if kind is float else value
    return from_values(RunConfig, json.loads(json.dumps(tree)))


def _leaves(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield before + name, value


def _fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value can be a field of a type; types that JSON lacks judge for themselves."""
    origin, entries = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, entry) for entry in entries)
    if origin is typing.Literal:
        return value in entries
    if origin is tuple:
        whole = isinstance(value, list | tuple)
        if entries[-1] is Ellipsis:
            return whole and all(_fits(entry, entries[0]) for entry in value)
        return whole and len(value) == len(entries) and all(map(_fits, value, entries))
    if kind in (int, float):
        number = isinstance(value, int if kind is int else int | float)
        return number and not isinstance(value, bool)
    return isinstance(value, kind) if kind in (bool, str, types.NoneType) else True


def _said(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return f"one of {', '.join(map(repr, typing.get_args(kind)))}"
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
