"""What recipes there are, read off their files: nothing of them is imported."""

import ast
import functools
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import stpatch_jax
from stpatch_jax.errors import check_choice, require
from stpatch_jax.files import from_json

HELP = ("-h", "--help")
_FOLDER = Path(stpatch_jax.__file__).parent / "recipes"


def of_recipe(command: str, arguments: Sequence[str]) -> str | None:
    """Refuses a command without a recipe there is; what it answers where help was asked for.

    Raises:
        InputError: The first word names no recipe, nor a file that ends with `.py`.
    """
    name, known = next(iter(arguments), ""), sorted(described())
    if name in HELP:
        return f"usage: stpatch {command} RECIPE|FILE.py [--flags]\n\nrecipes: {', '.join(known)}"
    require(
        name != "" and not name.startswith("-"),
        f"`stpatch {command}` must have a recipe first, one of {', '.join(known)}, got {name!r}; "
        "`stpatch recipes` describes them",
    )
    # Once they are imported, others may have joined them.
    if ".py" not in name and "stpatch_jax.recipes.registry" not in sys.modules:
        check_choice("the recipe", name, known)
    return None


def recipes(arguments: Sequence[str]) -> str:
    """`stpatch recipes`: a line for each recipe, or with a name all that is to say of it.

    Raises:
        InputError: There is no such recipe, or there are more words.
    """
    require(
        len(arguments) < 2,
        f"`stpatch recipes` must have one name at most, got {' '.join(arguments)!r}; give one",
    )
    known = described()
    if arguments:
        check_choice("the recipe", arguments[0], sorted(known))
        text, data = known[arguments[0]]
        return f"{arguments[0]}: {text}\n\nData: {data}.{_time(arguments[0])}"
    width = max(map(len, known))
    lines = [
        f"{name:{width}}  {_line(text)} Data: {data}.{_time(name)}"
        for name, (text, data) in known.items()
    ]
    return "\n".join([*lines, "\n`stpatch recipes NAME` tells more of one."])


def _time(name: str) -> str:
    """How long a recipe takes on a CPU, where that is known; `benchmarks.recipe_times` measures it.

    >>> _time("forecast")
    ''
    """
    seconds = from_json((_FOLDER / "times.json").read_text(encoding="utf-8")).get(name)
    if seconds is None:
        return ""
    units = ((48 * 3600, 86400, "days"), (7200, 3600, "h"), (100, 60, "min"), (0, 1, "s"))
    size, unit = next((size, unit) for least, size, unit in units if seconds >= least)
    return f" Time: {round(seconds / size)} {unit} of CPU."


def _line(text: str) -> str:
    """The first paragraph, up to its first sentence."""
    return " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".") + "."


@functools.cache
def described() -> dict[str, tuple[str, str]]:
    """The docstring of every recipe of this package by its name, and what data it is of."""
    found = (each for file in _FOLDER.rglob("*.py") for each in _registered(file))
    return dict(sorted(found))


def _registered(file: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            for call in node.decorator_list:
                name: Any = getattr(getattr(call, "func", None), "id", None)
                if isinstance(call, ast.Call) and name == "register":
                    options = {of.arg: ast.literal_eval(of.value) for of in call.keywords}
                    told = (
                        inspect.cleandoc(ast.get_docstring(node) or ""),
                        options.get("data", "your own"),
                    )
                    yield ast.literal_eval(call.args[0]), told
