"""Stock movement: will a stock rise or fall tomorrow; with data of its own."""

from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.movement.data import MovementConfig
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ClassifyConfig
from stpatch_jax.training import TrainConfig

__all__ = ["MovementConfig", "stock_movement"]


@register("stock-movement", data="ACL18 (2.4 MB) in STPATCH_DATA, else made from a seed")
def stock_movement() -> RunConfig:
    """Says whether a stock rises or falls on the next day, in the protocol of ACL18.

    A linear model of what the market as a whole did on the last day and over the last five: on
    validation folds before the test span, nothing about the single stock added to that. It makes
    one call a day for all stocks, so a test of 64 days says little: mind the interval, which is
    drawn by day.
    """
    return RunConfig(
        data=MovementConfig(path="catalog:acl18", lag=5, view="market"),
        model=FlatPatchesConfig(WindowSpec((1,))),
        task=ClassifyConfig(hidden=(), class_weights="balanced"),
        train=TrainConfig.cosine(
            300,
            1e-2,
            batch_size=2048,
            checkpoint_every=150,
            optimizer="adam",
            # L2 on the weights, which the prior knowledge that hardly anything shows asks for.
            # It falls on both logits, so on their difference it is half of this.
            weight_decay=0.6,
            clip_norm=None,
        ),
    )
