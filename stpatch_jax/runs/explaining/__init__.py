"""What an answer of a run came from."""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.runs.explaining.config import ExplainConfig
    from stpatch_jax.runs.explaining.explanation import explain, explain_run
    from stpatch_jax.runs.judging.question import Asked, Question

__all__ = ["Asked", "ExplainConfig", "Question", "explain", "explain_run"]

__getattr__, __dir__ = on_demand(__name__)
