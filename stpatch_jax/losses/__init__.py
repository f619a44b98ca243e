"""Losses: scalars to minimise, masked, accumulated in float32.

All of them share one reduction: the mean over the entries whose mask is True, over every axis at
once (weighted, where there are class weights), so that an example with few real targets weighs
little. With no real entry the loss is 0.
"""

from stpatch_jax.losses.classification import cross_entropy
from stpatch_jax.losses.regression import huber, mae, mse

__all__ = ["cross_entropy", "huber", "mae", "mse"]
