"""Warnings of events, such as frost or congestion: their probability from past errors, scored."""

import dataclasses
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from stpatch_jax.data import Climatology, FieldData, truth
from stpatch_jax.runs.judging.judge import figure
from stpatch_jax.runs.judging.forecast import Forecaster, SplitForecasts
from stpatch_jax.metrics import EventCounts, brier_score
from stpatch_jax.tasks import Forecast


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SplitAlerts(SplitForecasts):
    """The forecasts of one split, and how probable each rule held the event, beside what came.

    Attributes:
        values: The forecasts in the units of the data, by name.
        real: What came, in these units, NaN where missing.
        event: True where it was an event, shape of the target.
        scored: True where alerts are scored: the target is real, and its series has a threshold.
        probabilities: Probability of the event by name: of every forecast, and with a climatology
            the `frequency` of events in training at that phase.
        level: Probability from which on an alert is raised.
    """

    values: dict[str, np.ndarray]
    real: np.ndarray
    event: np.ndarray
    scored: np.ndarray
    probabilities: dict[str, np.ndarray]
    level: float

    def brier(self, name: str) -> np.ndarray:
        """Brier score of every target, 0 where it is not scored."""
        return np.where(self.scored, brier_score(self.probabilities[name], self.event), 0.0)

    def warned(self, name: str) -> np.ndarray:
        """True where a rule raises the alert."""
        return self.probabilities[name] >= self.level

    def figures(self, name: str) -> dict[str, float | None]:
        """Brier score, critical success index, and what it is made of."""
        counts = EventCounts.of(self.warned(name), self.event, mask=self.scored)
        return {
            "brier": figure(self.brier(name).sum() / max(self.scored.sum(), 1)),
            "csi": figure(counts.critical_success_index()),
            "detected": figure(counts.probability_of_detection()),
            "false_alarms": figure(counts.false_alarm_ratio()),
        }


class AlertForecaster(Forecaster):
    """Judges forecasts of a field, and on the test split the alerts that follow from them.

    Every rule, the model as well as the naive ones, gets its probabilities from its own errors on
    the validation split; see `exceedance_from_errors`.
    """

    def __init__(self, task: Forecast, data: FieldData, mesh: Mesh, *, batch_size: int):
        super().__init__(task, data, mesh, batch_size=batch_size)
        self.field = data
        train = slice(0, data.splits["train"].stop)
        self.training = data.values(train)
        self.thresholds = data.config.alert.thresholds(self.training)

    def __call__(self, model: nnx.Module, split: str) -> SplitForecasts:
        """Forecasts every window of a split; of the test split `SplitAlerts`."""
        found = super().__call__(model, split)
        if split != "test":
            return found
        past = super().__call__(model, "validation")
        values, before = self._in_units(found), self._in_units(past)
        real = np.where(found.mask, truth(self.data, found.index), np.nan)
        known = np.where(past.mask, truth(self.data, past.index), np.nan)
        alert = self.field.config.alert
        probabilities = {
            name: self._probability(values[name], before[name], known) for name in values
        }
        return SplitAlerts(
            **{field.name: getattr(found, field.name) for field in dataclasses.fields(found)},
            values=values,
            real=real,
            event=alert.happened(real, self.thresholds),
            scored=np.isfinite(real) & np.isfinite(self.thresholds),
            probabilities=probabilities | self._frequency(found.index),
            level=alert.probability,
        )

    def report(self, predictions: Any) -> dict[str, Any]:
        """The figures of the forecasts, see `Forecaster.report`, and of the `alerts`."""
        alert, split = self.field.config.alert, predictions
        of = "quantile of its training rows" if alert.quantile else self.data.unit
        return {
            **super().report(predictions),
            "alerts": {
                "event": f"{alert.event} {alert.threshold:g} ({of})",
                "probability": alert.probability,
                "targets": int(split.scored.sum()),
                "events": int((split.event & split.scored).sum()),
                "rules": {name: split.figures(name) for name in split.probabilities},
            },
        }

    def _in_units(self, split: SplitForecasts) -> dict[str, np.ndarray]:
        return {name: self.data.in_units(x, split.index) for name, x in split.forecasts.items()}

    def _probability(self, values: np.ndarray, before: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The probability of the event, lead by lead: errors grow with the lead time."""
        above = [
            exceedance_from_errors(
                values[:, lead],
                self.thresholds,
                past=before[:, lead],
                errors=known[:, lead] - before[:, lead],
            )
            for lead in range(values.shape[1])
        ]
        found = np.stack(above, axis=1)
        return found if self.field.config.alert.event == "above" else 1 - found

    def _frequency(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """The share of events among the training rows of the same phase, where there are phases."""
        config, times = self.field.config, self.data.times
        if config.climatology is None:
            return {}
        events = config.alert.happened(self.training, self.thresholds).astype(np.float64)
        events[np.isnan(self.training)] = np.nan
        shares = Climatology.fit(events, times[: len(events)], phase=config.climatology)
        rows = index[:, None] + np.arange(self.data.horizon)
        return {"frequency": shares.at(times[rows.ravel()]).reshape(*rows.shape, *events.shape[1:])}


def exceedance_from_errors(
    forecast: np.ndarray,
    threshold: np.ndarray,
    *,
    past: np.ndarray,
    errors: np.ndarray,
    bins: int = 20,
) -> np.ndarray:
    """Probability that the truth exceeds a threshold, from the errors of past forecasts like it.

    The past forecasts are sorted by value into bins of the same count. With the n errors of the bin
    into which a forecast falls, `(#{error > threshold - forecast} + 1/2) / (n + 1)`: never 0 or 1,
    and wider where past forecasts of that size were worse.

    Args:
        forecast: Forecasts [window, *series].
        threshold: The threshold of each series [*series]; NaN gives a probability that means
            nothing.
        past: Past forecasts, any shape.
        errors: What came less these forecasts, the same shape, NaN where missing.
        bins: Number of bins.

    Returns:
        float64, shape of `forecast`.

    References:
        Roulston and Smith, "Combining dynamical and statistical ensembles", Tellus A 55 (2003).

    >>> past, errors = np.zeros(9), np.arange(-4.0, 5.0)
    >>> exceedance_from_errors(np.array([[0.0]]), np.array([2.5]), past=past, errors=errors)
    array([[0.25]])
    """
    known = np.isfinite(errors)
    past, errors = past[known], errors[known]
    edges = np.unique(np.quantile(past, np.linspace(0, 1, bins + 1)[1:-1]))
    homes = np.searchsorted(edges, past, side="right")
    flat = forecast.ravel()
    asked = np.searchsorted(edges, flat, side="right")
    needed = (threshold - forecast).ravel()
    found = np.full(flat.shape, 0.5)
    for home in np.unique(asked):
        like = np.sort(errors[homes == home])
        chosen = asked == home
        below = np.searchsorted(like, needed[chosen], side="right")
        found[chosen] = (len(like) - below + 0.5) / (len(like) + 1)
    return found.reshape(forecast.shape)
