"""Forecast errors that compare between series of any unit and size: MASE and sMAPE."""

from __future__ import annotations

import dataclasses

import jax

from stpatch_jax.errors import check_size, require
from stpatch_jax.losses.reduction import check_one_shape
from stpatch_jax.metrics.sums import Array, Sums, divide, host_or_device


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NaiveErrors(Sums):
    """Sums of what the values of each series differ from those one season before.

    Attributes:
        absolute: [*series] sum of absolute differences.
        count: [*series] number of pairs of which both are known, an integer.
    """

    absolute: Array
    count: Array

    @classmethod
    def of(cls, history: Array, *, season: int = 1) -> NaiveErrors:
        """Sums the differences in some rows of a history, as `Sums` says.

        Args:
            history: [time, *series], NaN where missing. Blocks of a longer one must overlap by a
                season, and may not reach across a gap in time.
            season: Length of a season in time steps.

        Raises:
            InputError: There is no time axis, or `season` is no such number.

        >>> import numpy as np
        >>> NaiveErrors.of(np.array([[1.0], [2.0], [5.0]])).mae().tolist()
        [2.0]
        """
        check_size("season=", season)
        require(
            history.ndim > 0,
            "the history must have the axes (time, *series), got a number; give an array",
        )
        xp, dtype = host_or_device(history)
        apart = xp.abs(xp.asarray(history[season:], dtype) - xp.asarray(history[:-season], dtype))
        known = xp.isfinite(apart)
        return cls(xp.sum(xp.where(known, apart, 0), axis=0), xp.sum(known, axis=0))

    def mae(self) -> Array:
        """The MAE of the seasonal naive forecast of one season ahead [*series], in its units.

        NaN where no pair is known.
        """
        return divide(self.absolute, self.count)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RelativeErrors(Sums):
    """Sums of relative errors per lead time, over all real entries.

    Attributes:
        scaled: [horizon] sum of absolute errors over the scale of their series.
        scaled_count: [horizon] number of real entries of a series with a scale, an integer.
        symmetric: [horizon] sum of `2 |error| / (|forecast| + |target|)`, 0 where both are 0.
        count: [horizon] number of real entries, an integer.

    References:
        MASE: Hyndman and Koehler, "Another look at measures of forecast accuracy", Int. J.
        Forecast. 22 (2006). sMAPE: Makridakis, "Accuracy measures: theoretical and practical
        concerns", Int. J. Forecast. 9 (1993).
    """

    scaled: Array
    scaled_count: Array
    symmetric: Array
    count: Array

    @classmethod
    def of(
        cls, prediction: Array, target: Array, *, scale: Array, mask: Array | None = None
    ) -> RelativeErrors:
        """Sums the errors of one batch, as `Sums` says.

        Args:
            prediction: [batch, horizon, *space, channel].
            target: Shape of `prediction`.
            scale: [*space, channel], what errors of a series are divided by: of the MASE what
                `NaiveErrors` of the training rows tell. One without (NaN or 0) counts in sMAPE
                alone.
            mask: Bool, shape of `target`, True where the target is real; None means everywhere.

        Raises:
            InputError: If the shapes do not fit.

        >>> import numpy as np
        >>> forecast, target = np.array([[[1.0], [0.0]]]), np.array([[[3.0], [0.0]]])
        >>> errors = RelativeErrors.of(forecast, target, scale=np.array([4.0]))
        >>> errors.mase().tolist(), errors.smape().tolist()
        ([0.5, 0.0], [1.0, 0.0])
        """
        check_one_shape("prediction, target and mask of RelativeErrors", prediction, target, mask)
        require(
            target.ndim >= 2 and tuple(scale.shape) == tuple(target.shape[2:]),
            f"the scale of RelativeErrors must have the shape (*space, channel) of the target "
            f"(batch, horizon, *space, channel), got {tuple(scale.shape)} for "
            f"{tuple(target.shape)}; give one for each series",
        )
        xp, dtype = host_or_device(prediction, target, mask)
        real = xp.asarray(xp.ones(target.shape, bool) if mask is None else mask)
        forecast, came = (xp.where(real, of.astype(dtype), 0) for of in (prediction, target))
        error, size = xp.abs(forecast - came), xp.abs(forecast) + xp.abs(came)
        # NaN is not above 0 either.
        scale = xp.broadcast_to(xp.asarray(scale, dtype)[None, None], target.shape)
        there = real & (scale > 0)
        scaled = xp.where(there, error / xp.where(there, scale, 1), 0)
        symmetric = 2 * error / xp.where(size > 0, size, 1)
        axes = (0, *range(2, target.ndim))
        return cls(*(xp.sum(of, axis=axes) for of in (scaled, there, symmetric, real)))

    def pooled(self) -> RelativeErrors:
        """The same errors with all lead times taken together, [1]."""
        return jax.tree.map(lambda s: s.sum(keepdims=True), self)

    def mase(self) -> Array:
        """Mean absolute scaled error [horizon], without a unit; NaN where nothing counts.

        Below 1 the error is less than that of the seasonal naive forecast in the history.
        """
        return divide(self.scaled, self.scaled_count)

    def smape(self) -> Array:
        """Symmetric mean absolute percentage error [horizon] as a share in [0, 2], not times 100.

        NaN where nothing is real.
        """
        return divide(self.symmetric, self.count)
