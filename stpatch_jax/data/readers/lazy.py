"""Arrays that read from their file only the part that is asked for."""

import math
from collections.abc import Hashable, Sequence
from typing import Any, Self

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from stpatch_jax.data.libraries import one_line
from stpatch_jax.data.sizes import check_bytes, most_bytes
from stpatch_jax.data.units import Conversion
from stpatch_jax.errors import InputError


class LazyArray(BackendArray):
    """An array of xarray, of a shape and dtype, whose parts are read when they are used.

    Subclasses implement `read`. They hold what is needed to open the file and no open decoder, so
    that they may be used from several threads. What is read at once is within the `most_bytes` that
    held when the file was opened.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    most: int

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keeps the limit; parts are read later, by other threads."""
        array = super().__new__(cls)
        array.most = most_bytes()
        return array

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Reads the outer product of one slice or integer array for each axis."""
        raise NotImplementedError

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read_outer
        )

    def _read_outer(self, key: tuple[Any, ...]) -> np.ndarray:
        is_integer = [isinstance(at, int | np.integer) for at in key]
        parts = [slice(at, at + 1) if one else at for at, one in zip(key, is_integer, strict=True)]
        counts = [
            len(range(*part.indices(length))) if isinstance(part, slice) else len(part)
            for part, length in zip(parts, self.shape, strict=True)
        ]
        wanted = math.prod(counts) * self.dtype.itemsize
        check_bytes(wanted, f"what is read at once of values {self.shape}", most=self.most)
        block = self.read(tuple(parts))
        return block[tuple(0 if one else slice(None) for one in is_integer)]

    def field(self, dims: Sequence[str], coords: dict[Hashable, Any]) -> xr.DataArray:
        """The whole array as a DataArray that is not read yet."""
        return xr.DataArray(indexing.LazilyIndexedArray(self), dims=dims, coords=coords)


class StackedVariables(LazyArray):
    """Variables of equal dims as one array [time, *space, channel].

    Attributes:
        variables: The variables, in the order of the channels.
        dims: Dims of the variables in the order of the array, time first, without the channel. One
            of time that they lack is of length one.
        name: Name of the source, for messages.
        channel: A dim of the variables whose positions are channels, if there is one.
    """

    def __init__(
        self,
        variables: Sequence[xr.Variable],
        dims: Sequence[Hashable],
        name: str,
        *,
        channel: Hashable | None = None,
    ):
        self.variables, self.dims, self.name, self.channel = variables, dims, name, channel
        sizes = variables[0].sizes
        self.width = 1 if channel is None else sizes[channel]
        self.shape = (*(sizes.get(dim, 1) for dim in dims), len(variables) * self.width)
        self.dtype = np.result_type(*(variable.dtype for variable in variables))

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """See `LazyArray.read`."""
        picked = [np.arange(length)[part] for length, part in zip(self.shape, key, strict=True)]
        channels = picked[-1]
        block = np.empty([len(positions) for positions in picked], self.dtype)
        if not block.size:  # Some file libraries fail on an empty selection beside an array.
            return block
        where = dict(zip(self.dims, (as_slice(picked[0]), *key[1:-1]), strict=True))
        for number in np.unique(channels // self.width):
            own = np.flatnonzero(channels // self.width == number)
            if self.channel is not None:
                where[self.channel] = as_slice(channels[own] % self.width)
            part = self._part(self.variables[number], where)
            for position, at in enumerate(own):
                block[..., at] = part if self.channel is None else part[..., position]
        return block

    def _part(self, variable: xr.Variable, where: dict[Hashable, Any]) -> np.ndarray:
        given = {dim: key for dim, key in where.items() if dim in variable.dims}
        try:
            values = variable.isel(given).transpose(*given).to_numpy()
        except InputError:
            raise
        except Exception as error:  # Each file format has its own errors.
            raise InputError(
                f"every value of {self.name} must be readable, got {one_line(error)}; restore the "
                "file if it is damaged, or try again where it is read over a network"
            ) from error
        return values if self.dims[0] in given else values[None][where[self.dims[0]]]


class ConvertedArray(LazyArray):
    """A field (..., channel) whose channels are converted where they are read."""

    def __init__(self, field: xr.DataArray, conversions: Sequence[Conversion]):
        self.variable, self.conversions = field.variable, conversions
        self.shape = field.shape
        self.dtype = np.result_type(*(by.dtype(field.dtype) for by in conversions))

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """See `LazyArray.read`."""
        stored = self.variable.isel(dict(zip(self.variable.dims, key, strict=True))).to_numpy()
        block = stored.astype(self.dtype)
        for at, channel in enumerate(np.arange(self.shape[-1])[key[-1]]):
            block[..., at] = self.conversions[channel](stored[..., at])
        return block


def converted(field: xr.DataArray, conversions: Sequence[Conversion]) -> xr.DataArray:
    """A field (..., channel) whose channels are converted where they are read, by one for each.

    Floats keep their type, whole numbers become floats.
    """
    if not any(conversion.changes for conversion in conversions):
        return field
    array = ConvertedArray(field, conversions)
    return field.copy(data=indexing.LazilyIndexedArray(array))


def as_slice(positions: np.ndarray) -> slice | np.ndarray:
    """Positions as a slice where they are evenly spaced, as files read those in one piece."""
    gaps = np.unique(np.diff(positions))
    if len(gaps) > 1 or (len(gaps) == 1 and gaps[0] < 1):
        return positions
    return slice(int(positions[0]), int(positions[-1]) + 1, int(gaps[0]) if len(gaps) else 1)
