"""What known covariates tell of each series: the naive forecast `regression`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from stpatch_jax.data.fields.choosing import chosen_series
from stpatch_jax.data.fields.covariates import horizon_of
from stpatch_jax.data.fields.slabs import SlabReader, time_blocks

# A penalty as a share of the number of rows, for covariates that tell the same; the most that a row
# keeps of what the one before it missed, and how often this and the weights are found in turn.
_RIDGE, _MOST_KEPT, _TURNS, _TINY = 1e-6, 0.98, 4, np.finfo(np.float64).tiny
# Rows over which covariates are averaged, and how many of them a term takes to be told by.
_SPAN, _ROWS_A_TERM = 8, 20


@dataclass(frozen=True, eq=False)
class Regression:
    """A series as a weighted sum of 1 and of known covariates, now and lately.

    Beside each covariate stand its value in the row before and its absolute value: scaled, its
    slope may change at its mean, as that of a load does which rises with heat and with cold. Where
    there are twenty rows a term, so do its mean over eight rows and the absolute value of that:
    what is warm for long tells more than a warm hour. What is missed of a row keeps a share of what
    was missed of the row before; the weights are the least squares of what is new in it (Cochrane
    and Orcutt, "Application of least squares regression to relationships containing auto-correlated
    error terms", Journal of the American Statistical Association 44, 1949), so that they are found
    in a series that wanders off, too.

    Attributes:
        sums: Products of terms and series, summed over pairs of neighbouring rows
            [3, *series, term + 1, term + 1]: in the later row, of both rows, in the earlier row.
    """

    sums: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, covariates: np.ndarray, *, before: int = 0) -> Self:
        """Takes the sums of rows [row, *series] and their covariates [row, *series, covariate].

        NaN is what is missing; an axis of series may be 1 in the covariates. So many rows `before`
        the first that counts are known to means alone.

        >>> rows = np.random.default_rng(0).normal(size=(40, 1, 2))
        >>> found = Regression.fit(3 * rows[..., 0] - rows[..., 1] + 1, rows)
        >>> explained(found.weights, np.ones((1, 1, 2))).round(3).tolist()
        [[3.0]]
        """
        terms = _terms(covariates)
        terms = np.broadcast_to(terms, (*values.shape, terms.shape[-1]))
        both = np.concatenate([terms, values[..., None]], axis=-1)[max(before - 1, 0) :]
        there = np.asarray(np.isfinite(both).all(axis=-1))
        known = there[1:] & there[:-1]
        later, earlier = (
            np.moveaxis(np.where(known[..., None], rows, 0.0), 0, -2)
            for rows in (both[1:], both[:-1])
        )
        pairs = ((later, later), (later, earlier), (earlier, earlier))
        return cls(np.stack([np.swapaxes(one, -1, -2) @ other for one, other in pairs]))

    def __add__(self, other: Self) -> Self:
        """That of the rows of both."""
        return type(self)(self.sums + other.sums)

    @property
    def weights(self) -> np.ndarray:
        """Weights of the terms [*series, term]; those of a series without rows are 0."""
        later, across, before = self.sums
        across = across + np.swapaxes(across, -1, -2)
        rows = np.maximum(later[..., :1, :1], 1.0)
        terms = later.shape[-1] - 1
        means = np.arange(terms) > 3 * terms // 5
        left_out = means & (rows < _ROWS_A_TERM * terms)
        penalty = np.where(left_out, 1 / _RIDGE, _RIDGE) * rows * np.eye(terms)
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


def explained(weights: np.ndarray, covariates: np.ndarray) -> np.ndarray:
    """What weights [*series, term] make of covariates [row, *series, covariate], [row, *series]."""
    return np.einsum("...t,...t->...", _terms(covariates), weights)


def _terms(covariates: np.ndarray) -> np.ndarray:
    """1, and the covariates of each row and of those before it; the first row stands for others."""
    past = [
        np.concatenate([covariates[:1].repeat(n, 0), covariates])[: len(covariates)]
        for n in range(_SPAN)
    ]
    mean = sum(past) / _SPAN
    one = np.ones((*covariates.shape[:-1], 1))
    parts = [one, covariates, np.abs(covariates), past[1], mean, np.abs(mean)]
    return np.concatenate(parts, axis=-1, dtype=np.float64)


def field_regression(data: Any) -> np.ndarray | None:
    """The weights for `FieldData`, of its training rows [*space, target, term].

    None where nothing is known in advance.
    """
    if not data.roles.known:
        return None
    reader, total, targets = SlabReader(data.field, cache_bytes=0), None, len(data.roles.targets)
    # Products of terms take several times the memory of the values.
    terms = 5 * len(data.roles.known) + 2
    size = max(1, data.block_bytes // (targets * terms))
    for block in time_blocks(reader, range(data.splits["train"].stop), block_bytes=size):
        before = min(block.start, _SPAN)
        rows = reader.read(slice(block.start - before, block.stop))
        values = data.target_cleaner.scaled(
            rows[..., :targets], channels=range(targets), clip=False
        )
        known = _scaled_covariates(data, rows)[..., None, :]
        part = Regression.fit(values, known, before=before)
        total = part if total is None else total + part
    return None if total is None else total.weights


def known_series(data: Any, rows: range) -> np.ndarray | None:
    """The known covariates of the series of `scaled_series`, scaled [row, series, covariate]."""
    if not data.roles.known:
        return None
    cells = chosen_series(data.targets) // data.targets.shape[-1]
    reader = SlabReader(data.field, cache_bytes=0)
    parts = []
    for block in time_blocks(reader, rows, block_bytes=data.block_bytes):
        scaled = _scaled_covariates(data, reader.read(block))
        parts.append(scaled.reshape(len(scaled), -1, scaled.shape[-1])[:, cells])
    return np.concatenate(parts)


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
    first = int(example["index"]) - data.context
    rows = SlabReader(data.field, cache_bytes=0).read(slice(max(0, first - _SPAN + 1), first))
    before = np.nan_to_num(_scaled_covariates(data, rows))
    parts = [before, context[..., windows.known_numbers], horizon_of(ahead, windows.leads)]
    return explained(data.regression, np.concatenate(parts)[..., None, :])[len(before) :]
