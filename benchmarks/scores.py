"""Scores of a whole test set, and how sure they are: 95 % bootstrap intervals by group."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import matthews_corrcoef

from stpatch_jax.metrics import roc_auc
from stpatch_jax.recipes.risk.judging import SplitQuantiles
from stpatch_jax.recipes.video.judging import SplitFrames
from stpatch_jax.runs.judging.registry import (
    SplitAlerts,
    SplitClasses,
    SplitDetections,
    SplitForecasts,
)

RESAMPLES = 1000
Score = Callable[[np.ndarray], float]
"""From the numbers of examples (some of them several times) to the score over them."""


def interval(score: Score, groups: np.ndarray, *, seed: int = 0) -> list[float]:
    """The 95 % percentile interval of a score when whole groups are drawn with replacement.

    Args:
        score: The score over given examples.
        groups: Number of the group of each example [example]: its case, day or block of time.
        seed: Of the draws.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    drawn = []
    for _ in range(RESAMPLES):
        chosen = random.integers(len(members), size=len(members))
        drawn.append(score(np.concatenate([members[at] for at in chosen])))
    return np.nanquantile(drawn, (0.025, 0.975)).tolist()


def forecast_scores(split: SplitForecasts, *, batch: int) -> dict[str, dict[str, Score]]:
    """Scores of every forecast of a split by metric, in scaled units.

    Each is the mean over the windows of the mean over a window's real targets; `rmse` is the root
    of `mse`. The metrics `mse_drop_last` and `mae_drop_last` leave out the last windows that fill
    no batch, as some published figures do.

    Args:
        split: The forecasts.
        batch: The batch size of the published figures.
    """
    whole = len(split.index) // batch * batch
    scores: dict[str, dict[str, Score]] = {}
    for name, values in split.forecasts.items():
        errors = np.where(split.mask, values - split.target, 0.0)
        axes = tuple(range(1, errors.ndim))
        count = np.maximum(split.mask.sum(axis=axes), 1)
        for metric, losses in {"mse": errors**2, "mae": np.abs(errors)}.items():
            by_window = losses.sum(axis=axes, dtype=np.float64) / count
            by_metric = scores.setdefault(metric, {})
            by_metric[name] = _mean(by_window, len(by_window))
            scores.setdefault(f"{metric}_drop_last", {})[name] = _mean(by_window, whole)
        scores.setdefault("rmse", {})[name] = _square_root(scores["mse"][name])
    return scores


def _square_root(score: Score) -> Score:
    return lambda chosen: math.sqrt(score(chosen))


def _mean(values: np.ndarray, stop: int) -> Score:
    def score(chosen: np.ndarray) -> float:
        return float(values[chosen[chosen < stop]].mean()) if stop else float("nan")

    return score


def alert_scores(split: SplitAlerts, *, leads: slice) -> dict[str, dict[str, Score]]:
    """Errors of every forecast in the units of the data and scores of its alerts, by metric.

    `rmse` is the mean over the lead times of the RMSE over windows and cells. `rmse_scaled`
    divides the sum of squares by the number of cells whose values ever changed in training, as the
    published figures of BikeNYC do; the errors of the others still count in the sum.

    Args:
        split: The forecasts and alerts.
        leads: The lead times that count, from 0.
    """
    changing = split.scored.any(axis=(0, 1))
    known = np.isfinite(split.real[:, leads])
    axes = tuple(range(2, known.ndim))
    targets = known.sum(axis=axes)
    scores: dict[str, dict[str, Score]] = {"rmse": {}, "rmse_scaled": {}, "brier": {}, "csi": {}}
    for name, values in split.values.items():
        errors = np.where(known, values[:, leads] - split.real[:, leads], 0.0)
        squares = np.square(errors).sum(axis=axes)
        scores["rmse"][name] = _root(squares, targets, factor=1.0)
        scores["rmse_scaled"][name] = _root(squares, targets, factor=changing.size / changing.sum())
    cells = split.scored[:, leads].sum(axis=(1, *axes))
    for name in split.probabilities:
        brier = split.brier(name)[:, leads].sum(axis=(1, *axes))
        warned, event = (x & split.scored for x in (split.warned(name), split.event))
        hits, either = (warned & event)[:, leads], (warned | event)[:, leads]
        scores["brier"][name] = _ratio(brier, cells)
        scores["csi"][name] = _ratio(hits.sum(axis=(1, *axes)), either.sum(axis=(1, *axes)))
    return scores


def _root(squares: np.ndarray, targets: np.ndarray, *, factor: float) -> Score:
    """Mean over lead times of the root of a mean square, from sums [window, lead]."""

    def score(chosen: np.ndarray) -> float:
        means = squares[chosen].sum(axis=0) / np.maximum(targets[chosen].sum(axis=0), 1)
        return float(np.sqrt(factor * means).mean())

    return score


def _ratio(part: np.ndarray, whole: np.ndarray) -> Score:
    """A sum over windows divided by another; NaN where that is 0."""

    def score(chosen: np.ndarray) -> float:
        total = whole[chosen].sum()
        return float(part[chosen].sum() / total) if total else float("nan")

    return score


def class_scores(split: SplitClasses) -> dict[str, dict[str, Score]]:
    """Accuracy, MCC and AUC of the model and the naive rule, by metric."""
    metrics: Mapping[str, Callable[[np.ndarray, np.ndarray], Any]] = {
        "accuracy": lambda p, label: np.mean(p.argmax(-1) == label),
        "mcc": lambda p, label: matthews_corrcoef(label, p.argmax(-1)),
        "auc": lambda p, label: roc_auc(p[:, 1] if p.shape[1] == 2 else p, label),
    }

    def score(metric: str, values: np.ndarray) -> Score:
        return lambda chosen: float(metrics[metric](values[chosen], split.label[chosen]))

    return {
        metric: {name: score(metric, values) for name, values in split.probabilities.items()}
        for metric in metrics
    }


def frame_scores(split: SplitFrames) -> dict[str, dict[str, Score]]:
    """MSE and MAE summed over the cells of a frame, and SSIM, by metric: means over frames.

    The sum is the protocol of Moving MNIST; the MSE of `forecast_scores` is a mean over cells, too.
    """

    def score(values: np.ndarray) -> Score:
        return lambda chosen: float(values[chosen].mean())

    return {
        metric: {name: score(values) for name, values in by_name.items()}
        for metric, by_name in split.errors.items()
    }


def detection_scores(split: SplitDetections) -> dict[str, dict[str, Score]]:
    """Mean average precision at an IoU of 0.5 of the model and the naive rule."""

    def score(name: str) -> Score:
        return lambda chosen: split.total(name, chosen=chosen).mean()

    return {"map": {name: score(name) for name in split.matched}}


def quantile_scores(split: SplitQuantiles) -> dict[str, dict[str, Score]]:
    """Coverage and pinball loss of a low quantile and of the naive rules, by metric.

    Both are means over the scored returns of the chosen windows; the pinball loss is in the units
    of the returns.
    """
    axes = tuple(range(1, split.returns.ndim))
    count = split.scored.sum(axis=axes)

    def score(by_target: np.ndarray) -> Score:
        total = by_target.sum(axis=axes, dtype=np.float64)
        return lambda chosen: float(total[chosen].sum() / max(count[chosen].sum(), 1))

    names = [name for name in split.tails if name != "model_without_level"]
    return {
        "coverage": {name: score(split.breaches(name)) for name in names},
        "pinball": {name: score(split.losses(name)) for name in names},
    }
