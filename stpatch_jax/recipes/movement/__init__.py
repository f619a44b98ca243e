"""Stock movement: will a stock rise or fall tomorrow; with data of its own."""

from stpatch_jax.recipes.movement.data import MovementConfig
from stpatch_jax.recipes.movement.recipe import stock_movement

__all__ = ["MovementConfig", "stock_movement"]
