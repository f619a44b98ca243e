"""Threshold events, such as frost or congestion: their probability, and how they were foretold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from stpatch_jax.errors import InputError
from stpatch_jax.losses.reduction import check_one_shape
from stpatch_jax.losses.regression import check_quantiles
from stpatch_jax.metrics.sums import Array, Sums, divide, host_or_device


def exceedance_probability(
    prediction: Array, threshold: Array | float, *, quantiles: Sequence[float]
) -> Array:
    """Probability that the target exceeds a threshold, from the quantiles of its forecast.

    `1 - F(threshold)`, with the distribution function F running linearly between the predicted
    quantiles and flat outside them: a threshold beyond the outermost quantiles gives `1 - q` of
    the nearest one, never 0 or 1, since the quantiles do not tell how far the tails reach. For an
    event below a threshold (frost), take one minus it.

    Args:
        prediction: [..., quantile], one value for each of `quantiles`; where they cross they are
            sorted first.
        threshold: A number, or [...] one for each forecast, in the target's units.
        quantiles: Their levels, at least two, increasing, each in (0, 1).

    Returns:
        [...] in (0, 1): NumPy float64 if all arrays are NumPy's, else JAX float32. NaN where a
        quantile or the threshold is.

    Raises:
        InputError: If shapes or levels do not fit.

    References:
        Sorting: Chernozhukov, Fernandez-Val and Galichon, "Quantile and probability curves without
        crossing", Econometrica 78 (2010).

    >>> frost = np.array([[-4.0, 0.0, 2.0]])
    >>> exceedance_probability(frost, 1.0, quantiles=(0.2, 0.5, 0.8)).round(3).tolist()
    [0.35]
    """
    name = "exceedance_probability"
    check_quantiles(name, prediction.shape, quantiles)
    entries, levels = tuple(prediction.shape[:-1]), len(quantiles)
    if levels < 2 or np.shape(threshold) not in ((), entries):
        raise InputError(
            f"{name} must get two quantiles or more and a threshold that is a number or of shape "
            f"{entries}, got {levels} quantiles and a threshold {np.shape(threshold)}; broadcast "
            "the threshold to the forecasts"
        )
    xp, dtype = host_or_device(prediction, threshold if isinstance(threshold, jax.Array) else None)
    values = xp.sort(xp.asarray(prediction, dtype), axis=-1)
    bound = xp.broadcast_to(xp.asarray(threshold, dtype), entries)
    # Counted with <=, so that of equal quantiles the highest level holds, as in P(X <= threshold).
    above = xp.clip((values <= bound[..., None]).sum(axis=-1), 1, levels - 1)
    low, high = (
        xp.take_along_axis(values, at[..., None], axis=-1)[..., 0] for at in (above - 1, above)
    )
    flat = high <= low
    share = xp.clip((bound - low) / xp.where(flat, 1, high - low), 0, 1)
    share = xp.where(flat, bound >= high, share)
    q = xp.asarray(quantiles, dtype)
    missing = xp.isnan(values).any(axis=-1) | xp.isnan(bound)
    return xp.where(missing, xp.nan, 1 - (q[above - 1] + share * (q[above] - q[above - 1])))


def brier_score(probability: Array, event: Array) -> Array:
    """Brier score of each forecast of an event, `(probability - event)^2`; `Mean` averages them.

    0 is sure and right, 1 sure and wrong, 0.25 what a constant probability of one half gets.

    Args:
        probability: [...] forecast probabilities of the event, in [0, 1].
        event: [...] bool or 0 and 1, whether it happened.

    Returns:
        [...]: NumPy float64 if all arrays are NumPy's, else JAX float32. NaN where one of them is.

    Raises:
        InputError: If the shapes differ.

    References:
        Brier, "Verification of forecasts expressed in terms of probability", Mon. Weather Rev. 78
        (1950), in today's form for two outcomes, which is half of his.

    >>> brier_score(np.array([0.5, 1.0]), np.array([True, False])).tolist()
    [0.25, 1.0]
    """
    check_one_shape("probability and event of brier_score", probability, event)
    xp, dtype = host_or_device(probability, event)
    return xp.square(xp.asarray(probability, dtype) - xp.asarray(event, dtype))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EventCounts(Sums):
    """Counts of events that were foretold or not, and happened or not.

    Attributes:
        hits: Events foretold that happened, an integer scalar.
        misses: Events that happened but were not foretold.
        false_alarms: Events foretold that did not happen.
        correct_negatives: Neither foretold nor happened.

    References:
        Wilks, "Statistical Methods in the Atmospheric Sciences" (2019), chapter 9.
    """

    hits: Array
    misses: Array
    false_alarms: Array
    correct_negatives: Array

    @classmethod
    def of(cls, foretold: Array, happened: Array, *, mask: Array | None = None) -> EventCounts:
        """Counts the events of one batch, such as `forecast > threshold, target > threshold`.

        Args:
            foretold: Bool, any shape, whether the event was forecast.
            happened: Bool, shape of `foretold`, whether it came.
            mask: Bool, shape of `foretold`, True where that is known; None means everywhere.

        Raises:
            InputError: If the arrays are not bool or of different shapes.

        >>> t2m = np.array([2.0, -1.0, -3.0, 4.0])
        >>> frost = EventCounts.of(t2m < 0, np.array([False, True, False, True]))
        >>> round(float(frost.critical_success_index()), 3)
        0.333
        """
        check_one_shape("foretold, happened and mask of EventCounts", foretold, happened, mask)
        for array in (foretold, happened):
            if array.dtype != bool:
                raise InputError(
                    f"foretold and happened must be bool, got {array.dtype}; compare the values "
                    "with the threshold first"
                )
        xp, _ = host_or_device(foretold, happened, mask)
        real = xp.ones(foretold.shape, bool) if mask is None else mask
        pairs = ((foretold, happened), (~foretold, happened), (foretold, ~happened))
        counts = [xp.sum(said & came & real) for said, came in (*pairs, (~foretold, ~happened))]
        return cls(*counts)

    def critical_success_index(self) -> Array:
        """Threat score, `hits / (hits + misses + false alarms)`; NaN if all were negative."""
        return divide(self.hits, self.hits + self.misses + self.false_alarms)

    def probability_of_detection(self) -> Array:
        """Share of the events that were foretold; NaN if none happened."""
        return divide(self.hits, self.hits + self.misses)

    def false_alarm_ratio(self) -> Array:
        """Share of the events foretold that did not happen; NaN if none was foretold."""
        return divide(self.false_alarms, self.hits + self.false_alarms)

    def frequency_bias(self) -> Array:
        """Events foretold per event that happened, 1 being unbiased; NaN if none happened."""
        return divide(self.hits + self.false_alarms, self.hits + self.misses)
