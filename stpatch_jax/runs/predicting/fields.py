"""Forecasts of fields by regions: the example of every window as in training, tiles of space."""

import dataclasses
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

from stpatch_jax.data import Cleaner, Climatology, FieldConfig, FieldData, open_field, write_csv
from stpatch_jax.data.fields.cleaning import as_floats
from stpatch_jax.errors import InputError, require
from stpatch_jax.inference import predict_field
from stpatch_jax.inference.store import LAYOUT
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.trained import TrainedRun


class FieldForecaster:
    """What a run that forecasts fields makes of the windows of other fields.

    A field of the space that the run was trained on is taken whole. Over a larger one the model is
    tiled, in windows of that space which overlap by half and are blended; that needs a cleaning
    that knows no place: `cleaning.per="channel"` and no climatology.

    Args:
        run: The run; its data are a `FieldConfig`.
    """

    def __init__(self, run: TrainedRun):
        self.run = run
        self.space = tuple(run.scaler["space"])
        self.cleaner = Cleaner.from_dict(run.scaler)
        self.data = _needed(run)
        self.past = max(self.data.context, self.data.season)
        self.means: Climatology | None = None
        if self.data.climatology is not None:
            self.means = Climatology.from_dict(run.scaler["means"])

    def open(self, source: str) -> xr.DataArray:
        """Opens a file as the run's data were.

        Raises:
            InputError: It cannot be read, has other channels, series or cells, or too few rows for
                a context.
        """
        variables = None if self.data.variables is None else list(self.data.variables)
        field = open_field(source, variables=variables)
        names = tuple(str(name) for name in field.channel.values)
        require(
            names == self.cleaner.channels,
            f"{source} must have the channels of the run, {', '.join(self.cleaner.channels)}, but "
            f"it has {', '.join(names)}; give a file of the same kind",
        )
        self._check_space(source, field)
        require(
            len(field) >= self.past,
            f"{source} must have the {self.past} rows that a forecast needs, but it has "
            f"{len(field)}; give a longer file",
        )
        return field

    def spec(self, field: xr.DataArray, every: int) -> WindowSpec:
        """The windows of a forecast every so many time steps."""
        if field.shape[1:-1] == self.space:
            whole = (None,) * len(self.space)
            return WindowSpec((self.past, *whole), stride=(every, *whole))
        return WindowSpec(
            (self.past, *self.space),
            stride=(every, *(max(cells // 2, 1) for cells in self.space)),
            padding=("VALID", *("COVER",) * len(self.space)),
            padding_mode="reflect",
        )

    def prepare(
        self, times: np.ndarray, every: int
    ) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """What makes the inputs of the windows in some rows, see `predict_field`.

        An input has the rows of all arrays that the task reads, one after the other: the context,
        then the naive forecasts, with as many channels as the context by zeros.

        Args:
            times: Times of the whole field.
            every: Time steps between forecasts.
        """
        horizon = self.data.horizon
        step = times[-1] - times[-2] if len(times) > 1 else 1
        timeline = np.concatenate([times, times[-1] + step * np.arange(1, horizon + 1)])

        def prepare(values: np.ndarray, times: np.ndarray) -> np.ndarray:
            last = int(np.searchsorted(timeline, times[-1])) + 1
            values = as_floats(values)
            unknown = np.full((horizon, *values.shape[1:]), np.nan, values.dtype)
            field = xr.DataArray(
                np.concatenate([values, unknown]),
                dims=("time", *(f"axis_{at}" for at in range(values.ndim - 2)), "channel"),
                coords={
                    "time": np.concatenate([times, timeline[last : last + horizon]]),
                    "channel": list(self.cleaner.channels),
                },
            )
            targets = range(self.past, len(field))
            data = FieldData(self.data, field, self.cleaner, {"coming": targets}, {}, self.means)
            examples = data.source("coming")
            return np.stack([self._joined(examples[at]) for at in range(0, len(examples), every)])

        return prepare

    @cached_property
    def function(self) -> Any:
        """From inputs [window, rows, *space, features] to forecasts in scaled units."""
        shapes, task = self.run.shapes, self.run.task
        rows = np.cumsum([shapes[name][1] for name in task.inputs])

        def predict(model: Any, inputs: Any) -> Any:
            parts = zip(task.inputs, jnp.split(inputs, rows[:-1], axis=1), strict=True)
            batch = {name: part[..., : shapes[name][-1]] for name, part in parts}
            return task.point(task.predict(model, batch))

        return self.run.function(predict, shapes)

    def _joined(self, example: dict[str, np.ndarray]) -> np.ndarray:
        arrays = [example[name] for name in self.run.task.inputs]
        widest = arrays[0].shape[-1]
        none = [(0, 0)] * (arrays[0].ndim - 1)
        return np.concatenate([np.pad(x, [*none, (0, widest - x.shape[-1])]) for x in arrays])

    def _check_space(self, source: str, field: xr.DataArray) -> None:
        cells, dims = field.shape[1:-1], field.dims[1:-1]
        series = _series(field)
        require(
            series in (None, self.run.series),
            f"{source} must have the series of the run in their order, {_short(self.run.series)}, "
            f"but it has {_short(series or [])}; give a table with these columns",
        )
        if cells == self.space:
            return
        require(
            len(cells) == len(self.space)
            and series is None
            and all(n >= own for n, own in zip(cells, self.space, strict=True)),
            f"{source} must have the cells of the run, {self.space}, or more of them to be tiled, "
            f"but it has {cells} along {dims}; give a file of the same kind",
        )
        config = self.cleaner.config
        require(
            config.per == "channel" and config.missing != "climatology" and self.means is None,
            f"{source} must have the cells of the run, {self.space}, but it has {cells} along "
            f"{dims}, and something of this run was fitted cell by cell; train one with "
            "--data.cleaning.per channel and no climatology, whose model can be tiled",
        )


def forecast_field(
    run: TrainedRun,
    source: str,
    target: Path,
    *,
    every: int | None,
    process: tuple[int | None, int | None],
    progress: bool,
) -> str:
    """Forecasts a field region by region; see `predict`.

    A `.zarr` target appears when all of it is there, and what was killed goes on; an `.nc` or
    `.csv` is written out of such a store.

    Raises:
        InputError: The run, the file or the target cannot be used.
    """
    forecaster = FieldForecaster(run)
    field = forecaster.open(source)
    past, horizon, times = forecaster.past, forecaster.data.horizon, field.time.values
    if every is None:
        require(
            past > 1,
            "the distance of rows is told by a context of two or more, but that of the run is 1; "
            "give --every 1",
        )
        field = field[len(field) - past :]
    steps = every or 1
    count = (len(field) - past) // steps + 1
    told = f"{count} forecast{'s' * (count > 1)} of {horizon} time steps: {target}"

    def forecast(store: Path) -> bool:
        return predict_field(
            forecaster.function,
            field,
            store,
            forecaster.spec(field, steps),
            horizon=horizon,
            prepare=forecaster.prepare(times, steps),
            restore=forecaster.cleaner.inverse,
            attrs=run.identity,
            process_index=process[0],
            process_count=process[1],
            progress=progress,
        )

    if target.name.endswith(".zarr"):
        return told if forecast(target) else f"other processes are still at work: {target}"
    require(
        process[1] in (None, 1),
        f"processes share a .zarr target only, but it is {target}; choose one",
    )
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
            store = Path(folder, "forecasts.zarr")
            forecast(store)
            _convert(store, target, Path(folder, target.name))
    except OSError as error:
        raise InputError(
            f"{target} must be writable, but it is not ({error}); choose another name"
        ) from error
    return told


def _convert(store: Path, target: Path, part: Path) -> None:
    """Writes a store of forecasts as one file."""
    with xr.open_zarr(store, chunks=None) as forecasts:
        whole = forecasts.load()
    del whole.attrs[LAYOUT]
    if target.suffix != ".nc":
        write_csv(target, whole)
        return
    for variable in whole.variables.values():
        variable.encoding.clear()
    whole.to_netcdf(part)
    part.replace(target)


def _needed(run: TrainedRun) -> FieldConfig:
    """The settings of the data without naive forecasts that the model does not read."""
    config: FieldConfig | Any = run.config.data
    if "seasonal_persistence" not in run.task.inputs:
        config = dataclasses.replace(config, season=0)
    kept = config.anomalies or config.climatology_channel or "climatology" in run.task.inputs
    return config if kept else dataclasses.replace(config, climatology=None)


def _series(field: xr.DataArray) -> list[str] | None:
    """The names of a panel's series; None for a field whose cells have no names."""
    names = field[field.dims[1]].values
    return list(map(str, names)) if field.ndim == 3 and names.dtype.kind in "UO" else None


def _short(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
