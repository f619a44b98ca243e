"""The report of a forecast as Markdown, and its plots."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stpatch_jax import plotting
from stpatch_jax.data import ForecastData
from stpatch_jax.runs.judging.registry import SplitForecasts
from stpatch_jax.recipes.risk.judging import SplitQuantiles
from stpatch_jax.runs.judging._reporting_alerts import alert_table
from stpatch_jax.runs.judging._reporting_maps import map_figure
from stpatch_jax.runs.judging._reporting_quantiles import quantile_figure, quantile_table

_MOST_SERIES = 9
_MOST_ROWS = 100
_MOST_LEADS = 24


def summary(report: Mapping[str, Any]) -> list[str]:
    """The lines after the title: the model beside persistence, per lead time, with units."""
    test, data = report["test"], report["data"]
    span = data["splits"]["test"]
    return [
        f"{report['context']} rows in, {report['horizon']} rows out. "
        f"Test: {test['windows']} windows, targets from {span['first_target'][:16]} to "
        f"{span['last_target'][:16]}, {len(test['series'])} series.",
        *_dropped(data),
        "",
        *quantile_table(test),
        *alert_table(test),
        *_error_table(test["original"], "original"),
        "",
        *_error_table(test["scaled"], "scaled"),
        "",
        *_naive_table(test["scaled"]),
        *_naive_by_lead(test["original"]),
        *_series_table(test["series"], test["original"]["unit"]),
        "",
    ]


def _dropped(data: Mapping[str, Any]) -> list[str]:
    """What was left out of the data on the way, if anything."""
    dropped = data.get("companies_dropped", {})
    notes = [f"{company} dropped: {why}" for company, why in dropped.items()]
    return ["", *(f"- {note}" for note in notes)] if notes else []


def _error_table(errors: Mapping[str, Any], name: str) -> list[str]:
    """MAE and RMSE per lead time of model and persistence, then the skill, over all leads last.

    Of a long horizon every so many lead times; `report.json` has them all.
    """
    leads = [str(lead + 1) for lead in range(len(errors["model"]["mae"]["per_lead"]))]
    rows = [
        (
            metric.upper(),
            *(_cells(errors[who][metric]) for who in ("model", "persistence", "skill")),
        )
        for metric in ("mae", "rmse")
    ]
    lines = [
        f"Errors in {name} units ({errors['unit']}); skill = 1 - error / error of persistence.",
        "",
        "| lead (rows) | "
        + " | ".join(f"{m} model | {m} persistence | skill" for m, *_ in rows)
        + " |",
        "|" + "---:|" * (1 + 3 * len(rows)),
    ]
    for at in _shown(len(leads)):
        cells = [column[at] for _, *columns in rows for column in columns]
        lines.append("| " + " | ".join([[*leads, "all"][at], *cells]) + " |")
    return lines


def _shown(leads: int) -> list[int]:
    """Numbers of the lead times in a table, of a long horizon every so many; -1 stands for all."""
    step = -(-leads // _MOST_LEADS)
    return [*range(step - 1, leads, step), -1]


def _cells(measure: Mapping[str, Any]) -> list[str]:
    return [_number(value) for value in (*measure["per_lead"], measure["all"])]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _naive_table(errors: Mapping[str, Any]) -> list[str]:
    """All forecasts over all lead times, where there are more than model and persistence."""
    names = [name for name in errors if isinstance(errors[name], Mapping) and name != "skill"]
    if len(names) < 3:
        return []
    lines = [f"| forecast | MAE ({errors['unit']}) | RMSE |", "|---|---:|---:|"]
    rows = [(name, *(errors[name][metric]["all"] for metric in ("mae", "rmse"))) for name in names]
    return [*lines, *(f"| {name} | {_number(a)} | {_number(b)} |" for name, a, b in rows), ""]


def _naive_by_lead(errors: Mapping[str, Any]) -> list[str]:
    """RMSE of all forecasts per lead time, where there are more than model and persistence."""
    names = [name for name in errors if isinstance(errors[name], Mapping) and name != "skill"]
    if len(names) < 3:
        return []
    columns = [_cells(errors[name]["rmse"]) for name in names]
    lines = [
        f"RMSE ({errors['unit']}) by lead time (rows):",
        "",
        f"| lead | {' | '.join(names)} |",
        "|" + "---:|" * (1 + len(names)),
    ]
    for at in _shown(len(columns[0]) - 1):
        lead = "all" if at < 0 else str(at + 1)
        lines.append(f"| {' | '.join([lead, *(column[at] for column in columns)])} |")
    return [*lines, ""]


def _series_table(series: Mapping[str, Mapping[str, float | None]], unit: str) -> list[str]:
    """MAE of every series over all lead times, in its own unit."""
    lines = [f"| series | MAE model ({unit}) | MAE persistence |", "|---|---:|---:|"]
    return lines + [
        f"| {name} | {_number(mae['model'])} | {_number(mae['persistence'])} |"
        for name, mae in series.items()
    ]


def figures(
    data: ForecastData, split: SplitForecasts, report: Mapping[str, Any]
) -> dict[str, Figure]:
    """The plots by name: forecasts (or a low quantile) and truth, and the error by lead time."""
    errors = {"errors": _error_figure(report["test"])}
    if len(split.target.shape) == 5:
        errors["maps"] = map_figure(data, split)
    if isinstance(split, SplitQuantiles):
        return {"quantile": quantile_figure(data, split), **errors}
    return {"forecasts": _forecast_figure(data, split), **errors}


def _forecast_figure(data: ForecastData, split: SplitForecasts) -> Figure:
    """One panel a series: the truth, and a forecast from every origin one horizon apart.

    Of a series with many cells, the one in their middle.
    """
    shown = dict(itertools.islice(data.series.items(), _MOST_SERIES))
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = plotting.new_figure(rows, columns, size=(4.2 * columns, 2.6 * rows + 0.4))
    index = split.index[-max(_MOST_ROWS, 4 * data.horizon) :]
    names = [name for name in ("model", "persistence") if name in split.forecasts]
    forecasts = {name: data.in_units(split.forecasts[name][-len(index) :], index) for name in names}
    first = max(0, int(index[0]) - data.context)
    span = slice(first, int(index[-1]) + data.horizon)
    truth = data.values(span)[None]
    for number, (series, at) in enumerate(shown.items()):
        lines = {
            name: list(_lines(data, index, _middle(values[at])))
            for name, values in forecasts.items()
        }
        plotting.forecast_against_truth(
            data.times[span],
            _middle(truth[at])[0],
            lines,
            ax=figure.axes[number],
            title=series,
            unit=data.unit if number % columns == 0 else "",
        )
    for empty in figure.axes[len(shown) :]:
        empty.set_axis_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def _middle(values: np.ndarray) -> np.ndarray:
    """The middle cell of arrays [n, time, *space, channel]: [n, time]."""
    return values[(slice(None), slice(None), *(size // 2 for size in values.shape[2:]))]


def _lines(
    data: ForecastData, index: np.ndarray, values: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Forecast lines from origins one horizon apart, so that they do not overlap."""
    step = data.horizon
    for row, forecast in zip(index[::step], values[::step], strict=True):
        yield data.times[row : row + step], forecast


def _error_figure(test: Mapping[str, Any]) -> Figure:
    """MAE of every forecast by lead time, in the data's units and in scaled ones."""
    figure = plotting.new_figure(1, 2, size=(9, 3.6))
    units = {"original": test["original"]["unit"], "scaled": "scaled units"}
    for ax, name in zip(figure.axes, units, strict=True):
        found = {who: of["mae"] for who, of in test[name].items() if isinstance(of, Mapping)}
        errors = {who: mae["per_lead"] for who, mae in found.items() if who != "skill"}
        plotting.error_by_lead_time(errors, ax=ax, metric="MAE", unit=units[name])
    return figure
