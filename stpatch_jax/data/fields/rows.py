"""Rows of a field: which are used, and which belong to each split."""

import operator
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data.fields.choosing import AUTO
from stpatch_jax.data.identity import FieldIdentity
from stpatch_jax.data.places import Axis
from stpatch_jax.data.protocols import CATALOG_PREFIX
from stpatch_jax.data.readers.conventions import add_note
from stpatch_jax.data.sampling.spacing import check_phase, season_note, spaced
from stpatch_jax.data.sampling.splits import spans_at
from stpatch_jax.data.times import TimeAxis, time_text
from stpatch_jax.errors import listed, require, warn


def used_rows(field: xr.DataArray, config: Any) -> xr.DataArray:
    """The rows that a `FieldConfig` uses: the first ones, with those put in that the file lacks."""
    name = str(field.attrs.get("source", "the field"))
    rows = len(field)
    if config.most_rows is not None and config.most_rows < rows:
        last = time_text(field.time.values[config.most_rows - 1])
        note = f"{rows - config.most_rows} of {rows} rows are left out, those after {last}."
        field = add_note(field[: config.most_rows], note)
        if not (config.path or "").startswith(CATALOG_PREFIX):
            warn(f"{name}: {note} data.most_rows keeps more", stacklevel=3)
    field = spaced(field, config.gaps, name=name)
    axis = TimeAxis.of(field.time.values)
    for note in _doubled(field):
        warn(f"{name}: {note}", stacklevel=3)
        field = add_note(field, note)
    if config.climatology != AUTO:
        check_phase(axis, config.climatology, name="data.climatology")
    if config.cleaning.missing == "climatology":
        check_phase(axis, config.cleaning.phase, name="data.cleaning.phase")
    for season in config.seasons.values():
        if note := season_note(axis, season):
            warn(f"{name}: {note}", stacklevel=3)
            field = add_note(field, note)
    return field


def _doubled(field: xr.DataArray) -> list[str]:
    """A note on an axis around the Earth that has places twice, such as 0 and 360 degrees."""
    axes = [Axis.of(field, dim) for dim in field.dims[1:-1]]
    places = {axis.name: np.round(axis.numbers() % 360, 6) for axis in axes if axis.circle}
    twice = {name: len(of) - len(np.unique(of % 360)) for name, of in places.items()}
    return [
        f"{count} of {len(places[name])} cells along {name} lie where others do, a circle apart: "
        "leave them out, or they count twice."
        for name, count in twice.items()
        if count
    ]


def split_spans(field: xr.DataArray, config: Any) -> tuple[xr.DataArray, dict[str, Any]]:
    """The field up to the end of its splits, and for each its first row and the one behind it.

    Where the share of validation or of test is less than one horizon, it has one horizon, which the
    split before it lacks; the field has a note of it.
    """
    rows = len(field)
    if config.split_at is not None:
        spans = spans_at(config.split_at, rows)
        return field[: spans["test"][1]], spans
    least = 1 if config.horizon == AUTO else int(config.horizon)
    wanted = int(rows * config.train_share), rows - int(rows * config.test_share)
    test = max(0, min(wanted[1], rows - least))
    train = max(0, min(wanted[0], test - least))
    if (train, test) != wanted:
        note = (
            f"The training rows are {train} in place of {wanted[0]}, so that validation and test "
            f"have {least}, one horizon, or more."
        )
        field = add_note(field, note)
    return field, {"train": (0, train), "validation": (train, test), "test": (test, rows)}


def require_cells(
    cells: Sequence[int],
    identity: FieldIdentity,
    *,
    dims: Sequence[Hashable],
    tiled: bool,
    name: str,
) -> None:
    """Refuses more cells than those of a run, where no model can be `tiled` over them."""
    cells, own = tuple(cells), identity.shape
    larger = len(cells) == len(own) and all(map(operator.ge, cells, own)) and cells != own
    require(
        tiled or not larger or any(axis.named for axis in identity.axes),
        f"{name} must have the cells of the run, {own}, as something of it was fitted cell by "
        f"cell, got {cells} along {listed(dims)}; train a run with data.cleaning.per channel and "
        "no climatology, whose model can be tiled",
    )
