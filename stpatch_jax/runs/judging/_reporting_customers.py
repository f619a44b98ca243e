"""The report of what customers will buy as Markdown, and its plot."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from stpatch_jax import plotting
from stpatch_jax.recipes.customers.data import Customers
from stpatch_jax.recipes.customers.judging import TARGETS, SplitCustomers

_TITLES = {
    "return": "Will come back most often",
    "stop": "Bought at least three times again, and will fall back most",
    "spend": "Will spend most",
}


def summary(report: Mapping[str, Any]) -> list[str]:
    """The lines after the title: errors and totals, calibration, and who will do what."""
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
        *_errors(test),
        "",
        *_calibration(test["calibration"]),
        *(
            line
            for name, title in _TITLES.items()
            for line in ("", f"{title}:", "", *_customers(test["lists"][name]))
        ),
        "",
    ]


def _errors(test: Mapping[str, Any]) -> list[str]:
    heads = [f"{target} {head}" for target in TARGETS for head in ("RMSE", "MAE", "total")]
    real = " | ".join(f"- | - | {test['real'][target]:,.0f}" for target in TARGETS)
    rows = [
        " | ".join(
            f"{of[target]['rmse']:.4g} | {of[target]['mae']:.4g} | {of[target]['total']:,.0f}"
            for target in TARGETS
        )
        for of in test["scaled"].values()
    ]
    return [
        f"| | {' | '.join(heads)} |",
        "|---|" + "---:|" * len(heads),
        *(f"| {name} | {row} |" for name, row in zip(test["scaled"], rows, strict=True)),
        f"| real | {real} |",
    ]


def _calibration(rows: list[Mapping[str, Any]]) -> list[str]:
    rules = [name for name in rows[0] if name not in ("before", "customers", "real")]
    return [
        f"| came back before | customers | {' | '.join(rules)} | real |",
        "|---:|" + "---:|" * (len(rules) + 2),
        *(
            f"| {row['before']}{' and more' if row is rows[-1] else ''} | {row['customers']:,} | "
            + " | ".join(f"{row[name]:.3g}" for name in (*rules, "real"))
            + " |"
            for row in rows
        ),
    ]


def _customers(found: list[Mapping[str, Any]]) -> list[str]:
    times = ("before", "forecast", "real")
    heads = [f"{target} {time}" for target in TARGETS for time in times]
    return [
        f"| customer | {' | '.join(heads)} |",
        "|---|" + "---:|" * len(heads),
        *(
            f"| {one['customer']} | "
            + " | ".join(f"{one[time][target]:.4g}" for target in TARGETS for time in times)
            + " |"
            for one in found
        ),
    ]


def figures(
    data: Customers, predictions: SplitCustomers, report: Mapping[str, Any]
) -> dict[str, Figure]:
    """The plots by name: mean purchases by how often customers came back before."""
    del data, predictions
    rows = report["test"]["calibration"]
    drawn = plotting.new_figure(1, 1, size=(6, 4))
    ax = drawn.axes[0]
    before = [row["before"] for row in rows]
    for name in (name for name in rows[0] if name not in ("before", "customers")):
        line = "k-" if name == "real" else "o-"
        ax.plot(before, [row[name] for row in rows], line, label=name)
    ax.set_xlabel("times a customer came back before (the last: and more)")
    ax.set_ylabel("mean number of purchases")
    ax.legend(frameon=False)
    return {"calibration": drawn}
