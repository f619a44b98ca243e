"""What a search tries: fields of a configuration by dotted name, and the values for each."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from stpatch_jax.errors import InputError, check_range, check_seed, require
from stpatch_jax.files import from_json
from stpatch_jax.runs.config import RunConfig
from stpatch_jax.runs.settings import with_settings


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
        numbers = isinstance(self.low, int | float) and isinstance(self.high, int | float)
        require(
            numbers and 0 < self.low < self.high < math.inf,
            f"log_uniform must have two numbers 0 < low < high, got {self.low!r} and "
            f"{self.high!r}; use for example log_uniform(1e-4,1e-2)",
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
        match = re.fullmatch(r"log_uniform\(([^,]*),([^,]*)\)", text.strip())
        if not match:
            return None
        ends: list[Any] = list(match.groups())
        for at, end in enumerate(match.groups()):
            with contextlib.suppress(ValueError):  # The class refuses what is no number.
                ends[at] = float(end)
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
        choices = {name: _listed(text)} if equals else _read_file(Path(entry))
        space |= {name.lstrip("-").replace("-", "_"): choice for name, choice in choices.items()}
    return space


def _listed(text: str) -> Sequence[Any] | LogUniform:
    if drawn := LogUniform.parse(text):
        return drawn
    try:
        return from_json(f"[{text}]")
    except ValueError:
        return [word.strip() for word in text.split(",")]


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"space= must be FIELD=VALUE,VALUE or a JSON file, got {str(path)!r}, which cannot be "
            f"read ({error}); give for example model.patch_kernel_size=3,5"
        ) from error
    require(
        isinstance(values, dict),
        f"the search space {path} must hold one JSON object, got {type(values).__name__}; write "
        '{"FIELD": [VALUE, ...]}',
    )
    return {
        name: LogUniform.parse(choice) or choice if isinstance(choice, str) else choice
        for name, choice in values.items()
    }


_MOST_TRIALS, _MOST_COMBINATIONS = 10_000, 10**7


def candidates(space: Space, trials: int | None, seed: int) -> list[dict[str, Any]]:
    """Lists what is tried: the whole grid, or `trials` of the space at random.

    Of lists alone no combination is drawn twice. More trials begin with the same ones.

    Raises:
        InputError: The space is empty or no space, or has fewer combinations than `trials`.

    >>> candidates({"a": [1, 2], "b": [3]}, None, 0)
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    require(
        bool(space),
        "the search space must name a field with its values, got none; give for example "
        "model.patch_kernel_size=3,5 to space=",
    )
    for name, choice in space.items():
        listed = isinstance(choice, Sequence) and not isinstance(choice, str)
        require(
            isinstance(choice, LogUniform) or (listed and bool(choice)),
            f"the search space must have a list of values or a log_uniform for {name}, got "
            f"{choice!r}; give at least one value",
        )
    drawn = sorted(name for name, choice in space.items() if isinstance(choice, LogUniform))
    require(
        trials is not None or not drawn,
        f"a grid must have a list of values for {', '.join(drawn)}, got a log_uniform; list the "
        "values, or give trials=, their number",
    )
    check_seed("seed=", seed)
    random = np.random.default_rng(seed)
    lists = [[choice] if isinstance(choice, LogUniform) else choice for choice in space.values()]
    combinations = math.prod(map(len, lists))
    most = _MOST_TRIALS if trials is None else _MOST_COMBINATIONS
    check_range("the number of combinations of space=", combinations, 1, most)
    if trials is not None:
        check_range("trials=", trials, 1, min(_MOST_TRIALS, math.inf if drawn else combinations))
    if trials is None:
        numbers: Any = range(combinations)
    elif drawn:
        numbers = (random.integers(combinations) for _ in range(trials))
    else:
        numbers = random.permutation(combinations)[:trials]
    rows = []
    for number in numbers:
        picks = np.unravel_index(number, list(map(len, lists)))
        row = {name: of[at] for name, of, at in zip(space, lists, picks, strict=True)}
        rows.append({k: x.draw(random) if isinstance(x, LogUniform) else x for k, x in row.items()})
    return rows


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Returns a configuration in which fields have other values, by their dotted names.

    They are fields of `model`, `task` and `train`, and `data.context`.

    Raises:
        InputError: A field is not there or may not be searched, or a value does not fit it.
    """
    for name in values:
        require(
            name.startswith(("model.", "task.", "train.")) or name == "data.context",
            f"the search space must name fields of model, task and train, or data.context, got "
            f"{name}; errors on other data cannot be compared, so search once for each",
        )
    return with_settings(config, values)
