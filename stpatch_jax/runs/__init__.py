"""A run directory: configuration, training, judging, predicting, explaining, searching, testing.

`search` and `backtest` make many of them in one folder.
"""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.runs.backtesting import Backtest, backtest
    from stpatch_jax.runs.config import InMemory, RecipeFile, RunConfig
    from stpatch_jax.runs.directory import RunDirectory
    from stpatch_jax.runs.explaining.explanation import ask, explain
    from stpatch_jax.runs.judging import DefaultJudge, Judge, Judged, Registry, Shows, judges
    from stpatch_jax.runs.judging.question import Asked, Question
    from stpatch_jax.runs.predicting import Predictor, predict, predictors
    from stpatch_jax.runs.run import Run, Stopped, evaluate, train
    from stpatch_jax.runs.searching import search
    from stpatch_jax.runs.trained import TrainedRun, load_run

__all__ = ["Asked", "Backtest", "DefaultJudge", "InMemory", "Judge", "Judged", "Predictor"]
__all__ += ["Question", "RecipeFile", "Registry", "Run", "RunConfig", "RunDirectory", "Shows"]
__all__ += ["Stopped", "TrainedRun", "ask", "backtest", "evaluate", "explain", "judges", "load_run"]
__all__ += ["predict", "predictors", "search", "train"]

__getattr__, __dir__ = on_demand(__name__)
