"""Recipes: one file per application, each a function that returns the run's configuration."""

from collections.abc import Callable

from stpatch_jax.errors import InputError
from stpatch_jax.recipes.etth1 import etth1
from stpatch_jax.recipes.exchange import exchange
from stpatch_jax.recipes.heartbeat import heartbeat
from stpatch_jax.recipes.stock_movement import stock_movement
from stpatch_jax.recipes.stock_risk import stock_risk
from stpatch_jax.recipes.stocks import stocks
from stpatch_jax.running import RunConfig

RECIPES: dict[str, Callable[[], RunConfig]] = {
    "etth1": etth1,
    "exchange": exchange,
    "heartbeat": heartbeat,
    "stock_movement": stock_movement,
    "stock_risk": stock_risk,
    "stocks": stocks,
}
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


__all__ = [
    "RECIPES",
    "etth1",
    "exchange",
    "heartbeat",
    "recipe",
    "stock_movement",
    "stock_risk",
    "stocks",
]
