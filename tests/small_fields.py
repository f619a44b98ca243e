"""Small fields for the tests of the data pipeline."""

import numpy as np
import xarray as xr


def small_field(
    shape=(40, 6, 5), channels=("t2m", "wind"), *, missing=0.0, seed=0, dtype: type = np.float32
):
    """A field of hourly random numbers with some values missing."""
    generator = np.random.default_rng(seed)
    values = generator.normal(50.0, 9.0, (*shape, len(channels))).astype(dtype)
    values[generator.random(values.shape) < missing] = np.nan
    names = {0: (), 1: ("cell",), 2: ("latitude", "longitude")}[len(shape) - 1]
    start = np.datetime64("2024-02-27T00", "ns")
    coords = {
        "time": start + np.arange(shape[0]) * np.timedelta64(1, "h").astype("timedelta64[ns]"),
        "channel": list(channels),
        **{name: np.arange(size) * 0.25 for name, size in zip(names, shape[1:], strict=True)},
    }
    units = dict(zip(channels, ("K", "m s-1"), strict=False))
    return xr.DataArray(
        values, dims=("time", *names, "channel"), coords=coords, attrs={"units": units}
    )
