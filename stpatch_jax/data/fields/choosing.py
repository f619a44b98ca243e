"""What the training rows tell of settings that are left open: seasons, phases, lengths."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import xarray as xr

from stpatch_jax.data.fields.slabs import SlabReader, time_blocks
from stpatch_jax.data.sampling.spacing import DAY, season_lengths
from stpatch_jax.data.times import TimeAxis
from stpatch_jax.errors import require

AUTO = "auto"
Auto = Literal["auto"]
"""What a setting is called that the data choose."""

Config = TypeVar("Config")

# Seasons are as plain in some of the series as in all.
_MOST_SERIES = 64
# A season is seen this often in the rows, one that no calendar knows more often.
_SEEN, _SEEN_UNDATED = 2, 5
# Of the squared error of what there is, see `found_seasons`.
_LEAST_GAIN, _MOST_GAIN, _LEAST_UNDATED, _LEAST_SHARE = 0.1, 0.6, 0.4, 0.02
_BLOCK_BYTES = 2**26
# The rows of a season that is repeated are at most this share of those of training.
_SEASON_SHARE = 4
# A context is no longer than this, nor than a quarter of the training rows.
_LONGEST_CONTEXT, _CONTEXT_SHARE = 512, 4
# Of many rows it is this long at least, a week of hours and a day: they tell what is far back.
_LONG_CONTEXT, _LONG_SHARE, _LONG_NUMBERS = 192, 20, 2**16
# Of so many series it has so many of the longest season as a quarter of the training rows hold:
# what comes back with it is told by their mean.
_MANY_SERIES, _MOST_CYCLES = 8, 10
_LONGEST_HORIZON, _HORIZON_SHARE = 24, 10


def found_seasons(values: np.ndarray, times: np.ndarray) -> dict[int, float]:
    """The seasons of some series, in rows, and the share of the error of persistence they have.

    Candidates are the lengths of the calendar in rows, a day, a week and a year; where none of
    these holds, the lag at which the series, less their linear trends, are most like themselves.
    From every row as origin, and over all leads of one candidate, the mean squared error of the
    value one season before is compared with that of persistence, and with those of the shorter
    seasons that were found. A season of n rows holds in N rows where its error is less by the
    largest of 0.1, 4 / sqrt(N) and the lesser of 1.5 n / N and 0.6 of the least of these (without a
    calendar by 0.4 at least), and by 0.02 of persistence's. It must be seen twice, without a
    calendar five times.

    Args:
        values: Rows [time, *series], NaN where missing; each series counts alike.
        times: Their times [time]. Rows that are left out keep their place.

    Returns:
        By season, ascending, the error as a share of persistence's, in [0, 1).

    References:
        Hyndman and Athanasopoulos, Forecasting: principles and practice, 3rd edition, 2021, section
        5.2, on the seasonal naive forecast.

    >>> hours = np.arange("2024-01-01", "2024-03-01", dtype="M8[h]")
    >>> found_seasons(np.sin(np.arange(len(hours)) * 2 * np.pi / 24), hours).keys()
    dict_keys([24])
    """
    axis = TimeAxis.of(times)
    rows = np.asarray(values, np.float64).reshape(len(values), -1)
    lengths = {round(rows) for rows in season_lengths(axis).values()}
    errors = _lag_errors(_placed(rows, axis), len(rows) // _SEEN)
    found = _holding(errors, sorted(lengths), len(rows), least=_LEAST_GAIN)
    if found:
        return found
    own = [n for n in range(3, len(rows) // _SEEN_UNDATED + 1) if _is_valley(errors, n)]
    found = _holding(errors, own, len(rows), least=_LEAST_UNDATED)
    return dict([*found.items()][:1])  # Multiples of it are none of their own.


def _placed(rows: np.ndarray, axis: TimeAxis) -> np.ndarray:
    """The rows with missing ones where a file leaves some out, so that a lag is a time."""
    edges = [gap.row for gap in axis.gaps for _ in range(gap.missing)]
    return np.insert(rows, edges, np.nan, axis=0) if 0 < len(edges) <= len(rows) else rows


def _lag_errors(rows: np.ndarray, most: int) -> np.ndarray:
    """Mean squares [lag] of what rows differ from those 1 to `most` before, without the trend.

    Each series [time, series] is brought to variance 1; a lag at which nothing is known has inf.
    """
    known = np.isfinite(rows)
    count = np.maximum(known.sum(axis=0), 1)
    at = np.where(known, np.linspace(-1, 1, len(rows))[:, None], 0.0)
    at = np.where(known, at - at.sum(axis=0) / count, 0.0)
    x = np.where(known, rows, 0.0)
    x = np.where(known, x - x.sum(axis=0) / count, 0.0)
    x -= at * (at * x).sum(axis=0) / np.maximum((at**2).sum(axis=0), 1e-30)
    deviation = np.sqrt((x**2).sum(axis=0) / count)
    x /= np.where(deviation > 0, deviation, 1.0)
    size = 1 << (len(rows) + most).bit_length()
    waves, there, squares = (np.fft.rfft(of, size, axis=0) for of in (x, known * 1.0, x**2))
    # (x[t] - x[t - lag])^2 over all t where both are known, by the theorem of Wiener and Khinchin.
    spectra = 2 * (squares * there.conj()).real - 2 * np.abs(waves) ** 2, np.abs(there) ** 2
    sums, counts = (np.fft.irfft(of.sum(axis=1), size)[1 : most + 1] for of in spectra)
    return np.where(counts > 0.5, sums / np.maximum(counts, 0.5), np.inf)


def _holding(
    errors: np.ndarray, candidates: Sequence[int], rows: int, *, least: float
) -> dict[int, float]:
    found: dict[int, float] = {}
    for season in candidates:
        if not 2 <= season <= len(errors):
            continue
        leads = np.arange(1, season + 1)
        persistence = errors[:season].mean()
        # At a lead beyond a shorter season, its last known value is some of them before.
        lags = [shorter * -(-leads // shorter) for shorter in found]
        others = [errors[lag - 1].mean() for lag in lags if lag[-1] <= len(errors)]
        best, own = min(persistence, *others, np.inf), errors[season - 1]
        gain = max(least, 4 / np.sqrt(rows), min(1.5 * season / rows, _MOST_GAIN))
        if own < (1 - gain) * best and best - own > _LEAST_SHARE * persistence:
            found[season] = float(own / persistence)
    return found


def _is_valley(errors: np.ndarray, lag: int) -> bool:
    near = max(1, lag // 4)
    return errors[lag - 1] <= errors[max(0, lag - 1 - near) : lag + near].min()


def settled(config: Config, field: xr.DataArray, rows: range) -> tuple[Config, dict[str, str]]:
    """A configuration of a field with nothing left open, and why each was chosen, by its name.

    It depends on the training rows alone, for the lengths of context and horizon on how many there
    are, and for gaps on which rows the file has.

    Args:
        config: A `FieldConfig`.
        field: The field (time, *space, channel).
        rows: Its training rows.

    Raises:
        InputError: There are none.
    """
    own: Any = config
    open_ = ("season", "climatology", "calendar", "horizon", "context", "gaps")
    if AUTO not in (getattr(own, name) for name in open_):
        return config, {}
    require(
        len(rows) > 0,
        f"the train split must hold rows, got 0 of {len(field)}; use more rows, or other shares",
    )
    axis = TimeAxis.of(field.time.values[: rows.stop])
    own, chosen, there = settled_seasons(own, field, rows)
    if own.gaps == AUTO:
        rule, why = _settled_gaps(field)
        own, chosen["data.gaps"] = dataclasses.replace(own, gaps=rule), f"{rule}: {why}"
    if own.calendar == AUTO:
        features = {"day": "hour", "week": "weekday", "year": "day_of_year"}
        calendar = tuple(feature for name, feature in features.items() if name in there)
        own = dataclasses.replace(own, calendar=calendar)
        told = " and ".join(f"a {name}" for name in features if name in there)
        chosen["data.calendar"] = f"{' and '.join(calendar) or 'none'}: " + (
            f"{told} is a season" if calendar else "no season is a day, a week or a year"
        )
    longest = max(map(len, axis.segments))
    repeated = sorted(own.seasons.values())
    if own.horizon == AUTO:
        most = max(1, min(_LONGEST_HORIZON, longest // _HORIZON_SHARE))
        season = next((n for n in repeated if n <= longest // _HORIZON_SHARE), None)
        own = dataclasses.replace(own, horizon=season or most)
        why = "the shortest season" if season else "at most a tenth of the training rows"
        chosen["data.horizon"] = f"{own.horizon}: {why}"
    if own.context == AUTO:
        most = max(1, min(_LONGEST_CONTEXT, longest // _CONTEXT_SHARE))
        season = next((n for n in repeated[::-1] if 2 * n <= most), None)
        wanted = 2 * season if season else 4 * own.horizon
        own = dataclasses.replace(own, context=min(wanted, most))
        why = f"two seasons of {season} rows" if season else "four horizons"
        cycles = min(_MOST_CYCLES, most // (season or most)) * (field[0].size >= _MANY_SERIES)
        room = min(_LONG_CONTEXT, _LONG_NUMBERS // int(field[0].size))
        share, seen = longest // _LONG_SHARE, (season or 0) * cycles
        if (long := min(room, max(share, seen))) > own.context:
            own = dataclasses.replace(own, context=long)
            why = f"{cycles} seasons" if seen > share else "a twentieth of the training rows"
            why += ", but at most 192 and 65,536 numbers an example"
        elif wanted > most:
            why = "at most a quarter of the training rows, and 512"
        chosen["data.context"] = f"{own.context}: {why}"
    return own, chosen


def _settled_gaps(field: xr.DataArray) -> tuple[str, str]:
    """The rule of a field in which rows stand already that may be put in, and why."""
    if TimeAxis.of(field.time.values).gaps:
        return "split", "more than a quarter of the rows are missing, or times between whole rows"
    return "insert", "at most a quarter as many rows are missing as there are"


def settled_seasons(
    config: Config, field: xr.DataArray, rows: range
) -> tuple[Config, dict[str, str], set[str]]:
    """As `settled`, of `season` and `climatology` alone; and which of the calendar are seasons."""
    own: Any = config
    chosen: dict[str, str] = {}
    axis = TimeAxis.of(field.time.values[: rows.stop])
    seasons = {*own.seasons.values()}
    if own.season == AUTO:
        found = found_seasons(some_series(field, rows), axis.values)
        # A longer one would cost too many of the first windows, which lack the values before.
        kept = tuple(season for season in found if season <= len(rows) // _SEASON_SHARE)
        seasons, own = {*found}, dataclasses.replace(own, season=kept)
        chosen["data.season"] = _season_text(found, kept)
    there = {name for name, length in season_lengths(axis).items() if round(length) in seasons}
    if own.climatology == AUTO:
        phase, why = _phase(axis, there)
        own = dataclasses.replace(own, climatology=phase)
        chosen["data.climatology"] = f"{phase}: {why}"
    return own, chosen, there


def _phase(axis: TimeAxis, there: set[str]) -> tuple[str | None, str]:
    """The phase by which a climatology differs, of the seasons that were found."""
    seconds = None if axis.step is None else axis.step.seconds
    if seconds is None or axis.calendar is None or not there:
        return None, "no season is a day, a week or a year"
    if "week" in there and seconds < DAY:
        return "weekday_hour", "a week is a season"
    if "day" in there:
        return "hour", "a day is a season"
    if "year" in there and seconds < 60 * DAY:
        return "day_of_year", "a year is a season"
    return None, "no phase tells the season of rows so far apart"


def _season_text(found: Mapping[int, float], kept: Sequence[int]) -> str:
    if not found:
        return "none: no value one season before beats persistence over the training rows"
    shares = " and ".join(f"{share:.2g}" for share in found.values())
    text = (
        f"the value {' and '.join(map(str, found))} rows before has {shares} of the squared error"
    )
    more = "" if len(kept) == len(found) else ", but more than a quarter of the training rows"
    return f"{' and '.join(map(str, kept)) or 'none'}: {text} of persistence{more}"


def some_series(
    field: xr.DataArray, rows: range, *, of: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> np.ndarray:
    """Some rows of at most 64 series [time, series], the same of the same shape.

    They are of what a function makes of blocks of rows.
    """
    chosen, reader = chosen_series(field), SlabReader(field, cache_bytes=0)
    blocks = time_blocks(reader, rows, block_bytes=_BLOCK_BYTES)
    parts = (of(reader.read(block)) for block in blocks)
    return np.concatenate([part.reshape(len(part), -1)[:, chosen] for part in parts])


def chosen_series(field: xr.DataArray) -> np.ndarray:
    """Numbers of the series of `some_series` among those of a field (time, *series)."""
    every = int(np.prod(field.shape[1:]))
    if every <= _MOST_SERIES:
        return np.arange(every)
    return np.sort(np.random.default_rng(0).choice(every, _MOST_SERIES, replace=False))
