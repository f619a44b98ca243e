"""Forecasts of fields: maps, and alerts of events such as frost, from past errors."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import numpy as np
import xarray as xr
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stpatch_jax import plotting
from stpatch_jax.data import Batch, FieldData
from stpatch_jax.data.fields.describing import told
from stpatch_jax.metrics import EventCounts, brier_score
from stpatch_jax.plotting.style import colour_limits
from stpatch_jax.runs.judging.forecast import ForecastJudge, Values
from stpatch_jax.runs.judging.judge import Judged, Shows, Tree, finite, judges
from stpatch_jax.runs.judging.tables import metric_table
from stpatch_jax.tasks import Forecast

_MOST_LEADS = 3
_MOST_PAST = 2**24
"""Most past errors of a rule that probabilities go by, 128 MiB; of more, evenly spread windows."""

_COLUMNS = {
    "brier": "Brier score",
    "csi": "CSI",
    "detected": "events warned of",
    "false_alarms": "false among warnings",
}


@judges(Forecast, FieldData)
class FieldJudge(ForecastJudge):
    """Judges forecasts of a field, and on the test split the alerts that follow from them.

    Every rule, the model as well as the naive ones, gets its probabilities of the event from its
    own errors on the validation split, see `PastErrors`. With a climatology there is the rule
    `frequency`, the share of events among the training rows of the same phase.

    Its rows have under `alerts`, by window and lead, how many targets were `scored`, and by rule
    the sums of their `brier` scores and their `counts`; and how many were `known`, and by rule the
    sums of their `squares`, squared errors in the units of the data.
    """

    data: FieldData  # pyright: ignore[reportIncompatibleVariableOverride]

    def __call__(self, model: nnx.Module, split: str, *, past: Judged | None = None) -> Judged:
        """As in `Judge`; the test split of a run with alerts goes by what validation showed."""
        self._past: Mapping[str, list[PastErrors]] = {}
        if self.warns and split == "test":
            past = past or self(model, "validation")
            self._past = self._fitted(past.shown["past"])
        return super().__call__(model, split, past=past)

    @property
    def warns(self) -> bool:
        """Whether the run asks for alerts."""
        return self.data.config.alert.event != "none"

    @cached_property
    def thresholds(self) -> np.ndarray:
        """The threshold of each series [*space, channel], NaN where it has none."""
        return self.data.alert_thresholds()

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """As in `ForecastJudge`, and the scores of the alerts."""
        rows = super().rows(batch, answers)
        return {**rows, "alerts": self._alerts(batch, answers)} if self._past else rows

    def _alerts(self, batch: Batch, answers: Tree) -> Tree:
        alert, real = self.data.config.alert, _known(batch, answers)
        event = alert.happened(real, self.thresholds)
        scored = np.isfinite(real) & np.isfinite(self.thresholds)
        axes = tuple(range(2, event.ndim))
        probabilities = {k: self._probability(k, x) for k, x in answers["units"].items()}
        if self.data.config.climatology is not None:
            rows = batch["index"][:, None] + np.arange(self.data.horizon)
            frequency = self.data.event_frequency(self.data.times[rows.ravel()])
            probabilities["frequency"] = frequency.reshape(event.shape)
        known = np.isfinite(real)
        errors = {k: np.where(known, x - real, 0.0) for k, x in answers["units"].items()}
        return {
            "known": known.sum(axes),
            "squares": {name: np.square(values).sum(axes) for name, values in errors.items()},
            "scored": scored.sum(axes),
            "events": (event & scored).sum(axes),
            "rules": {
                name: {
                    "brier": np.where(scored, brier_score(values, event), 0.0).sum(axes),
                    "counts": alert_counts(values >= alert.probability, event, scored, axes),
                }
                for name, values in probabilities.items()
            },
        }

    def _probability(self, name: str, values: np.ndarray) -> np.ndarray:
        """The probability of the event, lead by lead: errors grow with the lead time."""
        leads = enumerate(self._past[name])
        above = np.stack([of.exceedance(values[:, at], self.thresholds) for at, of in leads], 1)
        return above if self.data.config.alert.event == "above" else 1 - above

    def _fitted(self, past: Tree) -> dict[str, list["PastErrors"]]:
        real = np.moveaxis(past["real"], 1, 0)
        fitted = {}
        for name, values in past["values"].items():
            leads = zip(real, np.moveaxis(values, 1, 0), strict=True)
            fitted[name] = [PastErrors.fit(of, came - of) for came, of in leads]
        return fitted

    def shows(self, count: int) -> Mapping[str, Shows]:
        """As in `ForecastJudge`; a window in the middle for the maps, and past errors."""
        shows = dict(super().shows(count))
        if self.data.field.ndim == 4:
            shows["map"] = Shows([count // 2], self._mapped)
        # Test goes by the errors of validation; its own are nobody's past.
        if self.warns and not self._past:
            size = self.data.horizon * int(np.prod(self.data.field.shape[1:]))
            windows = min(count, max(_MOST_PAST // size, 1))
            numbers = np.unique(np.linspace(0, count - 1, windows).astype(int))
            shows["past"] = Shows(numbers.tolist(), _past)
        return shows

    def shown(self, name: str, values: Values) -> Values:
        """The cell next to the middle of a series of which something is known."""
        known = self.data.cleaner.known_at()
        if known.all():
            return super().shown(name, values)
        at = self.data.series[name]
        known = known[None, None][at][0, 0]
        far = np.square(np.argwhere(known) - np.array(known.shape) // 2).sum(axis=1)
        return values[at][(slice(None), slice(None), *np.argwhere(known)[far.argmin()])]

    def _mapped(self, batch: Batch, answers: Tree) -> Tree:
        """Of the first channel the truth and the forecast at the first, middle and last lead."""
        leads = np.unique(np.linspace(0, self.data.horizon - 1, _MOST_LEADS).astype(int))
        maps = {"truth": answers["real"], "forecast": answers["units"]["model"]}
        return {
            "index": batch["index"],
            "lead": np.broadcast_to(leads, (len(batch["index"]), len(leads))),
            **{name: values[..., 0][:, leads] for name, values in maps.items()},
        }

    def report(self, judged: Judged) -> dict[str, Any]:
        """As in `ForecastJudge`, and the metrics of the `alerts`."""
        report = super().report(judged)
        if "alerts" not in judged.rows:
            return report
        alert, found = self.data.config.alert, judged.rows["alerts"]
        of = "quantile of its training rows" if alert.quantile else self.data.unit
        targets = int(found["scored"].sum())
        report["alerts"] = {
            "event": f"{alert.event} {alert.threshold:g} ({of})",
            "probability": alert.probability,
            "targets": targets,
            "events": int(found["events"].sum()),
            "rules": {name: alert_metrics(of, targets) for name, of in found["rules"].items()},
        }
        return report

    def before_errors(self, test: Mapping[str, Any]) -> list[str]:
        """The table of the alerts, where there are any."""
        if "alerts" not in test:
            return []
        found = test["alerts"]
        share = found["events"] / max(found["targets"], 1)
        return [
            f"Alerts, event: {found['event']}, {share:.2%} of {found['targets']} targets. "
            "Probabilities come from each rule's errors on the validation split (`frequency`: "
            f"from the training rows), and from {found['probability']:g} on there is a warning. "
            "Of the Brier score less is better; CSI = hits / (hits + misses + false alarms).",
            "",
            *metric_table("alerts", _COLUMNS, found["rules"]),
        ]

    def figures(self, judged: Judged, report: Mapping[str, Any]) -> dict[str, Figure]:
        """As in `ForecastJudge`, and maps of a field with two axes of space."""
        figures = super().figures(judged, report)
        return {**figures, "maps": self._maps(judged)} if "map" in judged.shown else figures

    def _maps(self, judged: Judged) -> Figure:
        """Truth, forecast and error on maps, a row of them for each lead."""
        shown = {name: values[0] for name, values in judged.shown["map"].items()}
        real, forecast = shown["truth"], shown["forecast"]
        limits = colour_limits(np.stack([real, forecast]))
        spread = colour_limits(forecast - real, diverging=True)
        rows, columns = real.shape[1:]
        height = min(max(3.6 * rows / columns, 2.0), 6.0) + 0.8
        figure = plotting.new_figure(len(real), 3, size=(13, height * len(real)))
        place: dict[str, Any] = {"like": self.data.field[0, ..., 0], "unit": self.data.unit}
        for number, lead in enumerate(shown["lead"]):
            axes = figure.axes[3 * number : 3 * number + 3]
            time = self.data.times[shown["index"] + lead]
            when = f"{told(time)}, lead {lead + 1}"
            _draw(real[number], axes[0], f"truth, {when}", limits=limits, **place)
            _draw(forecast[number], axes[1], "forecast", limits=limits, **place)
            error = forecast[number] - real[number]
            style = {"limits": spread, "diverging": True}
            _draw(error, axes[2], "forecast less truth", **style, **place)
        return figure


def _known(batch: Batch, answers: Tree) -> np.ndarray:
    """What came, NaN where it is not judged."""
    return np.where(batch["target_mask"], answers["real"], np.nan)


def _past(batch: Batch, answers: Tree) -> Tree:
    return {"values": answers["units"], "real": _known(batch, answers)}


def alert_counts(
    warned: np.ndarray, event: np.ndarray, scored: np.ndarray, axes: tuple[int, ...]
) -> EventCounts:
    """Counts of each window and lead."""
    pairs = ((warned, event), (~warned, event), (warned, ~event), (~warned, ~event))
    return EventCounts(*((said & came & scored).sum(axes) for said, came in pairs))


def alert_metrics(of: Tree, targets: int) -> dict[str, float | None]:
    """Brier score, critical success index, and what it is made of."""
    counts = jax.tree.map(np.sum, of["counts"])
    return {
        "brier": finite(of["brier"].sum() / max(targets, 1)),
        "csi": finite(counts.critical_success_index()),
        "detected": finite(counts.probability_of_detection()),
        "false_alarms": finite(counts.false_alarm_ratio()),
    }


def _draw(
    values: np.ndarray, ax: Axes, title: str, *, like: xr.DataArray, unit: str, **style: Any
) -> None:
    plotting.map_panel(like.copy(data=values), ax=ax, title=title, unit=unit, **style)


@dataclasses.dataclass(frozen=True, eq=False)
class PastErrors:
    """The errors of past forecasts, and how probable they make it that a threshold is exceeded.

    The past forecasts are sorted by value into bins of the same count. With the n errors of the bin
    into which a forecast falls, `(#{error > threshold - forecast} + 1/2) / (n + 1)`: never 0 or 1,
    and wider where past forecasts of that size were worse.

    Attributes:
        edges: Values between the bins, ascending.
        errors: The errors of each bin, ascending.

    References:
        Roulston and Smith, "Combining dynamical and statistical ensembles", Tellus A 55 (2003).

    >>> past = PastErrors.fit(np.zeros(9), np.arange(-4.0, 5.0))
    >>> past.exceedance(np.array([[0.0]]), np.array([2.5]))
    array([[0.25]])
    """

    edges: np.ndarray
    errors: list[np.ndarray]

    @classmethod
    def fit(cls, forecasts: np.ndarray, errors: np.ndarray, *, bins: int = 20) -> "PastErrors":
        """Sorts past forecasts of any shape into bins; errors of them are NaN where missing."""
        known = np.isfinite(errors)
        forecasts, errors = forecasts[known], errors[known]
        edges = np.unique(np.quantile(forecasts, np.linspace(0, 1, bins + 1)[1:-1]))
        homes = np.searchsorted(edges, forecasts, side="right")
        return cls(edges, [np.sort(errors[homes == home]) for home in range(len(edges) + 1)])

    def exceedance(self, forecast: np.ndarray, threshold: np.ndarray) -> np.ndarray:
        """Probability that the truth exceeds a threshold, float64 [window, *series].

        Args:
            forecast: Forecasts [window, *series].
            threshold: Of each series [*series]; NaN gives a probability that means nothing.
        """
        flat, needed = forecast.ravel(), (threshold - forecast).ravel()
        homes = np.searchsorted(self.edges, flat, side="right")
        found = np.full(flat.shape, 0.5)
        for home in np.unique(homes):
            like, here = self.errors[home], homes == home
            below = np.searchsorted(like, needed[here], side="right")
            found[here] = (len(like) - below + 0.5) / (len(like) + 1)
        return found.reshape(forecast.shape)
