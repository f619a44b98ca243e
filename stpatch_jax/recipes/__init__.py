"""Recipes: functions that return the configuration of a run.

An application with data, a judge or predictions of its own is a folder; what it registers with
`stpatch_jax.runs` is registered by importing it, which the name of its recipe does, or `RECIPES`.
"""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.recipes.calls import backtest, train
    from stpatch_jax.recipes.every import RECIPES
    from stpatch_jax.recipes.registry import found, recipe, register

__all__ = ["RECIPES", "backtest", "found", "recipe", "register", "train"]

__getattr__, __dir__ = on_demand(__name__)
