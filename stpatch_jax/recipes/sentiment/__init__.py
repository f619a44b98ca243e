"""Sentiment: does a line of text praise or complain; with data of its own."""

from stpatch_jax.recipes.sentiment.data import LabelledTextConfig
from stpatch_jax.recipes.sentiment.recipe import sentiment

__all__ = ["LabelledTextConfig", "sentiment"]
