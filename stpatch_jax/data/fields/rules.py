"""Naive forecasts of a field, which every report prints beside a model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from stpatch_jax.data.fields.cleaning import Cleaner
from stpatch_jax.data.fields.climatology import (
    Climatology,
    relative_levels,
    with_climatology,
    with_space_means,
)
from stpatch_jax.data.fields.regression import explained_rows
from stpatch_jax.data.fields.slabs import SlabReader, time_blocks
from stpatch_jax.data.fields.windows import FieldWindows
from stpatch_jax.data.sampling.batches import Batch
from stpatch_jax.errors import check_size, require

SEASON, COMBINATION = "season", "combination"
_END_BYTES = 2**22


def season_rules(season: Any) -> dict[str, int]:
    """The seasons of a setting in rows by the name of their rule.

    >>> season_rules(24), season_rules(0), season_rules((24, 168))
    ({'season': 24}, {}, {'season_24': 24, 'season_168': 168})
    """
    if isinstance(season, tuple | list):
        return {f"{SEASON}_{rows}": rows for rows in season}
    return {SEASON: season} if season and season != "auto" else {}


class SeasonalConfig:
    """Base of configurations with a `season` and a `climatology`, by which rules forecast."""

    season: Any
    climatology: Any

    @property
    def seasons(self) -> dict[str, int]:
        """The seasons in time steps, by the names of their naive forecasts."""
        return season_rules(self.season)

    def for_inputs(self, inputs: Sequence[str]) -> Any:
        """Without the naive forecasts that a model does not read: a file needs less for it."""
        config: Any = self
        if COMBINATION in inputs:
            return config
        if getattr(config, COMBINATION, False):
            config = replace(config, combination=False)
        if SEASON not in inputs:
            seasons = tuple(rows for name, rows in self.seasons.items() if name in inputs)
            config = replace(config, season=seasons)
        needed = {"climatology", "anomaly_persistence", "regression"} & {*inputs}
        return config if needed else replace(config, climatology=None)


def check_season(season: Any) -> None:
    """Refuses what is no season: a number of time steps, several of them, or "auto".

    Raises:
        InputError: Saying so.
    """
    require(
        season == "auto" or not isinstance(season, str),
        f"data.season must be a number of time steps, several or auto, got {season!r}; give a "
        "number",
    )
    if not isinstance(season, tuple | str):
        check_size("data.season", season, least=0)
    for rows in season_rules(season).values():
        check_size("data.season", rows)


def check_climatology(config: Any) -> None:
    """Refuses what needs a climatology without one, and what contexts of departures do not suit.

    Raises:
        InputError: Saying what.
    """
    for name in ("anomalies", "climatology_channel"):
        require(
            config.climatology is not None or not getattr(config, name),
            f"data.climatology must be a phase for data.{name}, got none; give data.climatology "
            "hour, for example",
        )
    require(
        config.anomalies or not config.relative,
        "data.anomalies must be on for data.relative, got it off; turn it on",
    )
    require(
        not (config.combination and config.anomalies),
        "data.combination must be off with data.anomalies, whose contexts hold departures, got it "
        "on; leave one out",
    )


def path_increment(path: np.ndarray) -> np.ndarray:
    """What each series [time, *series] gains a row between its first and last known value, float64.

    That is the mean of its changes, the drift of a random walk; 0 where fewer than two are known.

    >>> path_increment(np.array([[np.nan, 1.0], [2.0, 2.0], [6.0, np.nan]])).tolist()
    [4.0, 1.0]
    """
    known = np.isfinite(path)
    first, last = known.argmax(axis=0), len(path) - 1 - known[::-1].argmax(axis=0)
    ends = (np.take_along_axis(path, at[None], axis=0)[0] for at in (first, last))
    begin, end = (np.asarray(of, np.float64) for of in ends)
    apart = last - first
    return np.where(known.any(axis=0) & (apart > 0), end - begin, 0.0) / np.maximum(apart, 1)


def with_drift(example: Batch, increment: np.ndarray) -> Batch:
    """Adds `drift`, persistence and the increment of each series [*series] a row, float32.

    References:
        Hyndman and Athanasopoulos, Forecasting: principles and practice, 3rd edition, 2021, section
        5.2.

    >>> example = {"persistence": np.ones((1, 1)), "target": np.zeros((3, 1))}
    >>> with_drift(example, np.array([0.5]))["drift"].ravel().tolist()
    [1.5, 2.0, 2.5]
    """
    leads = np.arange(1, len(example["target"]) + 1).reshape(-1, *[1] * increment.ndim)
    drift = example["persistence"] + leads * increment
    return example | {"drift": drift.astype(np.float32)}


def field_increment(reader: SlabReader, rows: range, cleaner: Cleaner) -> np.ndarray:
    """What each series of a field gains a row over some rows, scaled [*space, channel], float64.

    See `path_increment`. It reads from both ends, as far as the first and last values lie inside.
    """
    ends, places = [], []
    blocks = [*time_blocks(reader, rows, block_bytes=_END_BYTES)]
    for backwards in (False, True):
        values = np.full(reader.field.shape[1:], np.nan)
        at = np.zeros(values.shape, np.int64)
        for block in blocks[::-1] if backwards else blocks:
            part = reader.read(block)
            known = np.isfinite(part)
            place = len(part) - 1 - known[::-1].argmax(0) if backwards else known.argmax(0)
            new = known.any(axis=0) & np.isnan(values)
            there = np.take_along_axis(part, place[None], axis=0)[0]
            values, at = np.where(new, there, values), np.where(new, block.start + place, at)
            if (np.isfinite(values) | ~cleaner.known_at()).all():
                break
        ends.append(values)
        places.append(at)
    begin, end = cleaner.scaled(np.stack(ends), channels=range(values.shape[-1]), clip=False)
    gained = (end - begin) / np.maximum(places[1] - places[0], 1)
    return np.nan_to_num(gained).astype(np.float64)


def last_season(data: Any, row: int, season: int) -> np.ndarray:
    """The scaled values one season before the targets [horizon, *space, channel], float32.

    The targets of `FieldData` begin at a row. Where the horizon is longer than a season, the last
    known season repeats. What is missing, or lies before the first row, is 0, the training mean.
    """
    leads = min(season, data.horizon)
    rows = data.values(slice(max(row - season, 0), max(row - season + leads, 0)))
    scaled = data.target_cleaner.scaled(rows, channels=range(rows.shape[-1]), clip=False)
    last = np.zeros((leads, *scaled.shape[1:]), np.float32)
    last[leads - len(scaled) :] = np.nan_to_num(scaled)
    return last[np.arange(data.horizon) % season]


@dataclass(frozen=True, eq=False)
class RuledWindows:
    """The windows of `FieldData` with the naive forecasts that fit, and what its config adds.

    Attributes:
        data: The data.
        windows: Their windows.
        combination: The `Combination` that they bring, or None.

    Raises:
        InputError: If departures are to be relative to negative values.
    """

    data: Any
    windows: FieldWindows
    combination: Any = None

    def __post_init__(self) -> None:
        _ = self.levels

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, i: int, /) -> Batch:
        data, example = self.data, self.windows[i]
        row, config = int(example["index"]), data.config
        for name, season in config.seasons.items():
            example[name] = last_season(data, row, season)
        past = example["context"][..., self.windows.target_numbers]
        example["running_mean"] = past.mean(axis=0, keepdims=True)
        if data.increment is not None:
            example = with_drift(example, data.increment)
        expected, levels = {}, None
        if data.regression is not None:
            rows = explained_rows(data, example, self.windows)
            expected["regression"] = rows[: data.context]
            example["regression"] = rows[data.context :].astype(np.float32)
        if data.means is not None:
            times = data.timeline[row - data.context : row + data.horizon]
            expected["climatology"] = data.means.at(times[: data.context])
            levels = self.levels.at(times) if self.levels else None
            choice = {"anomalies": config.anomalies, "outlook": config.climatology_channel}
            example = with_climatology(example, data.means, times, levels=levels, **choice)
        if self.combination:
            example = self.combination.added(example, past, expected)
        if not config.space_means:
            return example
        return with_space_means(example, weights=None if levels is None else levels[: data.context])

    @cached_property
    def levels(self) -> Climatology | None:
        """What departures are relative to, see `relative_levels`; None where they are not."""
        data = self.data
        if not data.config.relative:
            return None
        means = data.target_cleaner.inverse(data.means.mean)
        return relative_levels(Climatology(data.means.phase, means))
