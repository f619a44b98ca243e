"""Predictions that are tables: prices, classes and numbers, one row for each."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data import LabelledData, PanelData, UnlabelledFields, forecast_dataset
from stpatch_jax.data.fields.writers import forecast_table
from stpatch_jax.errors import require
from stpatch_jax.runs.predicting.predictor import Predictor, predictors
from stpatch_jax.tasks import Classify, Forecast, Regress


@predictors(Forecast, PanelData)
class PricePredictor(Predictor):
    """Forecasts a price table in its own units, by default what follows it.

    Its result is as `forecast_dataset` has it, its table as `forecast_table`: one row per forecast
    and lead time, with a column for each company where the price table has those, else with one row
    for each.
    Quantiles are as these have them.
    """

    takes = ("every",)
    task: Forecast
    data: PanelData

    def result(self) -> xr.Dataset:
        """As the class says."""
        data = self.data
        batch = self.batch(self.origins())
        index = batch["index"]
        valid = self.valid_times(data.times, index, data.horizon)
        found, levels = self.run.answers(batch), self.task.config.quantiles
        parts = [found[..., at] for at in range(len(levels))] if levels else [found]
        prices = [data.in_units(part, index) for part in parts]
        values = np.stack(prices, axis=-1) if levels else prices[0]
        told: dict[str, Any] = {"index": index, "channels": data.target_channels, "valid": valid}
        told |= {"quantiles": levels}
        return forecast_dataset(values, data.field, **told).assign_attrs(self.run.identity)

    def table(self) -> pd.DataFrame:
        """As the class says."""
        return forecast_table(self.result(), field=self.data.field)


class _ItemPredictor(Predictor):
    """Predicts items of one shape that have no order in time."""

    def answers(self) -> np.ndarray:
        """What the task answers to each item [item, ...]."""
        shape = self.examples[0]["field"].shape
        trained = tuple(self.run.shapes["field"][1:])
        require(
            shape == trained,
            f"the items of {self.request.source} must have the shape of those the run was trained "
            f"on, {trained}, got {shape}; give a file of the same kind",
        )
        return np.concatenate(list(self.chunks()))


@predictors(Classify, object)
class ClassPredictor(_ItemPredictor):
    """Gives every item of a file the probability of each class.

    One row per item: what names it, `class` (the most probable one) and one column
    `probability_CLASS` for each class.
    """

    data: LabelledData

    def table(self) -> pd.DataFrame:
        """As the class says."""
        probabilities = self.answers()
        table, classes = pd.DataFrame(self.names()), self.data.classes
        table["class"] = [classes[number] for number in probabilities.argmax(-1)]
        for number, name in enumerate(classes):
            table[f"probability_{name}"] = probabilities[:, number]
        return table


@predictors(Regress, object)
class NumberPredictor(_ItemPredictor):
    """Gives every item of a file its targets, in their own units.

    One row per item: what names it, and one column for each target under its name.
    """

    data: UnlabelledFields

    def table(self) -> pd.DataFrame:
        """As the class says."""
        values = self.data.in_units(self.answers())
        names = pd.DataFrame(self.names())
        return names.assign(**{name: values[:, at] for at, name in enumerate(self.data.targets)})


def long_table(
    by_forecast: dict[str, np.ndarray],
    by_lead: dict[str, np.ndarray],
    companies: tuple[str, ...],
    values: dict[str, np.ndarray],
) -> pd.DataFrame:
    """Columns [forecast], [forecast, lead] and [forecast, lead, company] as one long table."""
    shape = next(iter(values.values())).shape
    columns = {name: column[:, None, None] for name, column in by_forecast.items()}
    columns |= {name: column[..., None] for name, column in by_lead.items()}
    columns |= {"company": np.asarray(companies), **values}
    return pd.DataFrame(
        {name: np.broadcast_to(column, shape).ravel() for name, column in columns.items()}
    )
