"""Which values of a field are events that people want to be warned of."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from stpatch_jax.errors import check_choice, check_range

Event = Literal["none", "above", "below"]


@dataclass(frozen=True)
class AlertConfig:
    """An event at each cell, such as frost or congestion, and when it is warned of.

    Attributes:
        event: Whether values `above` or `below` the threshold are events; `none` for no alerts.
        threshold: The threshold, in the units of the field, or where `quantile` says so the level
            in (0, 1) of each series' quantile over the training rows.
        quantile: Whether the threshold is such a level.
        probability: The forecast probability from which on an event is warned of, in (0, 1): what
            a false alarm costs in shares of what a miss costs, where that is known.
    """

    event: Event = "none"
    threshold: float = 0.0
    quantile: bool = False
    probability: float = 0.3

    def __post_init__(self) -> None:
        check_choice("data.alert.event", self.event, get_args(Event))
        check_range("data.alert.probability", self.probability, 0, 1, bounds="()")
        if self.quantile:
            what = "data.alert.threshold, the level of a quantile,"
            check_range(what, self.threshold, 0, 1, bounds="()")

    def thresholds(self, training: np.ndarray) -> np.ndarray:
        """The threshold of each series [*series], float64, from its training rows [row, *series].

        A series that never changed in training has no events worth a warning, nor a threshold:
        there it is NaN.

        >>> rows = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]])
        >>> AlertConfig("above", 0.5, quantile=True).thresholds(rows).tolist()
        [1.0, nan]
        """
        # NumPy warns of series without a value, which stand for constant ones here.
        training = np.where(np.isnan(training).all(axis=0), 0, training)
        low, high = np.nanmin(training, axis=0), np.nanmax(training, axis=0)
        fitted = np.full(training.shape[1:], self.threshold, np.float64)
        if self.quantile:
            fitted = np.nanquantile(training.astype(np.float64), self.threshold, axis=0)
        return np.where(high > low, fitted, np.nan)

    def happened(self, values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """True where values [..., *series] are events; a missing value is none."""
        return values > thresholds if self.event == "above" else values < thresholds
