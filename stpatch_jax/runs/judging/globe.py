"""Forecasts on a globe: errors in which every cell weighs as much as its area."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.places import Axis
from stpatch_jax.data.readers.axes import axis_of
from stpatch_jax.data.units import conversion, told
from stpatch_jax.losses import latitude_weights
from stpatch_jax.metrics import AreaErrors
from stpatch_jax.runs.judging.tables import metric_table

_COLUMNS = {"rmse": "RMSE", "bias": "bias", "acc": "ACC"}


def area_weights(field: xr.DataArray) -> np.ndarray | None:
    """The weight of each cell of a field (time, *space, channel) by its latitude.

    It is [1, 1, ..., latitude, ..., 1], of the rank of a batch of forecasts, with the mean 1; None
    where no axis of space holds latitudes, those of a rotated pole included.
    """
    for at, dim in enumerate(field.dims[1:-1], start=2):
        if (latitudes := _latitudes(field, str(dim))) is not None:
            shape = [1] * (field.ndim + 1)
            shape[at] = -1
            return latitude_weights(latitudes).reshape(shape)
    return None


def _latitudes(field: xr.DataArray, dim: str) -> np.ndarray | None:
    """The latitudes along a dim in degrees, None where it has none."""
    if dim not in field.coords or axis_of(field.coords.to_dataset(), dim) != "Y":
        return None
    axis = Axis.of(field, dim)
    if axis.named or axis.places is None:
        return None
    called = f"{dim} {field[dim].attrs.get('standard_name', '')}".lower()
    degrees = conversion(axis.unit, "deg") is not None if told(axis.unit) else "lat" in called
    latitudes = axis.numbers()
    return latitudes if degrees and np.abs(latitudes).max() <= 90 else None


def area_errors(
    weights: np.ndarray, rules: Mapping[str, np.ndarray], real: np.ndarray, mask: np.ndarray
) -> dict[str, AreaErrors]:
    """The errors of each rule [n, horizon, *space, channel] in the units of the data."""
    climatology, target = rules.get("climatology"), np.where(mask, real, 0.0)
    told: dict[str, Any] = {"climatology": climatology, "mask": mask}
    return {name: AreaErrors.of(values, target, weights, **told) for name, values in rules.items()}


def area_report(errors: Mapping[str, AreaErrors], units: Mapping[str, str]) -> dict[str, Any]:
    """Per variable and rule, RMSE, bias and anomaly correlation per lead time and over all."""
    metrics = _COLUMNS if "climatology" in errors else ("rmse", "bias")

    def measured(of: AreaErrors, metric: str, channel: int) -> dict[str, Any]:
        per_lead, over_all = (getattr(sums, metric)()[:, channel] for sums in (of, of.pooled()))
        return {"per_lead": [float(x) for x in per_lead], "all": float(over_all[0])}

    return {
        name: {
            "unit": unit,
            "rules": {
                rule: {metric: measured(of, metric, channel) for metric in metrics}
                for rule, of in errors.items()
            },
        }
        for channel, (name, unit) in enumerate(units.items())
    }


def area_lines(report: Mapping[str, Any]) -> list[str]:
    """The tables of `area_report`, over all lead times."""
    if not report:
        return []
    first = next(iter(report.values()))["rules"]["model"]
    columns = {metric: _COLUMNS[metric] for metric in first}
    acc = (
        "ACC, the anomaly correlation, is that of departures from the climatology."
        if "acc" in columns
        else "With data.climatology there is an anomaly correlation, too."
    )
    lines = [
        "On the globe, where a cell weighs as much as its area, by cos(latitude), over all lead "
        f"times; bias is forecast less truth. {acc}",
        "",
    ]
    for name, of in report.items():
        rules = {
            rule: {metric: values[metric]["all"] for metric in columns}
            for rule, values in of["rules"].items()
        }
        lines += metric_table(f"{name} ({of['unit']})", columns, rules)
    return lines
