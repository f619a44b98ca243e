"""Predictions of a finished run for other files of the same kind, without its training data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stpatch_jax.data import FieldConfig, PanelConfig, write_table
from stpatch_jax.errors import InputError, require
from stpatch_jax.recipes.risk.data import RiskConfig
from stpatch_jax.recipes.risk.predicting import forecast_risk
from stpatch_jax.runs.predicting.fields import FieldForecaster, forecast_field
from stpatch_jax.runs.predicting.tables import classify, forecast_prices
from stpatch_jax.runs.trained import TrainedRun
from stpatch_jax.tasks import ClassifyConfig, ForecastConfig

_TABLES = (".csv", ".csv.gz")


def predict(
    run: str | Path,
    source: str,
    target: str | Path,
    *,
    every: int | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
    progress: bool = True,
) -> str:
    """Predicts a file with the model of a run; scaling and cleaning are the run's.

    | run | file | target |
    |---|---|---|
    | forecast of a field | what `open_field` reads | `.zarr`, `.nc`, `.csv`: see `predict_field` |
    | forecast of prices | price table | `.csv`: see `forecast_prices` |
    | value at risk | price table | `.csv`: see `forecast_risk` |
    | classes | file of items | `.csv`: see `classify` |

    The data that the run was trained on are not needed. A field is read and written by regions, so
    it may be larger than memory; the same call goes on where another one was stopped, and ends with
    the same bits.

    Args:
        run: The run directory.
        source: The file, folder or URL, of the same kind as the run's data.
        target: What to make. A `.zarr` of the same forecasts is gone on with, everything else must
            not exist yet.
        every: Forecasts begin every so many time steps, at each row from the first context on; None
            for one forecast, of what follows the file.
        process_index: Number of this process, where several share a `.zarr` target.
        process_count: Number of processes.
        progress: Whether to show a bar on stderr.

    Returns:
        One sentence of what was written.

    Raises:
        InputError: The run, the file or the target cannot be used; nothing was written.
    """
    target = Path(target)
    trained = TrainedRun(run)
    field = isinstance(trained.config.data, FieldConfig) and isinstance(
        trained.config.task, ForecastConfig
    )
    kinds = (".zarr", ".nc", *_TABLES) if field else _TABLES
    require(
        target.name.endswith(kinds),
        f"these predictions must go to a file whose name ends with {', '.join(kinds)}, but it is "
        f"{target}; choose one of them",
    )
    require(
        target.suffix == ".zarr" or not target.exists(),
        f"{target} must not exist yet, but it does; choose another name",
    )
    require(
        every is None or every >= 1,
        f"--every must be at least 1 time step, but it is {every}; leave it out for one forecast",
    )
    if field:
        process = process_index, process_count
        return forecast_field(
            trained, source, target, every=every, process=process, progress=progress
        )
    require(
        process_count in (None, 1),
        f"processes share the forecasts of a field only, but {run} makes a table; leave them out",
    )
    table = _maker(trained)(trained, source, every=every)
    write_table(target, table)
    return f"{len(table)} rows: {target}"


def _maker(run: TrainedRun) -> Callable[..., Any]:
    """What makes the table of a run."""
    data, task = run.config.data, run.config.task
    if isinstance(task, ForecastConfig) and isinstance(data, PanelConfig):
        return forecast_prices
    if isinstance(task, ForecastConfig) and isinstance(data, RiskConfig):
        return forecast_risk
    if isinstance(task, ClassifyConfig):
        return classify
    raise InputError(
        f"stpatch predict needs a run that forecasts fields or prices or classifies items, but "
        f"{run.directory.path} is {type(task).__name__} on {type(data).__name__}; `stpatch "
        "evaluate` reports on it"
    )


__all__ = [
    "FieldForecaster",
    "TrainedRun",
    "classify",
    "forecast_field",
    "forecast_prices",
    "forecast_risk",
    "predict",
]
