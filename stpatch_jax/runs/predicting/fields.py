"""Forecasts of fields by regions: the example of every window as in training, tiles of space."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from flax import nnx
from jax.tree_util import Partial

from stpatch_jax.data import FieldData
from stpatch_jax.data.fields.cleaning import as_floats
from stpatch_jax.data.fields.covariates import (
    horizon_of,
    lead_times,
    require_horizon,
    with_covariates,
)
from stpatch_jax.data.fields.slabs import SlabReader, known_counts
from stpatch_jax.data.fields.writers import (
    fill_table,
    forecast_table,
    variable_attributes,
    variable_names,
)
from stpatch_jax.data.identity import FieldIdentity
from stpatch_jax.data.protocols import EVERYTHING
from stpatch_jax.data.readers.conventions import channel_units
from stpatch_jax.data.readers.dates import time_encoding
from stpatch_jax.data.sampling.spacing import can_insert
from stpatch_jax.data.times import TimeAxis, time_text
from stpatch_jax.errors import listed, require, warn
from stpatch_jax.files import clear_unfinished, has_suffix, replaced, unfinished
from stpatch_jax.inference import predict_field
from stpatch_jax.inference.fields import Derived, field_program
from stpatch_jax.inference.job import TiledJob
from stpatch_jax.inference.store import LAYOUT
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.predicting.predictor import Predictor, Request, predictors
from stpatch_jax.runs.trained import TrainedRun
from stpatch_jax.tasks import Forecast

# The most that forecasts may be rounded by, as a share of two standard deviations.
_ROUNDED = 1e-3


@predictors(Forecast, FieldData)
class FieldPredictor(Predictor):
    """Forecasts a field region by region.

    A `.zarr` target appears when all of it is there, and what was killed goes on; an `.nc` or
    `.csv` is written out of such a store. A field of the space that the run was trained on is taken
    whole. Over a larger one the model is tiled, in windows of that space which overlap by half and
    are blended.

    Of quantiles every variable has the dim `quantile`, and a table the columns `NAME_LEVEL`; where
    the run warns of values above (below) a threshold, two quantiles or more give their probability,
    such as `load_exceedance_probability` (`load_non_exceedance_probability`), see the metric
    `exceedance_probability`. A threshold that is a quantile of the training rows is known for the
    cells of the run.

    A series has a forecast where it had a value in training and has one in the rows of the file
    that the forecasts are made from; elsewhere, as over land, it is missing.
    """

    suffixes = (".zarr", ".nc", *Predictor.suffixes)
    takes = ("every", "process_count")
    task: Forecast
    data: FieldData

    def __init__(self, run: TrainedRun, data: FieldData, request: Request):
        super().__init__(run, data, request)
        coming = data.coming
        if coming is None or not (lacking := data.horizon - len(coming)):
            return
        # Forecasts of the past need no more than the file.
        rows = len(data.field) - lacking
        if request.every is None or rows < self._past:
            told = {"name": request.source, "advice": "give a longer file, or future="}
            axis, known = TimeAxis.of(data.times), data.roles.known
            require_horizon(axis, len(coming), known, data.horizon, **told)
        later = data.field[rows:, ..., -coming.shape[-1] :]
        how: Any = {"coords": "minimal", "compat": "override", "join": "override"}
        coming = xr.concat([later, coming], "time", **how)
        splits = {EVERYTHING: range(self._past, rows + data.horizon)}
        self.data = replace(data, field=data.field[:rows], coming=coming, splits=splits)

    def write(self, target: Path) -> str:
        """As in `Predictor`."""
        written = self._told(target)
        if has_suffix(target, ".zarr"):
            complete = self._forecast(target)
            return written if complete else f"other processes are still at work: {target}"
        require(
            self.request.process_count in (None, 1),
            "process_count= must be 1 for all but a .zarr output, got "
            f"{self.request.process_count} "
            f"for {target}; choose a .zarr",
        )
        if told := clear_unfinished(target.parent, name=target.name):
            warn(told, stacklevel=3)
        with replaced(target) as part:
            whole = self.result(beside=target)
            if has_suffix(target, ".nc"):
                for variable in whole.variables.values():
                    variable.encoding = time_encoding(
                        variable.to_numpy().ravel(), variable.encoding
                    )
                whole.to_netcdf(part)
            else:
                fill_table(part, forecast_table(whole, field=self.data.field))
        return written

    def result(self, *, beside: Path | None = None) -> xr.Dataset:
        """The forecasts in memory, as `forecast_dataset` has them, with the run as attributes.

        They are computed into a store beside a file, or where temporary files lie.
        """
        where = {"dir": beside.parent, "prefix": f"{unfinished(beside).name}~"} if beside else {}
        with tempfile.TemporaryDirectory(**where) as folder:
            self._forecast(store := Path(folder, "forecasts.zarr"))
            unit = "ns" if self._valid.dtype == "M8[ns]" else "us"
            coder = xr.coders.CFDatetimeCoder(time_unit=unit)
            how: dict[str, Any] = {"engine": "zarr", "chunks": None, "decode_times": coder}
            with xr.open_dataset(store, **how) as forecasts:
                whole = forecasts.load()
        del whole.attrs[LAYOUT]
        return whole

    def table(self) -> pd.DataFrame:
        """The result as `forecast_table` lays it out."""
        return forecast_table(self.result(), field=self.data.field)

    @cached_property
    def _field(self) -> xr.DataArray:
        """The rows that forecasts are made from."""
        field = self.data.field
        if self.request.every is not None:
            return field
        last = self.data.segments[-1]
        inserted = "data.gaps insert, " if can_insert(TimeAxis.of(self.data.times)) else ""
        require(
            len(last) >= self._past,
            f"{self.request.source} must end with {self._past} rows without a gap in time, got "
            f"{len(last)} since {time_text(self.data.times[last.start])}; give a longer file, "
            f"{inserted}or every= for forecasts before the gap",
        )
        return field[len(field) - self._past :]

    @cached_property
    def _leads(self) -> tuple[int, ...]:
        """The leads at which a region is told the known covariates of its horizon."""
        every = lead_times(context=self._past, horizon=self.data.horizon)
        return every if self.data.roles.known else ()

    @cached_property
    def _request(self) -> xr.DataArray:
        """The rows, with what is known ahead of them and static fields as further channels."""
        if not self._leads and self.data.static is None:
            return self._field
        roles = self.data.roles
        whole = with_covariates(self._field, roles, self.data.coming, self._leads)
        return whole.drop_vars([name for name in roles.static if name not in whole.dims])

    @cached_property
    def _valid(self) -> np.ndarray:
        """The times of the targets [forecast, horizon]."""
        rows = len(self.data.field)
        first = rows - len(self._field) + self._past
        index = np.arange(first, rows + 1, self.request.every or 1)
        return self.valid_times(self.data.times, index, self.data.horizon)

    def _told(self, target: Path) -> str:
        """How many forecasts there are, and which of them are missing."""
        count, every = len(self._valid), self.request.every
        told = f"{count} forecast{'s' * (count > 1)} of {self.data.horizon} time steps: {target}"
        if every and (across := np.count_nonzero(~self._whole[self._past :: every])):
            told += f" ({across} of them missing, as their rows cross a gap in time)"
        if none := self._known.size - np.count_nonzero(self._known):
            told += f"; missing for {none} of {self._known.size} series, of which nothing is known"
        return told

    @property
    def _own(self) -> tuple[int, ...]:
        """The cells that the run was trained on."""
        return FieldIdentity.of_state(self.run.state).shape

    @property
    def _past(self) -> int:
        """Rows that a forecast needs."""
        return self.data.splits[EVERYTHING].start

    @cached_property
    def _known(self) -> np.ndarray:
        """Where there is a forecast [*space, channel]; warns where the run knew more."""
        field = self._field[..., : len(self.data.roles.targets)]
        trained = np.broadcast_to(self.data.target_cleaner.known_at(), field.shape[1:])
        rows, reader = range(len(field)), SlabReader(field, cache_bytes=0)
        there = known_counts(reader, rows, among=trained) > 0
        lost = int(np.count_nonzero(trained & ~there))
        if lost and field.shape[1:-1] == self._own:
            warn(
                f"{self.request.source} has no value of {lost} of {there.size} series, which the "
                f"run knows, in the {len(rows)} rows that forecasts are made from; theirs are "
                "missing",
                stacklevel=3,
            )
        return trained & there

    @cached_property
    def _whole(self) -> np.ndarray:
        """Whether the forecast whose targets begin at a row crosses no gap [row], bool."""
        whole = np.zeros(len(self.data.field) + 1, bool)
        for span in self.data.spans[EVERYTHING]:
            whole[span.start : span.stop - self.data.horizon + 1] = True
        return whole

    def _forecast(self, store: Path) -> bool:
        same = ("process_index", "process_count", "progress")
        return predict_field(
            self._function(self.run.model),
            self._request,
            store,
            self._windows(self._field),
            **self._asked(),
            valid=self._valid,
            restore=self.data.target_cleaner.inverse,
            derived=self._alerts(),
            known=None if self._known.all() else self._known,
            encoding=self._encoding,
            attrs=self.run.identity,
            **{name: getattr(self.request, name) for name in same},
        )

    def _asked(self) -> dict[str, Any]:
        """What the program of a region depends on, beside function, field and windows."""
        return {
            "horizon": self.data.horizon,
            "prepare": self._inputs(),
            "channels": self.data.roles.targets,
            "quantiles": self._levels,
        }

    def program(self, model: nnx.Module, device: Any) -> tuple[TiledJob, jax.ShapeDtypeStruct, int]:
        """The program of a region for a device, with a network of shapes, see `field_program`."""
        windows = self._windows(self._field)
        function = self._function(model)
        return field_program(function, self._request, windows, device=device, **self._asked())

    @property
    def _encoding(self) -> dict[str, str] | None:
        """Float64 for values of a field that float32 would round beside what they vary by."""
        if np.can_cast(self.data.field.dtype, np.float32):
            return None
        ones = np.ones((*[1] * len(self._own), len(self.data.roles.targets)))
        below, above = (self.data.target_cleaner.inverse(sign * ones) for sign in (-1, 1))
        rounded = np.finfo(np.float32).eps * np.maximum(abs(below), abs(above))
        coarse = rounded > _ROUNDED * (above - below)
        return {"dtype": "float64"} if coarse.any() else None

    @property
    def _levels(self) -> tuple[float, ...]:
        return self.task.config.quantiles

    def _alerts(self) -> Derived | None:
        """The probability of the event that the run warns of, by the quantiles."""
        alert, levels = self.data.config.alert, self._levels
        targets = self.data.roles.targets
        if alert.event == "none" or len(levels) < 2:
            return None
        if alert.quantile and self.data.fitted.get("thresholds") is None:
            return None
        bounds = self.data.alert_thresholds() if alert.quantile else self.data.alert_levels()
        warned = np.flatnonzero(np.isfinite(bounds.reshape(-1, len(targets))).any(axis=0))
        quantile = f"the quantile {alert.threshold:g} of its training rows"
        prefix, units = "non_" * (alert.event == "below"), channel_units(self.data.targets)
        names = {at: f"{targets[at]}_{prefix}exceedance_probability" for at in warned}
        called, told = variable_names(list(names.values()), self.data.targets), {}
        for at, name in names.items():
            unit = units.get(targets[at], "")
            bound = quantile if alert.quantile else f"{bounds[at]:g} {unit}".strip()
            about = f"probability of {targets[at]} {alert.event} {bound}"
            attrs = {"long_name": about, "units": "1"}
            told[called[name]] = variable_attributes(name, called[name], attrs, self.data.targets)

        def of(values: np.ndarray, cells: tuple[slice, ...]) -> np.ndarray:
            quantiles = np.moveaxis(values[..., warned], 0, -1)
            own = bounds[cells] if alert.quantile else bounds
            return alert.probability_of(quantiles, own[..., warned], quantiles=levels)

        return Derived(told, of) if len(warned) else None

    def _windows(self, field: xr.DataArray) -> WindowSpec:
        own, every = self._own, self.request.every or 1
        if field.shape[1:-1] == own:
            whole = (None,) * len(own)
            return WindowSpec((self._past, *whole), stride=(every, *whole))
        combined = self.data.combination.rules if self.data.combination else ()
        fitted = {"drift", "regression"} & {*self.task.inputs, *combined}
        require(
            not fitted,
            f"{self.request.source} must have the cells of the run, {own}, as its forecasts are "
            f"drawn towards the {listed(sorted(fitted))} of each of them, got "
            f"{field.shape[1:-1]}; train a run with another task.weighed_against",
        )
        return WindowSpec(
            (self._past, *own),
            stride=(every, *(max(cells // 2, 1) for cells in own)),
            padding=("VALID", *("COVER",) * len(own)),
            padding_mode="reflect",
        )

    def _inputs(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """What makes the inputs of the windows in some rows, see `predict_field`.

        An input has the rows of all arrays that the task reads, one after the other: the context,
        then the naive forecasts, with as many channels as the context by zeros.
        """
        data, horizon, timeline = self.data, self.data.horizon, self.data.timeline
        every = self.request.every or 1

        def prepare(values: np.ndarray, times: np.ndarray) -> np.ndarray:
            last = int(np.searchsorted(timeline, times[-1])) + 1
            values, ahead, static = np.split(as_floats(values), self._parts, axis=-1)
            unknown = np.full((horizon, *values.shape[1:]), np.nan, values.dtype)
            if self._leads:
                unknown[..., -len(data.roles.known) :] = horizon_of(ahead, self._leads)
            whole = np.concatenate([times, timeline[last : last + horizon]])
            dims = ("time", *(f"axis_{at}" for at in range(values.ndim - 2)), "channel")
            coords = {"time": whole, "channel": list(data.cleaner.channels)}
            for at, name in enumerate(data.roles.static):
                coords[name] = (dims[1:-1], static[0, ..., at])
            field = xr.DataArray(np.concatenate([values, unknown]), coords, dims)
            splits = {EVERYTHING: range(self._past, len(field))}
            known = {"fitted": data.fitted, "known_segments": (range(len(field)),)}
            known |= {"static_cleaner": data.static_cleaner}
            part = FieldData(data.config, field, data.cleaner, splits, {}, **known)
            examples = part.source(EVERYTHING)
            inputs = [self._joined(examples[at]) for at in range(0, len(examples), every)]
            # Nothing is known across a gap, nor is what follows from it.
            whole = self._whole[last - len(times) + self._past :: every][: len(inputs)]
            return np.where(whole.reshape(-1, *[1] * inputs[0].ndim), np.stack(inputs), np.nan)

        return prepare

    @cached_property
    def _parts(self) -> list[int]:
        """Where the channels that are told ahead, and the static ones, begin in a request."""
        own = self._field.shape[-1]
        return [own, own + len(self._leads) * len(self.data.roles.known)]

    def _joined(self, example: dict[str, np.ndarray]) -> np.ndarray:
        arrays = [example[name] for name in self.task.inputs]
        widest = arrays[0].shape[-1]
        none = [(0, 0)] * (arrays[0].ndim - 1)
        return np.concatenate([np.pad(x, [*none, (0, widest - x.shape[-1])]) for x in arrays])

    def _function(self, model: nnx.Module) -> Partial:
        """From inputs [window, rows, *space, features] to forecasts in scaled units."""
        shapes, task = self.run.shapes, self.task
        rows = np.cumsum([shapes[name][1] for name in task.inputs])
        graphdef, state = nnx.split(model)

        def forecast(state: Any, inputs: jax.Array) -> jax.Array:
            parts = zip(task.inputs, jnp.split(inputs, rows[:-1], axis=1), strict=True)
            batch = {name: part[..., : shapes[name][-1]] for name, part in parts}
            merged: Any = nnx.merge(graphdef, state)
            values = task.predict(merged, batch)
            # Quantiles run fastest in one axis with the channels.
            return values.reshape(*values.shape[:-2], -1) if self._levels else values

        return Partial(forecast, state)
