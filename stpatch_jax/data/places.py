"""Axes of space: what their cells are, and where they stand among those of another axis."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.readers.axes import axis_of
from stpatch_jax.data.units import conversion, told
from stpatch_jax.errors import listed

# So many places along each axis are compared of a coordinate of several axes.
_SAMPLES = 33
ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Two places are one within the rounding of float32, as a share of the largest."""
# Cells are in one place within this share of their distance.
_NEAR = 1e-3


@dataclass(frozen=True)
class Axis:
    """What the cells along one axis of space are.

    Attributes:
        name: Name of the dim, or of another coordinate.
        size: Number of cells.
        places: A name or a number for each cell; None where they are only counted.
        unit: Unit of the numbers, empty where none is told.
        circle: Whether 360 more is the same place, as of longitudes.
    """

    name: str
    size: int
    places: tuple[Any, ...] | None = None
    unit: str = ""
    circle: bool = False

    @classmethod
    def of(cls, values: xr.DataArray, dim: Hashable) -> "Axis":
        """The axis along a dim of a field."""
        size = values.sizes[dim]
        if dim not in values.coords:
            return cls(str(dim), size)
        if values[dim].dtype.kind not in "iuf":
            return cls(str(dim), size, tuple(map(str, values[dim].values)))
        axis = cls.sampled(values, dim, most=size)
        return cls(str(dim), size) if axis.counted and not axis.unit else axis

    @classmethod
    def sampled(cls, values: xr.DataArray, name: Hashable, *, most: int = _SAMPLES) -> "Axis":
        """The numbers of a coordinate of any axes, at some cells evenly spread along each."""
        coord = values[name].transpose(*(dim for dim in values.dims if dim in values[name].dims))
        at = {
            dim: np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(int))
            for dim, size in coord.sizes.items()
        }
        numbers = np.nan_to_num(coord.isel(at).to_numpy().astype(np.float64))
        unit = str(coord.attrs.get("units", ""))
        around = axis_of(values.coords.to_dataset(), name) == "X"
        degrees = conversion(unit, "deg") is not None if told(unit) else "lon" in str(name).lower()
        places = tuple(numbers.ravel().tolist())
        return cls(str(name), coord.size, places, unit, around and degrees)

    @property
    def named(self) -> bool:
        """Whether the cells have names."""
        return any(isinstance(place, str) for place in self.places or ())

    @property
    def counted(self) -> bool:
        """Whether the cells are 0, 1, 2, ..."""
        return self.places in (None, tuple(range(self.size)))

    def numbers(self) -> np.ndarray:
        """The places of the cells, or their numbers [cell], float64."""
        return np.arange(self.size) if self.places is None else np.asarray(self.places)

    def __str__(self) -> str:
        if not self.places:
            return f"{self.size} cells"
        if self.named:
            return listed(self.places)
        ends = dict.fromkeys([f"{self.places[0]:.9g}", f"{self.places[-1]:.9g}"])
        return f"{' to '.join(ends)} {self.unit}".strip()


def order_among(ours: np.ndarray, theirs: np.ndarray, *, circle: bool) -> slice | np.ndarray | None:
    """Where the own places stand among others, None where these are not the same.

    Numbers along two axes [cell]; those of a circle are degrees.

    >>> order_among(np.array([0.0, 90, 180, 270]), np.array([-180.0, -90, 0, 90]), circle=True)
    array([2, 3, 0, 1])
    """
    if len(ours) != len(theirs):
        return None
    for way in (1, -1):
        if same_places(ours, theirs[::way]):
            return slice(None, None, way)
    if circle:
        start = ours.min() - nearness(ours)
        ours, theirs = (ours - start) % 360, (theirs - start) % 360
    first, second = np.argsort(ours), np.argsort(theirs)
    if not same_places(ours[first], theirs[second]):
        return None
    order = np.empty(len(first), int)
    order[first] = second
    return slice(None) if (np.diff(order) == 1).all() else order


def nearness(places: np.ndarray) -> float:
    """How far two numbers of an axis may be apart to be one place: never as far as two cells.

    >>> nearness(np.array([60.0, 50.0])) < 0.02
    True
    """
    largest = float(np.abs(places).max(initial=0))
    spacing = float(np.diff(np.unique(places)).min(initial=largest))
    return _NEAR * spacing + min(ROUNDING * largest, spacing / 4)


def same_places(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether the numbers of two axes [cell] are the same places.

    >>> same_places(np.array([0.1, 0.2]), np.array([0.1, 0.2], np.float32))
    True
    """
    return bool((np.abs(ours - theirs) <= nearness(ours)).all())
