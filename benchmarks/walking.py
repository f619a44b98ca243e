"""Walk-forward: spans of the later half of the rows, each behind all that its model was trained on.

The spans are those of `stpatch backtest --refit --over all`; labelled days and values at risk, of
which that refuses to be, are cut alike here.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.experiments import HIGHER_IS_BETTER
from benchmarks.scores import Score, draws
from stpatch_jax.data.readers import load_array
from stpatch_jax.errors import InputError
from stpatch_jax.recipes.movement import MovementConfig
from stpatch_jax.recipes.risk import RiskConfig
from stpatch_jax.runs import Judged, Run, RunConfig
from stpatch_jax.runs.backtesting.folds import folds_of, rolling_folds

BLOCK = 20  # rows: a month of trading days
LEAST_BLOCKS = 5


class Walk(NamedTuple):
    """A recipe on each of the spans.

    Attributes:
        parts: Of each span a configuration, and data whose test split it is.
        times: The time of each row that an example may be named by.
    """

    parts: Sequence[tuple[RunConfig, Any]]
    times: np.ndarray


def walk(config: RunConfig, folds: int) -> Walk:
    """Cuts the data of a recipe into so many spans.

    Raises:
        InputError: The data cannot be used or cut so.
    """
    return _walk(config.data, config, folds)


@functools.singledispatch
def _walk(settings: Any, config: RunConfig, folds: int) -> Walk:
    if not settings.rolling:
        raise InputError(
            f"--folds must be of rows in order of time, got {type(settings).__name__}; give a "
            "recipe such as stocks, stock-movement, stock-risk or forecast"
        )
    whole, parts = settings.load(), []
    for fold in folds_of(whole, folds, "all"):
        data = settings.rolled(whole, fold.split_at)
        config = dataclasses.replace(config, data=data.config)
        # As in a backtest: what the rows before the first span choose holds for all.
        config = config if parts else Run(config, data=data).config
        parts.append((config, data))
    return Walk(parts, whole.times)


@_walk.register
def _(settings: RiskConfig, config: RunConfig, folds: int) -> Walk:
    whole, parts = settings.load(), []
    rows, ahead = len(whole.times), settings.horizon
    origin = whole.splits["test"].start - ahead
    share = 1 - whole.splits["train"].stop / origin
    for fold in rolling_folds(rows, folds, horizon=ahead + 1, validation_share=share):
        shares = {
            "validation_share": (fold.origin - fold.validation) / rows,
            "test_share": (rows - fold.origin) / rows,
        }
        own = dataclasses.replace(settings, **shares)
        data = own.load()
        test = range(data.splits["test"].start, fold.stop)
        data = dataclasses.replace(data, splits={**data.splits, "test": test})
        parts.append((dataclasses.replace(config, data=own), data))
    return Walk(parts, whole.times)


@_walk.register
def _(settings: MovementConfig, config: RunConfig, folds: int) -> Walk:
    days = load_array(Path(settings.file()), "dates").astype("M8[D]")
    dates = [settings.train_from, settings.validation_from, settings.test_from]
    begins = np.searchsorted(days, np.array(dates, "M8[D]")).tolist()
    first = max(begins[0], settings.lag)
    share, parts = (begins[2] - begins[1]) / (begins[2] - first), []
    for fold in rolling_folds(len(days) - first, folds, horizon=1, validation_share=share):
        borders = (str(days[first + row]) for row in (fold.validation, fold.origin))
        own = dataclasses.replace(
            settings, **dict(zip(("validation_from", "test_from"), borders, strict=True))
        )
        data = own.load()
        test = data.splits["test"]
        splits = {**data.splits, "test": test[test.groups < first + fold.stop]}
        parts.append(
            (dataclasses.replace(config, data=own), dataclasses.replace(data, splits=splits))
        )
    return Walk(parts, days)


def joined(spans: Sequence[Judged]) -> Judged:
    """What was judged span by span, as of one split."""
    rows = jax.tree.map(lambda *parts: np.concatenate(parts), *(span.rows for span in spans))
    return dataclasses.replace(spans[-1], count=sum(span.count for span in spans), rows=rows)


def compared(
    metric: str, seeds: Sequence[Mapping[str, Score]], days: np.ndarray, *, level: float
) -> dict[str, Any]:
    """A metric of the model and of each rule with its interval, and how far the model is ahead.

    The rule beside which `ahead` is measured is the best over all examples, which nobody can know
    before. It is positive where the model is better: of coverage by how much it is nearer to the
    level. Intervals (95 %) are drawn from blocks of neighbouring days, a month each or a fifth of
    all where that is shorter, the same ones of all.

    Args:
        metric: The metric.
        seeds: Of each seed the score by rule; the mean over the seeds counts.
        days: The number of the day of each example [example].
        level: Of coverage, what it should be.

    References:
        Politis and Romano, "A circular block-resampling procedure for stationary data", 1992.
    """
    every = np.arange(len(days))
    # Not every rule has every metric.
    names = [name for name, score in seeds[0].items() if np.isfinite(score(every))]
    block = max(1, min(BLOCK, len(np.unique(days)) // LEAST_BLOCKS))

    def values(chosen: np.ndarray) -> list[float]:
        return [float(np.mean([scores[name](chosen) for scores in seeds])) for name in names]

    # The first of them is all of it.
    drawn = np.array([values(every), *(values(at) for at in draws(days, block=block))])
    losses = np.abs(drawn - level) if metric == "coverage" else drawn
    losses = -losses if metric in HIGHER_IS_BETTER else losses
    own = names.index("model")
    best = min((at for at in range(len(names)) if at != own), key=lambda at: losses[0, at])
    told = {name: _told(of) for name, of in zip(names, drawn.T, strict=True)}
    ahead = {"of": names[best], **_told(losses[:, best] - losses[:, own])}
    return {**told.pop("model"), "block": block, "rules": told, "ahead": ahead}


def _told(values: np.ndarray) -> dict[str, Any]:
    """The first as the value, and the interval of the others."""
    ends = np.nanquantile(values[1:], (0.025, 0.975)).tolist()
    return {"value": float(values[0]), "interval": ends}
