"""Recipes: one file per application, each a function that returns the run's configuration."""

from collections.abc import Callable

from stpatch_jax.errors import InputError
from stpatch_jax.recipes.clip import clip
from stpatch_jax.recipes.customers.recipe import customers
from stpatch_jax.recipes.etth1 import etth1
from stpatch_jax.recipes.exchange import exchange
from stpatch_jax.recipes.heartbeat import heartbeat
from stpatch_jax.recipes.language import language
from stpatch_jax.recipes.movement.recipe import stock_movement
from stpatch_jax.recipes.pretrain import (
    pretrain,
    pretrain_motion,
    pretrain_movement,
    pretrain_stocks,
)
from stpatch_jax.recipes.risk.recipe import stock_risk
from stpatch_jax.recipes.scan import scan
from stpatch_jax.recipes.sentiment.recipe import sentiment
from stpatch_jax.recipes.stocks import stocks
from stpatch_jax.recipes.traffic import traffic
from stpatch_jax.recipes.video.video_classification import (
    video_classification,
    video_classification_motion,
)
from stpatch_jax.recipes.video.video_detection import video_detection
from stpatch_jax.recipes.video.video_prediction import video_prediction, video_prediction_full
from stpatch_jax.recipes.weather import weather
from stpatch_jax.runs.run import RunConfig

RECIPES: dict[str, Callable[[], RunConfig]] = {
    "clip": clip,
    "customers": customers,
    "etth1": etth1,
    "exchange": exchange,
    "heartbeat": heartbeat,
    "language": language,
    "pretrain": pretrain,
    "pretrain-motion": pretrain_motion,
    "pretrain-movement": pretrain_movement,
    "pretrain-stocks": pretrain_stocks,
    "scan": scan,
    "sentiment": sentiment,
    "stock_movement": stock_movement,
    "stock_risk": stock_risk,
    "stocks": stocks,
    "traffic": traffic,
    "video_classification": video_classification,
    "video_classification-motion": video_classification_motion,
    "video_detection": video_detection,
    "video_prediction": video_prediction,
    "video_prediction-full": video_prediction_full,
    "weather": weather,
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
    "clip",
    "customers",
    "etth1",
    "exchange",
    "heartbeat",
    "language",
    "pretrain",
    "pretrain_motion",
    "pretrain_movement",
    "pretrain_stocks",
    "recipe",
    "scan",
    "sentiment",
    "stock_movement",
    "stock_risk",
    "stocks",
    "traffic",
    "video_classification",
    "video_classification_motion",
    "video_detection",
    "video_prediction",
    "video_prediction_full",
    "weather",
]
