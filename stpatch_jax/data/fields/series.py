"""Named series of a field, such as the columns of a table: those that have values to learn from."""

import xarray as xr

from stpatch_jax.data.fields.slabs import SlabReader, known_counts
from stpatch_jax.data.readers.conventions import add_note
from stpatch_jax.errors import listed, require, warn


def series_names(field: xr.DataArray) -> list[str] | None:
    """The names of a panel's series; None for a field whose cells have no names."""
    if field.ndim != 3 or field.dims[1] not in field.coords:
        return None
    names = field[field.dims[1]].values
    return list(map(str, names)) if names.dtype.kind in "UO" else None


def with_known_series(
    field: xr.DataArray, rows: range, *, least: int, channels: int | None = None
) -> tuple[xr.DataArray, list[str]]:
    """A field (time, *space, channel) without the named series that have too few values.

    Those that have fewer than `least` values in the training `rows`, in every one of the first
    `channels` (all by default), are dropped with a warning, and the field's notes name them. Cells
    without names all stay.

    Returns:
        The field, and the names of the series that were dropped.

    >>> import warnings
    >>> nan = float("nan")
    >>> field = xr.DataArray(
    ...     [[[1.0], [nan]], [[2.0], [nan]], [[3.0], [4.0]]], dims=("time", "series", "channel"),
    ...     coords={"time": [0, 1, 2], "series": ["old", "new"], "channel": ["load"]},
    ... )
    >>> with warnings.catch_warnings(action="ignore"):
    ...     with_known_series(field, range(2), least=1)[1]
    ['new']
    """
    names = series_names(field)
    if names is None:
        return field, []
    wanted = field[..., :channels]
    counts = known_counts(SlabReader(wanted, cache_bytes=0), rows, enough=least).max(axis=-1)
    enough = counts >= least
    if enough.all():
        return field, []
    require(
        bool(enough.any()),
        f"a series must have {least} values or more among the {len(rows)} training rows, got at "
        f"most {counts.max()} in any of {listed(names)}; give a table with more of its values, or "
        "a larger data.train_share",
    )
    few = [(name, int(n)) for name, n, ok in zip(names, counts, enough, strict=True) if not ok]
    told = listed(f"{name} ({count})" for name, count in few)
    sentence = (
        f"{len(few)} of {len(names)} series are dropped, which have fewer than {least} values in "
        f"the {len(rows)} training rows: {told}."
    )
    warn(sentence, stacklevel=2)
    return add_note(field.isel({field.dims[1]: enough}), sentence), [name for name, _ in few]
