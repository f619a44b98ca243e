"""Forecasts with their times and coordinates: to xarray, to zarr by region, to CSV."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xarray as xr

from stpatch_jax.data.fields.cleaning import channel_numbers, check_field
from stpatch_jax.data.libraries import require_library
from stpatch_jax.errors import InputError, require


def forecast_dataset(
    values: np.ndarray,
    field: xr.DataArray,
    *,
    index: np.ndarray,
    channels: Sequence[str] | None = None,
) -> xr.Dataset:
    """Gives forecasts the coordinates of the field they belong to.

    Args:
        values: Forecasts [window, horizon, *space, channel] in the units of the field (see
            `Cleaner.inverse`).
        field: The field (time, *space, channel); only its coordinates and attributes are used.
        index: Row of the first target of each window [window], as in `batch["index"]`; the number
            of rows of the field itself stands for a forecast beyond its end.
        channels: Names of the predicted channels; all of the field by default.

    Returns:
        One variable per channel, (init_time, lead_time, *space), with its units, and the
        coordinates of space. `init_time` is the time of the last context row, `valid_time`
        (init_time, lead_time) that of the target, and `lead_time` their difference, or the number
        of time steps where the times are no evenly spaced dates.

    Raises:
        InputError: If shapes, rows or channels do not fit the field.

    Example:
        >>> field = xr.DataArray(
        ...     np.zeros((4, 1)), dims=("time", "channel"),
        ...     coords={"time": np.arange(4), "channel": ["load"]},
        ... )
        >>> forecast = forecast_dataset(np.ones((1, 2, 1)), field, index=np.array([2]))
        >>> forecast["load"].dims, forecast.valid_time.values.tolist()
        (('init_time', 'lead_time'), [[2, 3]])
    """
    values = np.asarray(values)
    names = _names(field, channels)
    coords = forecast_coords(field, index=index, horizon=values.shape[1] if values.ndim > 1 else 1)
    expected = (*_shape(coords, field), len(names))
    require(
        values.shape == expected,
        f"forecasts must have the shape (window, horizon, *space, channel) = {expected}, but it is "
        f"{values.shape}; give one window for each index and the channels {', '.join(names)}",
    )
    dims = _dims(field)
    units = channel_units(field)
    variables = {
        name: (dims, values[..., at], _attributes(name, units)) for at, name in enumerate(names)
    }
    return xr.Dataset(variables, coords)


def forecast_coords(field: xr.DataArray, *, index: np.ndarray, horizon: int) -> xr.Dataset:
    """The coordinates of forecasts; see `forecast_dataset`.

    Args:
        field: The field (time, *space, channel).
        index: Row of the first target of each window [window], ascending.
        horizon: Number of predicted time steps.

    Returns:
        A data set without variables.

    Raises:
        InputError: If a row lies outside the field.
    """
    check_field(field)
    index = np.asarray(index)
    times = field.time.values
    fine = index.ndim == 1 and np.issubdtype(index.dtype, np.integer) and len(index) > 0
    require(
        bool(fine and (np.diff(index) > 0).all() and index[0] >= 1 and index[-1] <= len(times)),
        f"index must be ascending rows in 1..{len(times)}, but it is "
        f"{np.array2string(index, threshold=6)}; give the first target row of each window once",
    )
    steps = np.diff(times)
    even = len(steps) > 0 and bool((steps == steps[0]).all())
    require(
        even or index[-1] + horizon <= len(times),
        f"forecasts beyond the end of the field need evenly spaced times, but they reach row "
        f"{index[-1] + horizon} of {len(times)}; leave these windows out",
    )
    leads = np.arange(1, horizon + 1)
    rows = index[:, None] + leads - 1
    valid = times[0] + rows * steps[0] if even else times[rows]
    dates = np.issubdtype(times.dtype, np.datetime64)
    lead = leads * steps[0] if even and dates else leads
    if dates:
        valid = valid.astype("datetime64[ns]")
        lead = lead.astype("timedelta64[ns]") if even else lead
    space = set(field.dims[1:-1])
    coords: dict[str, Any] = {
        str(name): coord.variable
        for name, coord in field.drop_vars(["time", "channel"]).coords.items()
        if coord.dims and set(coord.dims) <= space
    }
    init = times[index - 1].astype(valid.dtype)
    coords |= {
        "init_time": ("init_time", init, {"standard_name": "forecast_reference_time"}),
        "lead_time": ("lead_time", lead, {"standard_name": "forecast_period"}),
        "valid_time": (("init_time", "lead_time"), valid, {"standard_name": "time"}),
    }
    return xr.Dataset(coords=coords)


def channel_units(field: xr.DataArray) -> dict[str, str]:
    """The units of the channels that tell theirs, by name.

    They stand in the coordinate `units` along channel, or in the attribute `units`: a mapping from
    names, or one text for all channels.

    Args:
        field: The field (time, *space, channel).
    """
    names = [str(name) for name in field.channel.values]
    if "units" in field.coords and field.units.dims == ("channel",):
        told = zip(names, field.units.values, strict=True)
        return {name: str(unit) for name, unit in told if str(unit)}
    units = field.attrs.get("units", {})
    if isinstance(units, Mapping):
        return {name: str(units[name]) for name in names if name in units}
    return dict.fromkeys(names, str(units))


class ForecastWriter:
    """Writes forecasts to a zarr store window by window; the store appears when all are there.

    A context manager: until it ends, everything lies in a folder of another name beside the store,
    which is renamed at the end and removed after an error.

    Args:
        path: The store to make; must not exist yet.
        field: The field (time, *space, channel) that the forecasts belong to.
        index: Row of the first target of each window [window], ascending.
        horizon: Number of predicted time steps.
        channels: Names of the predicted channels; all of the field by default.
        windows_per_chunk: Windows per chunk of the store.

    Raises:
        InputError: If the store exists or cannot be written, or the rows do not fit the field.
    """

    def __init__(
        self,
        path: str | Path,
        field: xr.DataArray,
        *,
        index: np.ndarray,
        horizon: int,
        channels: Sequence[str] | None = None,
        windows_per_chunk: int = 16,
    ) -> None:
        self._zarr = require_library(
            "zarr", purpose="a forecast store", install="stpatch_jax[zarr]"
        )
        self._path = Path(path)
        self._field = field
        self._names = _names(field, channels)
        self._coords = forecast_coords(field, index=index, horizon=horizon)
        self._shape = _shape(self._coords, field)
        self._chunk = max(1, min(windows_per_chunk, self._shape[0]))
        self._written = np.zeros(self._shape[0], bool)
        self._folder: Path | None = None
        self._group: Any = None

    def __enter__(self) -> Self:
        with _writable(self._path):
            _require_free(self._path)
            self._folder = Path(
                tempfile.mkdtemp(prefix=f".{self._path.name}.", dir=self._path.parent)
            )
            try:
                self._create(self._folder)
            except BaseException:
                shutil.rmtree(self._folder, ignore_errors=True)
                raise
        return self

    def write(self, first: int, values: np.ndarray) -> None:
        """Writes some windows.

        Args:
            first: Number of the first of them, from 0.
            values: Forecasts [windows, horizon, *space, channel] in the units of the field.

        Raises:
            InputError: If the windows do not fit the store, or the disk does not take them.
        """
        values = np.asarray(values)
        last = first + len(values)
        expected = (*self._shape[1:], len(self._names))
        require(
            values.shape[1:] == expected and 0 <= first <= last <= self._shape[0],
            f"windows to write must have the shape {expected} and lie in 0..{self._shape[0] - 1}, "
            f"but their shape is {values.shape[1:]} and they go from {first} to {last - 1}; give "
            "the windows that the index names",
        )
        with _writable(self._path):
            for at, name in enumerate(self._names):
                self._group[name][first:last] = values[..., at]
        self._written[first:last] = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        folder = self._folder
        if folder is None:
            return
        try:
            if kind is None:
                self._finish(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _finish(self, folder: Path) -> None:
        require(
            bool(self._written.all()),
            f"all {len(self._written)} windows must be written, but window "
            f"{int(self._written.argmin())} is not; write every window that the index names",
        )
        with _writable(self._path):
            self._zarr.consolidate_metadata(str(folder))
            _require_free(self._path)
            folder.chmod(0o755)
            folder.rename(self._path)

    def _create(self, folder: Path) -> None:
        """Writes the coordinates and makes the arrays, without any chunk yet."""
        # Format 2: it has texts as coordinates and is read by every library.
        self._coords.to_zarr(folder, mode="w", zarr_format=2, consolidated=False)
        self._group = self._zarr.open_group(str(folder), mode="r+")
        units = channel_units(self._field)
        for name in self._names:
            self._group.create_array(
                name,
                shape=self._shape,
                chunks=(self._chunk, *self._shape[1:]),
                dtype="float32",
                fill_value=np.nan,
                attributes={
                    "_ARRAY_DIMENSIONS": list(_dims(self._field)),
                    "coordinates": "valid_time",
                    **_attributes(name, units),
                },
            )


def write_csv(path: str | Path, forecasts: xr.Dataset) -> None:
    """Writes forecasts as a long table: one row per initial time, lead time and place.

    Args:
        path: The `.csv` or `.csv.gz` file to make; replaced if it exists.
        forecasts: What `forecast_dataset` returned.

    Raises:
        InputError: If the file cannot be written; then nothing is changed.
    """
    table = forecasts.to_dataframe().reset_index()
    first = ["init_time", "lead_time", "valid_time"]
    write_table(path, table[first + [name for name in table.columns if name not in first]])


def write_table(path: str | Path, table: Any) -> None:
    """Writes a table of pandas, without its index.

    Args:
        path: The `.csv` or `.csv.gz` file to make; replaced if it exists.
        table: The `pandas.DataFrame`.

    Raises:
        InputError: If the file cannot be written; then nothing is changed.
    """
    path = Path(path)
    with _writable(path):
        # The suffix decides about compression.
        number, name = tempfile.mkstemp(prefix=".", suffix=path.name, dir=path.parent)
        os.close(number)
        try:
            table.to_csv(name, index=False)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)


def _names(field: xr.DataArray, channels: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(str(name) for name in field.channel.values)
    return tuple(names[number] for number in channel_numbers(names, channels))


def _dims(field: xr.DataArray) -> tuple[str, ...]:
    return "init_time", "lead_time", *map(str, field.dims[1:-1])


def _shape(coords: xr.Dataset, field: xr.DataArray) -> tuple[int, ...]:
    return coords.sizes["init_time"], coords.sizes["lead_time"], *field.shape[1:-1]


def _attributes(name: str, units: Mapping[str, str]) -> dict[str, str]:
    return {"units": units[name]} if name in units else {}


def _require_free(path: Path) -> None:
    require(
        not path.exists(),
        f"forecasts must go to a new store, but {path} exists; remove it or give another name",
    )


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Turns what the file system refuses into one sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the output {path} must be writable, but writing gave: {error.strerror or error}; "
            "give a path in an existing folder with room"
        ) from error
