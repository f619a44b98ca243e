"""The recipes by the names they have on the command line: those of this package, and of files."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from stpatch_jax.errors import InputError, check_choice, listed, require, warn
from stpatch_jax.files import usable
from stpatch_jax.recipes.described import described
from stpatch_jax.runs import RecipeFile, RunConfig

Recipe = Callable[[], RunConfig]

RECIPES: dict[str, Recipe] = {}
"""The recipes that have been imported, by their names."""

_FILE = re.compile(r"(?P<path>.*\.py)(?::(?P<name>[^:/]+))?", re.DOTALL)


def register(name: str, *, data: str = "") -> Callable[[Recipe], Recipe]:
    """Makes a function a recipe by a name, words of lower case joined by `-`.

    What `data` it is of, where they come from and how much they are, stands in the list of recipes,
    which is read off the source: name and data are written out.
    """

    def registered(build: Recipe) -> Recipe:
        @functools.wraps(build)
        def named() -> RunConfig:
            return dataclasses.replace(build(), recipe=name)

        RECIPES[name] = named
        return named

    return registered


def recipe(name: str) -> RunConfig:
    """Returns the configuration of a recipe.

    Args:
        name: Its name, or a file of your own as a path that ends with `.py`, which is imported;
            where it registers several, `FILE.py:NAME`.

    Raises:
        InputError: There is no such recipe, and the message lists those there are; or the file is
            none that registers one.

    >>> recipe("stocks").data.horizon
    6
    """
    return found(name)()


def found(name: str) -> Recipe:
    """The function that makes a recipe, by its name or file; its docstring describes it.

    Raises:
        InputError: As in `recipe`.
    """
    at = _FILE.fullmatch(name)
    if at is None:
        check_choice("the recipe", name, sorted({*described(), *RECIPES}))
        if name not in RECIPES:
            importlib.import_module(described()[name].module)
        return RECIPES[name]
    path, own = at["path"], at["name"]
    file, builds = _imported(path)
    if own is not None:
        check_choice(f"the recipe of {path}", own, sorted(builds))
    require(
        own is not None or len(builds) == 1,
        f"{path} must register one recipe where none is named, got {listed(builds)}; name one as "
        f"{path}:{next(iter(builds))}",
    )
    build = builds[own or next(iter(builds))]

    @functools.wraps(build)
    def of_file() -> RunConfig:
        with _blamed(file.path):
            return dataclasses.replace(build(), recipe_file=file)

    return of_file


def import_again(file: RecipeFile) -> None:
    """Imports the file that a run's recipe came from, for the classes it defines.

    A file that has changed since is told by a warning.

    Raises:
        InputError: It is not there any more, or cannot be imported.
    """
    if _imported(file.path)[0].digest != file.digest:
        warn(f"{file.path} has changed since the run began; its classes are those of today")


def _imported(path: str) -> tuple[RecipeFile, dict[str, Recipe]]:
    """A file once it is imported, and the recipes that it registers by their names."""
    where = Path(path).absolute()
    require(
        where.is_file(),
        f"the recipe file {path} must be there, got no such file; give the path of one",
    )
    with usable(path=where):
        digest = hashlib.sha256(where.read_bytes()).hexdigest()
    file = RecipeFile(str(where), digest)
    return file, _recipes_of(file)


@functools.cache
def _recipes_of(file: RecipeFile) -> dict[str, Recipe]:
    """Imports a file, of one digest once; the recipes that it registers."""
    path, name = file.path, file.module
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    before = dict(RECIPES)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    # Modules beside it are found, behind all others.
    sys.path.append(str(Path(path).parent))
    with _blamed(path):
        spec.loader.exec_module(module)
    builds = {of: build for of, build in RECIPES.items() if build is not before.get(of)}
    require(
        len(builds) > 0,
        f"{path} must register a recipe, got none; put @register('NAME') of stpatch_jax.recipes "
        "above a function that returns a RunConfig",
    )
    return builds


@contextlib.contextmanager
def _blamed(path: str) -> Iterator[None]:
    """Tells an exception of a user's file by its line and what it said."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [x.lineno for x in traceback.extract_tb(error.__traceback__) if x.filename == path]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        said = f"{type(error).__name__}{f' in line {line}' if line else ''}: {error}"
        raise InputError(
            f"{path} must be a recipe file that runs, got {' '.join(said.split()):.200}; correct it"
        ) from error
