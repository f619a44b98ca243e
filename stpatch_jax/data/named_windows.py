"""Windows of an `xarray` object along named dims: read when used, and predictions put back."""

import dataclasses
import math
import operator
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.fields.slabs import CACHE_BYTES, SlabReader
from stpatch_jax.errors import MOST, InputError, check_choice, check_size, listed, require
from stpatch_jax.patches import WindowSpec, scatter_patches
from stpatch_jax.patches.blends import Blend
from stpatch_jax.patches.windows import AxisWindows, source_cell


def windows(
    dataset: xr.Dataset | xr.DataArray,
    window: Mapping[Any, int | None],
    *,
    stride: int | Mapping[Any, int] | None = None,
    padding: Any = "VALID",
    padding_mode: Any = "edge",
    cache_bytes: int = CACHE_BYTES,
) -> "NamedWindows":
    """Windows of a labelled array along named dims, of which nothing is read before it is used.

    Windows are numbered in the order of `window`, its last dim fastest; dims that it does not name
    are whole in every window. For windows with targets, cleaned and scaled, see `FieldWindows`.

    Args:
        dataset: In memory, of dask, or opened lazily (`xarray.open_zarr(path, chunks=None)`).
        window: Cells along one to four dims, None for all: `{"time": 10, "lat": 16}`.
        stride: Cells between windows; the window itself by default. This and what follows is one
            value for all dims of `window`, or some by name, where the others keep the default. An
            overlap of n cells is a stride of window - n.
        padding: As in `WindowSpec`: with `VALID` what does not fill a window is left out, with
            `FLUSH` the last window is moved back to end with its dim.
        padding_mode: `edge`, `reflect` or `wrap`: of which cells padding is a copy, coordinates
            included.
        cache_bytes: Of an array in chunks whole chunks are read; so many bytes of them are kept,
            and always those of the last window.

    Returns:
        The windows, a sequence: see `NamedWindows`.

    Raises:
        InputError: A dim is not one of the dataset's, a window does not fit it, or an option has
            the wrong form.

    Examples:
        >>> field = xr.DataArray(np.arange(40.0).reshape(8, 5), dims=("time", "lat"), name="t2m")
        >>> field = field.assign_coords(lat=[10, 20, 30, 40, 50])
        >>> patches = windows(field, {"time": 4, "lat": 2}, stride={"time": 2}, padding="FLUSH")
        >>> patches
        NamedWindows(9 windows of time 4, lat 2)
        >>> patches[1].lat.values.tolist()  # one window, as xarray
        [30, 40]
        >>> order = np.random.default_rng(0).permutation(len(patches))
        >>> predictions = []
        >>> for batch in patches[order].batches(4):
        ...     predictions.append(2 * batch.values)  # NumPy [window, time, lat]
        >>> doubled = patches[order].restore(np.concatenate(predictions), blend="hann")
        >>> bool(np.allclose(doubled, 2 * field))
        True
    """
    given = isinstance(dataset, xr.Dataset | xr.DataArray)
    arrays = dataset.data_vars if isinstance(dataset, xr.Dataset) else {None: dataset}
    if not given or not arrays:
        raise InputError(
            "dataset must be an xarray.DataArray or an xarray.Dataset of variables, got "
            f"{'no variable' if given else type(dataset).__name__}; wrap an array as "
            "xr.DataArray(array, dims=[...])"
        )
    dims = dataset.dims if isinstance(dataset, xr.DataArray) else ()
    require(
        len(set(dims)) == len(dims),
        f"dims of an array must differ, got {listed(dims)}; rename one of them",
    )
    if not isinstance(window, Mapping) or not 1 <= len(window) <= 4:
        raise InputError(
            f"window must be the cells along 1 to 4 dims by name, got {window!r}; give them as "
            '{"time": 10, "lat": 16}'
        )
    _check_names("window", window, dataset.sizes)
    check_size("cache_bytes", cache_bytes, least=0, most=2**63)
    strides = _by_dim("stride", stride, window, default=None)
    paddings = _by_dim("padding", padding, window, default="VALID")
    modes = _by_dim("padding_mode", padding_mode, window, default="edge")
    axes = {
        dim: _axis(dim, dataset.sizes[dim], cells, strides[dim], paddings[dim], modes[dim])
        for dim, cells in window.items()
    }
    share = cache_bytes // len(arrays)
    readers = {name: SlabReader(array, cache_bytes=share) for name, array in arrays.items()}
    count = math.prod(axis.count for axis in axes.values())
    return NamedWindows(dataset, axes, range(count), readers)


def _by_dim(name: str, value: Any, dims: Mapping[Any, Any], *, default: Any) -> dict[Any, Any]:
    """The value of an option for each dim."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(dims, value)
    _check_names(name, value, dims)
    return {dim: value.get(dim, default) for dim in dims}


def _check_names(name: str, given: Mapping[Any, Any], dims: Mapping[Any, Any]) -> None:
    if unknown := [dim for dim in given if dim not in dims]:
        raise InputError(
            f"{name} must name dims among {listed(dims)}, got {listed(unknown)}; name others"
        )


def _axis(dim: Any, size: int, cells: Any, stride: Any, padding: Any, mode: Any) -> AxisWindows:
    """Where windows lie along a dim."""
    check_choice(f"padding_mode along {dim}", mode, ("edge", "reflect", "wrap"))
    try:
        spec = WindowSpec((cells,), stride=(stride,), padding=(padding,), padding_mode=(mode,))
        return spec.axes((size,))[0]
    except InputError as error:
        # The first axis of a spec is called time there, and may be any dim here.
        raise InputError(str(error).replace("along time", f"along {dim}")) from None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class NamedWindows:
    """Windows of an `xarray` object in some order: what `windows` makes.

    * `patches[3]` is one window: a DataArray or Dataset in memory, with its coordinates.
    * `patches[10:20]` and `patches[order]`, by whole numbers or a mask, are `NamedWindows` again,
      and nothing is read: shuffle by `patches[jax.random.permutation(key, len(patches))]`, split
      by `patches[:800], patches[800:]`. Those of a Dataset are a source of `batch_iterator`.
    * `.values` reads all of them, stacked `[window, *dims]`: one array, or one by the name of each
      variable of a Dataset. `.coords` are their coordinates, stacked in the same way.

    Attributes:
        source: What is cut.
        axes: By dim, where windows lie along it.
        numbers: Which windows of the whole grid these are, in their order.
        readers: By variable, what reads it; `bytes_read` of each counts.
    """

    source: xr.Dataset | xr.DataArray
    axes: Mapping[Hashable, AxisWindows]
    numbers: Sequence[int] | np.ndarray
    readers: Mapping[Hashable, SlabReader]

    def __repr__(self) -> str:
        along = ", ".join(f"{dim} {axis.window}" for dim, axis in self.axes.items())
        return f"NamedWindows({len(self)} windows of {along})"

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Any]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, at: Any, /) -> Any:
        if isinstance(at, slice):
            return dataclasses.replace(self, numbers=self.numbers[at])
        if np.ndim(at):
            return dataclasses.replace(self, numbers=np.asarray(self.numbers)[np.asarray(at)])
        one = dataclasses.replace(self, numbers=[self.numbers[operator.index(at)]])
        (start,) = one.starts
        cells = dict(zip(self.axes, map(_cells, self.axes.values(), start), strict=True))
        values = {name: one._stacked(reader)[0] for name, reader in self.readers.items()}
        return self.source.isel(cells).copy(deep=False, data=self._as_source(values))

    def batches(self, batch_size: int) -> "Iterator[NamedWindows]":
        """The windows in their order, `batch_size` at a time; the last batch may hold fewer.

        Raises:
            InputError: The size is no whole number of at least 1.
        """
        check_size("batch_size", batch_size)
        return (self[at : at + batch_size] for at in range(0, len(self), batch_size))

    @property
    def starts(self) -> np.ndarray:
        """First cell of every window along each of `axes`, int64 [window, axes].

        It is negative inside leading padding.
        """
        grid = [axis.count for axis in self.axes.values()]
        places = np.unravel_index(np.asarray(self.numbers, np.int64), grid)
        pairs = zip(self.axes.values(), places, strict=True)
        return np.stack([axis.first(at) - axis.lo for axis, at in pairs], axis=-1)

    @property
    def values(self) -> Any:
        """The windows as NumPy arrays [window, *dims], dims in the order of the source.

        Every variable of a Dataset has its window axis, also one that no window cuts. Chunks are
        read one after the other, whatever the order of the windows.
        """
        return self._as_source(
            {name: self._stacked(reader) for name, reader in self.readers.items()}
        )

    @property
    def coords(self) -> dict[Hashable, np.ndarray]:
        """The coordinates that windows cut, by name, each [window, *dims of the coordinate]."""
        return {
            name: self._stacked(SlabReader(coord))
            for name, coord in self.source.coords.items()
            if any(dim in self.axes for dim in coord.dims)
        }

    def to_xarray(self) -> xr.Dataset | xr.DataArray:
        """The windows as one object [window, *dims], in which a dim that they cut is `time_input`.

        The coordinates keep their names and have a row for each window.
        """

        def stacked(array: xr.DataArray, values: np.ndarray) -> xr.Variable:
            dims = [f"{dim}_input" if dim in self.axes else dim for dim in array.dims]
            return xr.Variable(["window", *dims], values, array.attrs)

        cut = {name: stacked(self.source.coords[name], of) for name, of in self.coords.items()}
        made = {
            name: stacked(reader.field, self._stacked(reader))
            for name, reader in self.readers.items()
        }
        coords = self.source.drop_vars(cut).coords.assign(cut)
        if isinstance(self.source, xr.Dataset):
            return xr.Dataset(made, coords, self.source.attrs)
        return xr.DataArray(made[None], coords, name=self.source.name)

    def chunk_order(self) -> np.ndarray:
        """Positions of these windows in the order in which a store is read through once, int64.

        Windows that begin in the same chunk of the largest variable follow each other, so that
        `patches[patches.chunk_order()]` is fast. Without chunks that is their order.
        """
        chunked = [reader for reader in self.readers.values() if reader.chunks]
        if not chunked:
            return np.arange(len(self))
        return self._chunk_order(max(chunked, key=lambda reader: reader.field.nbytes))

    def restore(
        self,
        predictions: Any,
        *,
        dims: Sequence[Hashable] | None = None,
        blend: Blend = "uniform",
    ) -> Any:
        """Puts one prediction for each of these windows back where the window lies.

        Where windows overlap, they are averaged by `scatter_patches`, in its dtypes; cells that
        none reaches are NaN.

        Args:
            predictions: Array [window, *dims], of the windows in their order; or arrays by name.
            dims: What the axes behind the first are: dims of the windows with as many cells as
                these have, and any other dims. By default those of the source, of arrays by name
                those of the variable. Windows are averaged along a dim that is left out.
            blend: What the samples of a window count (see `blend_weights`).

        Returns:
            A DataArray, or a Dataset of arrays by name, whole along the dims of the windows, with
            the coordinates of the source that lie along its dims.

        Raises:
            InputError: The predictions do not fit windows and dims, or dims must be given.
        """
        if not isinstance(predictions, Mapping):
            return self._restored(None, predictions, dims, blend)
        made = {n: self._restored(n, one, dims, blend) for n, one in predictions.items()}
        return xr.Dataset(made)

    def _restored(self, name: Any, values: Any, dims: Any, blend: Blend) -> xr.DataArray:
        dims = self._dims_of(name) if dims is None else tuple(dims)
        axes = {dim: axis for dim, axis in self.axes.items() if dim in dims}
        require(
            bool(axes) and len(set(dims)) == len(dims),
            f"dims must hold a dim of the windows and none twice, got {listed(dims)}; name the "
            "axes behind the first",
        )
        fits = [len(self), *(axes[dim].window if dim in axes else None for dim in dims)]
        values = _as_array(values, dims, fits)
        free = [dim for dim in dims if dim not in axes]
        values = values.transpose(0, *(1 + dims.index(dim) for dim in (*axes, *free)))
        extents, rest = values.shape[: 1 + len(axes)], values.shape[1 + len(axes) :]
        at = [position for position, dim in enumerate(self.axes) if dim in axes]
        place = {
            "starts": self.starts[:, at],
            "spec": WindowSpec(
                extents[1:],
                padding=[(axis.lo, axis.hi) for axis in axes.values()],
                padding_mode=[axis.mode for axis in axes.values()],
            ),
            "shape": [axis.size for axis in axes.values()],
            "blend": blend,
        }
        values = values.reshape(*extents, math.prod(rest))
        field = np.asarray(scatter_patches(values, **place))
        reached = scatter_patches(np.ones((*extents, 1), np.float32), **place)
        field = np.where(np.asarray(reached), field, np.asarray(np.nan, field.dtype))
        field = field.reshape(*place["shape"], *rest)
        result = xr.DataArray(field, dims=(*axes, *free)).transpose(*dims)
        along = {
            coord
            for coord, values in self.source.coords.items()
            if all(result.sizes.get(dim) == cells for dim, cells in values.sizes.items())
        }
        others = [coord for coord in self.source.coords if coord not in along]
        return result.assign_coords(self.source.drop_vars(others).coords)

    def _dims_of(self, name: Any) -> tuple[Any, ...]:
        """Dims of the variable of that name, or of all variables where they have the same."""
        own = [self.readers[name]] if name in self.readers else self.readers.values()
        (dims, *others) = {reader.field.dims for reader in own}
        require(
            not others,
            "dims must be given for predictions that have the name of no variable, got None; name "
            "the axes behind the first",
        )
        return dims

    def _stacked(self, reader: SlabReader) -> np.ndarray:
        """What a reader has of each window [window, *dims]."""
        array, starts = reader.field, dict(zip(self.axes, self.starts.T, strict=True))
        whole = dict.fromkeys(array.dims, slice(None))
        extents = {dim: axis.window for dim, axis in self.axes.items() if dim in whole}
        stacked = np.empty((len(self), *({**array.sizes, **extents}).values()), array.dtype)
        for at in self._chunk_order(reader):
            cells = {dim: _cells(self.axes[dim], int(starts[dim][at])) for dim in extents}
            stacked[at] = _read(reader, list((whole | cells).values()))
        return stacked

    def _chunk_order(self, reader: SlabReader) -> np.ndarray:
        if reader.chunks is None:
            return np.arange(len(self))
        chunks = dict(zip(reader.field.dims, reader.chunks, strict=True))
        corners = self.starts // [chunks.get(dim, MOST) for dim in self.axes]
        return np.lexsort(corners.T[::-1])

    def _as_source(self, values: Mapping[Hashable, Any]) -> Any:
        """The variables of a Dataset by name, the one of a DataArray alone."""
        return values if isinstance(self.source, xr.Dataset) else next(iter(values.values()))


def _as_array(values: Any, dims: Sequence[Any], fits: Sequence[Any]) -> np.ndarray:
    """One prediction for each window, refused where its axes do not fit the sizes told."""
    try:
        values, shape = np.asarray(values), f"shape {np.shape(values)}"
    except ValueError:  # a list of batches, the last of them smaller
        values, shape = np.asarray(None), "arrays of several shapes"
    pairs = zip(fits, values.shape, strict=False)
    if values.ndim != len(fits) or any(cells not in (None, n) for cells, n in pairs):
        axes = zip(("window", *dims), fits, strict=True)
        told = listed(dim if cells is None else f"{dim} {cells}" for dim, cells in axes)
        raise InputError(
            f"predictions must be one array with the axes {told}, got {shape}; join those of "
            "batches by np.concatenate, and tell other axes by dims="
        )
    return values


def _cells(axis: AxisWindows, start: int) -> slice | np.ndarray:
    """The cells that a window reads along its axis."""
    if 0 <= start <= axis.size - axis.window:
        return slice(start, start + axis.window)
    return source_cell(start + np.arange(axis.window), axis.size, axis.mode)


def _read(reader: SlabReader, cells: Sequence[slice | np.ndarray]) -> np.ndarray:
    """Reads cells along every axis; of a window over both ends of a ring not what lies between."""
    runs, copies = [], {}
    for axis, along in enumerate(cells):
        if isinstance(along, slice):
            runs.append([along])
        else:
            needed, copies[axis] = np.unique(along, return_inverse=True)
            parts = np.split(needed, np.flatnonzero(np.diff(needed) > 1) + 1)
            runs.append([slice(int(part[0]), int(part[-1]) + 1) for part in parts])
    values = _joined(reader, runs)
    for axis, at in copies.items():
        values = values.take(at, axis)
    return values


def _joined(reader: SlabReader, runs: Sequence[Sequence[slice]], *box: slice) -> np.ndarray:
    """Reads the product of runs along each axis."""
    if len(box) == len(runs):
        return reader.read(*box)
    parts = [_joined(reader, runs, *box, run) for run in runs[len(box)]]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=len(box))
