"""Metrics: what a report prints, masked, in the units of the target.

They add up over batches and devices: make a `LeadTimeErrors`, `RelativeErrors`, `QuantileErrors`,
`AreaErrors`, `Confusion`, `EventCounts` or `TokenEntropy` of each batch, inside `jax.jit` or on the
host, add them, and ask the sum. Every mean is over all real entries of all batches. What gives one
score per target or image (CRPS, coverage, Brier score, PSNR, SSIM) is averaged the same way by
`Mean`. `roc_auc` and `AveragePrecision` need all scores at once and run on the host. Where a metric
is undefined it is NaN.
"""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.metrics.area import AreaErrors
    from stpatch_jax.metrics.classification import Confusion, roc_auc
    from stpatch_jax.metrics.detection import COCO_THRESHOLDS, AveragePrecision
    from stpatch_jax.metrics.events import EventCounts, brier_score, exceedance_probability
    from stpatch_jax.metrics.forecast import LeadTimeErrors, skill
    from stpatch_jax.metrics.image import psnr, ssim
    from stpatch_jax.metrics.probabilistic import (
        QuantileErrors,
        covered,
        crps_from_ensemble,
        crps_from_quantiles,
    )
    from stpatch_jax.metrics.relative import NaiveErrors, RelativeErrors
    from stpatch_jax.metrics.resampling import resampled
    from stpatch_jax.metrics.sums import Mean
    from stpatch_jax.metrics.tokens import TokenEntropy, bits_per_token

__all__ = [
    "COCO_THRESHOLDS", "AreaErrors", "AveragePrecision", "Confusion", "EventCounts",
    "LeadTimeErrors", "Mean", "NaiveErrors", "QuantileErrors", "RelativeErrors", "TokenEntropy",
    "bits_per_token", "brier_score", "covered", "crps_from_ensemble", "crps_from_quantiles",
    "exceedance_probability", "psnr", "resampled", "roc_auc", "skill", "ssim",
]  # fmt: skip

__getattr__, __dir__ = on_demand(__name__)
