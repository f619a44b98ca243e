"""Recipes: one file per application, each a function that returns the run's configuration.

An application with data, a judge or predictions of its own is a folder; what it registers with
`stpatch_jax.runs` is registered by importing it, as this module does.
"""

import importlib

from stpatch_jax.recipes.calls import train
from stpatch_jax.recipes.registry import RECIPES, found, import_again, recipe, register

__all__ = ["RECIPES", "found", "import_again", "recipe", "register", "train"]

_APPLICATIONS = (
    "classify clip customers etth1 exchange forecast heartbeat language movement pretrain "
    "reconstruct regress risk scan segment sentiment stocks traffic video weather"
)
for _name in _APPLICATIONS.split():
    importlib.import_module(f"{__name__}.{_name}")
