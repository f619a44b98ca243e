"""Explanations: which patches, channels, lags and neighbours an answer came from."""

from stpatch_jax.explain.attention import AttentionModel, attention_rollout, rollout_matrix
from stpatch_jax.explain.channels import NeighborModel, neighborhood_weights, permutation_importance
from stpatch_jax.explain.gradients import integrated_gradients, smooth_grad
from stpatch_jax.explain.judging import (
    Randomization,
    deletion_insertion,
    randomization_test,
    rank_correlation,
)
from stpatch_jax.explain.occlusion import occlusion
from stpatch_jax.explain.score import Score

__all__ = [
    "AttentionModel", "NeighborModel", "Randomization", "Score", "attention_rollout",
    "deletion_insertion", "integrated_gradients", "neighborhood_weights", "occlusion",
    "permutation_importance", "randomization_test", "rank_correlation", "rollout_matrix",
    "smooth_grad",
]  # fmt: skip
