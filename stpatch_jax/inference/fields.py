"""Predictions of fields larger than memory: region by region, from file to zarr."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import SingleDeviceSharding
from tqdm.auto import tqdm

from stpatch_jax.data import open_field
from stpatch_jax.data.digests import digest_of
from stpatch_jax.data.fields.cleaning import check_field
from stpatch_jax.data.fields.in_memory import as_field
from stpatch_jax.data.fields.writers import (
    QUANTILE,
    forecast_coords,
    variable_attributes,
    variable_names,
    with_levels,
)
from stpatch_jax.data.readers import require_library
from stpatch_jax.data.readers.conventions import channel_attributes, channel_units
from stpatch_jax.errors import InputError, check_range, check_size, listed, require, shortened
from stpatch_jax.files import from_json, to_json
from stpatch_jax.inference.augmenting import Pair
from stpatch_jax.inference.blending import make_weights, require_cover, wide_dtype
from stpatch_jax.inference.encoding import Encoding
from stpatch_jax.inference.job import Predict, Reduce, TiledJob
from stpatch_jax.inference.regions import Regions, field_cells, make_regions
from stpatch_jax.inference.store import LAYOUT, RegionStore
from stpatch_jax.inference.tiles import Scale, factors_of, make_layout
from stpatch_jax.patches.blends import Blend
from stpatch_jax.patches.extraction import Spec
from stpatch_jax.patches.lowerings import Axes
from stpatch_jax.patches.windows import WindowSpec

# Values of a slab, of all channels: some copies of it stay far below a gigabyte.
_SLAB_VALUES = 2**24

Prepare = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From values [cells, *space, channel] and times [cells] to [windows, rows, *space, features]."""
Restore = Callable[[np.ndarray], np.ndarray]
"""From predictions [..., *space, channel] to the same in other units."""


@dataclasses.dataclass(frozen=True)
class Derived:
    """Further variables that follow from predictions, such as the probability of an event.

    Attributes:
        variables: Attributes of the further variables by their names, one for each predicted
            channel in the same order.
        of: From predictions of a region [(quantile,) *cells, channel], as they are stored, and its
            cells of space, to [*cells, channel].
    """

    variables: Mapping[str, Mapping[str, str]]
    of: Callable[[np.ndarray, tuple[slice, ...]], np.ndarray]


def predict_field(
    fn: Predict,
    source: xr.DataArray | xr.Dataset | str | Path,
    target: str | Path,
    spec: Spec,
    *,
    blend: Blend = "hann",
    scale: Scale = 1,
    horizon: int | None = None,
    valid: np.ndarray | None = None,
    prepare: Prepare | None = None,
    restore: Restore | None = None,
    known: np.ndarray | None = None,
    channels: Sequence[str] | None = None,
    quantiles: Sequence[float] = (),
    derived: Derived | None = None,
    units: Mapping[str, str] | None = None,
    attrs: Mapping[str, str] | None = None,
    region: Sequence[int | None] | None = None,
    memory_budget: int | None = None,
    fill: float | None = None,
    reduce: Reduce | None = None,
    augment: Sequence[Pair] = (),
    encoding: Mapping[str, Any] | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
    progress: bool = True,
) -> bool:
    """Applies a function of windows to a field of any size and writes the result as zarr.

    What `sliding_window_apply` gives for the whole field, to the last bits of a sum, by regions:
    each is predicted from all windows that reach into it, so there are no seams, and is a chunk of
    the store. All regions are predicted by one compiled program (the last along an axis of
    FLUSH windows by another).

    Until all regions are there, everything lies in the folder `.stpatch-part.NAME` beside the
    target. The same call goes on where another one was stopped, by whatever it was, and ends with
    the same bits. Several processes that make the same call share the regions, on one machine or
    more with a common file system; the one that ends last makes the target appear.

    Args:
        fn: As in `sliding_window_apply`, with one array as output, in the units of the target.
        source: Field (time, *space, channel), lazy or in memory, all that `as_field` takes, or a
            file for `open_field`.
        target: The store to make. One that holds the same prediction already is left as it is.
        spec: The windows.
        blend: What a window's cells count, as in `sliding_window_apply`.
        scale: Output cells per input cell. Coordinates of one axis are interpolated.
        horizon: Number of lead times; the result then has the dims (init_time, lead_time, *space)
            and the valid times.
        valid: With a horizon, the times of the targets [window along time, lead time]; by default
            those of the rows, or what follows them by their step.
        prepare: With a horizon, what the host makes of the time steps of a region: one input for
            each window along time, of any number of rows, which `fn` gets in windows of space. For
            what may not look beyond a window, such as filling gaps. By default the windows.
        restore: What the host makes of predictions; by default nothing.
        known: Bool [*space, channel] of the target, False where nothing is known that a prediction
            could come from, such as land in a sea: there it is NaN. By default True.
        channels: Names of the predicted channels, which become variables; by default those of the
            field.
        quantiles: Levels of the quantiles that are predicted of every channel: the last axis of the
            predictions then is (channel, quantile) in one, quantiles running fastest, and the
            variables have the dim `quantile` before all others. `restore` gets them so, too.
        derived: Further variables, without that dim.
        units: Units by channel; by default those of the field for channels of the same name.
        attrs: Attributes of the store, such as the model's name. A target of other ones counts as
            another prediction.
        region: Cells of a region along (time, *space), None for a whole axis; with a horizon,
            windows along time. Rounded up to strides; rings are never cut.
        memory_budget: Bytes for a region's program, as in `sliding_window_apply`.
        fill: What cells hold that no weight reaches; by default they are refused.
        reduce: As in `sliding_window_apply`, before `restore`, to one array: its last axis are the
            predicted channels, or it has none and is one channel. The store has its dtype.
        augment: As in `sliding_window_apply`.
        encoding: How variables are stored, by the names of xarray: `chunks` and `shards` in cells
            of the target (regions are rounded up to whole ones, so that no two write in one),
            `compressors` of zarr, and `dtype`. By default a region is a chunk. The store is of
            format 2, and with shards of format 3, each with its own codecs.
        process_index: Number of this process, by default JAX's. It predicts the regions whose
            number leaves this rest.
        process_count: Number of processes.
        progress: Whether to show a bar.

    Returns:
        Whether the target is complete; False while other processes are at work.

    Raises:
        InputError: The target exists with another layout or cannot be written, channels do not
            fit, or as in `sliding_window_apply`.
    """
    field = open_field(source) if isinstance(source, str | Path) else as_field(source)
    check_field(field)
    job = _Job(
        fn,
        field,
        WindowSpec.of(spec),
        blend=blend,
        scale=scale,
        horizon=horizon,
        valid=valid,
        prepare=prepare,
        restore=restore,
        known=known,
        channels=channels,
        quantiles=quantiles,
        derived=derived,
        region=region,
        memory_budget=memory_budget,
        fill=fill,
        reduce=reduce,
        augment=augment,
        encoding=encoding,
    )
    described = _described(job, dict(attrs or {}))
    store = RegionStore(Path(target), described)
    if store.is_complete():
        return True
    store.begin(lambda: _files(job, units or {}, described))
    index = jax.process_index() if process_index is None else process_index
    count = jax.process_count() if process_count is None else process_count
    check_size("process_count", count)
    check_range("process_index", index, 0, count, bounds="[)")
    own = range(index, len(job.regions), count)
    todo = [number for number in own if not store.is_done(number)]
    with tqdm(own, "predicting", unit="region", disable=not progress) as bar:
        bar.update(len(own) - len(todo))
        for number in todo:
            store.write(number, job.predict(number))
            bar.update()
    return store.finish(len(job.regions))


def field_program(
    fn: Predict, field: xr.DataArray, spec: Spec, *, device: Any, **asked: Any
) -> tuple[TiledJob, jax.ShapeDtypeStruct, int]:
    """The program that `predict_field` runs for a region, as it is before its batch is fitted.

    `asked` are those of its arguments that the program depends on. The arrays that `fn` holds may
    be their shapes and dtypes, on the device.

    Returns:
        The program, what it is given for a region, on the device, and the number of regions.
    """
    whole = (predict_field.__kwdefaults__ or {}) | asked
    job = _Job(fn, field, WindowSpec.of(spec), **whole)
    slab = job.slab.update(sharding=SingleDeviceSharding(device))
    return job.tiled(slab), slab, len(job.regions)


class _Job:
    """A prediction by regions: where they lie, and what is done for one.

    `asked` are the arguments of `predict_field`. `tiled` is the program of slabs of a shape, as
    of `slab`, and `program` the same in a batch that fits the memory: the last region along an
    axis of FLUSH windows has a shorter one. `layout` says where windows lie in the result, `names`
    are the predicted channels, of which there are `quantiles`, and `dtype` is that of the store.
    """

    def __init__(self, fn: Predict, field: xr.DataArray, spec: WindowSpec, **asked: Any):
        """Checks the arguments and plans the regions."""
        self.asked, self.field = asked, field
        self.quantiles = tuple(map(float, asked["quantiles"]))
        self.derived: Derived | None = asked["derived"]
        windows, horizon = spec.resolve(field.shape[:-1]), asked["horizon"]
        self.layout = make_layout(windows.axes, asked["scale"], horizon)
        weights = make_weights(self.layout, asked["blend"], windows.mask)
        if asked["fill"] is None:
            require_cover(self.layout, weights, None)
        channels = field.channel.values if asked["channels"] is None else asked["channels"]
        self.names = tuple(map(str, channels))
        require(
            not self.quantiles or QUANTILE not in field.dims,
            f"quantiles must be left out of a field with the dim {QUANTILE}, got dims "
            f"{listed(field.dims)}; rename it",
        )
        window = _input(field, windows.window, horizon, asked["prepare"])
        self.encoding = Encoding.of(asked["encoding"], self.shape)
        self.regions = self._regions(spec, windows.axes, window)
        # A prepared input is an example of its own: [windows, rows, *space, features].
        time = (self.regions.axes[0].windows, window.shape[1])
        time = time if asked["prepare"] else self.regions.slab[:1]
        shape = (*time, *self.regions.slab[1:], window.shape[-1])
        self.slab = jax.ShapeDtypeStruct(shape, window.dtype)
        told = {name: asked[name] for name in ("blend", "scale", "horizon", "reduce", "augment")}
        # A slab has cells that no weight reaches, of which nothing is kept.
        told["fill"] = np.nan if asked["fill"] is None else asked["fill"]
        told["spec"] = _slab_spec(self.regions, asked["prepare"])
        self.tiled = tiled = functools.cache(functools.partial(TiledJob.of, fn, **told))
        budget = asked["memory_budget"]
        self.program = functools.cache(lambda slab: tiled(slab).sized(slab, "auto", budget))
        predicted = _predicted(tiled(self.slab), self.names, max(len(self.quantiles), 1))
        self.dtype = self.encoding.dtype(predicted)
        if (known := asked["known"]) is not None:
            space = self.shape[1 if horizon is None else 2 :]
            _check_known(known, (*space, len(self.names)), self.dtype)

    def _regions(self, spec: WindowSpec, axes: Axes, window: jax.ShapeDtypeStruct) -> Regions:
        horizon, prepare = self.asked["horizon"], self.asked["prepare"]
        # Values that a cell of a region becomes, as input or as forecasts.
        held, stride = self.field.shape[-1], axes[0].stride
        if horizon is not None:
            rows = window.shape[1] if prepare else 0
            ahead = horizon * len(self.names) * max(len(self.quantiles), 1)
            held = max(held, rows * window.shape[-1] / stride, ahead / stride)
        return make_regions(
            spec,
            axes,
            factors_of(self.asked["scale"], spec.rank),
            horizon=horizon,
            extents=self.asked["region"],
            most=max(int(_SLAB_VALUES / held), 1),
            pieces=self.encoding.pieces(leads=horizon is not None),
        )

    @property
    def variables(self) -> tuple[str, ...]:
        """What the predicted channels are called in the store."""
        return tuple(variable_names(self.names, self.field, quantiles=self.quantiles).values())

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a variable without its quantiles."""
        return self.layout.shape(padded=False)

    @property
    def chunks(self) -> tuple[int, ...]:
        return self._with_leads(self.regions.chunks, self.layout.lead)

    def _with_leads(self, axes: Sequence[Any], lead: Any) -> tuple[Any, ...]:
        return (*axes,) if self.layout.lead is None else (axes[0], lead, *axes[1:])

    def where(self, number: int) -> tuple[slice, ...]:
        """Where a region lies in the result."""
        parts = [axis.result(piece) for axis, piece in self.regions.pieces(number)]
        return self._with_leads(parts, slice(0, self.layout.lead))

    def predict(self, number: int) -> Sequence[tuple[str, Sequence[slice], np.ndarray]]:
        """Of each variable its name, where a region lies in it, and the values there."""
        where, values = self.where(number), self._predict(number)
        every = [slice(0, len(self.quantiles))] * bool(self.quantiles)
        parts = zip(self.variables, np.moveaxis(values, -1, 0), strict=True)
        written = [(name, (*every, *where), part) for name, part in parts]
        if self.derived is None:
            return written
        further = self.derived.of(values, where[1 if self.layout.lead is None else 2 :])
        parts = zip(self.derived.variables, np.moveaxis(further, -1, 0), strict=True)
        return [*written, *((name, where, part) for name, part in parts)]

    def _predict(self, number: int) -> np.ndarray:
        """The values of a region [(quantile,) *cells, channel]."""
        x = _slab(self.field, self.regions, number)
        if self.asked["prepare"] is None:
            x = x.astype(_dtype(self.field), copy=False)
        else:
            axis, piece = next(self.regions.pieces(number))
            rows, _ = field_cells(axis, axis.cells(piece))
            x = self.asked["prepare"](x, self.field.time.values[rows])
        x = jnp.asarray(x)
        values = np.asarray(self.program(jax.ShapeDtypeStruct(x.shape, x.dtype)).run(x))
        # A prepared window along time is an example of its own.
        values = values if self.asked["prepare"] is None else values.squeeze(1)
        # What has no channels is one.
        cells, every = values.shape[: len(self.shape)], []
        if self.quantiles:
            values = values.reshape(*cells, len(self.names), len(self.quantiles))
            values, every = np.moveaxis(values, -1, 0), [slice(None)]
        else:
            values = values.reshape(*cells, len(self.names))
        values = values if self.asked["restore"] is None else self.asked["restore"](values)
        parts = [axis.own(piece) for axis, piece in self.regions.pieces(number)]
        values = values[(*every, *self._with_leads(parts, slice(None)))]
        if self.asked["known"] is None:
            return values
        cells = self.where(number)[1 if self.layout.lead is None else 2 :]
        return np.where(self.asked["known"][cells], values, np.nan).astype(values.dtype, copy=False)


def _predicted(tiled: TiledJob, names: Sequence[str], each: int) -> np.dtype:
    """The dtype of predictions, one array with `each` so many values of the channels of names."""
    output = tiled.results
    if not hasattr(output, "shape"):
        raise InputError(
            "fn must return one array for predict_field, got a tree; join its outputs as channels"
        )
    layout, reduced = tiled.program.layouts[0], tiled.program.reduce is not None
    # Windows are one axis, as a batch is where there are slabs of it.
    cells = tiled.program.batch_axes + len(layout.extent) if reduced else 1 + len(layout.window)
    require(
        output.ndim <= cells + 1,
        f"reduce must leave one axis behind those of the cells for predict_field, got "
        f"{output.ndim - cells}; join them",
    )
    channels = (*output.shape[cells:], 1)[0]
    if len(names) * each != channels or len(set(names)) < len(names):
        of = f" of {each} quantiles each" if each > 1 else ""
        raise InputError(
            f"the {channels} predicted channels must have a name each, got {listed(names)}{of}; "
            "give channels="
        )
    # Fields are stored in no smaller float than they are blended in.
    whole = reduced and not jnp.issubdtype(output.dtype, jnp.inexact)
    return np.dtype(output.dtype if whole else wide_dtype(output.dtype))


def _input(
    field: xr.DataArray, window: Sequence[int], horizon: int | None, prepare: Prepare | None
) -> jax.ShapeDtypeStruct:
    """What `fn` gets for one window: [1, rows, *space, features]."""
    if prepare is None:
        return jax.ShapeDtypeStruct((1, *window, field.shape[-1]), _dtype(field))
    if horizon is None:
        raise InputError(
            "horizon must be given beside prepare, which makes the inputs of forecasts, got None; "
            "give one, or prepare the field itself"
        )
    # Ones: every transform is defined there.
    values = np.ones((*window, field.shape[-1]), field.dtype)
    made = prepare(values, field.time.values[: window[0]])
    space = tuple(window[1:])
    if made.ndim != len(window) + 2 or (made.shape[0], made.shape[2:-1]) != (1, space):
        raise InputError(
            "prepare must return [windows, rows, *space, features] for one window over space "
            f"{space}, got shape {made.shape}; return one input per window"
        )
    return jax.ShapeDtypeStruct(made.shape, made.dtype)


def _slab_spec(regions: Regions, prepare: Prepare | None) -> WindowSpec:
    """The windows of what is predicted for a region."""
    spec = regions.slab_spec
    if prepare is None:
        return spec
    # Every input is an example of its own, whole along time.
    return spec.replace(window=(None, *spec.window[1:]), stride=(None, *spec.stride[1:]))


def _dtype(field: xr.DataArray) -> np.dtype:
    return np.dtype(jax.dtypes.canonicalize_dtype(field.dtype))


def _slab(field: xr.DataArray, regions: Regions, number: int) -> np.ndarray:
    """Reads what a region is predicted from, padding included."""
    spans, places, outside = {}, [], []
    for dim, (axis, piece) in zip(field.dims, regions.pieces(number), strict=False):
        cells, constant = field_cells(axis, axis.cells(piece))
        spans[dim] = slice(int(cells.min()), int(cells.max()) + 1)
        places.append(cells - cells.min())
        outside.append(constant)
    # Cells that are read twice are read from the file once.
    slab = field.isel(spans).to_numpy()
    for position, cells in enumerate(places):
        if not np.array_equal(cells, np.arange(slab.shape[position])):
            slab = slab.take(cells, position)
    for position, constant in enumerate(outside):
        if constant.any():
            slab = slab.copy() if not slab.flags.writeable else slab
            slab[(*(slice(None),) * position, constant)] = regions.spec.fill_value
    return slab


def _described(job: _Job, attrs: Mapping[str, str]) -> dict[str, Any]:
    """What makes a prediction the same one, as JSON values."""
    field, blend = job.field, job.asked["blend"]
    times = field.time.values
    # Another file of the same times is another source: its ends tell them apart.
    ends = {str(row): field.isel(time=row).to_numpy() for row in (0, -1)}
    source = digest_of({"units": channel_units(field), **ends})
    return {
        "spec": repr(job.regions.spec),
        "blend": blend if isinstance(blend, str | tuple) else np.asarray(blend).tolist(),
        "source": [list(field.shape), str(times[0]), str(times[-1]), str(field.dtype), source],
        "shape": list(job.shape),
        "chunks": list(job.chunks),
        "channels": list(job.names),
        **({"quantiles": list(job.quantiles)} if job.quantiles else {}),
        **({"derived": list(job.derived.variables)} if job.derived else {}),
        "dtype": str(job.dtype),
        "attrs": attrs,
        **({} if job.asked["fill"] is None else {"fill": repr(job.asked["fill"])}),
        **({"encoding": job.encoding.described()} if job.encoding.given else {}),
    }


_OF_TIMES = ("units", "calendar", "dtype", "_FillValue")


def _files(job: _Job, units: Mapping[str, str], described: dict[str, Any]) -> dict[str, bytes]:
    """What stands in the store before any region: coordinates, and arrays without chunks."""
    told = {"purpose": "a predicted field", "install": "stpatch_jax[zarr]"}
    zarr = require_library("zarr", **told)
    # In memory first: the threads of zarr go on writing to disk after one of them was refused.
    store = require_library("zarr.storage", **told).MemoryStore(held := {})
    form = job.encoding.zarr_format
    coords = _coords(job).copy()
    for coord in coords.variables.values():
        # Of how a file stores its coordinates nothing holds here but the unit of times.
        kept = _OF_TIMES if "units" in coord.encoding else ()
        coord.encoding = {name: coord.encoding[name] for name in kept if name in coord.encoding}
    if form == 3:  # It has texts of any length only.
        texts = {name: c.astype(object) for name, c in coords.coords.items() if c.dtype.kind == "U"}
        coords = coords.assign_coords(texts)
    with warnings.catch_warnings():
        # Texts, and one place for all metadata, are not yet in what is written of format 3.
        warnings.simplefilter("ignore", category=UserWarning)
        coords.to_zarr(store, mode="w", zarr_format=form, consolidated=False)
        group = zarr.open_group(store, mode="r+", zarr_format=form)
        group.attrs.update({**described["attrs"], LAYOUT: to_json(described)})
        dims, times = [str(dim) for dim in job.field.dims[:-1]], {}
        if job.layout.lead is not None:
            dims, times = ["init_time", "lead_time", *dims[1:]], {"coordinates": "valid_time"}
        known = channel_attributes(job.field)
        known |= {name: {**known.get(name, {}), "units": unit} for name, unit in units.items()}
        quantile, count = [QUANTILE] * bool(job.quantiles), len(job.quantiles)
        variables = [
            (
                variable,
                quantile,
                variable_attributes(name, variable, known.get(name, {}), job.field),
            )
            for name, variable in zip(job.names, job.variables, strict=True)
        ]
        if job.derived is not None:
            variables += [(name, [], dict(of)) for name, of in job.derived.variables.items()]
        for variable, first, own in variables:
            names = [*first, *dims]
            shape = {"shape": job.shape, **job.encoding.form(job.chunks, job.dtype)}
            for extents in ("shape", "chunks", "shards"):
                if first and extents in shape:
                    shape[extents] = (count, *shape[extents])
            told = {"dimension_names": names} if form == 3 else {}
            attributes = {**({} if told else {"_ARRAY_DIMENSIONS": names}), **own, **times}
            try:
                group.create_array(variable, **shape, **told, attributes=attributes)
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"encoding must be what zarr takes in format {form}, got {job.encoding.given}; "
                    f"mend it: {shortened(error)}"
                ) from error
        zarr.consolidate_metadata(store, zarr_format=form)
    files = {key: value.to_bytes() for key, value in held.items()}
    # Before 3.1 zarr lists arrays in any order.
    whole = ".zmetadata" if form == 2 else "zarr.json"
    files[whole] = to_json(from_json(files[whole]), indent=4, sort_keys=True).encode()
    return files


def _coords(job: _Job) -> xr.Dataset:
    """The coordinates of the result."""
    field = job.field
    if job.layout.lead is not None:
        time = job.regions.axes[0].axis
        index = np.asarray(time.starts) + time.window
        told = {"horizon": job.layout.lead, "valid": job.asked["valid"]}
        coords = forecast_coords(field, index=index, **told)
    else:
        dims = set(field.dims[:-1])
        along = {n: c for n, c in field.coords.items() if c.dims and set(c.dims) <= dims}
        coords = xr.Dataset(coords={name: coord.variable for name, coord in along.items()})
    for dim, axis in zip(field.dims, job.regions.axes, strict=False):
        if axis.factor != 1 and not axis.of_windows:
            coords = _resampled(coords, str(dim), axis.size, int(axis.size * axis.factor))
    return with_levels(coords, job.quantiles) if job.quantiles else coords


def _resampled(coords: xr.Dataset, dim: str, cells: int, wanted: int) -> xr.Dataset:
    """The centres of finer or coarser cells; coordinates of several axes are left out."""
    centres = (np.arange(wanted) + 0.5) * cells / wanted - 0.5
    moved = {}
    for name in [name for name, coord in coords.coords.items() if dim in coord.dims]:
        coord = coords[name]
        dates = np.issubdtype(coord.dtype, np.datetime64)
        numeric = dates or np.issubdtype(coord.dtype, np.number)
        if coord.dims == (dim,) and numeric and cells > 1:
            values = coord.values
            offsets = (values - values[0]).astype(np.float64)
            low = np.clip(np.floor(centres).astype(int), 0, cells - 2)
            along = offsets[low] + (centres - low) * (offsets[low + 1] - offsets[low])
            step = along.round().astype((values[1:] - values[:-1]).dtype) if dates else along
            moved[name] = (dim, values[0] + step, coord.attrs)
        coords = coords.drop_vars([name])
    return coords.assign_coords(moved)


def _check_known(known: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuses `known` that is not [*space, channel] of the target, or goes with whole numbers."""
    require(
        known.shape == shape,
        f"known must be [*space, channel] of the target, {shape}, got {known.shape}; give one bool "
        "for each",
    )
    require(
        dtype.kind in "fc",
        f"known must go with floats, of which some are NaN, got {dtype}; let reduce make floats",
    )
