"""Forecasts of a table or field: errors by lead time beside the naive rules, and their pictures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax import plotting
from stpatch_jax.data import Batch, ForecastData
from stpatch_jax.data.protocols import UNTOLD_UNIT, truth
from stpatch_jax.data.times import time_text
from stpatch_jax.metrics import LeadTimeErrors, QuantileErrors, skill
from stpatch_jax.runs.judging.judge import Judge, Judged, Shows, Tree, judges
from stpatch_jax.runs.judging.quantiles import (
    around,
    count_errors,
    error_quantiles,
    per_level,
    quantile_lines,
    quantile_scores,
    series_scores,
)
from stpatch_jax.runs.judging.question import Asked, Question
from stpatch_jax.runs.judging.tables import markdown_table
from stpatch_jax.runs.judging.verdict import Losses
from stpatch_jax.runs.judging.weighing import NetworkWeight, WeightJudge
from stpatch_jax.tasks import Forecast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_SERIES = 9
_MOST_ROWS = 100
_MOST_LEADS = 8
_BLOCK = 16
_DRAWN = ("model", "persistence")
_METRICS = ("mae", "mse", "rmse")
_SCALED = "standard deviations of the training rows"
_MOST_TOLD = 50
_ROUNDED = 1e-6
# From here on a sum over series tells of the largest ones alone.
_MOST_RATIO = 4.0

Values = TypeVar("Values", np.ndarray, jax.Array)


@judges(Forecast, object)
class ForecastJudge(Judge):
    """Judges forecasts of a table or field, in scaled units and in those of the data.

    What is in units is compared with the untouched data, over the targets that are real. Skill is
    `1 - error / error of persistence`. Quantiles of the model are judged beside those of each rule:
    its forecast plus the quantiles of its errors on the validation split, in scaled units.

    A weight by validation is measured there first, of the network alone; `validation` tells it, so
    that the checkpoint has it.

    Its rows, by window: `targets`, how many are real, and under `errors` by rule the sums of their
    `absolute` and `squared` errors in scaled units.
    """

    needs = ForecastData
    task: Forecast
    data: ForecastData
    _spread: Mapping[str, np.ndarray]
    """Of each rule the quantiles of its errors [horizon, channel, quantile]."""
    _weight: NetworkWeight | None = None

    def __call__(self, model: nnx.Module, split: str, *, past: Judged | None = None) -> Judged:
        """As in `Judge`; but for validation, quantiles of the rules go by their past errors."""
        if self._measured and (split == "validation" or self._weight is None):
            self._weight = self._network_weight(model)
        self._spread = {}
        if self.levels and split != "validation":
            past = past or super().__call__(model, "validation")
            errors = past.sums["quantiles"]["errors"].items()
            self._spread = {name: error_quantiles(of, self.levels) for name, of in errors}
        return super().__call__(model, split, past=past)

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels of the quantiles that are judged."""
        return self.task.config.quantiles

    @property
    def _measured(self) -> bool:
        return bool(self.task.config.measured)

    def _network_weight(self, model: nnx.Module) -> NetworkWeight:
        judge = WeightJudge(self.task, self.data, self.mesh, batch_size=self.batch_size)
        rows = judge(model, "validation").rows
        told = {"before": self.task.model_weight, "block": self.data.horizon}
        return NetworkWeight.of(rows["agreed"], rows["spread"], **told)

    def outputs(self, model: Any, batch: Mapping[str, Any]) -> Tree:
        """The forecast; of a weight that is measured, that of the network alone."""
        if self._measured:
            return self.task.network_forecast(model, batch)
        return self.task.predict(model, batch)

    def answers(self, batch: Batch, outputs: Tree) -> Tree:
        """By rule the `scaled` forecasts and those in the `units` of the data, and what came."""
        if self._weight:
            outputs = self.task.weighed(outputs, batch, self._weight.weight)
        rules = {"model": self.task.point(outputs), **self.task.baselines(batch)}
        scaled = {name: np.asarray(values) for name, values in rules.items()}
        index = batch["index"]
        real = truth(self.data, index)
        quantiles = {name: around(scaled[name], of) for name, of in self._spread.items()}
        quantiles = {"model": outputs, **quantiles} if self.levels else {}
        return {
            "outputs": outputs,
            "quantiles": {
                name: {"scaled": x, "units": per_level(x, lambda x: self.data.in_units(x, index))}
                for name, x in quantiles.items()
            },
            "scaled": scaled,
            "units": {name: self.data.in_units(x, index) for name, x in scaled.items()},
            "real": real,
            "mask": batch["target_mask"] & np.isfinite(real),
        }

    def sums(self, batch: Batch, answers: Tree) -> Tree:
        """Errors by rule and lead time, `scaled` and in `units`, the latter by series too."""
        real, mask, units = answers["real"], answers["mask"], answers["units"].items()
        target, known, series = batch["target"], batch["target_mask"], self.data.series
        pooled = {name: _errors_by_series(values, real, mask, series) for name, values in units}
        quantiles = {"quantiles": self._quantile_sums(batch, answers)} if self.levels else {}
        return {
            **quantiles,
            "scaled": {
                name: LeadTimeErrors.of(values, target, mask=known)
                for name, values in answers["scaled"].items()
            },
            "units": {name: _errors(values, real, mask) for name, values in units},
            "series": {own: {name: of[own] for name, of in pooled.items()} for own in series},
        }

    def _quantile_sums(self, batch: Batch, answers: Tree) -> Tree:
        """Scores of the quantiles in both units, of each series, and how large errors were."""
        target, known, quantiles = batch["target"], batch["target_mask"], answers["quantiles"]
        real, mask = np.where(answers["mask"], answers["real"], 0.0), answers["mask"]
        told = {"quantiles": self.levels}

        def of_series(values: np.ndarray, at: tuple[Any, ...]) -> QuantileErrors:
            part = per_level(values, lambda x: x[at])
            return QuantileErrors.of(part, real[at], mask=mask[at], **told).pooled()

        sums = {
            "scaled": {
                name: QuantileErrors.of(np.asarray(x["scaled"], float), target, mask=known, **told)
                for name, x in quantiles.items()
            },
            "units": {
                name: QuantileErrors.of(x["units"], real, mask=mask, **told)
                for name, x in quantiles.items()
            },
            "series": {
                series: {k: of_series(quantiles[k]["units"], at) for k in _DRAWN if k in quantiles}
                for series, at in self.data.series.items()
            },
        }
        if self._spread:
            return sums
        rules = {name: x for name, x in answers["scaled"].items() if name != "model"}
        return {**sums, "errors": {k: count_errors(target - x, known) for k, x in rules.items()}}

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """Sums of the errors of each window, see the class."""
        mask = batch["target_mask"]
        axes = tuple(range(1, mask.ndim))

        def summed(values: np.ndarray) -> Tree:
            errors = np.where(mask, values - batch["target"], 0.0)
            return {
                "absolute": np.abs(errors).sum(axes, dtype=np.float64),
                "squared": (errors**2).sum(axes, dtype=np.float64),
            }

        errors = {name: summed(values) for name, values in answers["scaled"].items()}
        return {"index": batch["index"], "targets": mask.sum(axes), "errors": errors}

    def shows(self, count: int) -> Mapping[str, Shows]:
        """Of the last windows, forecasts of the cell in the middle of the first series."""
        last = max(_MOST_ROWS, 4 * self.data.horizon)

        def lines(batch: Batch, answers: Tree) -> Tree:
            units = answers["units"].items()
            lines = {name: self._middles(values) for name, values in units if name in _DRAWN}
            quantiles = answers["quantiles"]
            own = per_level(quantiles["model"]["units"], self._middles) if quantiles else ()
            return {"index": batch["index"], "lines": lines, "bands": own}

        return {"lines": Shows(range(max(0, count - last), count), lines)}

    def _middles(self, values: np.ndarray) -> np.ndarray:
        """The cell in the middle of each drawn series [n, series, time]."""
        names = itertools.islice(self.data.series, _MOST_SERIES)
        return np.stack([self.shown(name, values) for name in names], axis=1)

    def shown(self, name: str, values: Values) -> Values:
        """The cell of a series that is drawn and explained, the middle one.

        Of arrays [n, time, *space, channel] it is [n, time].
        """
        part = values[self.data.series[name]]
        return part[(slice(None), slice(None), *(size // 2 for size in part.shape[2:]))]

    @property
    def units(self) -> Mapping[str, str]:
        """The unit of each series."""
        return dict.fromkeys(self.data.series, self.data.unit)

    def header(self) -> dict[str, Any]:
        """Steps of the context and of the horizon, and what the model is weighed against."""
        steps = {"context": self.data.context, "horizon": self.data.horizon}
        weight = self._weight.weight if self._weight else self.task.model_weight
        if weight == 1 and not self._weight:
            return steps
        told = {"model_weight": weight, "weighed_against": self.task.weighed_against}
        if self._weight:
            told |= {"weight_before": self._weight.before, "weight_interval": self._weight.interval}
        return steps | told

    def validation(self, judged: Judged) -> dict[str, float]:
        """MAE and RMSE over all lead times in scaled units, and the skill against persistence.

        Of quantiles the CRPS comes first.
        """
        pooled = {name: errors.pooled() for name, errors in judged.sums["scaled"].items()}
        mae, rmse = pooled["model"].mae(), pooled["model"].rmse()
        gained = skill(mae, pooled["persistence"].mae())
        found = {"mae": float(mae[0]), "rmse": float(rmse[0]), "skill": float(gained[0])}
        if self._weight:
            found["model_weight"] = self._weight.weight
        if not self.levels:
            return found
        return {
            "crps": float(judged.sums["quantiles"]["scaled"]["model"].pooled().crps()[0]),
            **found,
        }

    def losses(self, judged: Judged) -> Losses | None:
        """Absolute errors in scaled units; windows closer than a horizon share targets."""
        targets = judged.rows["targets"]
        sums = {rule: of["absolute"] for rule, of in judged.rows["errors"].items()}
        # What rounding alone makes is no error.
        errors = {rule: np.where(of > _ROUNDED * targets, of, 0.0) for rule, of in sums.items()}
        return Losses("MAE in scaled units", errors, targets, block=self.data.horizon)

    def report(self, judged: Judged) -> dict[str, Any]:
        """Errors per lead time and over all, in scaled units, and of each series in its own.

        Under `original` they are added up in the units of the data, too, where that is one unit, or
        an untold one of like series.
        """
        units, series = judged.sums["units"], judged.sums["series"]
        known = self.units
        each = {name: {"unit": known[name], **_summed(of)} for name, of in series.items()}
        alike = set(known.values()) != {UNTOLD_UNIT} or _alike(each)
        original = {"original": {"unit": self.data.unit, **_metrics(units)}}
        original = original if len(set(known.values())) == 1 and alike else {}
        return {
            "windows": judged.count,
            "targets": int(units["model"].count.sum()),
            "scaled": {"unit": _SCALED} | _metrics(judged.sums["scaled"]),
            **original,
            "series": {
                name: {rule: float(errors.mae()[0]) for rule, errors in of.items()}
                for name, of in series.items()
            },
            "series_errors": each,
            **({"quantiles": self._of_quantiles(judged, bool(original))} if self.levels else {}),
        }

    def _of_quantiles(self, judged: Judged, original: bool) -> dict[str, Any]:
        levels, sums = self.levels, judged.sums["quantiles"]
        own = {"unit": self.data.unit, **quantile_scores(sums["units"], levels)}
        return {
            "levels": list(levels),
            "point": self.task.point_name,
            "scaled": {"unit": _SCALED, **quantile_scores(sums["scaled"], levels, scaled=True)},
            **({"original": own} if original else {}),
            "series": {
                name: {"unit": self.units[name], **series_scores(of, levels)}
                for name, of in sums["series"].items()
            },
        }

    def markdown(self, report: Mapping[str, Any]) -> list[str]:
        """The model beside persistence per lead time, then all rules, then series by series."""
        test, data = report["test"], report["data"]
        span, scaled = data["splits"]["test"], test["scaled"]
        dropped = data.get("companies_dropped", {})
        unit = "original" if _added_up(test) else "scaled"
        own = test[unit] if unit == "original" else None
        return [
            f"{report['context']} rows in, {report['horizon']} rows out. "
            f"Test: {test['windows']} windows, targets from {span['first_target'][:16]} to "
            f"{span['last_target'][:16]}, {len(test['series'])} series.",
            *([""] if dropped else []),
            *(f"- {company} dropped: {why}" for company, why in dropped.items()),
            "",
            *_weight_lines(report),
            *self.before_errors(test),
            *_error_table(scaled, "scaled"),
            "",
            *_rule_table(scaled),
            *([*_error_table(own, "original"), ""] if own else []),
            *(_rules_by_lead(own) if own else []),
            *(quantile_lines(test["quantiles"], unit) if "quantiles" in test else []),
            *_series_table(test["series_errors"]),
        ]

    def before_errors(self, test: Mapping[str, Any]) -> list[str]:
        """Lines before the tables of errors, for judges that have more to tell."""
        return []

    def figures(self, judged: Judged, report: Mapping[str, Any]) -> dict[str, Figure]:
        """Forecasts and truth, and the error by lead time."""
        return {"errors": error_figure(report["test"]), "forecasts": self._forecasts(judged)}

    @property
    def explained_level(self) -> float | None:
        """Level of the quantile that is explained, None for the point forecast."""
        return None

    def question(self, asked: Asked) -> Question:
        """The forecast of a series at a lead time, by default of the first one at the last."""
        task, example, level = self.task, asked.example, self.explained_level
        series = self.data.series
        name = asked.choice(list(series), next(iter(series)))
        lead = asked.lead_of(len(example["target"]), "a lead time") or len(example["target"])

        def forecast(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
            predicted = task.predict(model, inputs)
            if level is None:
                return task.point(predicted)
            return predicted[..., task.config.quantiles.index(level)]

        def answer(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
            return self.shown(name, forecast(model, inputs))[:, lead - 1]

        def quality(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
            axes = tuple(range(1, inputs["target"].ndim))
            error = inputs["target"] - forecast(model, inputs)
            over, under = (1, 1) if level is None else (level, 1 - level)
            error = jnp.maximum(over * error, -under * error)
            real = inputs["target_mask"].astype(jnp.float32)
            return -jnp.sum(error * real, axes) / jnp.maximum(jnp.sum(real, axes), 1)

        what = "forecast" if level is None else f"{level:g} quantile"
        when = time_text(self.data.times[int(example["index"]) + lead - 1])
        others = [key for key in task.inputs if key != "context"]
        return asked.question(
            asked.field(example["context"]),
            answer,
            name="context",
            fixed={key: example[key] for key in others},
            quality=quality,
            judged=(*others, "target", "target_mask"),
            masked=asked.unknown,
            title=f"{asked.name}: {what} of {name} at lead {lead}, {when}",
            unit="scaled units",
            reads="last" if task.config.time == "last" else "mean",
            loss=f"{'mean absolute error' if level is None else 'pinball loss'}, scaled units",
        )

    def _forecasts(self, judged: Judged) -> Figure:
        """One panel a series: the truth, and a forecast from every origin one horizon apart."""
        data, shown = self.data, judged.shown["lines"]
        series = list(itertools.islice(data.series, _MOST_SERIES))
        rows, columns = -(-len(series) // 3), min(3, len(series))
        figure = plotting.new_figure(rows, columns, size=(4.2 * columns, 2.6 * rows + 0.4))
        index, step = shown["index"], data.horizon
        spans = [data.times[row : row + step] for row in index[::step]]
        span = slice(max(0, int(index[0]) - data.context), int(index[-1]) + data.horizon)
        # By blocks of rows, of which a cell is kept: the field of all of them may be large.
        blocks = [
            slice(row, min(row + _BLOCK, span.stop)) for row in range(span.start, span.stop, _BLOCK)
        ]
        truth = np.concatenate([self._middles(data.values(at)[None]) for at in blocks], axis=-1)
        for number, name in enumerate(series):
            # Of origins one horizon apart, so that the lines do not overlap.
            lines = {
                rule: list(zip(spans, values[::step, number], strict=True))
                for rule, values in shown["lines"].items()
            }
            plotting.forecast_against_truth(
                data.times[span],
                truth[0, number],
                lines,
                ax=figure.axes[number],
                bands=[*zip(spans, shown["bands"][::step, number], strict=True)]
                if self.levels
                else (),
                levels=self.levels,
                title=name,
                unit=self.units[name],
            )
        for empty in figure.axes[len(series) :]:
            empty.set_axis_off()
        handles, labels = figure.axes[0].get_legend_handles_labels()
        beside: dict[str, Any] = {"ncols": min(len(labels), 3 * columns), "frameon": False}
        figure.legend(handles, labels, loc="outside upper center", **beside)
        return figure


def _weight_lines(report: Mapping[str, Any]) -> list[str]:
    """How far the forecast is the model's, where it is not all of it."""
    if (weight := report.get("model_weight")) is None:
        return []
    rule, told = report["weighed_against"], ""
    if (before := report.get("weight_before")) is not None:
        interval = report["weight_interval"]
        seen = "has too few windows" if interval is None else "puts it from {:.3g} to {:.3g}"
        seen = f"of the trained network the validation split {seen.format(*interval or ())}."
        told = f" Rolling origins before the test span gave a linear map {before:.3g}; {seen}"
        if "data.combination" in report["chosen"]:
            rule, told = "a combination of rules and linear maps", f" O{seen[1:]}"
    own = f"The forecast is {weight:.3g} of the model's and {1 - weight:.3g} of {rule}."
    return [own + told, ""]


def _errors(values: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> LeadTimeErrors:
    return LeadTimeErrors.of(values, np.where(mask, truth, 0.0), mask=mask)


def _errors_by_series(
    values: np.ndarray, truth: np.ndarray, mask: np.ndarray, series: Mapping[str, Any]
) -> dict[str, LeadTimeErrors]:
    """Those of each series over all lead times: cells are summed once for all of them."""
    error = np.where(mask, values.astype(np.float64) - truth, 0.0)
    sums = [of.sum((0, 1), keepdims=True) for of in (np.abs(error), np.square(error), mask)]
    return {
        name: LeadTimeErrors(*(of[at].sum()[None] for of in sums)) for name, at in series.items()
    }


def _metrics(errors: Mapping[str, LeadTimeErrors]) -> dict[str, Any]:
    """MAE, MSE and RMSE by rule, each per lead time and over all, then the skill of the model."""
    over_all = _summed({name: error.pooled() for name, error in errors.items()})
    return {
        name: {
            metric: {"per_lead": [float(x) for x in values], "all": over_all[name][metric]}
            for metric, values in of.items()
        }
        for name, of in _measured(errors).items()
    }


def _summed(errors: Mapping[str, LeadTimeErrors]) -> dict[str, Any]:
    """The same over all lead times, of errors that are [1]."""
    return {
        name: {metric: float(values[0]) for metric, values in of.items()}
        for name, of in _measured(errors).items()
    }


def _measured(errors: Mapping[str, LeadTimeErrors]) -> dict[str, dict[str, np.ndarray]]:
    """Each metric [lead] by rule, then the skill of the model in it."""
    found = {
        name: {metric: np.asarray(getattr(of, metric)()) for metric in _METRICS}
        for name, of in errors.items()
    }
    rules = found["model"], found["persistence"]
    skills = {m: np.asarray(skill(*(of[m] for of in rules))) for m in _METRICS}
    return {**found, "skill": skills}


def _alike(series: Mapping[str, Any]) -> bool:
    """Whether the errors of persistence are about as large in every series."""
    sizes = [of["persistence"]["rmse"] for of in series.values()]
    sizes = [size for size in sizes if size and np.isfinite(size)]
    return not sizes or max(sizes) <= _MOST_RATIO * min(sizes)


def _added_up(test: Mapping[str, Any]) -> bool:
    """Whether errors over all series are told in the units of the data."""
    return "original" in test and _alike(test["series_errors"])


def _series_table(series: Mapping[str, Any]) -> list[str]:
    columns = {f"{m.upper()} {who}": (who, m) for m in _METRICS for who in _DRAWN}
    columns["skill (MAE)"] = ("skill", "mae")
    rows = (
        [name, of["unit"], *(of[who][metric] for who, metric in columns.values())]
        for name, of in itertools.islice(series.items(), _MOST_TOLD)
    )
    more = len(series) - _MOST_TOLD
    left = [f"{more} more series stand in report.json under series_errors.", ""]
    table = markdown_table(["series", "unit", *columns], rows, texts=2)
    return [*table, "", *(left if more > 0 else [])]


def _error_table(errors: Mapping[str, Any], name: str) -> list[str]:
    """Errors per lead time of model and persistence, then the skill, over all leads last."""
    columns = [errors[who][m] for m in _METRICS for who in ("model", "persistence", "skill")]
    names = ([f"{m} model", f"{m} persistence", "skill"] for m in map(str.upper, _METRICS))
    heads = itertools.chain.from_iterable(names)
    return [
        f"Errors in {name} units ({errors['unit']}); skill = 1 - error / error of persistence.",
        "",
        *markdown_table(["lead (rows)", *heads], by_lead(columns)),
    ]


def by_lead(columns: Sequence[Mapping[str, Any]]) -> Iterator[list[Any]]:
    """Rows of a table by lead time, of a long horizon every so many, then over all."""
    leads = len(columns[0]["per_lead"])
    step = -(-leads // _MOST_LEADS)
    for lead in range(step - 1, leads, step):
        yield [lead + 1, *(column["per_lead"][lead] for column in columns)]
    yield ["all", *(column["all"] for column in columns)]


def _rules(errors: Mapping[str, Any]) -> list[str]:
    """Names of the rules, where there are more than model and persistence, else none."""
    names = [name for name in errors if name not in ("unit", "skill")]
    return names if len(names) > 2 else []


def _rule_table(errors: Mapping[str, Any]) -> list[str]:
    rows = [[name, *(errors[name][m]["all"] for m in _METRICS)] for name in _rules(errors)]
    first, *others = map(str.upper, _METRICS)
    heads = ["forecast", f"{first} ({errors['unit']})", *others]
    return [*markdown_table(heads, rows), ""] if rows else []


def _rules_by_lead(errors: Mapping[str, Any]) -> list[str]:
    names = _rules(errors)
    if not names:
        return []
    table = markdown_table(["lead", *names], by_lead([errors[name]["rmse"] for name in names]))
    return [f"RMSE ({errors['unit']}) by lead time (rows):", "", *table, ""]


def error_figure(test: Mapping[str, Any]) -> Figure:
    """MAE of every rule by lead time, in scaled units, and in the data's where they add up."""
    units = {"scaled": "scaled units"}
    if _added_up(test):
        units["original"] = test["original"]["unit"]
    figure = plotting.new_figure(1, len(units), size=(4.8 * len(units), 4))
    for ax, name in zip(figure.axes, units, strict=True):
        rules = test[name].keys() - {"unit", "skill"}
        errors = {rule: of["mae"]["per_lead"] for rule, of in test[name].items() if rule in rules}
        plotting.error_by_lead_time(errors, ax=ax, metric="MAE", unit=units[name])
    return figure
