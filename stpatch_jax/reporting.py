"""What a run leaves for people: the report as Markdown, and its plots."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stpatch_jax import plotting
from stpatch_jax.data import PanelData
from stpatch_jax.evaluation import SplitForecasts
from stpatch_jax.rundir import RunDirectory

_MOST_COMPANIES = 9


def summary(report: Mapping[str, Any]) -> str:
    """The report as Markdown: the model beside the naive forecast, per lead time, with units."""
    test, data = report["test"], report["data"]
    span = data["splits"]["test"]
    lines = [
        f"# {report['recipe']}: {report['context']} rows in, {report['horizon']} rows out",
        "",
        f"Step {report['step']}, {report['parameters']:,} parameters. Test: {test['windows']} "
        f"windows, targets from {span['first_target'][:10]} to {span['last_target'][:10]}, "
        f"{len(test['companies'])} companies.",
        *_dropped(data),
        "",
        *_error_table(test["price"], "price"),
        "",
        *_error_table(test["scaled"], "scaled"),
        "",
        *_company_table(test["companies"], test["price"]["unit"]),
        "",
    ]
    return "\n".join(lines)


def _dropped(data: Mapping[str, Any]) -> list[str]:
    """What was left out of the data on the way, if anything."""
    notes = [f"{company} dropped: {why}" for company, why in data["companies_dropped"].items()]
    return ["", *(f"- {note}" for note in notes)] if notes else []


def _error_table(errors: Mapping[str, Any], name: str) -> list[str]:
    """MAE and RMSE per lead time of model and persistence, then the skill, over all leads last."""
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
    for at, lead in enumerate([*leads, "all"]):
        cells = [column[at] for _, *columns in rows for column in columns]
        lines.append("| " + " | ".join([lead, *cells]) + " |")
    return lines


def _cells(measure: Mapping[str, Any]) -> list[str]:
    return [_number(value) for value in (*measure["per_lead"], measure["all"])]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _company_table(companies: Mapping[str, Mapping[str, float | None]], unit: str) -> list[str]:
    """MAE of every company over all lead times, in its own prices."""
    lines = [f"| company | MAE model ({unit}) | MAE persistence |", "|---|---:|---:|"]
    return lines + [
        f"| {company} | {_number(mae['model'])} | {_number(mae['persistence'])} |"
        for company, mae in companies.items()
    ]


def draw_plots(
    directory: RunDirectory, data: PanelData, split: SplitForecasts, report: Mapping[str, Any]
) -> None:
    """Writes `plots/forecasts.png`, `plots/errors.png` and `plots/learning.png`."""
    directory.plots.mkdir(exist_ok=True)
    metrics = [json.loads(line) for line in directory.metrics_file.read_text().splitlines()]
    figures = {
        "forecasts": _forecast_figure(data, split),
        "errors": _error_figure(report["test"]),
        "learning": plotting.new_figure(1, 1, size=(7, 4)),
    }
    plotting.learning_curve(metrics, ax=figures["learning"].axes[0])
    for name, figure in figures.items():
        part = directory.plots / f"{name}.part.png"
        figure.savefig(part, dpi=120)
        part.replace(directory.plots / f"{name}.png")


def _forecast_figure(data: PanelData, split: SplitForecasts) -> Figure:
    """One panel a company: the truth, and a forecast from every origin one horizon apart."""
    shown = data.companies[:_MOST_COMPANIES]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = plotting.new_figure(rows, columns, size=(4.2 * columns, 2.6 * rows + 0.4))
    horizon = data.config.horizon
    prices = {name: data.to_price(values, split.index) for name, values in split.forecasts.items()}
    first = max(0, int(split.index[0]) - data.config.context)
    for at, company in enumerate(shown):
        lines = {
            name: list(_lines(data, split.index, values[:, :, at, 0], horizon))
            for name, values in prices.items()
        }
        plotting.forecast_against_truth(
            data.times[first:],
            data.prices[first:, at, 0],
            lines,
            ax=figure.axes[at],
            title=company,
            unit=data.unit if at % columns == 0 else "",
        )
    for empty in figure.axes[len(shown) :]:
        empty.set_axis_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def _lines(
    data: PanelData, index: np.ndarray, values: np.ndarray, horizon: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Forecast lines from origins one horizon apart, so that they do not overlap."""
    for row, forecast in zip(index[::horizon], values[::horizon], strict=True):
        yield data.times[row : row + horizon], forecast


def _error_figure(test: Mapping[str, Any]) -> Figure:
    """MAE by lead time, in prices and in scaled units."""
    figure = plotting.new_figure(1, 2, size=(9, 3.6))
    units = {"price": test["price"]["unit"], "scaled": "scaled units"}
    for ax, name in zip(figure.axes, units, strict=True):
        errors = {who: test[name][who]["mae"]["per_lead"] for who in ("model", "persistence")}
        plotting.error_by_lead_time(errors, ax=ax, metric="MAE", unit=units[name])
    return figure
