"""Forecasts of fields: maps, and alerts of events such as frost, from past forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import xarray as xr
from flax import nnx

from stpatch_jax import plotting
from stpatch_jax.data import Batch, FieldData
from stpatch_jax.data.fields.describing import told
from stpatch_jax.metrics import EventCounts, brier_score
from stpatch_jax.runs.judging.forecast import ForecastJudge, Values
from stpatch_jax.runs.judging.globe import area_errors, area_lines, area_report, area_weights
from stpatch_jax.runs.judging.judge import Judged, Shows, Tree, judges
from stpatch_jax.runs.judging.probabilities import PastForecasts
from stpatch_jax.runs.judging.tables import metric_table
from stpatch_jax.tasks import Forecast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LEADS = 3
_MOST_MAPS = 8
_MOST_PAST = 2**24
"""Most past forecasts of a rule that probabilities go by, 128 MiB; of more, spread windows."""

_COLUMNS = {
    "brier": "Brier score",
    "csi": "CSI",
    "detected": "events warned of",
    "false_alarms": "false among warnings",
}


OF_QUANTILES = "model_quantiles"
"""Name of the probabilities that follow from the model's own quantiles."""


_BY_QUANTILES = (
    f" {OF_QUANTILES} is the probability by the model's own quantiles, linear between them and "
    "flat beyond, as predictions have it."
)


@judges(Forecast, FieldData)
class FieldJudge(ForecastJudge):
    """Judges forecasts of a field, and on the test split the alerts that follow from them.

    Every rule, the model as well as the naive ones, gets its probabilities of the event from what
    followed its own forecasts on the validation split, see `PastForecasts`, in scaled units, in
    which series are alike. The rule `frequency` is the share of events among the training rows, of
    the same phase where there is a climatology. A model of two quantiles or more has its own
    probability beside, `model_quantiles`, which predictions have too.

    Its rows have under `alerts`, by window and lead, how many targets were `scored`, and by rule
    the sums of their `brier` scores and their `counts`; and how many were `known`, and by rule the
    sums of their `squares`, squared errors in the units of the data.
    """

    data: FieldData  # pyright: ignore[reportIncompatibleVariableOverride]

    def __call__(self, model: nnx.Module, split: str, *, past: Judged | None = None) -> Judged:
        """As in `Judge`; the test split of a run with alerts goes by what validation showed."""
        self._past: Mapping[str, list[PastForecasts]] = {}
        if self.warns and split == "test":
            past = past or self(model, "validation")
            self._past = self._fitted(past.shown["past"])
        return super().__call__(model, split, past=past)

    @property
    def warns(self) -> bool:
        """Whether the run asks for alerts."""
        return self.data.config.alert.event != "none"

    @property
    def units(self) -> Mapping[str, str]:
        """As in `ForecastJudge`; each channel has its own."""
        return self.data.series_units

    @cached_property
    def thresholds(self) -> np.ndarray:
        """The threshold of each series [*space, channel], NaN where it has none."""
        return self.data.alert_thresholds()

    @cached_property
    def scaled_thresholds(self) -> np.ndarray:
        """The thresholds in scaled units [*space, channel]."""
        channels = range(self.thresholds.shape[-1])
        return self.data.target_cleaner.scaled(
            self.thresholds[None], channels=channels, clip=False
        )[0]

    @cached_property
    def areas(self) -> np.ndarray | None:
        """The weights of the cells by their latitude, None where they have none."""
        return area_weights(self.data.targets)

    def sums(self, batch: Batch, answers: Tree) -> Tree:
        """As in `ForecastJudge`, and on a globe the errors weighted by area."""
        sums = super().sums(batch, answers)
        if self.areas is None:
            return sums
        rules, real, mask = (answers[name] for name in ("units", "real", "mask"))
        return {**sums, "globe": area_errors(self.areas, rules, real, mask)}

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """As in `ForecastJudge`, and the scores of the alerts."""
        rows = super().rows(batch, answers)
        return {**rows, "alerts": self._alerts(batch, answers)} if self._past else rows

    def _alerts(self, batch: Batch, answers: Tree) -> Tree:
        # What came, NaN where it is not judged.
        real = np.where(batch["target_mask"], answers["real"], np.nan)
        alert = self.data.config.alert
        event = alert.happened(real, self.thresholds)
        scored = np.isfinite(real) & np.isfinite(self.scaled_thresholds)
        axes = tuple(range(2, event.ndim))
        probabilities = {k: self._probability(k, x) for k, x in answers["scaled"].items()}
        rows = batch["index"][:, None] + np.arange(self.data.horizon)
        frequency = self.data.event_frequency(self.data.times[rows.ravel()])
        probabilities["frequency"] = frequency.reshape(event.shape)
        if len(self.levels) > 1:
            own = alert.probability_of(
                answers["quantiles"]["model"]["units"], self.thresholds, quantiles=self.levels
            )
            probabilities[OF_QUANTILES] = own
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

    def _probability(self, name: str, scaled: np.ndarray) -> np.ndarray:
        """The probability of the event, lead by lead: errors grow with the lead time."""
        leads = zip(self._past[name], np.moveaxis(self._sign * scaled, 1, 0), strict=True)
        return np.stack([past.probability(forecasts) for past, forecasts in leads], axis=1)

    @property
    def _sign(self) -> int:
        """What turns an event below a threshold into one above it."""
        return 1 if self.data.config.alert.event == "above" else -1

    def _fitted(self, past: Tree) -> dict[str, list[PastForecasts]]:
        sign, bound, fitted = self._sign, self._sign * self.scaled_thresholds, {}
        came, events = (np.moveaxis(past[key], 1, 0) for key in ("target", "event"))
        for name, values in past["values"].items():
            leads = zip(np.moveaxis(values, 1, 0), came, events, strict=True)
            fitted[name] = [
                PastForecasts.fit(sign * of, sign * (real - of), event, bound)
                for of, real, event in leads
            ]
        return fitted

    def shows(self, count: int) -> Mapping[str, Shows]:
        """As in `ForecastJudge`; a window in the middle for the maps, and past forecasts."""
        shows = dict(super().shows(count))
        if self.data.targets.ndim == 4:
            shows["map"] = Shows([count // 2], self._mapped)
        # Test goes by the errors of validation; its own are nobody's past.
        if self.warns and not self._past:
            size = self.data.horizon * int(np.prod(self.data.targets.shape[1:]))
            windows = min(count, max(_MOST_PAST // size, 1))
            numbers = np.unique(np.linspace(0, count - 1, windows).astype(int))
            shows["past"] = Shows(numbers.tolist(), self._told)
        return shows

    def _told(self, batch: Batch, answers: Tree) -> Tree:
        """What probabilities go by, in scaled units: forecasts, what came, and whether an event."""
        return {
            "values": answers["scaled"],
            "target": np.where(batch["target_mask"], batch["target"], np.nan),
            "event": self.data.config.alert.happened(answers["real"], self.thresholds),
        }

    def shown(self, name: str, values: Values) -> Values:
        """The cell next to the middle of a series of which something is known."""
        known = self.data.target_cleaner.known_at()
        if known.all():
            return super().shown(name, values)
        at = self.data.series[name]
        known = known[None, None][at][0, 0]
        far = np.square(np.argwhere(known) - np.array(known.shape) // 2).sum(axis=1)
        return values[at][(slice(None), slice(None), *np.argwhere(known)[far.argmin()])]

    def _mapped(self, batch: Batch, answers: Tree) -> Tree:
        """Truth and forecast at three leads; of each of several channels at the last one."""
        leads = np.unique(np.linspace(0, self.data.horizon - 1, _MOST_LEADS).astype(int))
        maps = {"truth": answers["real"], "forecast": answers["units"]["model"]}
        channels, count = min(maps["truth"].shape[-1], _MOST_MAPS), len(batch["index"])
        last = [(leads[-1], at) for at in range(channels)]
        rows = last if channels > 1 else [(lead, 0) for lead in leads]
        lead, channel = (np.broadcast_to(of, (count, len(rows))) for of in np.transpose(rows))
        return {
            "index": batch["index"],
            "lead": lead,
            "channel": channel,
            **{
                name: np.stack([values[:, lead, ..., at] for lead, at in rows], axis=1)
                for name, values in maps.items()
            },
        }

    def report(self, judged: Judged) -> dict[str, Any]:
        """As in `ForecastJudge`, and errors on the `globe` and metrics of the `alerts`."""
        report = super().report(judged)
        if "globe" in judged.sums:
            report["globe"] = area_report(judged.sums["globe"], self.units)
        if "alerts" not in judged.rows:
            return report
        alert, found = self.data.config.alert, judged.rows["alerts"]
        targets = int(found["scored"].sum())
        rules = {name: alert_metrics(of, targets) for name, of in found["rules"].items()}
        model, usual = (rules[name]["brier"] for name in ("model", "frequency"))
        report["alerts"] = {
            "event": f"{alert.event} {self._threshold_text()}",
            "probability": alert.probability,
            "targets": targets,
            "events": int(found["events"].sum()),
            "brier_skill": 1 - model / usual if usual else None,
            "rules": rules,
        }
        return report

    def markdown(self, report: Mapping[str, Any]) -> list[str]:
        """As in `ForecastJudge`, then the errors on the globe."""
        return [*super().markdown(report), *area_lines(report["test"].get("globe", {}))]

    def _threshold_text(self) -> str:
        """The threshold as it was given, and in the unit of the data where that is another one."""
        alert = self.data.config.alert
        if alert.quantile:
            return f"{alert.threshold:g} (quantile of its training rows)"
        given = f"{alert.threshold:g} ({alert.unit or self.data.unit})"
        own = self.data.alert_levels()
        if len(own) > 1 or own[0] == alert.threshold:
            return given
        return f"{own[0]:g} ({self.data.unit}), that is {given}"

    def before_errors(self, test: Mapping[str, Any]) -> list[str]:
        """What the channels are, where not all are targets, and the table of any alerts."""
        roles = [told, ""] if (told := self.data.roles.told()) else []
        return roles + self._alert_lines(test)

    def _alert_lines(self, test: Mapping[str, Any]) -> list[str]:
        if "alerts" not in test:
            return []
        found = test["alerts"]
        share = found["events"] / max(found["targets"], 1)
        skill = found["brier_skill"]
        better = "" if skill is None else f" Brier skill of the model against it: {skill:.3g}."
        if skill is not None and skill < 0:
            better += " The frequency in training is the better forecast of this event."
        return [
            f"Alerts, event: {found['event']}, {share:.2%} of {found['targets']} targets; "
            f"frequency is their share in the training rows.{better}",
            "",
            "Probabilities come from what followed each rule's forecasts on the validation split, "
            f"and from {found['probability']:g} on there is a warning. Of the Brier score less is "
            "better; CSI = hits / (hits + misses + false alarms)."
            + (_BY_QUANTILES if OF_QUANTILES in found["rules"] else ""),
            "",
            *metric_table("alerts", _COLUMNS, found["rules"]),
        ]

    def figures(self, judged: Judged, report: Mapping[str, Any]) -> dict[str, Figure]:
        """As in `ForecastJudge`, and maps of a field with two axes of space."""
        figures = super().figures(judged, report)
        return {**figures, "maps": self._maps(judged)} if "map" in judged.shown else figures

    def _maps(self, judged: Judged) -> Figure:
        shown = {name: values[0] for name, values in judged.shown["map"].items()}
        real, forecast = shown["truth"], shown["forecast"]
        rows, columns = real.shape[1:]
        height = min(max(2.6 * rows / columns, 1.5), 5.0) + 0.8
        figure = plotting.new_figure(len(real), 3, size=(10.5, height * len(real)))
        like = self.data.targets[0, ..., 0]
        names = list(self.data.series)
        for number, (lead, channel) in enumerate(zip(shown["lead"], shown["channel"], strict=True)):
            name, alike = names[channel], shown["channel"] == channel
            limits = plotting.colour_limits(np.stack([real[alike], forecast[alike]]))
            spread = plotting.colour_limits(forecast[alike] - real[alike], diverging=True)
            place: dict[str, Any] = {"like": like, "unit": self.units[name]}
            first = f"{name}: " if len(names) > 1 else ""
            axes = figure.axes[3 * number : 3 * number + 3]
            time = self.data.times[shown["index"] + lead]
            when = f"{told(time)}, lead {lead + 1}"
            _draw(real[number], axes[0], f"{first}truth, {when}", limits=limits, **place)
            _draw(forecast[number], axes[1], "forecast", limits=limits, **place)
            error = forecast[number] - real[number]
            style = {"limits": spread, "diverging": True}
            _draw(error, axes[2], "forecast less truth", **style, **place)
        return figure


def alert_counts(
    warned: np.ndarray, event: np.ndarray, scored: np.ndarray, axes: tuple[int, ...]
) -> EventCounts:
    """Counts of each window and lead."""
    pairs = ((warned, event), (~warned, event), (warned, ~event), (~warned, ~event))
    return EventCounts(*((said & came & scored).sum(axes) for said, came in pairs))


def alert_metrics(of: Tree, targets: int) -> dict[str, float]:
    """Brier score, critical success index, and what it is made of."""
    counts = jax.tree.map(np.sum, of["counts"])
    return {
        "brier": float(of["brier"].sum() / max(targets, 1)),
        "csi": float(counts.critical_success_index()),
        "detected": float(counts.probability_of_detection()),
        "false_alarms": float(counts.false_alarm_ratio()),
    }


def _draw(
    values: np.ndarray, ax: Axes, title: str, *, like: xr.DataArray, unit: str, **style: Any
) -> None:
    plotting.map_panel(like.copy(data=values), ax=ax, title=title, unit=unit, **style)
