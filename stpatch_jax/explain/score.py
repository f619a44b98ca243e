"""What all explanations share: the function they explain, and the way back to the grid."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import xarray as xr
from jax.tree_util import Partial
from jax.typing import ArrayLike

from stpatch_jax.errors import InputError, require

Score = Callable[[jax.Array], jax.Array]
"""What is explained: from fields [batch, time, *space, channel] to one number each [batch], each
from its own field alone. The arrays of a `jax.tree_util.Partial` are arguments of what is compiled,
so that it is compiled once for all their values; what another function closes over becomes part of
the program."""


FieldLike = xr.DataArray | np.ndarray | jax.Array
"""A field (time, *space, channel), with coordinates or as an array, whose axes have this order."""


def as_field(field: FieldLike) -> xr.DataArray:
    """The field as a DataArray; the space axes of an array are called space_1, space_2, ..."""
    if not isinstance(field, xr.DataArray):
        space = [f"space_{number}" for number in range(1, np.ndim(field) - 1)]
        require(
            np.ndim(field) >= 2,
            "a field to explain must have the axes (time, *space, channel), got shape "
            f"{np.shape(field)}; add the missing axes",
        )
        return xr.DataArray(np.asarray(field), dims=("time", *space, "channel"))
    dims = tuple(map(str, field.dims))
    require(
        len(dims) >= 2 and dims[0] == "time" and dims[-1] == "channel",
        "a field to explain must have the dims (time, *space, channel), got "
        f"({', '.join(dims)}); rename or transpose them",
    )
    return field


def as_score(fn: Score, field: xr.DataArray) -> Partial:
    """The function as a pytree, refused unless it gives one number per field."""
    score = fn if isinstance(fn, Partial) else Partial(fn)
    result = jax.eval_shape(score, jax.ShapeDtypeStruct((2, *field.shape), np.float32))
    require(
        getattr(result, "shape", None) == (2,),
        "what is explained must give one number per field, (2,) for two of them, got "
        f"{getattr(result, 'shape', type(result).__name__)}; sum or choose one of its outputs",
    )
    return score


def prepared(fn: Score, field: FieldLike) -> tuple[Partial, xr.DataArray, np.ndarray]:
    """The function as a pytree, the field that it fits, and the field's values."""
    field = as_field(field)
    return as_score(fn, field), field, values_of(field)


def values_of(field: xr.DataArray) -> np.ndarray:
    """The values of a field [time, *space, channel], float32."""
    return np.asarray(field.values, np.float32)


def baseline_of(baseline: ArrayLike, field: xr.DataArray) -> np.ndarray:
    """What stands for "nothing is known" in every cell [time, *space, channel], float32."""
    try:
        return np.broadcast_to(np.asarray(baseline, np.float32), field.shape)
    except ValueError as error:
        raise InputError(
            f"baseline must be one number, one per channel ({field.shape[-1]}), or a field of "
            f"shape {field.shape}, got shape {np.shape(baseline)}; give one of them"
        ) from error


def on_grid(values: Any, field: xr.DataArray, *, name: str, unit: str) -> xr.DataArray:
    """Attributions [time, *space] or [time, *space, channel] with the coordinates of the field."""
    values = np.asarray(values, np.float64)
    dims = field.dims[: values.ndim]
    coords = {key: coord for key, coord in field.coords.items() if set(coord.dims) <= set(dims)}
    attrs = {"units": unit, "long_name": name.replace("_", " ")}
    return xr.DataArray(values, dims=dims, coords=coords, name=name, attrs=attrs)


@jax.jit
def scores(fn: Score, fields: ArrayLike) -> jax.Array:
    """The scores of fields [batch, time, *space, channel], compiled."""
    return fn(jax.numpy.asarray(fields))


def batches(count: int, size: int) -> list[tuple[np.ndarray, int]]:
    """Numbers 0 to count - 1 in batches of one size, and how many of each are not filling.

    >>> [(numbers.tolist(), real) for numbers, real in batches(5, 3)]
    [([0, 1, 2], 3), ([3, 4, 4], 2)]
    """
    size = min(size, count)
    return [
        (np.minimum(np.arange(start, start + size), count - 1), min(size, count - start))
        for start in range(0, count, size)
    ]
