"""The recipes by the names they have on the command line."""

import dataclasses
import functools
from collections.abc import Callable

from stpatch_jax.errors import check_choice
from stpatch_jax.runs import RunConfig

Recipe = Callable[[], RunConfig]

RECIPES: dict[str, Recipe] = {}
"""Every recipe by its name."""


def register(name: str) -> Callable[[Recipe], Recipe]:
    """Makes a function a recipe by a name, words of lower case joined by `-`."""

    def registered(build: Recipe) -> Recipe:
        @functools.wraps(build)
        def named() -> RunConfig:
            return dataclasses.replace(build(), recipe=name)

        RECIPES[name] = named
        return named

    return registered


def recipe(name: str) -> RunConfig:
    """Returns the configuration of a recipe.

    Raises:
        InputError: There is no such recipe; the message lists those there are.

    >>> recipe("stocks").data.horizon
    6
    """
    check_choice("the recipe", name, sorted(RECIPES))
    return RECIPES[name]()
