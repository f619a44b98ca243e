"""How the rows of a file are spaced in time: gaps, and what seasons and phases ask of a step."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr

from stpatch_jax.data.readers.conventions import add_note
from stpatch_jax.data.readers.lazy import LazyArray
from stpatch_jax.data.times import Gap, TimeAxis, time_text
from stpatch_jax.errors import require, warn

GapRule = Literal["split", "insert", "auto"]
_TOLD = 8  # Gaps that are listed one by one.
DAY = 86400.0
YEAR = 365.2425 * DAY


def gaps_report(axis: TimeAxis) -> dict[str, Any]:
    """What a report tells of the times of a file; JSON-able.

    Returns:
        `step` of the rows as text, None where they have none, `gaps` (`after`, `before`, and
        `missing`, the number of rows left out), `holidays`, the number of working days left out but
        no gap, and `short_sessions`, the days that begin late or end early.

    >>> gaps_report(TimeAxis.of(np.array([0, 1, 2, 5, 6, 7])))["gaps"]
    [{'after': '2', 'before': '5', 'missing': 2}]
    """
    gaps = [
        {"after": time_text(gap.after), "before": time_text(gap.before), "missing": gap.missing}
        for gap in axis.gaps
    ]
    step = None if axis.step is None else str(axis.step)
    short = list(axis.short_sessions)
    return {"step": step, "gaps": gaps, "holidays": axis.holidays, "short_sessions": short}


def gap_text(gap: Mapping[str, Any]) -> str:
    """One gap of `gaps_report` for people."""
    return str(Gap(0, gap["after"], gap["before"], gap["missing"]))


def spaced(field: xr.DataArray, rule: GapRule, *, name: str) -> xr.DataArray:
    """A field whose gaps were told, and filled with missing rows where that is the `gap_rule`.

    Warns:
        UserWarning: If rows are left out, or keep no step.
    """
    axis = TimeAxis.of(field.time.values, name=f"the times of {name}")
    rule = gap_rule(axis, rule)
    warn_of_gaps(axis, rule, name=name)
    if axis.gaps and rule == "insert":
        field = with_missing_rows(field, axis)
        for gap in axis.gaps[:_TOLD]:
            field = add_note(field, f"Gap: {gap}, put in as missing values.")
        if more := axis.gaps[_TOLD:]:
            missing = sum(gap.missing for gap in more)
            told = f"{missing} rows missing in {len(more)} more, the first after"
            note = f"Gaps: {told} {time_text(more[0].after)}, put in as missing values."
            field = add_note(field, note)
    elif axis.step is None and len(axis) > 1:
        note = (
            "The rows keep no step in time: a window is so many rows, however far apart they are, "
            "and what follows the file cannot be dated."
        )
        field = add_note(field, note)
        warn(f"{name}: {note}", stacklevel=2)
    elif axis.uneven:
        first = time_text(axis.values[axis.uneven[0]])
        note = (
            f"{len(axis.uneven)} rows, first that of {first}, are not quite {axis.step} behind the "
            "row before; they count as one step."
        )
        field = add_note(field, note)
    return field


def warn_of_gaps(axis: TimeAxis, rule: GapRule, *, name: str) -> None:
    """One warning of all the gaps of what is called `name`, and of what becomes of them."""
    if not axis.gaps:
        return
    what = "no window crosses one" if rule == "split" else "missing rows are put in as missing"
    told = "; ".join(map(str, axis.gaps[:3])) + ("; ..." if len(axis.gaps) > 3 else "")
    count = f"{len(axis.gaps)} gap{'s' * (len(axis.gaps) > 1)}"
    warn(f"{name} has {count} in time ({told}); {what}", stacklevel=3)


def check_phase(axis: TimeAxis, phase: str | None, *, name: str) -> None:
    """Refuses a phase that all rows share: the hour of rows a month apart, for example.

    >>> days = np.arange("2024-01-01", "2024-03-01", dtype="M8[D]")
    >>> check_phase(TimeAxis.of(days), "day_of_year", name="data.climatology")
    """
    require(
        phase is None or axis.calendar is not None,
        f"{name} must be left out for rows that have no dates, got {phase}; give {name} None, or "
        "name the dates with time=",
    )
    seconds = None if axis.step is None else axis.step.seconds
    if phase is None or seconds is None:
        return
    longest = {"hour": 0.99 * DAY, "workday_hour": DAY, "weekday_hour": DAY}.get(phase, 0.6 * YEAR)
    require(
        seconds <= longest,
        f"{name} must be a phase in which rows {axis.step} apart differ, got {phase}; give "
        f"{name} {'day_of_year' if seconds < 0.6 * YEAR else 'None'}",
    )


def season_lengths(axis: TimeAxis) -> dict[str, float]:
    """How many rows a day, a week and a year have, of those that have two; none without dates.

    >>> days = np.arange("2024-01-01", "2024-03-01", dtype="M8[D]")
    >>> season_lengths(TimeAxis.of(days))
    {'week': 7.0, 'year': 365.2425}
    """
    seconds = None if axis.step is None else axis.step.seconds
    if seconds is None:
        return {}
    lengths = {"day": DAY, "week": 7 * DAY, "year": YEAR}
    if axis.step is not None and axis.step.unit == "business day":
        lengths = {"week": 5 * DAY, "year": 261 * DAY}
    if axis.session_rows is not None:
        day, week = axis.session_rows
        seconds = DAY / day
        lengths = {"day": DAY, "week": week * seconds, "year": week * seconds * YEAR / (7 * DAY)}
    return {name: length / seconds for name, length in lengths.items() if length > 1.5 * seconds}


def season_note(axis: TimeAxis, season: int) -> str | None:
    """A sentence about a season of rows that is no day, week, month or year; None where it is.

    >>> hours = np.arange("2024-01-01", "2024-01-09", dtype="M8[h]")
    >>> season_note(TimeAxis.of(hours), 24)
    >>> season_note(TimeAxis.of(hours[::6]), 24)
    'A season of 24 rows, data.season, is 6 days; rows are 4 a day, 28 a week, 1461 a year.'
    """
    whole = season_lengths(axis)
    if not season or not whole:
        return None
    if any(abs(season - rows) < 0.02 * rows for rows in [*whole.values(), whole["year"] / 12]):
        return None
    listed = ", ".join(f"{rows:.0f} a {name}" for name, rows in whole.items())
    span = season * YEAR / whole["year"]
    unit, size = ("days", DAY) if span < YEAR else ("years", YEAR)
    return (
        f"A season of {season} rows, data.season, is {span / size:.3g} {unit}; rows are {listed}."
    )


def gap_rule(axis: TimeAxis, rule: GapRule) -> GapRule:
    """What becomes of the gaps of a file: `auto` puts in up to a quarter as many rows as there are.

    >>> few = TimeAxis.of(np.delete(np.arange(30), [4, 9]))
    >>> gap_rule(few, "auto"), gap_rule(TimeAxis.of(np.array([0, 1, 3])), "auto")
    ('insert', 'split')
    """
    if rule != "auto":
        return rule
    few = 4 * sum(gap.missing for gap in axis.gaps) <= len(axis)
    return "insert" if few and can_insert(axis) else "split"


def can_insert(axis: TimeAxis) -> bool:
    """Whether the gaps of a file can be put in as missing rows, see `with_missing_rows`.

    >>> can_insert(TimeAxis.of(np.array([0, 1, 4]))), can_insert(TimeAxis.of(np.array([0, 1, 9])))
    (True, False)
    """
    missing = [gap.missing for gap in axis.gaps]
    return all(missing) and sum(missing) <= len(axis)


def require_rows(axis: TimeAxis, rows: int, *, name: str) -> None:
    """Refuses times among which there are not so many without a gap."""
    require(
        len(axis) >= rows,
        f"{name} must have the {rows} rows that a forecast needs, got {len(axis)}; give a longer "
        "file",
    )
    longest = max(map(len, axis.segments))
    require(
        longest >= rows,
        f"{name} must have {rows} rows without a gap in time, got at most {longest} between its "
        f"gaps; give a file without them{' or data.gaps insert' * can_insert(axis)}",
    )


def with_missing_rows(field: xr.DataArray, axis: TimeAxis) -> xr.DataArray:
    """A field (time, *space, channel) whose rows have one step: those left out are put in as NaN.

    It is read where it is used, as the field itself; whole numbers become floats.

    Raises:
        InputError: If more rows are missing than there are, or a row is no whole number of steps
            behind the one before.

    >>> rows = xr.DataArray(
    ...     [[1.0], [2.0], [3.0]], {"time": [0, 1, 4], "channel": ["load"]}, ("time", "channel")
    ... )
    >>> with_missing_rows(rows, TimeAxis.of(rows.time.values))[:, 0].values.tolist()
    [1.0, 2.0, nan, nan, 3.0]
    """
    missing = sum(gap.missing for gap in axis.gaps)
    crooked = [gap for gap in axis.gaps if not gap.missing]
    require(
        can_insert(axis),
        "the gaps must be whole rows, no more of them than there are rows, to be put in as missing "
        f"rows, got {crooked[0] if crooked else f'{missing} rows missing beside {len(axis)}'}; "
        "leave out the rows on one side of the gap",
    )
    times, rows = [], []
    for segment, gap in zip(axis.segments, [*axis.gaps, None], strict=True):
        times.append(axis.values[segment.start : segment.stop])
        rows.append(np.arange(segment.start, segment.stop))
        if gap is not None:
            times.append(_inside(axis, gap))
            rows.append(np.full(gap.missing, -1))
    stack = _Inserted(field, np.concatenate(rows))
    coords = {name: coord.variable for name, coord in field.coords.items() if name != "time"}
    coords = {name: coord for name, coord in coords.items() if "time" not in coord.dims}
    dims = tuple(map(str, field.dims))
    whole = stack.field(dims, {**coords, "time": np.concatenate(times)})
    whole.time.attrs.update(field.time.attrs)
    return whole.assign_attrs(field.attrs)


def _inside(axis: TimeAxis, gap: Gap) -> np.ndarray:
    if axis.goes_on:
        return axis.ahead(gap.missing, row=gap.row - 1)
    before = TimeAxis.of(axis.values[: gap.row])
    if before.uneven or before.step != axis.step:
        before = TimeAxis.of(axis.values[gap.row - 1 : gap.row])
    return before.ahead(gap.missing, step=axis.step)


class _Inserted(LazyArray):
    """A field with rows of NaN put in; `rows` holds the row of the field [time], -1 for none."""

    def __init__(self, field: xr.DataArray, rows: np.ndarray):
        self.inner, self.rows = field, rows
        self.shape = (len(rows), *field.shape[1:])
        self.dtype = np.result_type(field.dtype, np.float32)

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """See `LazyArray.read`."""
        rows = self.rows[key[0]]
        known = rows >= 0
        where = dict(zip(self.inner.dims, (rows[known], *key[1:]), strict=True))
        part = self.inner.variable.isel(where).to_numpy()
        block = np.full((len(rows), *part.shape[1:]), np.nan, self.dtype)
        block[known] = part
        return block
