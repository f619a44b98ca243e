"""What customers will buy, beside what they bought before and what they really bought."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stpatch_jax import plotting
from stpatch_jax.data import Batch
from stpatch_jax.recipes.customers.data import Customers
from stpatch_jax.runs.judging import (
    Judge,
    Judged,
    Losses,
    Tree,
    cell,
    judges,
    losses_of,
    markdown_table,
)
from stpatch_jax.tasks import Forecast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TARGETS = ("purchases", "spending")
_TIMES = ("before", "forecast", "real")
_TITLES = {
    "return": "Will come back most often",
    "stop": "Bought at least three times again, and will fall back most",
    "spend": "Will spend most",
}
_LISTED = 10
_MOST_BEFORE = 7
# Who bought less often than this since the first time has not stopped: he never began.
_REGULAR = 3


@dataclasses.dataclass(frozen=True, eq=False)
class CustomerForecasts:
    """The forecasts of some customers, in purchases and in money.

    Attributes:
        by_rule: By name (`model` and the naive rules), each [customer, 2].
        real: What they really did [customer, 2].
        before: Purchases after the first one, and spending at them, before the cut [customer, 2].
    """

    by_rule: Mapping[str, np.ndarray]
    real: np.ndarray
    before: np.ndarray
    names: np.ndarray

    def errors(self, rule: str) -> dict[str, dict[str, float]]:
        """RMSE, MAE and total of a rule's forecasts, by target."""
        return {
            target: _errors(self.by_rule[rule][:, at], self.real[:, at])
            for at, target in enumerate(TARGETS)
        }

    def calibration(self) -> list[dict[str, Any]]:
        """Mean purchases, forecast and real, of those who came back 0, 1, 2, ... times before."""
        repeats = np.minimum(self.before[:, 0], _MOST_BEFORE)
        purchases = {"real": self.real, **self.by_rule}
        return [
            {
                "before": int(count),
                "customers": int((repeats == count).sum()),
                **{name: float(x[repeats == count, 0].mean()) for name, x in purchases.items()},
            }
            for count in np.unique(repeats)
        ]

    def lists(self) -> dict[str, list[dict[str, Any]]]:
        """Who will buy most often, who of the regular will fall back most, who will spend most."""
        model, regular = self.by_rule["model"], self.before[:, 0] >= _REGULAR
        left = (model[:, 0] + 1) / (self.before[:, 0] + 1)
        least_first = {
            "return": -model[:, 0],
            "stop": np.where(regular, left, np.inf),
            "spend": -model[:, 1],
        }
        most = {"stop": min(_LISTED, int(regular.sum()))}
        return {
            name: [
                self._customer(at)
                for at in np.argsort(values, kind="stable")[: most.get(name, _LISTED)]
            ]
            for name, values in least_first.items()
        }

    def _customer(self, at: int) -> dict[str, Any]:
        rows = self.before[at], self.by_rule["model"][at], self.real[at]
        return {
            "customer": str(self.names[at]),
            **{
                time: dict(zip(TARGETS, row.tolist(), strict=True))
                for time, row in zip(_TIMES, rows, strict=True)
            },
        }


@judges(Forecast, Customers)
class CustomersJudge(Judge):
    """Judges forecasts of what customers buy, never less than nothing.

    Its rows are the scaled forecasts of each customer, by rule.
    """

    task: Forecast
    data: Customers

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """The forecasts of each customer, see the class."""
        rules = {"model": self.task.point(answers), **self.task.baselines(batch)}
        return {name: np.asarray(values)[:, 0] for name, values in rules.items()}

    def forecasts(self, judged: Judged) -> CustomerForecasts:
        """The forecasts of a split in purchases and money, beside what came."""
        examples = self.data.splits[judged.split]
        return CustomerForecasts(
            by_rule={
                name: np.maximum(values, 0.0) * examples.scale
                for name, values in judged.rows.items()
            },
            real=examples.real,
            before=examples.before,
            names=np.asarray(self.data.names(judged.split)["customer"]),
        )

    def validation(self, judged: Judged) -> dict[str, float]:
        """RMSE and MAE of the number of purchases of a customer."""
        errors = self.forecasts(judged).errors("model")["purchases"]
        return {"rmse": errors["rmse"], "mae": errors["mae"]}

    def losses(self, judged: Judged) -> Losses | None:
        """Squared errors of the purchases of each customer."""
        forecasts = self.forecasts(judged)
        errors = {name: of[:, 0] - forecasts.real[:, 0] for name, of in forecasts.by_rule.items()}
        return losses_of("MSE of purchases", {name: x**2 for name, x in errors.items()})

    def report(self, judged: Judged) -> dict[str, Any]:
        """Errors and totals by rule, calibration, and lists of customers."""
        return customer_report(self.forecasts(judged))

    def markdown(self, report: Mapping[str, Any]) -> list[str]:
        """Errors and totals, calibration, and who will do what."""
        return customer_lines(report)

    def figures(self, judged: Judged, report: Mapping[str, Any]) -> dict[str, Figure]:
        """Mean purchases by how often customers came back before."""
        return {"calibration": calibration_figure(report["test"]["calibration"])}


def customer_report(forecasts: CustomerForecasts) -> dict[str, Any]:
    """Errors and totals by rule, calibration, and lists of customers; JSON-able."""
    return {
        "customers": len(forecasts.names),
        "real": dict(zip(TARGETS, forecasts.real.sum(axis=0).tolist(), strict=True)),
        "scaled": {rule: forecasts.errors(rule) for rule in forecasts.by_rule},
        "calibration": forecasts.calibration(),
        "lists": forecasts.lists(),
    }


def _errors(forecast: np.ndarray, real: np.ndarray) -> dict[str, float]:
    error = forecast - real
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "total": float(forecast.sum()),
    }


def customer_lines(report: Mapping[str, Any]) -> list[str]:
    """The report as Markdown, after its first lines."""
    test, data = report["test"], report["data"]
    span = data["splits"]["test"]
    return [
        f"{test['customers']:,} customers, purchases and spending from {span['first_target']} to "
        f"{span['last_target']}; purchases of a customer on one day count as one.",
        "",
        f"Of {data['purchases']:,} purchases {data['amounts_missing']:,} had no amount and "
        f"{data['amounts_clipped']:,} one above {data['amount_limit']:.2f}, at which amounts are "
        "clipped in a customer's mean.",
        "",
        *_error_table(test),
        "",
        *_calibration_table(test["calibration"]),
        *(
            line
            for name, title in _TITLES.items()
            for line in ("", f"{title}:", "", *_customer_table(test["lists"][name]))
        ),
        "",
    ]


def _error_table(test: Mapping[str, Any]) -> list[str]:
    heads = [f"{target} {head}" for target in TARGETS for head in ("RMSE", "MAE", "total")]
    rows: list[list[Any]] = []
    for name, of in test["scaled"].items():
        rows.append([name])
        for errors in of.values():
            rows[-1] += [errors["rmse"], errors["mae"], cell(errors["total"], form=",.0f")]
    real = [x for target in TARGETS for x in (None, None, cell(test["real"][target], form=",.0f"))]
    return markdown_table(["", *heads], [*rows, ["real", *real]])


def _calibration_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    rules = [name for name in rows[0] if name not in ("before", "customers", "real")]
    return markdown_table(
        ["came back before", "customers", *rules, "real"],
        (
            [
                f"{row['before']}{' and more' if row is rows[-1] else ''}",
                f"{row['customers']:,}",
                *(cell(row[name], form=".3g") for name in (*rules, "real")),
            ]
            for row in rows
        ),
    )


def _customer_table(listed: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = [(target, time) for target in TARGETS for time in _TIMES]
    return markdown_table(
        ["customer", *(f"{target} {time}" for target, time in columns)],
        ([one["customer"], *(one[time][target] for target, time in columns)] for one in listed),
    )


def calibration_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Mean purchases, forecast and real, by how often customers came back before."""
    figure = plotting.new_figure(1, 1, size=(6, 4))
    ax = figure.axes[0]
    before = [row["before"] for row in rows]
    known = {"real": {"color": plotting.TRUTH}, "model": {"color": plotting.MODEL, "marker": "o"}}
    rule = {"color": plotting.NAIVE, "marker": "o", "linestyle": ":"}
    for name in (name for name in rows[0] if name not in ("before", "customers")):
        looks: dict[str, Any] = known.get(name, rule)
        ax.plot(before, [row[name] for row in rows], label=name, **looks)
    ax.set_xlabel("times a customer came back before (the last: and more)")
    ax.set_ylabel("mean number of purchases")
    ax.legend(frameon=False)
    return figure
