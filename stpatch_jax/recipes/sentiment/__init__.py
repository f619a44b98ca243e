"""Sentiment: does a line of text praise or complain; with data of its own."""

from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.registry import register
from stpatch_jax.recipes.sentiment.data import LabelledTextConfig
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ClassifyConfig
from stpatch_jax.training import TrainConfig

__all__ = ["LabelledTextConfig", "sentiment"]


@register("sentiment", data="lines of film reviews, fetched (1.2 MB)")
def sentiment() -> RunConfig:
    """Tells positive from negative lines, in one fold of a cross-validation of film reviews.

    Any pair of files NAME.pos and NAME.neg can take their place with `--data.path`; `--data.fold`
    chooses the fold. No vectors trained on other texts are used.

    Words are read as the evidence of the windows of 1 to 3 words that end with them, and of their
    pieces of 4 to 6 letters; its mean over a line is weighed once more. Neither a hidden layer nor
    convolutions over the words were better on validation.
    """
    return RunConfig(
        data=LabelledTextConfig(path="catalog:reviews_positive", pieces=(4, 5, 6)),
        model=FlatPatchesConfig(WindowSpec((1,))),
        task=ClassifyConfig(hidden=(), reduce="mean"),
        train=TrainConfig.cosine(
            400, 3e-2, batch_size=128, checkpoint_every=200, weight_decay=1e-3
        ),
    )
