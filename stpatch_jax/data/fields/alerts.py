"""Which values of a field are events that people want to be warned of."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, get_args

import numpy as np

from stpatch_jax.data.fields.slabs import SlabReader, cell_blocks
from stpatch_jax.data.units import Conversion, conversion, told
from stpatch_jax.errors import check_choice, check_range, listed, require
from stpatch_jax.metrics import exceedance_probability

Event = Literal["none", "above", "below"]


@dataclass(frozen=True)
class AlertConfig:
    """An event at each cell, such as frost or congestion, and when it is warned of.

    Attributes:
        event: Whether values `above` or `below` the threshold are events; `none` for no alerts.
        threshold: The threshold, in `unit`, or where `quantile` says so the level in (0, 1) of each
            series' quantile over the training rows.
        quantile: Whether the threshold is such a level.
        probability: The forecast probability from which on an event is warned of, in (0, 1): what
            a false alarm costs in shares of what a miss costs, where that is known.
        unit: Unit of the threshold, which is converted into that of each channel; None takes it in
            the unit of the field. A quantile needs none.

    Raises:
        InputError: A level or a probability is out of range.
    """

    event: Event = "none"
    threshold: float = 0.0
    quantile: bool = False
    probability: float = 0.3
    unit: str | None = None

    def __post_init__(self) -> None:
        check_choice("data.alert.event", self.event, get_args(Event))
        check_range("data.alert.probability", self.probability, 0, 1, bounds="()")
        check_range("data.alert.threshold", self.threshold, -math.inf, math.inf, bounds="()")
        if self.quantile:
            what = "data.alert.threshold, the level of a quantile,"
            check_range(what, self.threshold, 0, 1, bounds="()")

    def compared(self, units: Mapping[str, str]) -> tuple["AlertConfig", str]:
        """What can be warned of in channels with such `units`, by name, empty where untold.

        Returns:
            The settings, and a sentence that says why there are no alerts, or nothing: no channel
            has a unit that the threshold's can be converted into.

        Raises:
            InputError: The threshold has no unit, and the channels have several.

        >>> AlertConfig("below", 273.15, unit="K").compared({"wind": "m s-1"})[0].event
        'none'
        """
        if self.event == "none" or self.quantile:
            return self, ""
        named = listed(f"{name} ({unit or 'no unit'})" for name, unit in units.items())
        if self.unit is not None:
            if np.isfinite(self.levels(units)).any():
                return self, ""
            return replace(self, event="none"), (
                f"There are no alerts: the threshold of {self.threshold:g} {self.unit} cannot be "
                f"compared with {named}; data.alert.threshold and data.alert.unit tell another "
                "one, and a unit of None takes it in the numbers of the file."
            )
        known = sorted({unit for unit in units.values() if told(unit)})
        require(
            all(_into(unit, known[0]) == Conversion(Fraction(1)) for unit in known),
            f"data.alert.unit must be told where channels have units of their own, got none for "
            f"the threshold {self.threshold:g} of {named}; give the unit of the threshold",
        )
        return self, ""

    def levels(self, units: Mapping[str, str]) -> np.ndarray:
        """The threshold in the unit of each channel [channel]; NaN where it has another kind of it.

        >>> AlertConfig("below", 273.15, unit="K").levels({"t2m": "degC", "wind": "m s-1"}).tolist()
        [0.0, nan]
        """
        if self.unit is None or self.quantile:
            return np.full(len(units), self.threshold, np.float64)
        into = [_into(self.unit, unit) for unit in units.values()]
        return np.array([np.nan if c is None else c(np.float64(self.threshold)) for c in into])

    def thresholds(self, training: np.ndarray, *, levels: np.ndarray | None = None) -> np.ndarray:
        """The threshold of each series [*series], float64, from its training rows [row, *series].

        `levels` are those of each channel, the last axis, by default the threshold as it is. A
        series that never changed in training has no events worth a warning, nor a threshold: there
        it is NaN.

        >>> rows = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]])
        >>> AlertConfig("above", 0.5, quantile=True).thresholds(rows).tolist()
        [1.0, nan]
        """
        # NumPy warns of series without a value, which stand for constant ones here.
        training = np.where(np.isnan(training).all(axis=0), 0, training)
        low, high = np.nanmin(training, axis=0), np.nanmax(training, axis=0)
        fitted = np.broadcast_to(self.threshold if levels is None else levels, low.shape)
        if self.quantile:
            fitted = np.nanquantile(training.astype(np.float64), self.threshold, axis=0)
        return np.where(high > low, fitted, np.nan)

    def happened(self, values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """True where values [..., *series] are events; a missing value is none."""
        return values > thresholds if self.event == "above" else values < thresholds

    def probability_of(
        self, values: np.ndarray, thresholds: np.ndarray, *, quantiles: Sequence[float]
    ) -> np.ndarray:
        """The probability of the event [..., *series] by quantiles [..., *series, quantile].

        See `exceedance_probability`, from one of which it is taken for events below a threshold.

        >>> values = np.array([[-1.0, 3.0], [1.0, 2.0]])
        >>> frost = AlertConfig("below", 0.0)
        >>> frost.probability_of(values, np.zeros(1), quantiles=(0.1, 0.9)).round(3).tolist()
        [0.3, 0.1]
        """
        bounds = np.broadcast_to(thresholds, values.shape[:-1])
        above = np.asarray(exceedance_probability(values, bounds, quantiles=quantiles))
        return above if self.event == "above" else 1 - above


def _into(unit: str, other: str) -> Conversion | None:
    return conversion(unit, other) if told(other) else None


def field_thresholds(
    config: AlertConfig, reader: SlabReader, rows: range, *, levels: np.ndarray, block_bytes: int
) -> np.ndarray:
    """The thresholds [*space, channel] of a field from its training rows, see `thresholds`.

    Blocks of cells of about `block_bytes` are read at a time.
    """
    fitted = np.empty(reader.field.shape[1:])
    for cells in cell_blocks(reader, rows, block_bytes=block_bytes):
        part = reader.read(slice(0, rows.stop), *cells)
        fitted[cells] = config.thresholds(part, levels=levels)
    return fitted
