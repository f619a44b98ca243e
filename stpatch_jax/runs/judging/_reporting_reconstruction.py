"""The report of a reconstruction as Markdown, and its plots."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stpatch_jax import plotting
from stpatch_jax.data import Data
from stpatch_jax.runs.judging.registry import SplitReconstructions


def summary(report: Mapping[str, Any]) -> list[str]:
    """The lines after the title: the model beside the naive rules."""
    test = report["test"]
    return [
        f"Test: the hidden patches of {test['examples']} fields, in scaled units.",
        "",
        "| | RMSE | MAE |",
        "|---|---:|---:|",
        *(
            f"| {name} | {figures['rmse']:.4g} | {figures['mae']:.4g} |"
            for name, figures in test["scaled"].items()
        ),
        "",
    ]


def figures(
    data: Data, predictions: SplitReconstructions, report: Mapping[str, Any]
) -> dict[str, Figure]:
    """The plots by name: a slice of the first field, what is shown of it, what is made of that."""
    del data, report
    field, hidden = predictions.field[..., 0], predictions.hidden
    pictures = {
        "field": field,
        "shown": np.where(hidden, np.nan, field),
        "reconstruction": np.where(hidden, predictions.reconstruction[..., 0], field),
    }
    figure = plotting.new_figure(1, len(pictures), size=(9, 3.2))
    limits = float(field.min()), float(field.max())
    for axes, (name, values) in zip(figure.axes, pictures.items(), strict=True):
        axes.imshow(_slice(values), vmin=limits[0], vmax=limits[1], aspect="auto")
        axes.set_title(name)
    return {"reconstruction": figure}


def _slice(values: np.ndarray) -> np.ndarray:
    """The last two axes in the middle of the others; a series becomes one row."""
    if values.ndim == 1:
        return values[None]
    return values[tuple(n // 2 for n in values.shape[:-2])]
