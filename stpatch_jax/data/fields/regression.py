"""What known covariates tell of each series: the naive forecast `regression`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from stpatch_jax.data.fields.choosing import chosen_series
from stpatch_jax.data.fields.covariates import horizon_of
from stpatch_jax.data.fields.forcings import CalendarFeature, calendar_features
from stpatch_jax.data.fields.slabs import SlabReader, time_blocks

# A penalty as a share of the number of rows, for covariates that tell the same; the most that a row
# keeps of what the one before it missed, and how often this and the weights are found in turn.
_RIDGE, _MOST_KEPT, _TURNS, _TINY = 1e-6, 0.98, 4, np.finfo(np.float64).tiny
# Rows over which covariates are averaged, and how many rows a term of each group takes.
_SPAN, _ROWS_A_TERM = 8, (0, 20, 100)
# What turns with the phases of a climatology, and how often in a day, a week or a year.
_TURNING: dict[str, tuple[CalendarFeature, ...]] = {
    "hour": ("hour",),
    "workday_hour": ("hour", "weekday"),
    "weekday_hour": ("hour", "weekday"),
    "day_of_year": ("day_of_year",),
}


@dataclass(frozen=True, eq=False)
class Terms:
    """What known covariates tell of rows, of which a `Regression` is a weighted sum.

    Beside 1 and each covariate stand its value in the row before and its absolute value: scaled,
    its slope may change at its mean, as that of a load does which rises with heat and with cold.
    Where there are twenty rows a term, so do its mean over eight rows and the absolute value of
    that: what is warm for long tells more than a warm hour. Where there are a hundred, so do waves
    and what they make of each covariate, whose slope then changes with the time of day or year.

    Attributes:
        rows: The terms [row, *series, term], float64.
        groups: How many are 1 and of the covariates themselves, of their means, and of waves.
    """

    rows: np.ndarray
    groups: tuple[int, int, int]

    @classmethod
    def of(cls, covariates: np.ndarray, *, waves: np.ndarray | None = None) -> Self:
        """Those of covariates [row, *series, covariate] and waves [row, wave].

        The first row stands for those before it.

        >>> Terms.of(np.array([[1.0], [-2.0]])).rows[:, :4].tolist()
        [[1.0, 1.0, 1.0, 1.0], [1.0, -2.0, 2.0, 1.0]]
        """
        first = covariates[:1]
        past = [
            np.concatenate([first.repeat(n, 0), covariates])[: len(covariates)]
            for n in range(_SPAN)
        ]
        mean = sum(past) / _SPAN
        one = np.ones((*covariates.shape[:-1], 1))
        basic = [one, covariates, np.abs(covariates), past[1]]
        waves = np.zeros((len(covariates), 0)) if waves is None else waves
        turning = np.broadcast_to(
            waves.reshape(len(waves), *[1] * (covariates.ndim - 2), -1),
            (*covariates.shape[:-1], waves.shape[-1]),
        )
        products = turning[..., None] * covariates[..., None, :]
        parts = [*basic, mean, np.abs(mean), turning, products.reshape(*one.shape[:-1], -1)]
        known, many = covariates.shape[-1], waves.shape[-1]
        groups = (1 + 3 * known, 2 * known, many * (1 + known))
        return cls(np.concatenate(parts, axis=-1, dtype=np.float64), groups)

    def __getitem__(self, rows: slice) -> Self:
        """Those of some rows."""
        return replace(self, rows=self.rows[rows])


@dataclass(frozen=True, eq=False)
class Regression:
    """A series as a weighted sum of `Terms`.

    What is missed of a row keeps a share of what was missed of the row before; the weights are the
    least squares of what is new in it (Cochrane and Orcutt, "Application of least squares
    regression to relationships containing auto-correlated error terms", Journal of the American
    Statistical Association 44, 1949), so that they are found in a series that wanders off, too.

    Attributes:
        sums: Products of terms and series, summed over pairs of neighbouring rows
            [3, *series, term + 1, term + 1]: in the later row, of both rows, in the earlier row.
        groups: How many terms of each kind there are, see `Terms`.
    """

    sums: np.ndarray
    groups: tuple[int, int, int]

    @classmethod
    def fit(cls, values: np.ndarray, terms: Terms) -> Self:
        """Takes the sums of rows [row, *series]; NaN is what is missing.

        An axis of series may be 1 in the terms.

        >>> rows = np.random.default_rng(0).normal(size=(40, 1, 2))
        >>> found = Regression.fit(3 * rows[..., 0] - rows[..., 1] + 1, Terms.of(rows))
        >>> explained(found.weights, Terms.of(np.ones((1, 1, 2)))).round(3).tolist()
        [[3.0]]
        """
        rows = np.broadcast_to(terms.rows, (*values.shape, terms.rows.shape[-1]))
        both = np.concatenate([rows, values[..., None]], axis=-1)
        there = np.asarray(np.isfinite(both).all(axis=-1))
        known = there[1:] & there[:-1]
        later, earlier = (
            np.moveaxis(np.where(known[..., None], rows, 0.0), 0, -2)
            for rows in (both[1:], both[:-1])
        )
        pairs = ((later, later), (later, earlier), (earlier, earlier))
        sums = [np.swapaxes(one, -1, -2) @ other for one, other in pairs]
        return cls(np.stack(sums), terms.groups)

    def __add__(self, other: Self) -> Self:
        """That of the rows of both."""
        return replace(self, sums=self.sums + other.sums)

    @property
    def weights(self) -> np.ndarray:
        """Weights of the terms [*series, term]; those of a series without rows are 0."""
        later, across, before = self.sums
        across = across + np.swapaxes(across, -1, -2)
        rows = np.maximum(later[..., :1, :1], 1.0)
        ends = np.cumsum(self.groups)
        left_out = rows < np.repeat(_ROWS_A_TERM * ends, self.groups)
        penalty = np.where(left_out, 1 / _RIDGE, _RIDGE) * rows * np.eye(ends[-1])
        kept = np.zeros_like(rows)

        def missed(kept: np.ndarray) -> np.ndarray:
            """Weights of terms and series that make what a regression misses."""
            new = later - kept * across + kept**2 * before
            weights = np.linalg.solve(new[..., :-1, :-1] + penalty, new[..., :-1, -1:])
            return np.concatenate([-weights, np.ones_like(rows)], axis=-2)

        for _ in range(_TURNS):
            of = missed(kept)
            once, twice = (np.swapaxes(of, -1, -2) @ sums @ of for sums in (across / 2, before))
            kept = np.clip(once / np.maximum(twice, _TINY), 0.0, _MOST_KEPT)
        of = missed(kept)
        level = (later[..., :1, :] @ of) / rows
        return np.concatenate([level - of[..., :1, :], -of[..., 1:-1, :]], axis=-2)[..., 0]


def explained(weights: np.ndarray, terms: Terms) -> np.ndarray:
    """What weights [*series, term] make of terms [row, *series, term], [row, *series]."""
    return np.einsum("...t,...t->...", np.nan_to_num(terms.rows), weights)


def field_regression(data: Any) -> np.ndarray | None:
    """The weights for `FieldData`, of its training rows [*space, target, term].

    None where nothing is known in advance.
    """
    if not data.roles.known:
        return None
    reader, total, targets = SlabReader(data.field, cache_bytes=0), None, len(data.roles.targets)
    # Products of terms take several times the memory of the values.
    terms = (5 + _waves(data, slice(1)).shape[-1]) * (1 + len(data.roles.known))
    size = max(1, data.block_bytes // (targets * terms))
    for block in time_blocks(reader, range(data.splits["train"].stop), block_bytes=size):
        read = slice(max(0, block.start - _SPAN), block.stop)
        rows = reader.read(read)
        values = data.target_cleaner.scaled(
            rows[..., :targets], channels=range(targets), clip=False
        )
        terms = Terms.of(_scaled_covariates(data, rows)[..., None, :], waves=_waves(data, read))
        # Of the rows before the block the last one makes a pair with its first.
        pairs = slice(max(0, block.start - read.start - 1), None)
        part = Regression.fit(values[pairs], terms[pairs])
        total = part if total is None else total + part
    return None if total is None else total.weights


def known_series(data: Any, rows: range) -> Terms | None:
    """The terms of known covariates of the series of `scaled_series` [row, series, term]."""
    if not data.roles.known:
        return None
    cells = chosen_series(data.targets) // data.targets.shape[-1]
    reader = SlabReader(data.field, cache_bytes=0)
    parts = []
    for block in time_blocks(reader, rows, block_bytes=data.block_bytes):
        scaled = _scaled_covariates(data, reader.read(block))
        parts.append(scaled.reshape(len(scaled), -1, scaled.shape[-1])[:, cells])
    waves = _waves(data, slice(rows.start, rows.stop))
    return Terms.of(np.concatenate(parts), waves=waves)


def _waves(data: Any, rows: slice) -> np.ndarray:
    """Sines and cosines that turn once and twice with the phases of the climatology [row, wave]."""
    turning = _TURNING.get(data.config.climatology, ())
    if not turning:
        return np.zeros((len(data.timeline[rows]), 0))
    once = calendar_features(data.timeline[rows], features=turning).astype(np.float64)
    sines, cosines = once[:, ::2], once[:, 1::2]
    return np.concatenate([once, 2 * sines * cosines, cosines**2 - sines**2], axis=-1)


def _scaled_covariates(data: Any, rows: np.ndarray) -> np.ndarray:
    known = data.roles.known
    cleaner = data.cleaner.select(known)
    return cleaner.scaled(rows[..., -len(known) :], channels=range(len(known)), clip=False)


def explained_rows(data: Any, example: Mapping[str, np.ndarray], windows: Any) -> np.ndarray:
    """What `FieldData.regression` makes of the rows of an example of `FieldWindows`.

    Returns:
        Array [context + horizon, *space, target].
    """
    context, channels = example["context"], len(windows.cleaner.channels)
    ahead = context[..., channels : channels + len(windows.leads) * len(windows.known_numbers)]
    # Means reach behind the context.
    row = int(example["index"])
    first = row - data.context
    read = slice(max(0, first - _SPAN + 1), first)
    rows = SlabReader(data.field, cache_bytes=0).read(read)
    before = np.nan_to_num(_scaled_covariates(data, rows))
    parts = [before, context[..., windows.known_numbers], horizon_of(ahead, windows.leads)]
    waves = _waves(data, slice(read.start, row + data.horizon))
    terms = Terms.of(np.concatenate(parts)[..., None, :], waves=waves)
    return explained(data.regression, terms)[len(before) :]
