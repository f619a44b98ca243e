"""Prediction over whole fields: tiled, blended, in bounded memory."""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.inference.augmenting import flips, rotations, shifts
    from stpatch_jax.inference.ensembles import Ensemble, ensemble
    from stpatch_jax.inference.fields import predict_field
    from stpatch_jax.inference.memory import MemoryPlan
    from stpatch_jax.inference.rollouts import sliding_window_rollout
    from stpatch_jax.inference.sliding_window import memory_plan, sliding_window_apply

__all__ = [
    "Ensemble", "MemoryPlan", "ensemble", "flips", "memory_plan", "predict_field", "rotations",
    "shifts", "sliding_window_apply", "sliding_window_rollout",
]  # fmt: skip

__getattr__, __dir__ = on_demand(__name__)
