"""Backtest: forecasts scored at rolling origins, beside the rules that fit."""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.runs.backtesting.folds import Fold, Over, rolling_folds
    from stpatch_jax.runs.backtesting.origins import Backtest, backtest

__all__ = ["Backtest", "Fold", "Over", "backtest", "rolling_folds"]

__getattr__, __dir__ = on_demand(__name__)
