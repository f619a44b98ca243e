"""Prediction over whole fields: tiled, blended, in bounded memory."""

from stpatch_jax.inference.augmenting import flips as flips
from stpatch_jax.inference.augmenting import rotations as rotations
from stpatch_jax.inference.augmenting import shifts as shifts
from stpatch_jax.inference.ensembles import Ensemble as Ensemble
from stpatch_jax.inference.ensembles import ensemble as ensemble
from stpatch_jax.inference.fields import predict_field as predict_field
from stpatch_jax.inference.memory import MemoryPlan as MemoryPlan
from stpatch_jax.inference.rollouts import sliding_window_rollout as sliding_window_rollout
from stpatch_jax.inference.sliding_window import memory_plan as memory_plan
from stpatch_jax.inference.sliding_window import sliding_window_apply as sliding_window_apply
