"""Scores of a whole test set, and how sure they are: 95 % bootstrap intervals by group."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import matthews_corrcoef

from stpatch_jax.metrics import roc_auc
from stpatch_jax.recipes.risk.judging import WITHOUT_LEVEL, Tails
from stpatch_jax.runs.judging import Losses
from stpatch_jax.runs.judging.detection import total

RESAMPLES = 1000
Score = Callable[[np.ndarray], float]
"""From the numbers of examples (some of them several times) to the score over them."""
Scores = dict[str, dict[str, Score]]
"""By metric and rule."""
Rows = Mapping[str, Any]
"""What a judge keeps of each example, see `Judged.rows` and the judge."""


def draws(groups: np.ndarray, *, block: int = 1) -> Iterator[np.ndarray]:
    """The examples in each of 1000 draws of as many groups, with replacement.

    Args:
        groups: Number of the group of each example [example]: its case, day or block of time.
        block: How many neighbouring groups are drawn together, round the end.
    """
    random = np.random.default_rng(0)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    count = len(members)
    for _ in range(RESAMPLES):
        starts = random.integers(count, size=-(-count // block))
        drawn = (starts[:, None] + np.arange(block)).ravel()[:count] % count
        yield np.concatenate([members[at] for at in drawn])


def interval(score: Score, groups: np.ndarray) -> list[float]:
    """The 95 % percentile interval of a score when whole groups are drawn with replacement.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    drawn = [score(chosen) for chosen in draws(groups)]
    return np.nanquantile(drawn, (0.025, 0.975)).tolist()


def forecast_scores(rows: Rows, *, batch: int) -> Scores:
    """Scores of forecasts in scaled units, of the rows of a `ForecastJudge`.

    Each is the mean over the windows of the mean over a window's real targets; `rmse` is the root
    of `mse`. The metrics `mse_drop_last` and `mae_drop_last` leave out the last windows that fill
    no batch, as some published figures do.

    Args:
        rows: The rows.
        batch: The batch size of the published figures.
    """
    count = np.maximum(rows["targets"], 1)
    whole = len(count) // batch * batch
    scores: Scores = {}
    for metric, kind in {"mse": "squared", "mae": "absolute"}.items():
        by_window = {name: of[kind] / count for name, of in rows["errors"].items()}
        scores[metric] = {name: _mean(values, len(count)) for name, values in by_window.items()}
        scores[f"{metric}_drop_last"] = {n: _mean(values, whole) for n, values in by_window.items()}
    scores["rmse"] = {name: _square_root(score) for name, score in scores["mse"].items()}
    return scores


def _square_root(score: Score) -> Score:
    return lambda chosen: math.sqrt(score(chosen))


def _mean(values: np.ndarray, stop: int) -> Score:
    def score(chosen: np.ndarray) -> float:
        return float(values[chosen[chosen < stop]].mean()) if stop else float("nan")

    return score


def alert_scores(rows: Rows, *, leads: slice, changing: np.ndarray) -> Scores:
    """Errors in the units of the data and scores of the alerts, of the rows of a `FieldJudge`.

    `rmse` is the mean over the lead times of the RMSE over windows and cells. `rmse_scaled`
    divides the sum of squares by the number of cells whose values ever changed in training, as the
    published figures of BikeNYC do; the errors of the others still count in the sum.

    Args:
        rows: The rows.
        leads: The lead times that count, from 0.
        changing: True in cells whose values ever changed in training.
    """
    alerts = rows["alerts"]
    targets = alerts["known"][:, leads]
    factor = changing.size / changing.sum()
    scores: Scores = {"rmse": {}, "rmse_scaled": {}, "brier": {}, "csi": {}}
    for name, squares in alerts["squares"].items():
        scores["rmse"][name] = _root(squares[:, leads], targets, factor=1.0)
        scores["rmse_scaled"][name] = _root(squares[:, leads], targets, factor=factor)
    scored = alerts["scored"][:, leads].sum(axis=1)
    for name, of in alerts["rules"].items():
        counts = of["counts"]
        either = counts.hits + counts.misses + counts.false_alarms
        hits, either = (x[:, leads].sum(axis=1) for x in (counts.hits, either))
        scores["brier"][name] = _ratio(of["brier"][:, leads].sum(axis=1), scored)
        scores["csi"][name] = _ratio(hits, either)
    return scores


def _root(squares: np.ndarray, targets: np.ndarray, *, factor: float) -> Score:
    """Mean over lead times of the root of a mean square, from sums [window, lead]."""

    def score(chosen: np.ndarray) -> float:
        means = squares[chosen].sum(axis=0) / np.maximum(targets[chosen].sum(axis=0), 1)
        return float(np.sqrt(factor * means).mean())

    return score


def _ratio(part: np.ndarray, whole: np.ndarray) -> Score:
    """A sum over examples divided by another; NaN where that is 0."""

    def score(chosen: np.ndarray) -> float:
        divisor = whole[chosen].sum()
        return float(part[chosen].sum() / divisor) if divisor else float("nan")

    return score


def class_scores(rows: Rows) -> Scores:
    """Accuracy, MCC and AUC of the model and the naive rule, of the rows of a `ClassJudge`."""
    metrics: Mapping[str, Callable[[np.ndarray, np.ndarray], Any]] = {
        "accuracy": lambda p, label: np.mean(p.argmax(-1) == label),
        "mcc": lambda p, label: matthews_corrcoef(label, p.argmax(-1)),
        "auc": lambda p, label: roc_auc(p[:, 1] if p.shape[1] == 2 else p, label),
    }

    def score(metric: str, values: np.ndarray) -> Score:
        return lambda chosen: float(metrics[metric](values[chosen], rows["label"][chosen]))

    return {
        metric: {name: score(metric, values) for name, values in rows["probabilities"].items()}
        for metric in metrics
    }


def frame_scores(rows: Rows) -> Scores:
    """MSE and MAE summed over the cells of a frame, and SSIM: means over frames.

    Of the rows of a `FramesJudge`. The sum is the protocol of Moving MNIST; the MSE of
    `forecast_scores` is a mean over cells, too.
    """

    def score(values: np.ndarray) -> Score:
        return lambda chosen: float(values[chosen].mean())

    return {
        metric: {name: score(values) for name, values in by_rule.items()}
        for metric, by_rule in rows.items()
    }


def detection_scores(rows: Rows) -> Scores:
    """Mean average precision at an IoU of 0.5, of the rows of a `DetectionJudge`."""

    def score(clips: Rows) -> Score:
        return lambda chosen: total({key: of[chosen] for key, of in clips.items()}).at(0.5).mean()

    return {"map": {name: score(clips) for name, clips in rows["matched"].items()}}


def quantile_scores(tails: Tails) -> Scores:
    """Coverage and pinball loss of a low quantile and of the naive rules.

    Both are means over the scored returns of the chosen windows; the pinball loss is in the units
    of the returns.
    """
    count = tails.scored.sum(axis=1)

    def score(by_target: np.ndarray) -> Score:
        sums = by_target.sum(axis=1, dtype=np.float64)
        return lambda chosen: float(sums[chosen].sum() / max(count[chosen].sum(), 1))

    names = [name for name in tails.quantiles if name != WITHOUT_LEVEL]
    return {
        "coverage": {name: score(tails.breaches(name)) for name in names},
        "pinball": {name: score(tails.losses(name)) for name in names},
    }


def loss_scores(losses: Losses) -> Scores:
    """What a report's verdict compares, by its own name."""

    def score(values: np.ndarray) -> Score:
        return lambda chosen: float(values[chosen].sum() / max(losses.weight[chosen].sum(), 1))

    return {losses.name: {name: score(values) for name, values in losses.of.items()}}
