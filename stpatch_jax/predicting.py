"""Forecasts of a finished run for other files of the same kind, with their coordinates."""

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from flax import nnx
from tqdm import tqdm

from stpatch_jax.configs import from_values
from stpatch_jax.data import (
    Cleaner,
    FieldConfig,
    FieldWindows,
    ForecastWriter,
    forecast_dataset,
    open_field,
    write_csv,
)
from stpatch_jax.errors import InputError, require
from stpatch_jax.rundir import RunDirectory
from stpatch_jax.running import RunConfig, for_these_devices
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import Checkpoints, make_mesh, restore_state, whole_model

_BATCH = 16


class FieldForecaster:
    """The model of a finished run, without the data it was trained on.

    Args:
        workdir: The run directory of a forecast on fields (its data are a `FieldConfig`).

    Raises:
        InputError: The directory is no such run, or has no checkpoint yet.
    """

    def __init__(self, workdir: str | Path):
        self.directory = RunDirectory(workdir)
        config = for_these_devices(from_values(RunConfig, self.directory.config()))
        require(
            isinstance(config.data, FieldConfig) and isinstance(config.task, ForecastConfig),
            f"stpatch predict needs the run of a forecast on fields, but {workdir} is "
            f"{type(config.task).__name__} on {type(config.data).__name__}; `stpatch evaluate` "
            "reports on it",
        )
        self.config = config
        self.data: Any = config.data
        require(
            self.directory.checkpoints.is_dir(),
            f"the run in {workdir} must have a checkpoint, but it has none yet; train it first",
        )
        with Checkpoints(self.directory.checkpoints) as checkpoints:
            step = checkpoints.latest_step
            if step is None:
                raise InputError(
                    f"the run in {workdir} must have a checkpoint, but none was committed yet; "
                    "train it first"
                )
            extras = checkpoints.extras(step)
        require(
            "task" in extras and "space" in extras["scaler"],
            f"the run in {workdir} must be of this version, but its checkpoint lacks what stpatch "
            "predict needs; train it anew",
        )
        self.space = tuple(extras["scaler"]["space"])
        self.cleaner = Cleaner.from_dict(extras["scaler"])
        self.task: Any = from_values(type(config.task), extras["task"]).create()

    def open(self, source: str) -> xr.DataArray:
        """Opens a file as the run's data were.

        Raises:
            InputError: It cannot be read, has other channels or cells, or too few rows for a
                context.
        """
        variables = None if self.data.variables is None else list(self.data.variables)
        field = open_field(source, variables=variables)
        names = tuple(str(name) for name in field.channel.values)
        require(
            names == self.cleaner.channels,
            f"{source} must have the channels of the run, {', '.join(self.cleaner.channels)}, but "
            f"it has {', '.join(names)}; give a file of the same kind",
        )
        require(
            field.shape[1:-1] == self.space,
            f"{source} must have the cells of the run, {self.space}, but it has "
            f"{field.shape[1:-1]} along {field.dims[1:-1]}; give a file of the same kind",
        )
        require(
            len(field) >= max(2, self.data.context),
            f"{source} must have the rows of one context, {self.data.context}, but it has "
            f"{len(field)}; give a longer file",
        )
        return field

    def example(self, field: xr.DataArray, row: int) -> dict[str, np.ndarray]:
        """The inputs of the forecast whose first target is a row; only its context is read."""
        context, horizon = self.data.context, self.data.horizon
        known = field[row - context : row].load()
        times = known.time.values
        step = times[-1] - times[-2] if context > 1 else field.time.values[1] - times[-1]
        coming = times[-1] + step * np.arange(1, horizon + 1)
        unknown = xr.full_like(known[:1].astype(np.float32), np.nan)
        unknown = xr.concat([unknown] * horizon, "time").assign_coords(time=coming)
        windows = FieldWindows(
            xr.concat([known, unknown], "time"),
            range(context, context + horizon),
            self.cleaner,
            context=context,
            horizon=horizon,
            calendar=self.data.calendar,
            mask_channel=self.data.mask_channel,
        )
        return windows[0]

    def forecasts(self, field: xr.DataArray, index: np.ndarray) -> Iterator[np.ndarray]:
        """Forecasts in the units of the field [windows, horizon, *space, channel], in batches."""
        first = self.example(field, int(index[0]))
        shapes = {name: (1, *first[name].shape) for name in ("context", "target")}
        mesh = make_mesh(**dataclasses.asdict(self.config.train.mesh))

        def create(rngs: nnx.Rngs) -> nnx.Module:
            return self.task.build(self.config.model, shapes, rngs=rngs)

        with Checkpoints(self.directory.checkpoints) as checkpoints:
            restored = restore_state(create, self.config.train, checkpoints, mesh)
        assert restored is not None  # the first look at the directory found a checkpoint
        model = nnx.view(restored[0].averaged(), deterministic=True, raise_if_not_found=False)
        graphdef, state = nnx.split(whole_model(model, mesh))
        predict = jax.jit(
            lambda state, batch: self.task.point(
                self.task.predict(nnx.merge(graphdef, state), batch)
            )
        )
        for start in range(0, len(index), _BATCH):
            rows = index[start : start + _BATCH]
            examples = [self.example(field, int(row)) for row in rows]
            examples += examples[-1:] * (_BATCH - len(rows))
            batch = {
                name: np.stack([example[name] for example in examples])
                for name in ("context", "persistence")
            }
            values = np.asarray(predict(state, batch))[: len(rows)]
            yield self.cleaner.inverse(values)


def predict(
    workdir: str | Path,
    source: str,
    target: str | Path,
    *,
    every: int | None = None,
    progress: bool = True,
) -> str:
    """Forecasts a file with the model of a run, and writes the forecasts with their coordinates.

    The data that the run was trained on are not needed. Only the contexts are read, so the file may
    be larger than memory; a `.zarr` target is written as the forecasts come, `.nc` and `.csv` at
    the end, and each appears when it is whole.

    Args:
        workdir: The run directory of a forecast on fields.
        source: The file, folder or URL to forecast: what `open_field` reads, with the channels and
            the space of the run.
        target: A `.zarr`, `.nc`, `.csv` or `.csv.gz` to make; must not exist yet.
        every: Forecasts begin every so many time steps, at each row from the first context on; None
            for one forecast, of what follows the file.
        progress: Whether to show a bar on stderr.

    Returns:
        One sentence of what was written.

    Raises:
        InputError: The run, the file or the target cannot be used; nothing was written.
    """
    target = Path(target)
    kinds = (".zarr", ".nc", ".csv", ".csv.gz")
    require(
        target.name.endswith(kinds),
        f"the forecasts must go to a file whose name ends with {', '.join(kinds)}, but it is "
        f"{target}; choose one of them",
    )
    require(not target.exists(), f"{target} must not exist yet, but it does; choose another name")
    require(
        every is None or every >= 1,
        f"--every must be at least 1 time step, but it is {every}; leave it out for one forecast",
    )
    forecaster = FieldForecaster(workdir)
    field = forecaster.open(source)
    last = len(field)
    rows = [last] if every is None else range(forecaster.data.context, last + 1, every)
    index = np.asarray(rows, np.int64)
    horizon = forecaster.data.horizon
    bar = tqdm(total=len(index), desc="predict", unit=" windows", disable=not progress)
    with bar:
        batches = _counted(forecaster.forecasts(field, index), bar)
        if target.name.endswith(".zarr"):
            with ForecastWriter(target, field, index=index, horizon=horizon) as writer:
                for number, values in enumerate(batches):
                    writer.write(number * _BATCH, values)
        else:
            _write_whole(target, field, list(batches), index)
    return f"{len(index)} forecasts of {horizon} time steps: {target}"


def _counted(batches: Iterator[np.ndarray], bar: Any) -> Iterator[np.ndarray]:
    for values in batches:
        yield values
        bar.update(len(values))


def _write_whole(
    target: Path, field: xr.DataArray, batches: Sequence[np.ndarray], index: np.ndarray
) -> None:
    forecasts = forecast_dataset(np.concatenate(batches), field, index=index)
    if target.suffix != ".nc":
        write_csv(target, forecasts)
        return
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
            part = Path(folder, target.name)
            forecasts.to_netcdf(part)
            part.replace(target)
    except OSError as error:
        raise InputError(
            f"{target} must be writable, but it is not ({error}); choose another name"
        ) from error
