"""Recipes: one file per application, each a function that returns the run's configuration."""

from collections.abc import Callable

from stpatch_jax.errors import InputError
from stpatch_jax.recipes.stocks import stocks
from stpatch_jax.running import RunConfig

RECIPES: dict[str, Callable[[], RunConfig]] = {"stocks": stocks}
"""Every recipe by the name it has on the command line."""


def recipe(name: str) -> RunConfig:
    """Returns the configuration of a recipe.

    Raises:
        InputError: There is no such recipe; the message lists those there are.

    Examples:
        >>> recipe("stocks").data.horizon
        6
    """
    if name not in RECIPES:
        raise InputError(
            f"the recipe must be one of {', '.join(sorted(RECIPES))}, got {name!r}; "
            "`stpatch recipes` describes them"
        )
    return RECIPES[name]()


__all__ = ["RECIPES", "recipe", "stocks"]
