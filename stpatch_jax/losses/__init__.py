"""Losses: scalars to minimise, masked, accumulated in float32.

All of them share one reduction: the mean over the entries whose mask is True, over every axis at
once (weighted, where there are weights of cells or classes), so that an example with few real
targets weighs little. With no real entry the loss is 0. Only `focal` divides its sum by another
number, that of the real positive targets, and `dice` is a ratio of sums in each example.
"""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.losses.classification import cross_entropy, dice, label_weights
    from stpatch_jax.losses.detection import box_giou, box_iou, box_loss, focal
    from stpatch_jax.losses.reduction import entry_weights, latitude_weights
    from stpatch_jax.losses.regression import huber, mae, mse, pinball
    from stpatch_jax.losses.regularization import l1_penalty

__all__ = [
    "box_giou", "box_iou", "box_loss", "cross_entropy", "dice", "entry_weights", "focal", "huber",
    "l1_penalty", "label_weights", "latitude_weights", "mae", "mse", "pinball",
]  # fmt: skip

__getattr__, __dir__ = on_demand(__name__)
