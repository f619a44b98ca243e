"""Every recipe by its name: this imports all of them."""

import importlib

from stpatch_jax.recipes.registry import RECIPES, modules

__all__ = ["RECIPES"]

for _module in modules().values():
    importlib.import_module(_module)
