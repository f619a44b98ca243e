"""Every recipe by its name: this imports all of them."""

import importlib

from stpatch_jax.recipes.described import described
from stpatch_jax.recipes.registry import RECIPES

__all__ = ["RECIPES"]

for _one in described().values():
    importlib.import_module(_one.module)
