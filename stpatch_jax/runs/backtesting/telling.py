"""What a backtest tells: its figures, the verdict, a report, a table, and a plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

import stpatch_jax
from stpatch_jax import plotting
from stpatch_jax.data.fields.writers import write_table
from stpatch_jax.files import replaced
from stpatch_jax.runs.backtesting.scoring import metrics_of
from stpatch_jax.runs.config import RunConfig
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.judging.forecast import by_lead
from stpatch_jax.runs.judging.tables import document, markdown_table, pictures
from stpatch_jax.runs.judging.undefined import without_undefined
from stpatch_jax.runs.judging.verdict import gain_text
from stpatch_jax.runs.pages import write_told
from stpatch_jax.runs.values import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOT = "folds"
_HEADS = {"mase": "MASE", "mae": "MAE", "rmse": "RMSE", "smape": "sMAPE", "wql": "WQL"}
_HEADS["crps"] = "CRPS"
_IN_UNITS = ("mae", "rmse", "crps")
_DECIDING = ("mase", "mae")
_LEAST_FOLDS, _LEVEL = 2, 0.975


def summary_of(
    config: RunConfig, settings: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The figures of a backtest, JSON-able, of the entries of its folds.

    `folds` has of each fold its splits and by method its metrics, `mean` their means over the
    folds, and of those over all leads the 95 % interval by Student's t, None of a single fold.
    Errors are in the units of the data where these are one in every fold, else in scaled ones.
    """
    alike = all("original" in entry["scores"] for entry in entries)
    unit = "original" if alike else "scaled"
    folds = []
    for entry in entries:
        scores, kept = entry["scores"], ("fold", "origin", "splits", "not_finite")
        metrics = metrics_of(scores, unit)
        folds.append({**{name: entry[name] for name in kept}, "metrics": metrics})
    methods = [name for name in folds[0]["metrics"] if all(name in f["metrics"] for f in folds)]
    each = {name: [fold["metrics"][name] for fold in folds] for name in methods}
    found = {
        "recipe": config.recipe,
        "version": stpatch_jax.__version__,
        **settings,
        "unit": entries[0]["scores"][unit]["unit"],
        "verdict": _verdict(each),
        "mean": {name: _means(of) for name, of in each.items()},
        "folds": folds,
    }
    told = without_undefined(plain(found, where="backtest", finite=False), {})
    del told["not_finite"]  # Each fold tells its own.
    return told


def _means(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each metric of a method the means over the folds; NaN where one has none."""
    means = {}
    for metric in folds[0]:
        values = np.array([fold[metric]["all"] for fold in folds], float)
        leads = np.array([fold[metric]["per_lead"] for fold in folds], float)
        means[metric] = {"per_lead": leads.mean(axis=0).tolist(), "all": float(values.mean())}
        means[metric]["interval"] = _interval(values)
    return means


def _interval(values: np.ndarray) -> list[float] | None:
    """The 95 % interval of the mean by Student's t."""
    count = len(values)
    if count < _LEAST_FOLDS or not np.isfinite(values).all():
        return None
    half = stdtrit(count - 1, _LEVEL) * values.std(ddof=1) / np.sqrt(count)
    return [float(values.mean() - half), float(values.mean() + half)]


def _verdict(each: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any] | None:
    """The mean gain on the rule with the least mean error over the folds, and where it was won.

    Which rule that is, only the folds themselves tell, which favours the rule. None where an error
    is not known.
    """
    for metric in _DECIDING:
        errors = {
            name: np.array([f[metric]["all"] for f in of], float) for name, of in each.items()
        }
        own = errors.pop("model")
        known = {name: of for name, of in errors.items() if (of > 0).all()}
        if not known or not np.isfinite([own, *known.values()]).all():
            continue
        rule = min(known, key=lambda name: float(known[name].mean()))
        gains = 1 - own / known[rule]
        gain, interval, won = float(gains.mean()), _interval(gains), int((gains > 0).sum())
        text = gain_text(rule, gain, interval, _HEADS[metric])
        return {
            "text": f"{text} Better in {won} of {len(gains)} folds.",
            "rule": rule,
            "of": len(errors),
            "metric": metric,
            "gain": gain,
            "interval": interval,
            "gains": gains.tolist(),
            "won": won,
        }
    return None


def table_of(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each fold, lead, method and metric, with its `value` and `unit`."""

    def rows() -> Iterator[tuple[Any, ...]]:
        for fold in metrics["folds"]:
            for method, of in fold["metrics"].items():
                for metric, values in of.items():
                    unit = metrics["unit"] if metric in _IN_UNITS else "1"
                    for lead, value in enumerate(values["per_lead"], 1):
                        yield fold["fold"], lead, method, metric, value, unit

    return pd.DataFrame(rows(), columns=["fold", "lead", "method", "metric", "value", "unit"])


def write_all(path: Path, metrics: Mapping[str, Any]) -> str:
    """Writes `backtest.csv`, the plot, `backtest.md`, its page and `backtest.json`."""
    directory, text = RunDirectory(path), _report(metrics)
    write_table(path / "backtest.csv", table_of(metrics))
    directory.plots.mkdir(exist_ok=True)
    with replaced(directory.plots / f"{PLOT}.png") as part:
        _figure(metrics).savefig(part, dpi=120, format="png")
    write_told(path / "backtest.md", text)
    directory.write_json(path / "backtest.json", metrics)
    return text


def _report(metrics: Mapping[str, Any]) -> str:
    folds, means, verdict = metrics["folds"], metrics["mean"], metrics["verdict"]
    rule, metric = (verdict[name] for name in ("rule", "metric")) if verdict else (None, "mase")
    what = "trained anew for each" if metrics["refit"] else "trained once, before the first"
    span = "the training span" if metrics["over"] == "train" else "all rows"
    rows = folds[0]["splits"]["test"]["target_rows"]
    broken = [f"- fold {f['fold']}: {w}" for f in folds for w in f["not_finite"].values()]
    lines = [
        f"# {metrics['recipe'] or 'backtest'}: {len(folds)} fold{'s' * (len(folds) > 1)}",
        "",
        *_verdict_lines(verdict),
        f"The model was {what}; the folds are spans of {rows} rows of the second half of {span}.",
        "",
        *_mean_lines(metrics, metric),
        *_fold_lines(folds, metric, rule),
        f"{_HEADS[metric]} by lead time (rows), mean over the folds:",
        "",
        *markdown_table(["lead", *means], by_lead([of[metric] for of in means.values()])),
        "",
        "MASE is the absolute error over that of the seasonal naive forecast of the training rows; "
        "sMAPE is the mean of 2 |error| / (|forecast| + |target|).",
        *(["", "## Not a number", "", *broken] if broken else []),
    ]
    shown = pictures({f"plots/{PLOT}.png": "Error of the model and of the rules by fold"})
    return document([*lines, "", *shown])


def _verdict_lines(verdict: Mapping[str, Any] | None) -> list[str]:
    if not verdict:
        return []
    many = f" Of {verdict['of']} rules {verdict['rule']} has the least error over these folds."
    return [f"**{verdict['text']}**{many * (verdict['of'] > 1)}", ""]


def _mean_lines(metrics: Mapping[str, Any], metric: str) -> list[str]:
    means = metrics["mean"]
    heads = {name: name.replace("coverage", "in") for name in means["model"]} | _HEADS
    heads = {name: heads[name] for name in means["model"]}
    heads["mae"] += f" ({metrics['unit']})"
    rows = [[name, *(of[m]["all"] for m in heads)] for name, of in means.items()]
    lines = ["Means over the folds:", "", *markdown_table(["method", *heads.values()], rows), ""]
    if not (ends := means["model"][metric]["interval"]):
        return lines
    told = "{} of the model is {:.4g} to {:.4g}".format(_HEADS[metric], *ends)
    return [*lines, f"The mean {told} (95 %, Student's t over the folds).", ""]


def _fold_lines(folds: Sequence[Mapping[str, Any]], metric: str, rule: str | None) -> list[str]:
    heads = ["fold", "first target", "last target", "windows", f"{_HEADS[metric]} model"]
    heads += [f"{_HEADS[metric]} {rule}", "gain"] if rule else []
    rows = []
    for fold in folds:
        span, own = fold["splits"]["test"], fold["metrics"]["model"][metric]["all"]
        row = [str(fold["fold"]), span["first_target"], span["last_target"], span["windows"], own]
        other = fold["metrics"][rule][metric]["all"] if rule else None
        rows.append([*row, other, 1 - own / other] if other else row)
    return ["Fold by fold:", "", *markdown_table(heads, rows, texts=3), ""]


def _figure(metrics: Mapping[str, Any]) -> Figure:
    """The deciding error of every method by fold."""
    metric = metrics["verdict"]["metric"] if metrics["verdict"] else "mase"
    folds = metrics["folds"]
    figure = plotting.new_figure(1, 1, size=(7, 4))
    errors = {
        name: [fold["metrics"][name][metric]["all"] for fold in folds] for name in metrics["mean"]
    }
    told = {"metric": _HEADS[metric], "unit": metrics["unit"], "along": "fold"}
    ax = plotting.error_by_lead_time(errors, ax=figure.axes[0], **told)
    if metric not in _IN_UNITS:
        ax.set_ylabel(_HEADS[metric])
    if len(folds) <= 12:
        starts = [fold["splits"]["test"]["first_target"][:10] for fold in folds]
        names = [f"{fold['fold']}\n{start}" for fold, start in zip(folds, starts, strict=True)]
        ax.set_xticks(range(1, len(folds) + 1), names, fontsize="small")
    return figure
