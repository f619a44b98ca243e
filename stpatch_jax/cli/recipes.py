"""What recipes there are, without importing them."""

import sys
from collections.abc import Sequence

from stpatch_jax.errors import check_choice, require
from stpatch_jax.files import from_json
from stpatch_jax.recipes.described import FOLDER, described

HELP = ("-h", "--help")


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
        one = known[arguments[0]]
        return f"{arguments[0]}: {one.text}\n\nData: {one.data}.{_time(arguments[0])}"
    width = max(map(len, known))
    lines = [
        f"{name:{width}}  {_line(one.text)} Data: {one.data}.{_time(name)}"
        for name, one in known.items()
    ]
    return "\n".join([*lines, "\n`stpatch recipes NAME` tells more of one."])


def _time(name: str) -> str:
    """How long a recipe takes on a CPU, where that is known; `benchmarks.recipe_times` measures it.

    >>> _time("forecast")
    ''
    """
    seconds = from_json((FOLDER / "times.json").read_text(encoding="utf-8")).get(name)
    if seconds is None:
        return ""
    units = ((48 * 3600, 86400, "days"), (7200, 3600, "h"), (100, 60, "min"), (0, 1, "s"))
    size, unit = next((size, unit) for least, size, unit in units if seconds >= least)
    return f" Time: {round(seconds / size)} {unit} of CPU."


def _line(text: str) -> str:
    """The first paragraph, up to its first sentence."""
    return " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".") + "."
