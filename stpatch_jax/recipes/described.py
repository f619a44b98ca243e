"""What recipes there are, read off their files: nothing of them is imported."""

import ast
import functools
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent


class Described(NamedTuple):
    """The module that a recipe stands in, its docstring, and what data it is of."""

    module: str
    text: str
    data: str


@functools.cache
def described() -> dict[str, Described]:
    """Every recipe of this package by its name.

    >>> described()["pretrain-motion"].module
    'stpatch_jax.recipes.pretrain'
    """
    return dict(sorted(each for file in FOLDER.rglob("*.py") for each in _registered(file)))


def _registered(file: Path) -> Iterator[tuple[str, Described]]:
    inside = ".".join(file.relative_to(FOLDER).with_suffix("").parts).removesuffix(".__init__")
    module = f"{__name__.rpartition('.')[0]}.{inside}"
    nodes = ast.parse(file.read_text(encoding="utf-8")).body
    for node in (node for node in nodes if isinstance(node, ast.FunctionDef)):
        for call in node.decorator_list:
            name: Any = getattr(getattr(call, "func", None), "id", None)
            if isinstance(call, ast.Call) and name == "register":
                options = {of.arg: ast.literal_eval(of.value) for of in call.keywords}
                text = inspect.cleandoc(ast.get_docstring(node) or "")
                found = Described(module, text, options.get("data", "your own"))
                yield ast.literal_eval(call.args[0]), found
