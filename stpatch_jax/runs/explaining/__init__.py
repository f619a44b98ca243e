"""What an answer of a run came from."""

from stpatch_jax.runs.explaining.explanation import ExplainConfig, explain, explain_run
from stpatch_jax.runs.judging.question import Asked, Question

__all__ = ["Asked", "ExplainConfig", "Question", "explain", "explain_run"]
