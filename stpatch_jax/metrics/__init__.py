"""Metrics: what a report prints, masked, in the units of the target.

They add up over batches: make a `LeadTimeErrors` or `Confusion` of each batch, add them, and ask
the sum.
"""

from stpatch_jax.metrics.classification import Confusion
from stpatch_jax.metrics.forecast import LeadTimeErrors, skill

__all__ = ["Confusion", "LeadTimeErrors", "skill"]
