"""Recipes: one file per application, each a function that returns the run's configuration.

An application with data, a judge or predictions of its own is a folder; what it registers with
`stpatch_jax.runs` is registered by importing it, as this module does.
"""

from stpatch_jax.recipes import (
    clip,
    customers,
    etth1,
    exchange,
    heartbeat,
    language,
    movement,
    pretrain,
    risk,
    scan,
    sentiment,
    stocks,
    traffic,
    video,
    weather,
)
from stpatch_jax.recipes.registry import RECIPES, recipe, register

__all__ = [
    "RECIPES",
    "clip",
    "customers",
    "etth1",
    "exchange",
    "heartbeat",
    "language",
    "movement",
    "pretrain",
    "recipe",
    "register",
    "risk",
    "scan",
    "sentiment",
    "stocks",
    "traffic",
    "video",
    "weather",
]
