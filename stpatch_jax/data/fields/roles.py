"""What the channels of a field are to a forecast: targets, past only, known in advance, static."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.fields.cleaning import Cleaner, CleaningConfig
from stpatch_jax.data.readers.conventions import add_note
from stpatch_jax.data.readers.tables import series_as_channels
from stpatch_jax.data.units import Conversion, conversion, told
from stpatch_jax.errors import InputError, listed, require, same_names, spelt


def check_apart(**settings: Sequence[str]) -> None:
    """Refuses a name that stands twice in settings of the data, each a list of names.

    >>> check_apart(targets=("t2m",), known=("T2M",))
    Traceback (most recent call last):
    stpatch_jax.errors.InputError: data.known must hold no name of data.targets, got T2M; name it once
    """  # noqa: E501
    seen: dict[str, str] = {}
    for setting, names in settings.items():
        for name in names:
            other = seen.setdefault(name.casefold(), setting)
            require(
                other == setting,
                f"data.{setting} must hold no name of data.{other}, got {name}; name it once",
            )


def named_as_channels(field: xr.DataArray, config: Any) -> xr.DataArray:
    """A field whose columns are channels where a `FieldConfig` names some of a wide table."""
    names = (*config.targets, *config.known)
    if config.columns or "wide" not in field.attrs or {*names} <= {*field.channel.values}:
        return field
    told = f"as targets or known in advance: {listed(names)}"
    note = f"The columns are channels of one series, since some are named {told}."
    return add_note(series_as_channels(field), note)


@dataclass(frozen=True)
class Roles:
    """Names of the channels of a field by what they are to a forecast.

    Attributes:
        targets: What is forecast.
        past: What is known up to the end of the context.
        known: What is known over the horizon too, such as plans or the forecast of others.
        static: Coordinates of space alone, such as orography.
    """

    targets: tuple[str, ...]
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    static: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        field: xr.DataArray,
        *,
        targets: Sequence[str] = (),
        known: Sequence[str] = (),
        static: Sequence[str] = (),
    ) -> "Roles":
        """Those that are named; without targets these are all channels that are not known.

        Raises:
            InputError: A name is not there, a static field has a time, or nothing is left to
                forecast.
        """
        names = list(map(str, field.channel.values))
        space = {name for name, of in field.coords.items() if _lies_in_space(field, of)}
        if timed := [name for name in static if name in names and name not in space]:
            raise InputError(
                f"data.static must name fields without time, got {listed(timed)}, which changes "
                "with it; leave it out there, and it is read as past only, or name it in data.known"
            )
        series = [*map(str, field[field.attrs["wide"]].values)] if "wide" in field.attrs else []
        if named := [name for name in spelt((*targets, *known), series) if name in series]:
            raise InputError(
                f"data.targets and data.known must name channels, got {listed(named)} of a table "
                "whose columns are series; read them as channels, by data.columns channels"
            )
        fixed = same_names("data.static", static, sorted(map(str, space)))
        ahead = same_names("data.known", known, names)
        wanted = same_names("data.targets", targets, names)
        wanted = wanted or tuple(name for name in names if name not in ahead)
        require(
            bool(wanted),
            f"data.known must leave a channel to forecast, got all of {listed(names)}; leave one "
            "out of it",
        )
        in_order = [name for name in names if name in wanted]
        past = tuple(name for name in names if name not in (*wanted, *ahead))
        return cls(tuple(in_order), past, ahead, fixed)

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels in the order of an arranged field: targets first, known ones last."""
        return (*self.targets, *self.past, *self.known)

    def told(self) -> str:
        """What is what in a sentence, empty where all are targets.

        >>> Roles(("t2m",), known=("tp",)).told()
        'Forecast: t2m. Known in advance: tp.'
        """
        words = ("Forecast", "Past only", "Known in advance", "Static")
        parts = zip(words, vars(self).values(), strict=True)
        told = [f"{word}: {listed(names)}." for word, names in parts if names]
        return " ".join(told) if len(told) > 1 else ""

    def arranged(self, field: xr.DataArray) -> xr.DataArray:
        """The field (..., channel) with its channels in that order."""
        return ordered(field, self.channels)

    def static_fields(self, field: xr.DataArray) -> xr.DataArray:
        """The static fields as one of a single row (time, *space, channel), in memory."""
        sizes = {dim: field.sizes[dim] for dim in field.dims[1:-1]}
        whole = [field[name].variable.set_dims(sizes).values for name in self.static]
        coords = {"time": [0], "channel": list(self.static)}
        values = np.stack(whole, axis=-1).astype(np.float64)[None]
        return xr.DataArray(values, coords, ("time", *sizes, "channel"))

    def static_units(self, field: xr.DataArray) -> list[str]:
        """The units of the static fields, empty where none is told."""
        return [str(field[name].attrs.get("units", "")) for name in self.static]

    def static_cleaner(self, field: xr.DataArray) -> Cleaner | None:
        """The scaling of the static fields, each by its mean and deviation over space."""
        if not self.static:
            return None
        fields, config = self.static_fields(field), CleaningConfig(missing="leave")
        unknown = [name for name in self.static if fields.sel(channel=name).isnull().all()]
        require(
            not unknown,
            f"data.static must name fields with values, got none in {listed(unknown)}; leave them "
            "out there",
        )
        return Cleaner.fit(fields, range(1), config)

    def matched(self, field: xr.DataArray, state: Mapping[str, Any], name: str) -> xr.DataArray:
        """A field with its static fields in the units of a run, out of the state of its data.

        Raises:
            InputError: A unit cannot be converted exactly.
        """
        units = zip(self.static, self.static_units(field), state["static"]["units"], strict=True)
        for each, unit, own in units:
            found = conversion(unit, own) if told(unit) and told(own) else Conversion()
            if found is None:
                raise InputError(
                    f"{name} must have {each} in {own}, as the run, got {unit}; give a file with "
                    f"{each} in {own}"
                )
            if found.changes:
                part = field[each].variable
                field = field.assign_coords({each: part.copy(data=found(part.values))})
        return field


def ordered(field: xr.DataArray, channels: Sequence[str]) -> xr.DataArray:
    """The field (..., channel) with its channels in this order; as it is where it has others."""
    names = list(map(str, field.channel.values))
    if names == list(channels) or set(names) != set(channels):
        return field
    return field.isel(channel=[names.index(name) for name in channels])


def _lies_in_space(field: xr.DataArray, coord: xr.DataArray) -> bool:
    """Whether a coordinate holds numbers over axes of space alone."""
    dims = set(coord.dims)
    return bool(dims) and dims <= set(field.dims[1:-1]) and coord.dtype.kind in "biuf"
