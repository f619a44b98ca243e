"""Quantile forecasts in reports: CRPS, losses and coverage, beside rules with their past errors."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from stpatch_jax.metrics import QuantileErrors
from stpatch_jax.runs.judging.tables import markdown_table

# Errors are counted by asinh(1000 error): in steps of 3 %, those below 0.001 deviations evenly.
_BINS, _FINE = 1024, 1000.0
_REACH = float(np.arcsinh(1e4 * _FINE))
_MOST_TOLD = 50


def per_level(values: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What a function makes of each of some quantiles [..., quantile]."""
    return np.stack([of(level) for level in np.moveaxis(values, -1, 0)], axis=-1)


def count_errors(errors: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """How many errors [n, horizon, *space, channel] had which size [horizon, channel, size].

    Counts of several batches add up; `error_quantiles` reads them.
    """
    leads, channels = errors.shape[1], errors.shape[-1]
    size = (np.arcsinh(np.where(mask, errors, 0) * _FINE) / _REACH + 1) * (_BINS / 2)
    place = np.clip(np.nan_to_num(size).astype(np.int64), 0, _BINS - 1)
    lead = np.arange(leads).reshape(-1, *[1] * (errors.ndim - 2))
    place += (lead * channels + np.arange(channels)) * _BINS
    counts = np.bincount(place[mask], minlength=leads * channels * _BINS)
    return counts.reshape(leads, channels, _BINS)


def error_quantiles(counts: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """The quantiles of counted errors [horizon, channel, quantile]; 0 where there are none.

    >>> errors = np.linspace(-1, 1, 2001).reshape(-1, 1, 1)
    >>> counts = count_errors(errors, np.ones(errors.shape, bool))
    >>> error_quantiles(counts, (0.1, 0.9)).round(2).tolist()
    [[[-0.8, 0.8]]]
    """
    edges = np.linspace(-_REACH, _REACH, _BINS + 1)
    up_to = np.pad(counts.cumsum(axis=-1), [(0, 0), (0, 0), (1, 0)])
    found = np.zeros((*counts.shape[:-1], len(levels)))
    for at in np.ndindex(counts.shape[:-1]):
        if total := up_to[at][-1]:
            found[at] = np.interp(np.multiply(levels, total), up_to[at], edges)
    return np.sinh(found) / _FINE


def around(forecast: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Quantiles of a rule [n, horizon, *space, channel, quantile]: it and those of its errors."""
    between = [1] * (forecast.ndim - 3)
    return forecast[..., None] + spread.reshape(len(spread), *between, *spread.shape[1:])


def quantile_scores(
    rules: Mapping[str, QuantileErrors], levels: Sequence[float], *, scaled: bool = False
) -> dict[str, Any]:
    """By rule the scores of its quantiles, each per lead time and over all.

    `crps`, `wql` but for scaled units, by level the `pinball` loss and the share of targets at or
    `below` the quantile, and by interval the share `inside`.
    """

    def told(per_lead: np.ndarray, over_all: np.ndarray) -> dict[str, Any]:
        return {"per_lead": [float(x) for x in per_lead], "all": float(over_all[0])}

    def both(of: QuantileErrors) -> dict[str, Any]:
        return jax.tree.map(told, *(_measured(x, levels, scaled) for x in (of, of.pooled())))

    return {name: both(of) for name, of in rules.items()}


def series_scores(rules: Mapping[str, QuantileErrors], levels: Sequence[float]) -> dict[str, Any]:
    """The same over all lead times, of scores that are [1]."""
    return {
        name: jax.tree.map(lambda x: float(x[0]), _measured(of, levels, False))
        for name, of in rules.items()
    }


def _measured(scores: QuantileErrors, levels: Sequence[float], scaled: bool) -> dict[str, Any]:
    names = list(map(str, levels))
    parts = {
        "pinball": (names, scores.loss()),
        "below": (names, scores.share_below()),
        "inside": (list(_spans(levels)), scores.coverage()),
    }
    return {
        "crps": scores.crps(),
        **({} if scaled else {"wql": scores.wql()}),
        **{key: dict(zip(of, np.asarray(x).T, strict=True)) for key, (of, x) in parts.items()},
    }


def _spans(levels: Sequence[float]) -> dict[str, float]:
    """The intervals of `QuantileErrors`, and what a calibrated forecast has inside."""
    half = len(levels) // 2
    pairs = zip(levels[:half], levels[::-1][:half], strict=True)
    return {f"{low} to {high}": high - low for low, high in pairs}


def quantile_lines(found: Mapping[str, Any], unit: str) -> list[str]:
    """The tables of the entry `quantiles` of a report, in its units `scaled` or `original`."""
    levels, spans = found["levels"], _spans(found["levels"])
    rules = {name: of for name, of in found[unit].items() if name != "unit"}
    scores = {"crps": f"CRPS ({found[unit]['unit']})", "wql": "WQL"}
    scores = {key: head for key, head in scores.items() if key in rules["model"]}
    by_rule = (
        [name, *(of[key]["all"] for key in scores), *(of["inside"][x]["all"] for x in spans)]
        for name, of in rules.items()
    )
    # Of all rules there would be too many columns.
    columns = [(key, name) for key in ("below", "pinball") for name in ("model", "persistence")]
    by_level = (
        [str(level), *(rules[name][key][str(level)]["all"] for key, name in columns)]
        for level in levels
    )
    inside = [f"in {span} (at best {width:.3g})" for span, width in spans.items()]
    return [
        f"The point forecast is {found['point']}. CRPS is twice the pinball loss, averaged over "
        "the levels; WQL is its sum over that of |target|. Quantiles of a rule are its forecast "
        "plus those of its errors on the validation split, by lead time and variable.",
        "",
        *markdown_table(["quantiles", *scores.values(), *inside], by_rule),
        "",
        "Share of the targets at or below each quantile, at best its level, and its pinball loss:",
        "",
        *markdown_table(["level", *(f"{key} {name}" for key, name in columns)], by_level),
        "",
        *_series_table(found["series"], next(iter(spans), None)),
    ]


def _series_table(series: Mapping[str, Any], span: str | None) -> list[str]:
    """CRPS, WQL and the widest interval of each of several series."""
    rows = []
    for name, of in itertools.islice(series.items(), _MOST_TOLD):
        model, rule = of["model"], of["persistence"]
        inside = [model["inside"][span]] if span else []
        rows.append([name, of["unit"], model["crps"], rule["crps"], model["wql"], *inside])
    heads = ["series", "unit", "CRPS model", "CRPS persistence", "WQL model"]
    table = markdown_table([*heads, *([f"in {span}"] if span else [])], rows, texts=2)
    return [*table, ""] if len(series) > 1 else []
