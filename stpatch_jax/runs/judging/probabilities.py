"""How probable an event is after a forecast, from what followed past forecasts like it."""

from dataclasses import dataclass

import numpy as np

_LIKE_SHARE = 0.05
_LEAST_LIKE = 32
_LEAST_SIZE = 0.01  # of the mean one


@dataclass(frozen=True, eq=False)
class PastForecasts:
    """How often an event came after past forecasts, as a function of how far these were from it.

    A forecast f is told by its margin to the threshold t of its series, `(f - t) / s(f)`, with the
    size of the errors of forecasts of its level, `s(f) = a + b f`, from least squares. Within the
    margins of the past, the probability is the isotonic regression of the event on the margin: the
    share of events among like forecasts, pooled where it would fall as the margin grows. That is
    right for counts and rain, whose many equal values no error of a forecast tells, as well as for
    continuous values. Half an event at the smallest margin, and half a miss at the largest one,
    keep it off 0 and 1. Beyond the margins of the past it goes on by the errors of the outermost
    twentieth of the forecasts: `(#{margin + error / s > 0} + 1/2) / (n + 1)`.

    Attributes:
        thresholds: The threshold of each series [*series], above which the event lies.
        size: The numbers a and b of the size of errors.
        least: The least size.
        margins: Margins [n], ascending, between which the probability is linear.
        probabilities: At these margins [n], ascending.
        low: Errors over their size after the forecasts of the smallest margins, ascending.
        high: Those after the forecasts of the largest margins.

    References:
        Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability
        estimates", KDD 2002. Roulston and Smith, "Combining dynamical and statistical ensembles",
        Tellus A 55 (2003), for probabilities from past errors.

    >>> forecasts, came = np.arange(4.0)[:, None], np.array([[0.0], [2.0], [1.0], [3.0]])
    >>> past = PastForecasts.fit(forecasts, came - forecasts, came > 1, np.ones(1))
    >>> past.probability(forecasts).round(2).ravel().tolist()
    [0.33, 0.5, 0.5, 0.67]
    """

    thresholds: np.ndarray
    size: tuple[float, float]
    least: float
    margins: np.ndarray
    probabilities: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def fit(
        cls, forecasts: np.ndarray, errors: np.ndarray, events: np.ndarray, thresholds: np.ndarray
    ) -> "PastForecasts":
        """Takes past forecasts [n, *series]; what is below a threshold, take the negative of.

        They are in units in which the series are alike; errors are truth minus forecast.
        """
        # Imported here: scikit-learn takes its time, and few runs ask for alerts.
        from sklearn.isotonic import IsotonicRegression

        known = np.isfinite(errors) & np.isfinite(thresholds)
        forecasts, errors = np.asarray(forecasts, np.float64), np.asarray(errors, np.float64)
        if not known.any():
            nothing = np.zeros(0)
            return cls(thresholds, (1.0, 0.0), 1.0, np.zeros(1), np.full(1, 0.5), nothing, nothing)
        size, least = _sizes(forecasts[known], errors[known], thresholds[np.isfinite(thresholds)])
        past = cls(thresholds, size, least, *(np.zeros(0),) * 4)
        margins = past._margins(forecasts)[known]
        errors = errors[known] / past._size(forecasts[known])
        fitted = IsotonicRegression().fit(
            np.append(margins, [margins.min(), margins.max()]),
            np.append(events[known], [1, 0]),
            sample_weight=np.append(np.ones(len(margins)), [0.5, 0.5]),
        )
        like = min(len(margins), max(_LEAST_LIKE, int(_LIKE_SHARE * len(margins))))
        order = np.argpartition(margins, [like - 1, len(margins) - like])
        low, high = (np.sort(errors[at]) for at in (order[:like], order[-like:]))
        return cls(thresholds, size, least, fitted.X_thresholds_, fitted.y_thresholds_, low, high)

    def probability(self, forecasts: np.ndarray) -> np.ndarray:
        """The probability of the event after forecasts [n, *series], float64 of their shape.

        It lies in (0, 1) and never falls as the forecast of a series grows. Where a series has no
        threshold it means nothing.
        """
        margins = self._margins(np.asarray(forecasts, np.float64))
        found = np.interp(margins, self.margins, self.probabilities)
        below, above = margins < self.margins[0], margins > self.margins[-1]
        found[below] = np.minimum(found[below], _share_beyond(self.low, margins[below]))
        found[above] = np.maximum(found[above], _share_beyond(self.high, margins[above]))
        return found

    def _margins(self, forecasts: np.ndarray) -> np.ndarray:
        return (forecasts - self.thresholds) / self._size(forecasts)

    def _size(self, forecasts: np.ndarray) -> np.ndarray:
        level, slope = self.size
        return np.maximum(level + slope * forecasts, self.least)


def _sizes(
    forecasts: np.ndarray, errors: np.ndarray, thresholds: np.ndarray
) -> tuple[tuple[float, float], float]:
    """Level and slope of the size of errors by the forecast, and the least size."""
    sizes, middle = np.abs(errors), float(forecasts.mean())
    # Perfect forecasts still have margins that are numbers.
    reach = max(float(np.abs(x - middle).max()) for x in (forecasts, thresholds))
    least = max(_LEAST_SIZE * float(sizes.mean()), 1e-6 * reach) or 1.0
    spread = float(forecasts.var())
    slope = float(np.mean((forecasts - middle) * sizes)) / spread if spread else 0.0
    # With a size above 0 at every threshold the margin grows with the forecast.
    needed = least - float((slope * thresholds).min())
    level = max(float(sizes.mean()) - slope * middle, needed)
    return (level, slope), least


def _share_beyond(errors: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """The share of errors [n], ascending, that bring each margin above 0; never 0 or 1."""
    short = np.searchsorted(errors, -margins, side="right")
    return (len(errors) - short + 0.5) / (len(errors) + 1)
