"""Missing values of fields: interpolation in time and climatology."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from stpatch_jax.data.clocks import Clock
from stpatch_jax.data.sampling.batches import Batch
from stpatch_jax.data.transforms.cleaning import forward_fill
from stpatch_jax.errors import check_choice, require

ClimatologyPhase = Literal["hour", "workday_hour", "weekday_hour", "day_of_year"]
# Days before and after a day of the year that tell its mean, too.
_NEAR = 10
# What is added to the levels of departures, as a share of their mean.
_FLOOR = 0.1
PHASES = {"hour": 24, "workday_hour": 2 * 24, "weekday_hour": 7 * 24, "day_of_year": 366}


def interpolate(values: np.ndarray, *, times: np.ndarray | None = None) -> np.ndarray:
    """Fills gaps linearly in time between the known values on either side; a new array [time, ...].

    After its last known value a series keeps that value; before the first one it stays NaN. A row
    depends on later rows *of the array it is given*: give one context at a time, and no value
    leaks from the targets that follow. Times [time], numbers or dates, ascend; rows are
    evenly spaced without.

    >>> interpolate(np.array([np.nan, 1.0, np.nan, 3.0, np.nan]))
    array([nan,  1.,  2.,  3.,  3.])
    """
    filled = forward_fill(values)
    gaps = np.isnan(values) & ~np.isnan(filled)
    if not gaps.any():
        return filled
    at = np.arange(len(values)) if times is None else times - times[0]
    if at.dtype.kind in "mO":  # Dates of cftime are apart by timedeltas of Python.
        at = at.astype("m8[us]" if at.dtype == object else at.dtype).astype(np.int64)
    at = np.broadcast_to(at.astype(np.float64).reshape(-1, *[1] * (values.ndim - 1)), values.shape)
    missing_at = np.where(np.isnan(values), np.nan, at)
    before = forward_fill(missing_at)
    after, following = forward_fill(missing_at[::-1])[::-1], forward_fill(values[::-1])[::-1]
    inside = gaps & ~np.isnan(following)
    width = np.where(inside, after - before, 1.0)
    share = np.where(inside, (at - before) / width, 0.0)
    result = filled + np.where(inside, following - filled, 0.0) * share
    return result.astype(values.dtype)


@dataclass(frozen=True, eq=False)
class Climatology:
    """The mean of each series at each phase of the day, the week or the year.

    That of a day of the year is the mean of the values up to ten days before and after it, too: of
    a few years one day alone tells little. A phase without a training value takes the series' mean
    over all phases; a series without any has NaN.

    Attributes:
        phase: What repeats: `hour` (24 hours of the day), `workday_hour` (the 24 hours of Monday to
            Friday, then those of Saturday and Sunday), `weekday_hour` (168 hours of the week) or
            `day_of_year` (366 days, of which other calendars have those they know).
        mean: Means [phase, *series], float64, in the units of the values.
    """

    phase: ClimatologyPhase
    mean: np.ndarray

    @classmethod
    def fit(
        cls, values: np.ndarray, times: np.ndarray, *, phase: ClimatologyPhase
    ) -> "Climatology":
        """Takes the means from training rows alone [time, *series], NaN where missing.

        Raises:
            InputError: If their times [time] are no dates or the phase is not known.
        """
        return cls.fit_chunks([(values, times)], phase=phase)

    @classmethod
    def fit_chunks(
        cls, chunks: Iterable[tuple[np.ndarray, np.ndarray]], *, phase: ClimatologyPhase
    ) -> "Climatology":
        """As `fit`, from values and times that come in parts: sums and counts are kept, no more."""
        phases = _phases(phase)
        sums: np.ndarray = np.zeros(())
        counts: np.ndarray = np.zeros(())
        for values, times in chunks:
            if not sums.ndim:
                sums = np.zeros((phases, *values.shape[1:]))
                counts = np.zeros(sums.shape, np.int64)
            numbers = phase_numbers(times, phase=phase)
            for number in np.unique(numbers):
                rows = values[numbers == number]
                known = np.isfinite(rows)
                sums[number] += np.where(known, rows, 0.0).sum(axis=0, dtype=np.float64)
                counts[number] += known.sum(axis=0)
        if phase == "day_of_year":
            sums, counts = over_days(sums), over_days(counts)
        total = counts.sum(axis=0)
        overall = np.where(total > 0, sums.sum(axis=0) / np.maximum(total, 1), np.nan)
        return cls(phase, np.where(counts > 0, sums / np.maximum(counts, 1), overall))

    def at(self, times: np.ndarray) -> np.ndarray:
        """The climatology at the given times: [time, *series]."""
        return self.mean[phase_numbers(times, phase=self.phase)]

    def to_dict(self) -> dict[str, Any]:
        """Phase and means."""
        return {"phase": self.phase, "mean": self.mean}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Climatology":
        """Undoes `to_dict`, bit for bit."""
        return cls(state["phase"], np.asarray(state["mean"], np.float64))


def phase_numbers(times: np.ndarray, *, phase: ClimatologyPhase) -> np.ndarray:
    """The number of the phase, see `Climatology`, that each time [time] falls into, from 0.

    A time half a minute before an hour falls into that hour.

    Raises:
        InputError: If the times are no dates or the phase is not known.

    >>> phase_numbers(np.array(["2024-03-01T05:30"], "datetime64[ns]"), phase="hour")
    array([5])
    """
    _phases(phase)
    # Clocks of loggers are some seconds early.
    early: dict[str, Any] = {"M": np.timedelta64(30, "s"), "O": timedelta(seconds=30)}
    clock = Clock.of(times + early[times.dtype.kind] if times.dtype.kind in early else times)
    if phase == "hour":
        return clock.hour
    if phase == "workday_hour":
        return (clock.weekday >= 5) * 24 + clock.hour
    if phase == "weekday_hour":
        return clock.weekday * 24 + clock.hour
    # After February, the days of a common year are numbered as in a leap year.
    day = clock.day_of_year
    return day + ((day >= 59) & (clock.days_in_year == 365))


class Phases(NamedTuple):
    """The phases of rows, of which the first ones tell a climatology.

    Attributes:
        phase: What repeats, see `Climatology`.
        numbers: Number of the phase of each row [row], see `phase_numbers`.
    """

    phase: ClimatologyPhase
    numbers: np.ndarray

    def means(self, known: np.ndarray) -> np.ndarray:
        """The climatology [phase, series] of the first rows [row, series], NaN where missing."""
        there = np.isfinite(known)
        sums, counts = self._sums(np.where(there, known, 0.0)), self._sums(there)
        overall = sums.sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
        return np.where(counts > 0, sums / np.maximum(counts, 1), overall)

    def met(self, rows: int) -> np.ndarray:
        """Whether the first rows tell a mean of the phase of each row [row]."""
        return self._sums(np.ones((rows, 1)))[self.numbers, 0] > 0

    @property
    def cycles(self) -> float:
        """How many values that stand for themselves tell a mean, on average.

        Rows one after the other that share a phase are one value, and so are days of one week.
        """
        if not len(self.numbers):
            return 0.0
        steps = np.diff(self.numbers, prepend=-1)
        counts = self._sums(steps[:, None] != 0)[np.unique(self.numbers)]
        weeks = np.median(steps[steps != 0]) / 7 if self.phase == "day_of_year" else 1.0
        return float(counts.mean() * min(1.0, weeks))

    def _sums(self, values: np.ndarray) -> np.ndarray:
        """Sums of the first rows [row, series] by phase [phase, series]."""
        sums = np.zeros((_phases(self.phase), values.shape[1]))
        np.add.at(sums, self.numbers[: len(values)], values)
        return over_days(sums) if self.phase == "day_of_year" else sums


def over_days(sums: np.ndarray) -> np.ndarray:
    """Sums of days of the year [day, *series] over the days up to ten before and after each.

    >>> over_days(np.ones((366, 1), int))[0].tolist()
    [21]
    """
    around = np.concatenate([sums[-_NEAR:], sums, sums[:_NEAR]])
    total = np.cumsum(np.concatenate([np.zeros_like(sums[:1]), around]), axis=0)
    return total[2 * _NEAR + 1 :] - total[: -2 * _NEAR - 1]


def _phases(phase: str) -> int:
    check_choice("the phase of a climatology", phase, get_args(ClimatologyPhase))
    return PHASES[phase]


def relative_levels(means: Climatology) -> Climatology:
    """What departures from a climatology of values of 0 and above are relative to, 1 on average.

    That is the climatology plus a tenth of its mean over all phases and places of a channel, as a
    share of 1.1 of this mean: so it is above 0 where and when nothing happens.

    Raises:
        InputError: If a mean is negative.

    >>> relative_levels(Climatology("hour", np.array([[0.0], [4.0]]))).mean.round(2).tolist()
    [[0.09], [1.91]]
    """
    lowest, most = means.mean.min(), np.abs(means.mean).max()
    require(
        lowest >= -1e-6 * most,
        f"data.relative must go with values of 0 and above, got a climatology of {lowest:g}; turn "
        "it off, and take task.residual climatology",
    )
    whole = means.mean.mean(axis=tuple(range(means.mean.ndim - 1)), keepdims=True)
    share = np.divide(means.mean, whole, out=np.ones_like(means.mean), where=whole > 0)
    return Climatology(means.phase, (np.maximum(share, 0) + _FLOOR) / (1 + _FLOOR))


def with_climatology(
    example: Batch,
    means: Climatology,
    times: np.ndarray,
    *,
    anomalies: bool,
    outlook: bool,
    levels: np.ndarray | None = None,
) -> Batch:
    """Adds the climatology to one example, as the naive forecast `climatology` too, float32.

    So is `anomaly_persistence`: the climatology and how far persistence was from it when the
    context ended.

    Args:
        example: What `FieldWindows` gives: `context` [context, *space, channels], whose first
            channels are those of the climatology, `persistence`, and what else there is.
        means: The climatology in the units of the example.
        times: Times of the rows of context and horizon [context + horizon], dates.
        anomalies: Whether these channels of the context become departures from it.
        outlook: Whether the climatology of one horizon later, less its mean over all phases,
            becomes channels behind the others: what stands there at the last row of the context
            belongs to the last target.
        levels: What departures are divided by in these rows [context + horizon, *space, channels],
            see `relative_levels`; those of the targets become `level`. None for 1.

    >>> means = Climatology("hour", np.arange(24.0)[:, None])
    >>> times = np.datetime64("2024-01-01T05", "ns") + np.arange(3) * np.timedelta64(1, "h")
    >>> example = {"context": np.full((2, 1), 7.0, np.float32), "persistence": np.full((1, 1), 7.0)}
    >>> found = with_climatology(example, means, times, anomalies=True, outlook=True)
    >>> found["context"].tolist(), found["climatology"].tolist()
    ([[2.0, -5.5], [1.0, -4.5]], [[7.0]])
    >>> found["anomaly_persistence"].tolist()
    [[8.0]]
    """
    inputs = example["context"]
    context, channels = len(inputs), means.mean.shape[-1]
    usual = means.at(times)
    ahead = usual[context:]
    parts = [inputs]
    if anomalies:
        departures = inputs[..., :channels] - usual[:context]
        departures = departures if levels is None else departures / levels[:context]
        parts = [departures, inputs[..., channels:]]
    if outlook:
        parts.append(usual[-context:] - means.mean.mean(axis=0))
    joined = np.concatenate(parts, axis=-1, dtype=np.float32)
    stays = ahead + (example["persistence"] - usual[context - 1 : context])
    added = {"climatology": ahead, "anomaly_persistence": stays}
    added |= {} if levels is None else {"level": levels[context:]}
    return example | {"context": joined, **{k: of.astype(np.float32) for k, of in added.items()}}


def with_space_means(example: Batch, *, weights: np.ndarray | None = None) -> Batch:
    """Adds the mean of every channel of the context over space, in all cells, behind them.

    Weights [context, *space, channels] are those of the first channels: with the levels that
    departures are relative to, the departure of the mean is relative to the mean level. None
    weighs all alike.

    >>> context = np.array([[[1.0], [3.0]]], np.float32)  # one row, two cells
    >>> with_space_means({"context": context})["context"].tolist()
    [[[1.0, 2.0], [3.0, 2.0]]]
    """
    context = example["context"]
    space = tuple(range(1, context.ndim - 1))
    means = context.mean(axis=space, keepdims=True)
    if weights is not None:
        weighed = np.average(
            context[..., : weights.shape[-1]], axis=space, weights=weights, keepdims=True
        )
        means[..., : weights.shape[-1]] = weighed
    joined = np.concatenate([context, np.broadcast_to(means, context.shape)], axis=-1)
    return example | {"context": joined}
