"""Stock risk: how far prices may fall; with data, judge and predictions of its own."""

from stpatch_jax.recipes.risk.data import RiskConfig, RiskData
from stpatch_jax.recipes.risk.judging import RiskJudge
from stpatch_jax.recipes.risk.predicting import RiskPredictor
from stpatch_jax.recipes.risk.recipe import stock_risk

__all__ = ["RiskConfig", "RiskData", "RiskJudge", "RiskPredictor", "stock_risk"]
