"""What a run will cost on chips that are not here, read off its compiled programs."""

from stpatch_jax.runs.planning.plan import Plan, plan

__all__ = ["Plan", "plan"]
