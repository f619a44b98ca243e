"""Covariates that are known in advance: as channels of a context, and behind the end of a file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from stpatch_jax.data.fields.roles import Roles
from stpatch_jax.data.fields.slabs import SlabReader, known_counts, time_blocks
from stpatch_jax.data.identity import FieldIdentity
from stpatch_jax.data.readers.conventions import add_note, channel_units
from stpatch_jax.data.readers.lazy import LazyArray
from stpatch_jax.data.times import TimeAxis, time_text
from stpatch_jax.errors import listed, require, warn


def lead_times(*, context: int, horizon: int) -> tuple[int, ...]:
    """The leads at which known covariates are seen, so that a context sees all of the horizon.

    At a row of the context a channel of lead n holds the value n time steps later. The first lead
    is the horizon; where the context is shorter, others follow, one context apart.

    >>> lead_times(context=5, horizon=4), lead_times(context=2, horizon=5)
    ((4,), (5, 3, 1))
    """
    return tuple(range(horizon, 0, -context))


def ahead(values: np.ndarray, leads: Sequence[int], *, context: int) -> np.ndarray:
    """Known values [context + horizon, ..., known] as channels [context, ..., leads * known].

    >>> ahead(np.arange(5)[:, None], (3, 1), context=2).tolist()
    [[3, 1], [4, 2]]
    """
    return np.concatenate([values[lead : lead + context] for lead in leads], axis=-1)


def horizon_of(channels: np.ndarray, leads: Sequence[int]) -> np.ndarray:
    """Undoes `ahead`: the values [horizon, ..., known] behind the last row.

    >>> horizon_of(np.array([[3, 1], [4, 2]]), (3, 1)).tolist()
    [[2], [3], [4]]
    """
    rows, width = len(channels), channels.shape[-1] // len(leads)
    coming = np.empty((leads[0], *channels.shape[1:-1], width), channels.dtype)
    for number, lead in enumerate(leads):
        part = channels[max(0, rows - lead) :, ..., number * width : (number + 1) * width]
        coming[lead - len(part) : lead] = part
    return coming


def with_coming(
    field: xr.DataArray,
    roles: Roles,
    horizon: int,
    *,
    name: str,
    future: xr.DataArray | None = None,
    called: str = "",
) -> tuple[xr.DataArray, xr.DataArray]:
    """Cuts a field behind its last target, and finds its known covariates over the horizon there.

    Args:
        field: The field (time, *space, channel), arranged by its roles.
        roles: What its channels are.
        horizon: Number of rows that are needed.
        name: What messages call the field.
        future: Another field with the covariates; by default they stand in later rows of the field.
        called: What messages call it.

    Returns:
        The field up to its last row with a target, and the covariates [row, *space, known] of the
        horizon behind it, or of as many of its rows as the field has.

    Raises:
        InputError: There is no target, or the other field lacks a row of the horizon or has other
            cells, units or another step.
    """
    known, rows = roles.known, _rows_with_targets(field[..., : len(roles.targets)])
    require(rows > 0, f"{name} must have a value of what is forecast, got none; give another file")
    covariates = field[..., -len(known) :]
    source, of = covariates[rows:], name
    if future is not None:
        source, notes = FieldIdentity.of(covariates).match(future, name=called, like=name)
        field, of = add_note(field, *(f"{called}: {note}" for note in notes)), called
    axis = TimeAxis.of(field.time.values[:rows])
    later = source.time.values[source.time.values > axis.values[-1]]
    wanted = axis.ahead(horizon) if axis.goes_on else later[:horizon]
    at = pd.Index(source.time.values).get_indexer(pd.Index(wanted))
    there = int(np.argmax(np.append(at, -1) < 0))
    if future is not None:
        require_horizon(axis, there, known, horizon, name=called, advice="give a longer file")
    coming = source.isel(time=at[:there])
    if missing := coming.size - int(known_counts(SlabReader(coming), range(there)).sum()):
        note = f"{missing} of {coming.size} values of {listed(known)} are missing over the horizon"
        note = f"{note}: they are filled as data.cleaning.missing says."
        warn(f"{of}: {note}", stacklevel=3)
        field = add_note(field, note)
    if behind := len(field) - rows:
        field = add_note(
            field, f"Of the last {behind} rows, without a target, covariates are read."
        )
    return field[:rows], coming


def require_horizon(
    axis: TimeAxis, rows: int, known: Sequence[str], horizon: int, *, name: str, advice: str
) -> None:
    """Refuses known covariates that end so many rows behind the last one of the times."""
    first = time_text(axis.ahead(rows + 1)[-1]) if axis.goes_on else f"row {rows + 1} behind it"
    require(
        rows >= horizon,
        f"{listed(known)} must be known over the {horizon} time steps that are forecast, got none "
        f"at {first} in {name}; {advice}",
    )


def _rows_with_targets(targets: xr.DataArray) -> int:
    """Number of rows up to the last one with a value."""
    reader = SlabReader(targets, cache_bytes=0)
    for block in reversed(list(time_blocks(reader, range(len(targets)), block_bytes=2**26))):
        values = np.isfinite(reader.read(block))
        if len(there := np.flatnonzero(values.any(axis=tuple(range(1, values.ndim))))):
            return int(block.start + there[-1] + 1)
    return 0


class WithCovariates(LazyArray):
    """A field with its known covariates of the horizon as further channels, see `ahead`.

    Args:
        field: The field (time, *space, channel).
        known: Number of its last channels that are known in advance.
        coming: Their rows behind the field, one for each lead at least.
        leads: The leads.
        static: Static fields [*space, static field], the last channels.
    """

    def __init__(
        self,
        field: xr.DataArray,
        known: int,
        coming: xr.DataArray | None,
        leads: Sequence[int],
        static: np.ndarray | None,
    ):
        self.inner, self.coming, self.leads, self.static = field, coming, leads, static
        self.known = slice(field.shape[-1] - known, None)
        more = len(leads) * known + (0 if static is None else static.shape[-1])
        self.shape = (*field.shape[:-1], field.shape[-1] + more)
        self.dtype = np.result_type(field.dtype, np.float32)

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """See `LazyArray.read`."""
        rows, space = np.arange(len(self.inner))[key[0]], key[1:-1]
        parts = [self._part(self.inner, rows, space, slice(None))]
        parts += [self._ahead(rows + lead, space) for lead in self.leads]
        if self.static is not None:
            static = self.static
            for axis, at in enumerate(space):
                static = static[(slice(None),) * axis + (at,)]
            parts.append(np.broadcast_to(static, (len(rows), *static.shape)))
        return np.concatenate(parts, axis=-1, dtype=self.dtype)[..., key[-1]]

    def _ahead(self, rows: np.ndarray, space: tuple[Any, ...]) -> np.ndarray:
        inside = rows < len(self.inner)
        parts = [self._part(self.inner, rows[inside], space, self.known)]
        if self.coming is not None and not inside.all():
            behind = rows[~inside] - len(self.inner)
            parts.append(self._part(self.coming, behind, space, slice(None)))
        return np.concatenate(parts)

    @staticmethod
    def _part(
        field: xr.DataArray, rows: np.ndarray, space: tuple[Any, ...], channels: Any
    ) -> np.ndarray:
        where = dict(zip(field.dims, (rows, *space, channels), strict=True))
        return field.variable.isel(where).to_numpy()


def with_covariates(
    field: xr.DataArray, roles: Roles, coming: xr.DataArray | None, leads: Sequence[int]
) -> xr.DataArray:
    """A field with what is known ahead of its rows and its static fields as further channels.

    It is read where it is used. The channels follow those of the field, see `ahead`; `coming` are
    the known covariates of one horizon behind it.
    """
    static = roles.static_fields(field).values[0] if roles.static else None
    array = WithCovariates(field, len(roles.known), coming, leads, static)
    names = [f"{name}_ahead_{lead}" for lead in leads for name in roles.known]
    names = [*map(str, field.channel.values), *names, *roles.static]
    coords = {n: of.variable for n, of in field.coords.items() if "channel" not in of.dims}
    units = channel_units(field)
    told = [units.get(name, "") for name in names]
    whole = array.field(list(map(str, field.dims)), {**coords, "channel": names})
    return whole.assign_coords(units=("channel", told)).assign_attrs(field.attrs)
