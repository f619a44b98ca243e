"""Forecasts with their times and coordinates: to xarray and to CSV."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.fields.cleaning import channel_numbers, check_field
from stpatch_jax.data.readers.conventions import channel_attributes
from stpatch_jax.data.readers.dates import time_encoding
from stpatch_jax.data.times import TimeAxis
from stpatch_jax.errors import require
from stpatch_jax.escapes import table_text
from stpatch_jax.files import replaced

_OF_FORECASTS = ("init_time", "lead_time", "valid_time")
QUANTILE = "quantile"
"""The dim of quantiles, with their levels."""
# What netCDF or zarr do not take in a name, at its beginning or its end.
_UNNAMED = re.compile("[/\\\\\0-\x1f\x7f\ud800-\udfff]|^[^\\w\x80-\uffff]|\\s$")


def forecast_dataset(
    values: np.ndarray,
    field: xr.DataArray,
    *,
    index: np.ndarray,
    channels: Sequence[str] | None = None,
    valid: np.ndarray | None = None,
    quantiles: Sequence[float] = (),
) -> xr.Dataset:
    """Gives forecasts the coordinates of the field they belong to.

    Args:
        values: Forecasts [window, horizon, *space, channel] in the units of the field (see
            `Cleaner.inverse`).
        field: The field (time, *space, channel); only its coordinates and attributes are used.
        index: Row of the first target of each window [window], as in `batch["index"]`; the number
            of rows of the field itself stands for a forecast beyond its end.
        channels: Names of the predicted channels; all of the field by default.
        valid: Times of the targets [window, horizon], where more is known than the field tells.
        quantiles: Levels of the quantiles on a further axis of the forecasts, their last one.

    Returns:
        One variable per channel, (init_time, lead_time, *space), with its units, and the
        coordinates of space; the dim `quantile` comes before these. `init_time` is the time of the
        last context row, `valid_time` (init_time, lead_time) that of the target: of the row, or
        what follows by the step of the rows, of months or working days too. `lead_time` is their
        difference, or the number of rows
        where that is not the same everywhere.

    Raises:
        InputError: If shapes, rows or channels do not fit the field, or the rows keep no step that
            dates what follows them.

    >>> field = xr.DataArray(
    ...     np.zeros((4, 1)), dims=("time", "channel"),
    ...     coords={"time": np.arange(4), "channel": ["load"]},
    ... )
    >>> forecast = forecast_dataset(np.ones((1, 2, 1)), field, index=np.array([2]))
    >>> forecast["load"].dims, forecast.valid_time.values.tolist()
    (('init_time', 'lead_time'), [[2, 3]])
    """
    values = np.asarray(values)
    own = tuple(str(name) for name in field.channel.values)
    levels = [float(level) for level in quantiles]
    names = tuple(own[number] for number in channel_numbers(own, channels))
    horizon = values.shape[1] if values.ndim > 1 else 1
    coords = forecast_coords(field, index=index, horizon=horizon, valid=valid)
    expected = (len(coords.init_time), len(coords.lead_time), *field.shape[1:-1], len(names))
    expected, axes = (*expected, len(levels)) if levels else expected, ", quantile" * bool(levels)
    require(
        values.shape == expected,
        f"forecasts must have the shape (window, horizon, *space, channel{axes}) = {expected}, got "
        f"{values.shape}; give one window for each index and the channels {', '.join(names)}",
    )
    dims, told = ("init_time", "lead_time", *map(str, field.dims[1:-1])), channel_attributes(field)
    own = variable_names(names, field, quantiles=levels)
    if levels:
        values, dims = np.moveaxis(values, -1, 0), (QUANTILE, *dims)
        coords = with_levels(coords, levels)
    variables = {
        own[name]: (dims, values[..., at], variable_attributes(name, own[name], told[name], field))
        for at, name in enumerate(names)
    }
    return xr.Dataset(variables, coords)


def with_levels(coords: xr.Dataset, quantiles: Sequence[float]) -> xr.Dataset:
    """Coordinates of forecasts, and the dim `quantile` with its levels, float64."""
    told = np.asarray(quantiles, np.float64), {"long_name": "level of the quantile", "units": "1"}
    return coords.assign_coords({QUANTILE: (QUANTILE, *told)})


def variable_names(
    channels: Sequence[str], field: xr.DataArray, *, quantiles: Sequence[float] = ()
) -> dict[str, str]:
    r"""What the forecasts of channels are called, by channel: as these, but for coordinates' names.

    Signs that netCDF or zarr do not take in a name, such as the bar of km/h, are `_`; the attribute
    `channel` then has the name itself.

    >>> field = xr.DataArray(np.zeros((2, 2)), dims=("time", "channel"))
    >>> variable_names(["load", "lead_time"], field)
    {'load': 'load', 'lead_time': 'lead_time_value'}
    >>> variable_names(["km/h", "km_h"], field)
    {'km/h': 'km_h', 'km_h': 'km_h_value'}
    """
    taken, found = {*map(str, field.coords), *map(str, field.dims), *_OF_FORECASTS}, {}
    taken |= {QUANTILE} if quantiles else set()
    for name in channels:
        # Folders of zarr and names of netCDF have 255 bytes at most.
        told = _UNNAMED.sub("_", name).encode()[:200].decode(errors="ignore") or "_"
        while told in taken:
            told += "_value"
        found[name] = told
        taken.add(told)
    return found


def variable_attributes(
    channel: str, name: str, told: Mapping[str, str], field: xr.DataArray
) -> dict[str, str]:
    """The attributes of the forecasts of a channel: what is told of it, and its grid mapping.

    Where its name lost a sign, it is among them.
    """
    mapping = next(iter(field.attrs.get("crs", {})), None)
    known = {**told, "grid_mapping": mapping} if mapping else dict(told)
    itself = channel.encode(errors="backslashreplace").decode()
    return known if name.startswith(channel) else {**known, "channel": itself}


def forecast_coords(
    field: xr.DataArray, *, index: np.ndarray, horizon: int, valid: np.ndarray | None = None
) -> xr.Dataset:
    """The coordinates of forecasts, see `forecast_dataset`, as a data set without variables.

    Dates keep the units and calendar of the field's file where they are whole numbers of them.
    `valid` are the times of the targets [window, horizon], where more is known of the times than
    the field tells.

    Raises:
        InputError: If the rows `index` do not ascend or lie outside the field, or no step dates
            what follows it.
    """
    check_field(field)
    index = np.asarray(index)
    times = field.time.values
    fine = index.ndim == 1 and np.issubdtype(index.dtype, np.integer) and len(index) > 0
    require(
        bool(fine and (np.diff(index) > 0).all() and index[0] >= 1 and index[-1] <= len(times)),
        f"index must be ascending rows in 1..{len(times)}, got "
        f"{np.array2string(index, threshold=6)}; give the first target row of each window once",
    )
    axis = TimeAxis.of(times, name="the times of a forecast field")
    valid = axis.targets(index, horizon) if valid is None else valid
    lead, attrs = _leads(axis, times[index - 1], valid)
    space = set(field.dims[1:-1])
    coords: dict[str, Any] = {
        str(name): coord.variable
        for name, coord in field.drop_vars(["time", "channel"]).coords.items()
        if coord.dims and set(coord.dims) <= space
    }
    coords |= {name: xr.Variable((), 0, of) for name, of in field.attrs.get("crs", {}).items()}
    reference = {"standard_name": "forecast_reference_time"}
    encoding = time_encoding(valid.ravel(), field.time.encoding)
    coords |= {
        "init_time": xr.Variable("init_time", times[index - 1], reference, encoding),
        "lead_time": ("lead_time", lead, attrs),
        "valid_time": xr.Variable(
            ("init_time", "lead_time"), valid, {"standard_name": "time"}, encoding
        ),
    }
    return xr.Dataset(coords=coords)


def _leads(
    axis: TimeAxis, init: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, dict[str, str]]:
    """The distance of the targets [horizon] and its attributes: lengths, else numbers of rows."""
    leads = np.arange(1, valid.shape[1] + 1)
    if axis.calendar is not None and axis.step is not None and axis.step.length is not None:
        lengths = leads * axis.step.length
        # Nanoseconds would overflow dates beyond 2262.
        unit = "us" if init.dtype == object else np.datetime_data(init.dtype)[0]
        told = lengths.astype(f"m8[{unit}]")
        told = told.astype(object) if init.dtype == object else told
        if (init[:, None] + told == valid).all():
            return lengths, {"standard_name": "forecast_period"}
    return leads, {"long_name": "rows ahead"}


def forecast_table(forecasts: xr.Dataset, *, field: xr.DataArray | None = None) -> Any:
    """Forecasts, see `forecast_dataset`, in one row per initial time, lead time and place.

    `lead_time` is in hours, or a number of rows where these differ in length. Where every channel
    is missing, as over land in a sea, there is no row. Forecasts of a `field` out of a table are
    laid out as that: with a column for each series where it has those, in its time zone.
    Quantiles of a channel are columns under its name and their level, such as `load_0.1`.
    """
    forecasts = forecasts.rename(
        {name: of.attrs["channel"] for name, of in forecasts.items() if "channel" in of.attrs}
    )
    forecasts = forecasts.drop_vars([name for name, of in forecasts.coords.items() if not of.dims])
    order = [dim for dim in forecasts.dims if dim != QUANTILE]
    forecasts = _levelled(forecasts) if QUANTILE in forecasts.dims else forecasts
    told = {} if field is None else field.attrs
    if field is not None and "wide" in told:
        forecasts = _widened(forecasts, told["wide"], str(field.channel.values[0]))
    names = [str(name) for name in forecasts.data_vars]
    order = [dim for dim in order if dim in forecasts.dims]
    table: Any = forecasts.to_dataframe(dim_order=order)
    table = table.dropna(subset=names, how="all").reset_index()
    first = [*_OF_FORECASTS]
    table = table[first + [name for name in table.columns if name not in first]]
    if table["lead_time"].dtype.kind == "m":
        table["lead_time"] = table["lead_time"] / np.timedelta64(1, "h")
    if zone := told.get("time_zone"):
        for name in ("init_time", "valid_time"):
            table[name] = table[name].dt.tz_localize("UTC").dt.tz_convert(zone)
    dim, head = told.get("long", ("", ""))
    return table if head in table else table.rename(columns={dim: head})


def _levelled(forecasts: xr.Dataset) -> xr.Dataset:
    """A variable for each quantile, under its level, in place of the dim."""
    flat = {}
    for name, of in forecasts.items():
        levels = of[QUANTILE].values if QUANTILE in of.dims else ()
        flat |= {} if len(levels) else {name: of}
        flat |= {f"{name}_{q}": of.isel({QUANTILE: i}, drop=True) for i, q in enumerate(levels)}
    return xr.Dataset(flat)


def _widened(forecasts: xr.Dataset, along: str, channel: str) -> xr.Dataset:
    """A variable for each series, under its name, in place of one of each name of the channel."""
    columns = {}
    for name, of in forecasts.items():
        for at, each in enumerate(map(str, of[along].values)):
            own = each + str(name).removeprefix(channel)
            own += "_value" * (own in _OF_FORECASTS)
            columns[own] = of.isel({along: at}, drop=True)
    return xr.Dataset(columns)


def write_table(path: str | Path, table: Any) -> None:
    """Writes a table of pandas as `fill_table` does, to a new file or in place of the old one.

    Raises:
        InputError: If the file cannot be written; then nothing is changed.
    """
    with replaced(path) as part:
        fill_table(part, table)


def fill_table(part: Path, table: Any) -> None:
    """Writes a table of pandas, without its index, to a `.csv` or `.csv.gz` file in the making.

    Texts are those of `table_text`: a spreadsheet takes none of them for a formula. Numbers stay.
    """
    _plain(table).to_csv(part, index=False, encoding="utf-8")


def _plain(table: Any) -> Any:
    """A table whose texts, those of its head too, are nothing but texts to who opens it."""
    table = table.rename(columns=table_text)
    for at, kind in enumerate(table.dtypes):
        if kind.kind in "OSU":
            table.isetitem(at, table.iloc[:, at].map(table_text))
    return table
