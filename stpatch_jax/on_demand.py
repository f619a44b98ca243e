"""Rooms whose names come from their files when they are first asked for, not all at once."""

import ast
import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any


def on_demand(room: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package: a name is imported when it is first asked for.

    Which file a name is of stands in the imports under `if TYPE_CHECKING` of the package, where
    type checkers read it, and nowhere else.

    Args:
        room: The package, `__name__` inside of it.
    """
    module = sys.modules[room]
    origins = _origins(Path(str(module.__file__)))

    def __getattr__(name: str) -> Any:
        if name not in origins:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return vars(module).setdefault(name, getattr(importlib.import_module(origins[name]), name))

    def __dir__() -> list[str]:
        return sorted({*vars(module), *origins})

    return __getattr__, __dir__


def load_all(room: types.ModuleType) -> None:
    """Imports every name that a package gives, for those who ask a class for its subclasses."""
    for name in room.__all__:
        getattr(room, name)


def _origins(file: Path) -> dict[str, str]:
    """The modules of the names that a file imports for type checkers alone."""
    return {
        alias.name: str(node.module)
        for block in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
