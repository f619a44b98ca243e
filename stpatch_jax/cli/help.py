"""The flags that people use, short, and what the parser of flags refuses in one sentence."""

import dataclasses
import functools
import inspect
import operator
import re
from collections.abc import Iterator
from typing import Any

HELP_ALL = "--help-all"

# What most people give, where a recipe has it.
_USED = (
    "data.path",
    "data.variables",
    "data.targets",
    "data.known",
    "data.label",
    "data.context",
    "data.horizon",
    "data.season",
    "data.train_share",
    "data.test_share",
    "model",
    "model.spec.window",
    "model.dropout",
    "task.loss",
    "task.quantiles",
    "train.steps",
    "train.batch_size",
    "train.optimizer.learning_rate",
    "train.seed",
    "train.checkpoint_every",
    "space",
    "trials",
    "folds",
    "refit",
    "over",
    "on",
    "fit",
    "workdir",
)


def short_help(command: str, flags: Any, description: str) -> str:
    """The flags of a command that people use, a line each, with their defaults."""
    lines = [f"usage: stpatch {command} [--flags]", "", description, ""]
    for name in _USED:
        owner = flags.config if "." in name else flags
        *path, last = name.split(".")
        try:
            owner = functools.reduce(getattr, path, owner)
            default = getattr(owner, last)
        except AttributeError:
            continue
        told = f"  --{name.replace('_', '-')}"
        kinds = reversed(type(owner).__mro__)
        attributes = {of: text for kind in kinds for of, text in _told(kind)}
        lines += [f"{told:34}{attributes.get(last, '')} (default: {_short(default)})"]
    return "\n".join([*lines, "", f"`stpatch {command} {HELP_ALL}` lists every flag."])


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _told(kind: type) -> Iterator[tuple[str, str]]:
    """The first sentence that the docstring of a class says of each attribute."""
    block = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    if dataclasses.is_dataclass(kind):
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", block, re.MULTILINE):
            sentence = " ".join(text.split())
            yield name, re.split(r"(?<=[a-z0-9`)])[.;:] ", sentence)[0].rstrip(".")


def in_one_sentence(box: str, command: str) -> str:
    """What the parser of flags refused, out of the box that it prints.

    >>> box = '''╭ Unrecognized options ───────────────────╮
    ... │ Unrecognized options: --train.epochs, 3 │
    ... │ ─────────────────────────────────────── │
    ... │ Arguments similar to --train.epochs:    │
    ... │     --train.steps INT                   │
    ... ╰─────────────────────────────────────────╯'''
    >>> print(in_one_sentence(box, "train stocks"))
    the flags of `stpatch train stocks` must be those it has, got unrecognized options: \
--train.epochs, 3; near are --train.steps
    """
    parts: list[list[str]] = [[]]
    # Without the title; a terminal without these signs gets a box of others.
    for line in box.splitlines()[1:]:
        content = line.strip("│╰╯ ")
        if re.fullmatch("[─-]{3,}", content):
            parts.append([])
        else:
            parts[-1].append(content)
    parts = [part for part in parts if any(part)]
    said = " ".join(parts[0]).strip().rstrip(".")
    flags = (re.findall(r"^--[\w.-]+", line) for part in parts[1:] for line in part)
    near = dict.fromkeys(functools.reduce(operator.iadd, flags, []))
    known = f"`stpatch {command} --help`"
    advice = f"near are {', '.join(near)}" if near and "Unrec" in said else f"{known} lists them"
    said = said[:1].lower() + said[1:]
    if said.startswith("missing from"):
        entry = r"(--[\w.-]+|[A-Z]+)\b.*?(?<=\s)(A|[A-Z][a-z]+)(\s.*?)(?:[.:;]\s.*?)?\(required\)"
        found = re.findall(entry, said)
        lacks = "; ".join(f"{flag} ({one.lower()}{what.rstrip()})" for flag, one, what in found)
        return f"`stpatch {command}` must be given what it requires, got no {lacks}; {advice}"
    if lacking := re.match(r"missing value for argument '(\w+)'", said):
        name = f"{lacking[1].upper()} without --{lacking[1]} before it"
        return f"`stpatch {command}` must be given {name}, got none; {known} has the order"
    return f"the flags of `stpatch {command}` must be those it has, got {said}; {advice}"
