"""Training in one line of Python: a recipe or configuration, data, and what is to be different."""

from pathlib import Path
from typing import Any

from stpatch_jax.data import Data
from stpatch_jax.recipes.registry import recipe
from stpatch_jax.runs import Backtest, InMemory, RunConfig, TrainedRun
from stpatch_jax.runs import backtest as backtest_run
from stpatch_jax.runs import train as train_run
from stpatch_jax.runs.backtesting import Over
from stpatch_jax.runs.planning import Plan
from stpatch_jax.runs.planning import plan as plan_run
from stpatch_jax.runs.settings import with_settings
from stpatch_jax.training import Callback


def train(
    config: str | RunConfig,
    /,
    *,
    data: Data | InMemory | None = None,
    workdir: str | Path | None = None,
    progress: bool = True,
    on_step: Callback | None = None,
    on_evaluate: Callback | None = None,
    **settings: Any,
) -> TrainedRun:
    """Trains a recipe or a configuration to its end, or goes on with it, and reports on it.

        run = st.train("stocks", data=frame, horizon=6, steps=300)
        print(run.report)
        forecasts = run.predict(other)

    The same call on the same directory resumes from the last committed checkpoint; on a finished
    one it trains nothing.

    Args:
        config: The name of a recipe or of a file of one, or a configuration.
        data: An array, `xarray` object, table or tuple in memory, or a data set; without it
            `data.path` of the configuration is read.
        workdir: The run directory; without it a temporary one, which lasts as long as the returned
            run.
        progress: Whether to tell on stderr what is going on.
        on_step: Called as `on_step(step, metrics)` in the first process, once for every step, see
            `stpatch_jax.training.callbacks`, which shows Weights & Biases and TensorBoard.
        on_evaluate: Called as `on_evaluate(step, validation)`, likewise.
        settings: Settings that are different, by their names in the configuration, such as
            `horizon=6`, or in full where several are called alike: `**{"train.seed": 1}`; `model`
            may be a name as well, such as `"unet:tiny"`.

    Raises:
        InputError: Configuration, data or directory cannot be used; nothing was overwritten.
        Stopped: SIGTERM ended the run, a checkpoint is committed; left alone it ends the program.
    """
    config = _config(config, data, settings)
    callbacks: Any = {"on_step": on_step, "on_evaluate": on_evaluate}
    return train_run(config, data=data, workdir=workdir, progress=progress, **callbacks)


def _config(
    config: str | RunConfig, data: Data | InMemory | None, settings: dict[str, Any]
) -> RunConfig:
    """A configuration with other settings, of the recipe of that name where it is one."""
    config = recipe(config) if isinstance(config, str) else config
    # What is in memory did not come from the file of a recipe.
    settings = settings if data is None else {"data.path": None, **settings}
    return with_settings(config, settings) if settings else config


def backtest(
    config: str | RunConfig,
    /,
    *,
    data: Data | InMemory | None = None,
    folds: int = 8,
    refit: bool = False,
    over: Over = "train",
    workdir: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> Backtest:
    """Scores a recipe or a configuration that forecasts at rolling origins, beside the rules.

        found = st.backtest("forecast", data=frame, horizon=24, folds=8)
        print(found.report)

    `stpatch_jax.runs.backtest` tells what is trained on what, and what stands in the directory; the
    other arguments are as in `train`.

    Raises:
        InputError: Configuration, data or directory cannot be used, or so many folds do not fit.
        Stopped: SIGTERM ended it; a checkpoint is committed.
    """
    config = _config(config, data, settings)
    asked: dict[str, Any] = {"folds": folds, "refit": refit, "over": over}
    return backtest_run(config, data=data, workdir=workdir, progress=progress, **asked)


def plan(
    config: str | RunConfig,
    /,
    *,
    on: str,
    fit: bool = False,
    changes: bool = True,
    data: Data | InMemory | None = None,
    workdir: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> Plan:
    """Plans a recipe or a configuration for chips that are not here, without training it.

        found = st.plan("weather", on="v5e:16x16", fit=True)
        print(found.report)
        st.train(found.config)  # there

    `stpatch_jax.runs.planning.plan` tells what is compiled and the other arguments; settings are
    as in `train`.

    Raises:
        InputError: Topology, configuration or data cannot be used, or do not fit each other.
    """
    config = _config(config, data, settings)
    asked: dict[str, Any] = {"on": on, "fit": fit, "changes": changes, "workdir": workdir}
    return plan_run(config, data=data, progress=progress, **asked)


def forecast(data: InMemory, /, **settings: Any) -> TrainedRun:
    """Trains the recipe `forecast` on a series, panel, map or volume, see `train`.

    run = st.forecast(dataset, horizon=24)
    forecasts = run.predict(dataset)
    """
    return train("forecast", data=data, **settings)


def classify(x: Any, y: Any, /, **settings: Any) -> TrainedRun:
    """Trains the recipe `classify` on items and their classes [item], see `train`.

    Items are an array, whose layout is found or told by `layout=`, a list of texts, or a table.
    """
    return train("classify", data=(x, y), **settings)


def regress(x: Any, y: Any, /, **settings: Any) -> TrainedRun:
    """Trains the recipe `regress` on items and their numbers [item] or [item, target], see `train`.

    Items are as in `classify`.
    """
    return train("regress", data=(x, y), **settings)
