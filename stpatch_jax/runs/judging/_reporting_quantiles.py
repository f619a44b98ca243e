"""The low quantile of returns in a forecast's report: a table and a plot."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stpatch_jax import plotting
from stpatch_jax.data import ForecastData
from stpatch_jax.recipes.risk.judging import SplitQuantiles

_MOST_ROWS = 250


def quantile_table(test: Mapping[str, Any]) -> list[str]:
    """Coverage and pinball loss of model and naive rules, where the report has them."""
    if "quantile" not in test:
        return []
    found = test["quantile"]
    lines = [
        f"The {found['level']:.3g} quantile over {found['targets']} targets: coverage is the share "
        "below it; of the pinball loss less is better.",
        "",
        f"| quantile | coverage | pinball loss ({found['unit']}) |",
        "|---|---:|---:|",
    ]
    rows = [
        (name, *(f"{of[key]:.4g}" for key in ("coverage", "pinball")))
        for name, of in found["rules"].items()
    ]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def quantile_figure(data: ForecastData, split: SplitQuantiles) -> Figure:
    """The quantiles of the company with most scored returns, under these returns."""
    names = list(data.series)
    at = int(split.scored.sum(axis=(0, 1, 3)).argmax())
    rows = slice(-_MOST_ROWS, None)
    drawn = plotting.new_figure(1, 1, size=(9, 4))
    plotting.returns_and_quantiles(
        data.times[split.index[rows]],
        np.asarray(split.returns[rows, 0, at, 0]),
        {
            name: values[rows, 0, at, 0]
            for name, values in split.tails.items()
            if name != "model_without_level"
        },
        ax=drawn.axes[0],
        title=f"{names[at]}: {split.level:.3g} quantile",
        unit=data.unit,
    )
    return drawn
