"""Pages that are written from the code at each build, and the notebooks that are copied in."""

import contextlib
import importlib
import inspect
import io
import shutil
from pathlib import Path
from types import ModuleType

import stpatch_jax
from stpatch_jax.cli import main

FLAT = "stpatch_jax"
ROOMS = (FLAT, *(f"{FLAT}.{room}" for room in stpatch_jax._ROOMS))
COMMANDS = ("", "recipes", "recipes stocks", "train stocks --help", "train forecast --help-all")


def pages(docs: Path) -> dict[str, str]:
    """Writes what git does not keep; gives the public names by what docstrings call them."""
    for notebook in sorted((docs.parent / "notebooks").glob("*.ipynb")):
        shutil.copy2(notebook, docs / "tutorials")
    (docs / "reference" / "api").mkdir(exist_ok=True)
    known: dict[str, str] = {}
    twice: set[str] = set()
    for room in ROOMS:
        module = importlib.import_module(room)
        names = [name for name in public_names(module) if room == FLAT or name not in FLAT_NAMES]
        if not names:  # The operators are documented where people import them from.
            continue
        _write(docs / "reference" / "api" / f"{room}.rst", room_page(module, names))
        # A word such as `train` may as well be an argument.
        told = [name for name in names if "_" in name or not name.islower()]
        twice |= known.keys() & set(told)
        known |= {name: f"{room}.{name}" for name in told}
    _write(docs / "reference" / "command_line.md", command_line())
    return {name: full for name, full in known.items() if name not in twice}


def public_names(module: ModuleType) -> list[str]:
    """The names of a room that users may rely on."""
    names = module.__all__ if hasattr(module, "__all__") else dir(module)
    if module is stpatch_jax:
        names = [*names, *stpatch_jax._FUNCTIONS]
    # A room that is one file holds what it imports, too.
    own = FLAT if hasattr(module, "__path__") else module.__name__
    values = {name: getattr(module, name) for name in names if not name.startswith("_")}
    return sorted(name for name, value in values.items() if _made_in(own, value))


def _made_in(room: str, value: object) -> bool:
    foreign = inspect.ismodule(value) or callable(value)
    return not foreign or getattr(value, "__module__", "").startswith(room)


FLAT_NAMES = frozenset(public_names(stpatch_jax)) - stpatch_jax._FUNCTIONS.keys()


def room_page(module: ModuleType, names: list[str]) -> str:
    """A page of a room: a line for each name, then the docstrings."""
    room = module.__name__
    lines = [room, "=" * len(room), "", f".. automodule:: {room}", "   :no-members:", ""]
    lines += [f".. currentmodule:: {room}", "", ".. list-table::", "   :widths: auto", ""]
    for name in names:
        lines += [f"   * - :py:obj:`{name}`", f"     - {summary(getattr(module, name))}"]
    for name in names:
        lines += ["", *_directive(name, getattr(module, name))]
    return "\n".join([*lines, ""])


def summary(value: object) -> str:
    """The first line of a docstring; of a constant its kind."""
    if not (inspect.isroutine(value) or inspect.isclass(value)):
        return f"A constant: {type(value).__name__}."
    return (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ").replace("*", r"\*")


def _directive(name: str, value: object) -> list[str]:
    if inspect.isclass(value):
        return [f".. autoclass:: {name}", "   :members:"]
    return [f".. {'autofunction' if inspect.isroutine(value) else 'py:data'}:: {name}"]


def command_line() -> str:
    """What the commands say of themselves."""
    parts = ["# Command line", "", "This is what the commands print.", ""]
    for command in COMMANDS:
        title = f"stpatch {command}".strip()
        parts += [f"## `{title}`", "", "```text", said(command.split()).rstrip(), "```", ""]
    return "\n".join(parts)


def said(arguments: list[str]) -> str:
    """What a command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(arguments or ["--help"])
    return out.getvalue()


def _write(path: Path, text: str) -> None:
    """Leaves a file alone that says this, so that Sphinx need not read it again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
