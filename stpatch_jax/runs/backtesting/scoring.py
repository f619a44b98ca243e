"""What scores one fold: the judge of forecasts, with errors that compare between folds."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from stpatch_jax.data import Batch
from stpatch_jax.metrics import NaiveErrors, RelativeErrors
from stpatch_jax.runs.judging.forecast import ForecastJudge
from stpatch_jax.runs.judging.judge import Judged, Tree

_BLOCK_BYTES = 2**26
_RELATIVE = ("mase", "smape")


def naive_errors(data: Any) -> np.ndarray:
    """The MAE of the seasonal naive forecast over the training rows, in their units.

    It is that of the shortest season of the data, without one that of the last value, one step
    ahead; NaN where nothing is known.

    Returns:
        Of each series [*space, channel], float64.
    """
    season = min(data.seasons.values(), default=1)
    stop = data.splits["train"].stop
    row = data.values(slice(0, 1))
    size = max(1, _BLOCK_BYTES // max(1, row.nbytes))
    sums = NaiveErrors.of(np.full_like(row, np.nan, float))
    for segment in data.segments:
        end = min(segment.stop, stop)
        for start in range(segment.start, max(segment.start, end - season), size):
            block = data.values(slice(start, min(start + size + season, end)))
            sums += NaiveErrors.of(block, season=season)
    return np.asarray(sums.mae())


class FoldJudge(ForecastJudge):
    """Judges forecasts as `ForecastJudge` does, and by MASE and sMAPE."""

    data: Any

    @cached_property
    def scale(self) -> np.ndarray:
        """What the errors of each series are divided by [*space, channel]."""
        return naive_errors(self.data)

    @property
    def units(self) -> Mapping[str, str]:
        """As in `ForecastJudge`; series may have units of their own."""
        return self.data.series_units

    def sums(self, batch: Batch, answers: Tree) -> Tree:
        """As in `ForecastJudge`, and relative errors by rule, in the units of the data."""
        real, mask = np.where(answers["mask"], answers["real"], 0.0), answers["mask"]
        relative = {
            name: RelativeErrors.of(values, real, scale=self.scale, mask=mask)
            for name, values in answers["units"].items()
        }
        return {**super().sums(batch, answers), "relative": relative}

    def report(self, judged: Judged) -> dict[str, Any]:
        """As in `ForecastJudge`, and under `relative` MASE and sMAPE per lead and over all."""
        relative = judged.sums["relative"].items()
        return super().report(judged) | {"relative": {name: _told(of) for name, of in relative}}


def _told(errors: RelativeErrors) -> dict[str, Any]:
    pooled = errors.pooled()
    return {
        metric: {
            "per_lead": [float(x) for x in getattr(errors, metric)()],
            "all": float(getattr(pooled, metric)()[0]),
        }
        for metric in _RELATIVE
    }


def metrics_of(report: Mapping[str, Any], unit: str) -> dict[str, dict[str, Any]]:
    """By method the metrics of a report of `FoldJudge`, each `per_lead` and over `all`.

    `mase`, `mae`, `rmse`, `smape`, and of quantiles `wql`, or in scaled units `crps`, and the
    `coverage` of each interval; errors are in the `unit`s "original" or "scaled".
    """
    quantiles = report.get("quantiles", {}).get(unit, {})
    found = {}
    for name, relative in report["relative"].items():
        errors = report[unit][name]
        of = {"mase": relative["mase"], "mae": errors["mae"], "rmse": errors["rmse"]}
        of["smape"] = relative["smape"]
        if scores := quantiles.get(name):
            score = "wql" if "wql" in scores else "crps"
            of[score] = scores[score]
            of |= {f"coverage {span}": inside for span, inside in scores["inside"].items()}
        found[name] = of
    return found
