"""Stored values of gridded files as their attributes mean them: missing ones, and packed ones."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr
from xarray.core import indexing

from stpatch_jax.data.readers.lazy import LazyArray
from stpatch_jax.errors import InputError, shortened

# What the netCDF library leaves where nothing was written. Bytes have none: there are too few of
# them to give one away.
_DEFAULT_FILLS = {
    **{"i2": -(2**15) + 1, "i4": -(2**31) + 1, "i8": -(2**63) + 2},
    **{"u2": 2**16 - 1, "u4": 2**32 - 1, "u8": 2**64 - 2},
    **{"f4": 9.969209968386869e36, "f8": 9.969209968386869e36},
}
_OWN = ("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned")
_LIMITS = ("valid_range", "valid_min", "valid_max")


@dataclass(frozen=True)
class Decoding:
    """How the stored numbers of a variable become values.

    Attributes:
        stored: Their type, unsigned where `_Unsigned` says so.
        dtype: Type of the values.
        fills: Stored numbers that stand for a missing value.
        limits: Least and largest stored number that is valid; None for no limit.
        packing: `scale_factor` and `add_offset`, None where there is none of them.
        valid: Least and largest valid value, where the limits are of the type of the values.
        missing: Values that stand for a missing one.
    """

    stored: np.dtype
    dtype: np.dtype
    fills: tuple[Any, ...] = ()
    limits: tuple[Any, Any] = (None, None)
    packing: tuple[Any, Any] = (None, None)
    valid: tuple[Any, Any] = (None, None)
    missing: tuple[Any, ...] = ()

    @classmethod
    def of(
        cls, variable: xr.Variable, *, default_fills: bool, missing: Sequence[float] = ()
    ) -> Self:
        """Reads it off the attributes; `default_fills` adds the netCDF library's own fill."""
        attrs, stored = variable.attrs, _stored(variable)
        signs = variable.dtype.kind != stored.kind
        packing = (_number(attrs, "scale_factor"), _number(attrs, "add_offset"))
        declared = [number for name in _OWN[:2] for number in _numbers(attrs.get(name))]
        if default_fills and "_FillValue" not in attrs and stored.str[1:] in _DEFAULT_FILLS:
            declared.append(_DEFAULT_FILLS[stored.str[1:]])
        casts = (number_as(number, stored, signs=signs) for number in declared)
        fills = tuple(dict.fromkeys(cast for cast in casts if cast is not None and cast == cast))
        ends, floats = _limits(attrs)
        of_values = floats and stored.kind != "f" and packing != (None, None)
        may_miss = bool(fills or missing) or any(end is not None for end in ends)
        dtype = _value_type(stored, packing, may_miss=may_miss)
        kind = dtype if of_values else stored
        inside = (ends[0], math.ceil), (ends[1], math.floor)
        low, high = (_cast_end(*end, kind, signs=signs) for end in inside)
        if low is not None and high is not None and low > high:  # Nothing would be valid.
            low = high = None
        own = tuple(kind for number in missing if (kind := number_as(number, dtype)) is not None)
        limits, valid = ((None, None), (low, high))[:: 1 if of_values else -1]
        return cls(stored, dtype, fills, limits, packing, valid, own)

    @property
    def is_plain(self) -> bool:
        """Whether the stored numbers are the values."""
        return self == Decoding(self.stored, self.stored)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Stored numbers of any shape as values of `dtype`, NaN where they are missing."""
        if block.dtype.kind != self.stored.kind:
            block = block.view(f"{block.dtype.byteorder}{self.stored.kind}{block.dtype.itemsize}")
        values = block.astype(self.dtype)
        scale, offset = self.packing
        if scale is not None:
            values *= scale
        if offset is not None:
            values += offset
        lost = [*_outside(block, self.limits), *_outside(values, self.valid)]
        lost += [block == fill for fill in self.fills] + [values == each for each in self.missing]
        for hit in lost:
            values[hit] = np.nan
        return values


class DecodedArray(LazyArray):
    """The values of a variable, of which only the parts that are used are read and decoded."""

    def __init__(self, variable: xr.Variable, decoding: Decoding):
        self.variable, self.decoding = variable, decoding
        self.shape, self.dtype = variable.shape, decoding.dtype

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """See `LazyArray.read`."""
        return self.decoding(self.variable[key].to_numpy())


def decode_values(
    data: xr.Dataset, *, default_fills: bool, missing: Sequence[float] = ()
) -> tuple[xr.Dataset, dict[str, list[str]]]:
    """The variables of an undecoded data set as values, lazily; times stay to be decoded.

    A stored number is missing where `_FillValue` or an entry of `missing_value` says so, of
    whatever type these are, or the netCDF library's default for its type where there is no
    `_FillValue`, as in netCDF4-python but for bytes, which have no default; and where it lies
    outside of `valid_range`, or of `valid_min` and `valid_max`, which count in stored numbers, or
    in values where integers are packed and the limits are none (the NetCDF Users Guide). Integers
    that may be missing become floats that hold them: float32 up to 16 bits, float64 above.

    Args:
        data: As it is stored, with all attributes.
        default_fills: Whether the netCDF library's default fills count as missing.
        missing: Values that stand for a missing one in the variables, after unpacking.

    Returns:
        The data set, and sentences by the name of the variable on valid ranges.

    Raises:
        InputError: If a scale or offset is no number.

    >>> packed = {"_FillValue": 9, "scale_factor": 0.5}
    >>> data = xr.Dataset({"t": ("x", np.asarray([0, 4, 9], "i2"), packed)})
    >>> decode_values(data, default_fills=True)[0]["t"].values
    array([ 0.,  2., nan])
    """
    decoded: dict[Hashable, xr.Variable] = {}
    notes: dict[str, list[str]] = {}
    for name, variable in data.variables.items():
        if variable.dtype.kind not in "iuf":
            continue
        if " since " in str(variable.attrs.get("units", "")):
            decoded[name] = _with_fill(variable) if default_fills else variable
            continue
        along = variable.dims == (name,)
        decoding = Decoding.of(
            variable, default_fills=default_fills, missing=() if along else missing
        )
        attrs = {key: value for key, value in variable.attrs.items() if key not in _OWN}
        if along:  # The coordinates of one axis are needed at once.
            stored = variable.to_numpy()
            values = decoding(stored)
            plain = decoding.packing == (None, None) and not np.isnan(values).any()
            values = stored if plain else values
        elif decoding.is_plain:
            continue
        else:
            values = indexing.LazilyIndexedArray(DecodedArray(variable, decoding))
        decoded[name] = xr.Variable(variable.dims, values, attrs, variable.encoding)
        if any(limit in variable.attrs for limit in _LIMITS):
            notes[str(name)] = [_told_range(str(name), variable.attrs, decoding)]
    return data.assign(decoded), notes


def zero_fills(data: xr.Dataset) -> list[str]:
    """The variables of an undecoded zarr store whose fill value 0 may be that of the zarr library.

    In format 2, `fill_value` says what a chunk holds that was never written. xarray writes its
    `_FillValue` there, or null for a variable without one, while zarr's own default is 0 for every
    array. So a 0 stands for missing values where an attribute says so, where another array shows by
    null or NaN that xarray wrote the store, and where the only array is packed.
    """
    numeric = {str(n): v.attrs for n, v in data.variables.items() if v.dtype.kind in "biuf"}
    fills = [attrs.get("_FillValue") for attrs in numeric.values()]
    if any(fill is None or fill != fill for fill in fills):
        return []
    packed = any({"scale_factor", "add_offset"} & {*attrs} for attrs in numeric.values())
    if packed and len(numeric) == 1:
        return []
    return [name for name, attrs in numeric.items() if attrs["_FillValue"] == 0]


def _stored(variable: xr.Variable) -> np.dtype:
    dtype, word = variable.dtype, str(variable.attrs.get("_Unsigned", "")).lower()
    if dtype.kind in "iu" and word in ("true", "1", "false", "0"):
        return np.dtype(f"{dtype.byteorder}{'u' if word in ('true', '1') else 'i'}{dtype.itemsize}")
    return dtype


def _numbers(attribute: Any) -> list[Any]:
    """The numbers of an attribute that is one, several, or a text of them."""
    found = []
    for entry in [] if attribute is None else np.ravel(np.asarray(attribute)).tolist():
        if isinstance(entry, int | float):
            found.append(entry)
            continue
        for word in str(entry).replace(",", " ").split():
            with suppress(ValueError):  # "none" and the like.
                found.append(float(word))
    return found


def _number(attrs: Mapping[str, Any], name: str) -> Any:
    """A scale or an offset, of its own type, which decides that of the values."""
    if name not in attrs:
        return None
    value = np.asarray(attrs[name])
    if value.size == 1 and value.dtype.kind in "iuf":
        return value.ravel()[0]
    numbers = _numbers(attrs[name])
    if len(numbers) != 1:
        raise InputError(
            f"{name} must be one number, got {shortened(attrs[name])}; correct this attribute in "
            "the file"
        )
    return np.float64(numbers[0])


def _limits(attrs: Mapping[str, Any]) -> tuple[list[Any], bool]:
    """Least and largest valid number, None for none, and whether one of them is no integer."""
    ends = _numbers(attrs.get("valid_range"))
    if len(ends) != 2:
        ends = [next(iter(_numbers(attrs.get(name))), None) for name in _LIMITS[1:]]
    return ends, any(isinstance(end, float) for end in ends)


def _outside(values: np.ndarray, limits: tuple[Any, Any]) -> list[np.ndarray]:
    compared = zip((np.less, np.greater), limits, strict=True)
    return [beyond(values, limit) for beyond, limit in compared if limit is not None]


def _value_type(stored: np.dtype, packing: tuple[Any, Any], *, may_miss: bool) -> np.dtype:
    """The type of the values, as xarray chooses it."""
    attrs = {
        name: number for name, number in zip(_OWN[2:4], packing, strict=True) if number is not None
    }
    if attrs:
        empty = xr.Dataset({"values": ("x", np.zeros(0, stored), attrs)})
        unpacked = xr.decode_cf(empty)["values"].dtype
        if unpacked.kind == "f" or not may_miss:
            return unpacked
    if stored.kind == "f" or not may_miss:
        return stored.newbyteorder("=")
    return np.dtype(np.float32 if stored.itemsize <= 2 else np.float64)


def number_as(number: Any, dtype: np.dtype, *, signs: bool = False) -> Any:
    """A number as one of a type, None where the type has no such number.

    Digits beyond the type are rounded, as those of the values were that it is compared with. With
    `signs`, a whole number of the type's other sign stands for the same bits.
    """
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            cast = dtype.type(number)
        return cast if np.isfinite(cast) == math.isfinite(number) else None
    if not math.isfinite(number) or number != int(number):
        return None
    bounds, whole = np.iinfo(dtype), int(number)
    if signs and not bounds.min <= whole <= bounds.max:
        whole += 2 ** (8 * dtype.itemsize) * (1 if whole < bounds.min else -1)
    return dtype.type(whole) if bounds.min <= whole <= bounds.max else None


def _cast_end(end: Any, whole: Callable[[float], int], dtype: np.dtype, *, signs: bool) -> Any:
    """A limit as a number of a type, None where it is none there."""
    if end is None or not math.isfinite(end):
        return None
    return number_as(end if dtype.kind == "f" else whole(end), dtype, signs=signs)


def _with_fill(variable: xr.Variable) -> xr.Variable:
    """A variable of times whose default fills, if there are any, stand in its attributes."""
    fill = _DEFAULT_FILLS.get(variable.dtype.str[1:])
    if variable.ndim > 1 or "_FillValue" in variable.attrs or fill is None:
        return variable
    fill = variable.dtype.type(fill)
    attrs = {"_FillValue": fill} if (variable.to_numpy() == fill).any() else {}
    return xr.Variable(
        variable.dims, variable.to_numpy(), {**variable.attrs, **attrs}, variable.encoding
    )


def _told_range(name: str, attrs: Mapping[str, Any], decoding: Decoding) -> str:
    told = ", ".join(f"{limit} {shortened(attrs[limit])}" for limit in _LIMITS if limit in attrs)
    if decoding.limits == decoding.valid == (None, None):
        return f"The attribute {told} of {name} leaves nothing out."
    return f"Values of {name} are missing where {told} leaves them out."
