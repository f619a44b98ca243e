"""What two files must have in common to be of one kind: channels, units, grid, calendar, step."""

import dataclasses
import itertools
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.places import ROUNDING, Axis, nearness, order_among, same_places
from stpatch_jax.data.projections import other_projection
from stpatch_jax.data.readers.axes import axis_of
from stpatch_jax.data.readers.conventions import add_note, channel_units
from stpatch_jax.data.readers.lazy import converted
from stpatch_jax.data.times import Step, TimeAxis
from stpatch_jax.data.units import Conversion, conversion, told
from stpatch_jax.errors import InputError, listed, require, warn

# Distances are equal within this share.
_ALIKE = 1e-2
_COUNTED = Step(1, "number")
# A difference of degC is one of K, but a temperature is not; names tell what may be one.
_DIFFERENCE = re.compile("anom|diff|delta|bias|error|spread|std|trend|range|incr|tend|grad|change")


@dataclass(frozen=True)
class FieldIdentity:
    """What a field is, beside its values and the extent of its time.

    Attributes:
        channels: Names of the channels.
        units: Their units, empty where none is told.
        axes: The axes of space.
        points: Coordinates that are no dims but tell where cells are, such as latitudes of a curved
            grid, or the level that was chosen; some of their numbers.
        step: The step of the rows, None where they keep none.
        calendar: The calendar of the times as CF names it, None where they are no dates.
        pixels: Whether values are whole numbers from 0 to 255.
        projection: How the places lie on the Earth, see `projection`; empty where nothing tells.

    >>> values = xr.DataArray(
    ...     np.zeros((3, 2, 1), np.float32), dims=("time", "latitude", "channel"),
    ...     coords={"time": [0, 1, 2], "latitude": [60.0, 50.0], "channel": ["t2m"]},
    ... )
    >>> other, notes = FieldIdentity.of(values).match(values[:, ::-1], name="new.nc")
    >>> other.latitude.values.tolist(), notes
    ([60.0, 50.0], ('The axis latitude is turned round, to go from 60 to 50.',))
    """

    channels: tuple[str, ...]
    units: tuple[str, ...]
    axes: tuple[Axis, ...]
    points: tuple[Axis, ...] = ()
    step: Step | None = None
    calendar: str | None = None
    pixels: bool = False
    projection: str = ""

    @classmethod
    def of(cls, values: xr.DataArray) -> "FieldIdentity":
        """Reads it off a field (time, *space, channel); of the values only their type counts."""
        units = channel_units(values)
        channels = tuple(map(str, values.channel.values))
        return dataclasses.replace(
            cls.of_rows(channels, values.time.values),
            units=tuple(units.get(name, "") for name in channels),
            axes=tuple(Axis.of(values, dim) for dim in values.dims[1:-1]),
            points=tuple(Axis.sampled(values, name) for name in _points(values)),
            pixels=values.dtype == np.uint8,
            projection=str(values.attrs.get("grid_mapping", "")),
        )

    @classmethod
    def of_rows(cls, channels: Sequence[str], times: np.ndarray) -> "FieldIdentity":
        """That of a table in which nothing but channels and times [time] is to be the same."""
        axis = TimeAxis.of(times)
        return cls(tuple(channels), ("",) * len(channels), (), (), axis.step, axis.calendar)

    @classmethod
    def of_items(cls, shape: Sequence[int], dtype: np.dtype) -> "FieldIdentity":
        """That of items [time, *space, channel] without coordinates."""
        channels = tuple(map(str, range(shape[-1])))
        axes = tuple(Axis(f"axis_{at}", size) for at, size in enumerate(shape[:-1]))
        return cls(channels, ("",) * len(channels), axes, pixels=dtype == np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each axis of space."""
        return tuple(axis.size for axis in self.axes)

    def to_dict(self) -> dict[str, Any]:
        """A tree of dicts, and lists of numbers and words."""
        tree = {**vars(self), "step": self.step and vars(self.step)}
        for name in ("axes", "points"):
            tree[name] = {str(at): _plain(vars(axis)) for at, axis in enumerate(tree[name])}
        return _plain(tree)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "FieldIdentity":
        """Undoes `to_dict`."""
        tree = _tuples(state)
        for name in ("axes", "points"):
            axes = sorted(tree[name].items(), key=lambda item: int(item[0]))
            tree[name] = tuple(Axis(**_tuples(axis)) for _, axis in axes)
        tree["step"] = Step(**tree["step"]) if "step" in tree else None
        return cls(**tree)

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> "FieldIdentity":
        """That of a trained run, out of what `Data.state` gave.

        Raises:
            InputError: The run is older than identities.
        """
        require(
            "identity" in state,
            "the run must tell what its data were, got one of an older version; train it anew",
        )
        return cls.from_dict(state["identity"])

    def match(
        self, values: xr.DataArray, *, name: str, like: str = "the run", tiled: bool = False
    ) -> tuple[xr.DataArray, tuple[str, ...]]:
        """Brings a field to this identity where that changes nothing but how it is told.

        Channels and named cells are put in order and those too many are left out; axes are turned
        round or rolled; units of one kind are converted where values are read. Coordinates are
        equal within the rounding of float32.

        Args:
            values: The field (time, *space, channel), which may be lazy.
            name: What messages call it.
            like: What messages call that which has this identity.
            tiled: Whether there may be more cells: their distance and direction are compared then.

        Returns:
            The field, and what was done or could not be compared, in sentences; they stand among
            the notes of the field too.

        Warns:
            UserWarning: Something could not be compared, because it is told of one side alone.

        Raises:
            InputError: Both differ in what cannot be converted exactly.
        """
        match = _Match(self, values, name, like, tiled)
        match.channels()
        match.units()
        match.axes()
        changed = other_projection(self.projection, str(values.attrs.get("grid_mapping", "")))
        require(
            not changed,
            f"{name} must lie on the projection of {like}, got {changed}; give a file of this "
            "projection, or interpolate it",
        )
        match.points()
        match.times(values.time.values)
        match.values = add_note(match.values, *match.notes)
        return match.values, tuple(match.notes)

    def match_times(self, times: np.ndarray, *, name: str) -> tuple[str, ...]:
        """Compares step and calendar with those of times [time] alone; the notes, see `match`.

        Raises:
            InputError: They differ.
        """
        match = _Match(self, xr.DataArray(0), name, "the run", tiled=False)
        match.times(times)
        return tuple(match.notes)

    def match_type(self, dtype: np.dtype, *, name: str, like: str = "the run") -> None:
        """Compares the type of values alone.

        Raises:
            InputError: One holds pixels, the other one does not.
        """
        pixels = dtype == np.uint8
        require(
            self.pixels == pixels,
            f"{name} must hold {_kind(self.pixels)}, as {like}, got {_kind(pixels)}; bring its "
            "values to the same range and type",
        )

    def change(self, other: "FieldIdentity") -> str:
        """The first thing in which another one differs, empty where both are equal.

        >>> one = FieldIdentity(("t2m",), ("K",), ())
        >>> one.change(dataclasses.replace(one, units=("degC",)))
        't2m in degC in place of K'
        """
        pairs: list[tuple[str, Any, Any]] = [
            ("the channels ", listed(self.channels), listed(other.channels)),
            *(
                (f"{channel} in ", own or "no unit", unit or "no unit")
                for channel, own, unit in zip(other.channels, self.units, other.units, strict=False)
            ),
            *(
                (f"the axis {(new or own).name} of ", own, new)
                for own, new in itertools.zip_longest(
                    self.axes + self.points, other.axes + other.points
                )
            ),
            ("rows ", _apart(self.step), _apart(other.step)),
            ("dates of the calendar ", self.calendar, other.calendar),
            ("", _kind(self.pixels), _kind(other.pixels)),
            ("the projection ", self.projection, other.projection),
        ]
        changed = (f"{what}{new} in place of {own}" for what, own, new in pairs if own != new)
        return next(changed, "")


def change_of(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first thing in which the identities of two states differ, see `Data.state`.

    Empty where both are equal, or one tells no identity.
    """
    told = [state.get("identity") for state in (then, now)]
    own, other = (
        FieldIdentity.from_dict(each) if isinstance(each, Mapping) and "channels" in each else None
        for each in told
    )
    return own.change(other) if own and other else ""


@dataclass
class _Match:
    own: FieldIdentity
    values: xr.DataArray
    name: str
    like: str
    tiled: bool
    notes: list[str] = field(default_factory=list)

    def doubt(self, note: str) -> None:
        self.notes.append(note)
        warn(f"{self.name}: {note}", stacklevel=6)

    def channels(self) -> None:
        own, there = self.own.channels, tuple(map(str, self.values.channel.values))
        # Without names channels are numbered, in files after the array that holds them.
        numbers = tuple(map(str, range(len(own))))
        if len(there) == len(own) and numbers in (own, there) and not {*own} & {*there}:
            named = own if there == numbers else there
            if named != ("value",) and named != tuple(f"value_{at}" for at in numbers):
                where = "here" if there == numbers else f"in {self.like}"
                told = f"The channels {listed(named)}, only numbered {where}"
                self.doubt(f"{told}, are taken in order.")
            self.values = self.values.assign_coords(channel=list(own))
        self.by_name("channel", own)
        self.own.match_type(self.values.dtype, name=self.name, like=self.like)

    def by_name(self, dim: Hashable, names: Sequence[str]) -> None:
        """Chooses and orders what has names along a dim."""
        there = list(map(str, self.values[dim].values)) if dim in self.values.coords else []
        missing = [name for name in names if name not in there]
        require(
            not missing,
            f"{self.name} must have every {dim} of {self.like}, got none called "
            f"{listed(missing)} among {listed(there)}; give a file that has them",
        )
        if there == list(names):
            return
        if more := [name for name in there if name not in names]:
            self.notes.append(f"Along {dim}, {listed(more)} is left out, as not in {self.like}.")
        else:
            self.notes.append(f"The order along {dim} is changed to that of {self.like}.")
        self.values = self.values.isel({dim: [there.index(name) for name in names]})

    def units(self) -> None:
        given = channel_units(self.values)
        pairs = [
            (name, given.get(name, ""), own)
            for name, own in zip(self.own.channels, self.own.units, strict=True)
        ]
        self.values = converted(self.values, [self.conversion(*pair) for pair in pairs])
        if any(units := [own if told(own) else unit for _, unit, own in pairs]):
            self.values = self.values.assign_coords(units=("channel", units))

    def conversion(self, channel: str, unit: str, own: str) -> Conversion:
        if not told(own) or not told(unit):
            if told(own):
                self.doubt(
                    f"{channel} tells no unit here; it is taken to be in {own}, as {self.like}."
                )
            elif told(unit):
                self.doubt(f"{channel} is in {unit} here, and {self.like} tells no unit.")
            return Conversion()
        found = conversion(unit, own)
        if found and found.offset and _DIFFERENCE.search(channel.lower()):
            unit, found = f"{unit}, maybe of a difference", None
        if found is None:
            raise InputError(
                f"{self.name} must have {channel} in {own}, as {self.like}, got {unit}, which is "
                f"not converted exactly; give a file with {channel} in {own}"
            )
        if found.changes:
            self.notes.append(f"{channel} is converted from {unit} to {own}.")
        return found

    def axes(self) -> None:
        dims, own = self.values.dims[1:-1], tuple(axis.name for axis in self.own.axes)
        advice = "give a file of the same axes"
        if len(dims) > len(own):
            advice = "choose one position of an axis too many with select="
        require(
            len(dims) == len(own),
            f"{self.name} must have the axes of {self.like}, {listed(own)}, got {listed(dims)}; "
            f"{advice}",
        )
        if set(dims) == set(own):
            self.values = self.values.transpose("time", *own, "channel")
        for axis, dim in zip(self.own.axes, self.values.dims[1:-1], strict=True):
            if axis.named:
                self.by_name(dim, axis.places or ())
            else:
                self.axis(axis, Axis.of(self.values, dim))

    def axis(self, own: Axis, other: Axis) -> None:
        """Turns round, rolls or sorts an axis of numbers."""
        dim, longer = other.name, self.tiled and other.size > own.size
        self.on_grid(not other.named and (other.size == own.size or longer), own, other)
        ours, theirs = own.numbers(), self.in_unit(own, other)
        order = order_among(ours, theirs, circle=own.circle and other.circle)
        if order is None and own.places is other.places is None:
            return
        if order is None and None in (own.places, other.places):
            where = "here" if other.places is None else f"in {self.like}"
            self.doubt(f"The axis {dim} is not compared, as its cells are only counted {where}.")
            return
        if order is None and self.larger:
            order = self.tile(own, other, ours, theirs)
        if order is None:
            if (ours[-1] - ours[0]) * (theirs[-1] - theirs[0]) < 0:
                theirs = theirs[::-1]
            at = int(np.argmax(np.abs(ours - theirs) > nearness(ours)))
            first = f" with {theirs[at]:.9g} in place of {ours[at]:.9g} in cell {at + 1}"
            self.on_grid(False, own, other, first)
            return
        self.values = self.values.isel({dim: order})
        places = theirs[order]
        if isinstance(order, np.ndarray):
            rolled = bool((np.diff(order) % len(order) == 1).all())
            how = f"rolled, to begin at {ours[0]:.9g}" if rolled else "sorted"
            self.notes.append(f"The axis {dim} is {how}, as in {self.like}.")
        elif order.step == -1:
            ends = f"{places[0]:.9g} to {places[-1]:.9g}"
            self.notes.append(f"The axis {dim} is turned round, to go from {ends}.")
        if len(places) == own.size and not same_places(ours, places):
            self.values = self.values.assign_coords({dim: (dim, ours, self.values[dim].attrs)})

    @property
    def larger(self) -> bool:
        """Whether the model is tiled over more cells than the own ones."""
        return self.tiled and self.values.shape[1:-1] != self.own.shape

    def on_grid(self, condition: bool, own: Axis, other: Axis, first: str = "") -> None:
        """Requires a condition, else tells both grids."""
        require(
            condition,
            f"{self.name} must lie on the grid of {self.like}, {own.name} {own}, got "
            f"{other.name} {other}{first}; give a file of this grid, or interpolate it",
        )

    def in_unit(self, own: Axis, other: Axis) -> np.ndarray:
        if not told(own.unit) or not told(other.unit):
            return other.numbers()
        found = conversion(other.unit, own.unit)
        if found is None:
            self.on_grid(False, own, other)
        elif found.changes:
            self.notes.append(
                f"The coordinate {other.name} is in {other.unit} here and in {own.unit} in "
                f"{self.like}."
            )
        return found(other.numbers()) if found else other.numbers()

    def tile(self, own: Axis, other: Axis, ours: np.ndarray, theirs: np.ndarray) -> slice:
        """The direction of an axis that a model is tiled over, whose cells must be as far apart."""
        if own.size < 2:
            return slice(None)
        apart = [np.diff(ours), np.diff(theirs)]
        if own.circle and other.circle:
            apart = [(steps + 180) % 360 - 180 for steps in apart]
        mine, their = (float(np.median(steps)) for steps in apart)
        even = all(np.ptp(steps) <= _ALIKE * abs(mine) for steps in apart)
        require(
            even and abs(abs(mine) - abs(their)) <= _ALIKE * abs(mine),
            f"{self.name} must have cells {abs(mine):.6g} apart along {own.name}, as {self.like}, "
            f"got cells {abs(their):.6g} apart{'' if even else ' at uneven places'}; interpolate "
            "it",
        )
        return slice(None, None, 1 if mine * their > 0 else -1)

    def points(self) -> None:
        """Compares coordinates that are no dims, and turns axes round where they tell so."""
        own = [axis for axis in self.own.points if axis.size == 1 or not self.larger]
        if untold := [axis.name for axis in own if axis.name not in self.values.coords]:
            self.doubt(f"Not told here, so not compared with {self.like}: {listed(untold)}.")
        own = [axis for axis in own if axis.name not in untold]
        dims, kept = self.values.dims[1:-1], list(self.notes)
        for ways in itertools.product((1, -1), repeat=len(dims)):
            turned = dict(zip(dims, (slice(None, None, way) for way in ways), strict=True))
            values = self.values.isel(turned)
            self.notes = list(kept)
            if all(self.same_points(axis, Axis.sampled(values, axis.name)) for axis in own):
                break
        else:
            self.notes = kept
            both = [(axis, Axis.sampled(self.values, axis.name)) for axis in own]
            mine, their = next(pair for pair in both if not self.same_points(*pair))
            require(
                mine.size > 1,
                f"{self.name} must be at {mine.name} {mine}, as {self.like}, got {their}; choose "
                "the position with select=, or give another file",
            )
            self.on_grid(False, mine, their)
            return
        back = [str(dim) for dim, way in zip(dims, ways, strict=True) if way == -1]
        self.notes += [f"The axis {dim} is turned round, as in {self.like}." for dim in back]
        self.values = values

    def same_points(self, own: Axis, other: Axis) -> bool:
        if own.named or other.named or own.size != other.size:
            return own == other
        apart = self.in_unit(own, other) - own.numbers()
        if own.circle or other.circle:
            apart = (apart + 180) % 360 - 180
        # Cells of a curved grid may lie at any distance along each coordinate.
        return bool((np.abs(apart) <= ROUNDING * np.abs(own.numbers()).max(initial=0)).all())

    def times(self, times: np.ndarray) -> None:
        axis, own = TimeAxis.of(times, name=f"the times of {self.name}"), self.own
        if (axis.calendar is None) != (own.calendar is None):
            here = "numbers" if axis.calendar is None else "dates"
            self.doubt(f"The step is not compared, as the times are {here} here alone.")
            return
        require(
            axis.calendar == own.calendar,
            f"{self.name} must have dates of the calendar {own.calendar}, as {self.like}, got "
            f"{axis.calendar}; give a file of this calendar",
        )
        step = own.step
        require(
            step is None or axis.fits(step) or _counted(step, axis.step),
            f"{self.name} must have rows {_apart(step)}, as {self.like}, got rows "
            f"{_apart(axis.step)}; give a file of this step",
        )


def _counted(own: Step, step: Step | None) -> bool:
    """Whether two steps in numbers are the same, or one of them does but count."""
    if step is None or not own.unit == step.unit == "number":
        return False
    return _COUNTED in (own, step) or abs(own.count - step.count) <= _ALIKE * own.count


def _points(values: xr.DataArray) -> list[str]:
    """Coordinates of places that are no dims, and levels that were chosen."""
    coords, space = values.coords.to_dataset(), set(values.dims[1:-1])
    return sorted(
        str(name)
        for name, coord in coords.coords.items()
        if name not in values.dims
        and set(coord.dims) <= space
        and coord.dtype.kind in "iuf"
        and axis_of(coords, name) in (("X", "Y") if coord.dims else ("Z",))
    )


def _apart(step: Step | None) -> str:
    return "at uneven times" if step is None else f"{step} apart"


def _kind(pixels: bool) -> str:
    return "whole numbers from 0 to 255" if pixels else "numbers of any range"


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """With lists for tuples, and without what is None."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in tree.items()
        if value is not None
    }


def _tuples(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {n: tuple(value) if isinstance(value, list) else value for n, value in tree.items()}
