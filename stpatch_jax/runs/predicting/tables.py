"""Predictions that are tables: prices, value at risk, classes; one row for each."""

from typing import Any

import numpy as np
import pandas as pd

from stpatch_jax.data import PanelConfig, PanelData
from stpatch_jax.data.protocols import EVERYTHING
from stpatch_jax.errors import require
from stpatch_jax.runs.trained import TrainedRun


def forecast_prices(run: TrainedRun, source: str, *, every: int | None) -> pd.DataFrame:
    """Forecasts a price table in its own units.

    Args:
        run: A run on a `PanelConfig`.
        source: A price table with the companies and channels of the run.
        every: Forecasts begin every so many rows from the first context on; None for one, of what
            follows the table.

    Returns:
        One row per forecast, lead time and company: `init_time` (of the last row of the context),
        `lead` in rows, `valid_time` (where the table or the calendar of its rows tells it),
        `company`, and the forecast under the name of its channel.

    Raises:
        InputError: The table cannot be used.
    """
    config: PanelConfig | Any = run.config.data
    data: PanelData = config.restore(source, run.scaler)
    first = config.context + (config.representation == "log_return")
    index = origins(source, first, len(data.times), every)
    examples = [_panel_example(data, row) for row in index]
    batch = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
    scaled = run.task.point(run.predict(batch, run.shapes))
    prices = data.in_units(scaled, index)
    leads = np.arange(1, config.horizon + 1)
    valid = _times_ahead(data.times, config.horizon)[index[:, None] + leads - 1]
    return long_table(
        {"init_time": data.times[index - 1]},
        {"lead": np.broadcast_to(leads, valid.shape), "valid_time": valid},
        data.companies,
        {data.target_channels[0]: prices[..., 0]},
    )


def _panel_example(data: PanelData, row: int) -> dict[str, np.ndarray]:
    _, persistence = data.representation.targets(row, data.horizon, training=False)
    return {
        "context": data.representation.inputs[row - data.context : row],
        "persistence": persistence.astype(np.float32),
    }


def classify(run: TrainedRun, source: str, *, every: int | None) -> pd.DataFrame:
    """Gives every item of a file the probability of each class.

    Args:
        run: A run that classifies, on labelled data.
        source: A file of the same kind.
        every: None: items have no order of time.

    Returns:
        One row per item: what names it, `class` (the most probable one) and one column
        `probability_CLASS` for each class.

    Raises:
        InputError: The file cannot be used.
    """
    require(
        every is None,
        f"--every is for forecasts, but this run classifies items, and it is {every}; leave it out",
    )
    items: Any = run.config.data.restore(source, run.scaler)
    fields = np.stack([example["field"] for example in items.source(EVERYTHING)])
    trained = tuple(run.shapes["field"][1:])
    require(
        fields.shape[1:] == trained,
        f"the items of {source} must have the shape of those the run was trained on, {trained}, "
        f"but theirs is {fields.shape[1:]}; give a file of the same kind",
    )
    found = run.predict({"field": fields}, run.shapes)
    table = pd.DataFrame(dict(items.names(EVERYTHING)))
    table["class"] = [items.classes[number] for number in found.argmax(-1)]
    for number, name in enumerate(items.classes):
        table[f"probability_{name}"] = found[:, number]
    return table


def origins(source: str, first: int, last: int, every: int | None) -> np.ndarray:
    """First target rows: one, behind the table, or every so many from the first possible on."""
    require(
        first <= last,
        f"{source} must have the {first} rows that a forecast needs, but it has {last}; give a "
        "longer table",
    )
    return np.arange(first, last + 1, every) if every else np.array([last])


def _times_ahead(times: np.ndarray, count: int) -> np.ndarray:
    """Times of the rows and of as many behind them as asked for; NaT where no rule tells them."""
    leads = np.arange(1, count + 1)
    # More than a week, so that five days before a weekend are no rule.
    last = times[-10:]
    months = last.astype("datetime64[M]")
    if _even(last):
        ahead = last[-1] + leads * (last[-1] - last[-2])
    elif _even(months) and len(set(last - months)) == 1:
        ahead = months[-1] + leads * (months[-1] - months[-2]) + (last - months)[0]
    else:
        ahead = np.full(count, np.datetime64("NaT"))
    return np.concatenate([times, ahead.astype(times.dtype)])


def _even(times: np.ndarray) -> bool:
    return len(times) > 2 and len(set(np.diff(times))) == 1


def long_table(
    by_forecast: dict[str, np.ndarray],
    by_lead: dict[str, np.ndarray],
    companies: tuple[str, ...],
    values: dict[str, np.ndarray],
) -> pd.DataFrame:
    """Columns [forecast], [forecast, lead] and [forecast, lead, company] as one long table."""
    shape = next(iter(values.values())).shape
    columns: dict[str, np.ndarray] = {}
    for name, column in by_forecast.items():
        columns[name] = np.broadcast_to(column[:, None, None], shape)
    for name, column in by_lead.items():
        columns[name] = np.broadcast_to(column[..., None], shape)
    columns["company"] = np.broadcast_to(np.asarray(companies), shape)
    columns |= values
    return pd.DataFrame({name: column.ravel() for name, column in columns.items()})
