"""Fields out of what is in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.readers import read_as_told
from stpatch_jax.data.readers.axes import field_dim
from stpatch_jax.data.readers.conventions import sorted_by_time
from stpatch_jax.data.readers.stacking import dataset_field
from stpatch_jax.data.readers.tables import read_panel
from stpatch_jax.errors import require, same_names

# Names of the space axes of an array, by its number of axes.
_SPACE = {2: (), 3: ("cell",), 4: ("y", "x"), 5: ("z", "y", "x")}


def given_field(values: Any, config: Any) -> xr.DataArray:
    """A field out of what is in memory, read as a `FieldConfig` tells.

    That is all that `as_field` takes, or a table or series of pandas, read as one in a file is.
    """
    if isinstance(values, pd.Series):
        values = values.to_frame("value" if values.name is None else values.name)
    if not isinstance(values, pd.DataFrame):
        return as_field(values, static=config.static, ignore=config.ignore)
    told = {name: of for name, of in config.told().items() if name != "gaps"}
    return as_field(read_as_told(read_panel, values, told, kind="tables"))


def as_field(
    values: Any, *, static: Sequence[str] = (), ignore: Sequence[str] = ()
) -> xr.DataArray:
    """A field (time, *space, channel) out of what is in memory.

    Args:
        values: A `DataArray` with a dim `time`, whose dims may be in any order and which may lack
            `channel`; a `Dataset`, whose variables over time and space become the channels, as
            those of a file do; or an array [time, *space, channel], whose times and channels are
            counted.
        static: Names of variables of a `Dataset` without time, which become coordinates.
        ignore: Names of variables or channels that are left out.

    >>> as_field(np.zeros((5, 3, 2))).dims
    ('time', 'cell', 'channel')
    """
    if isinstance(values, np.ndarray):
        names = _SPACE.get(values.ndim)
        require(
            names is not None,
            f"an array of a field must be [time, *space, channel] of up to three space axes, got "
            f"shape {values.shape}; reshape it, or give a DataArray",
        )
        values = xr.DataArray(values, dims=("time", *(names or ()), "channel"))
    elif isinstance(values, xr.Dataset):
        values, ignore = dataset_field(values, static=static, ignore=ignore), ()
    require(
        isinstance(values, xr.DataArray) and "time" in values.dims,
        "a field must be a DataArray or Dataset with a dim time, or an array, got "
        f"{getattr(values, 'dims', type(values).__name__)}; give one of these, or rename its dims",
    )
    require(
        values.dtype.kind in "biuf",
        f"a field must hold numbers, got {values.dtype}; give floats, NaN where one lacks",
    )
    for dim in {*values.dims} - {"time"}:
        require(values.sizes[dim] > 0, f"a field must have cells, got none along {dim}; give some")
    if "channel" not in values.dims:
        unit = str(values.attrs.get("units", ""))
        values = values.expand_dims(channel=[str(values.name or "value")])
        if "units" not in values.coords:
            values = values.assign_coords(units=("channel", [unit]))
    own = {dim: field_dim(dim) for dim in values.dims if dim not in ("time", "channel")}
    values = values.rename({dim: name for dim, name in own.items() if dim != name})
    rows, channels = (np.arange(values.sizes[dim]) for dim in ("time", "channel"))
    counted = {"time": rows, "channel": list(map(str, channels))}
    counted = {dim: names for dim, names in counted.items() if dim not in values.coords}
    field = values.assign_coords(counted).transpose("time", ..., "channel")
    field = sorted_by_time(field, name="the field")
    out = same_names("ignore=", ignore, field.channel.values)
    return field.isel(channel=[name not in out for name in field.channel.values]) if out else field
