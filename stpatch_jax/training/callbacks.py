"""What a run tells while it trains, beside its log: `on_step` and `on_evaluate`.

Both are called with a step and numbers by name, in the first process alone and in the order of the
steps: `on_step` with what metrics.jsonl holds of a step, which is one step late, and `on_evaluate`
with what was validated after it. No checkpoint is ahead of what was told. So every step is told at
least once, and once in a run that nothing kills; one that is killed tells what came after its last
checkpoint again, with the same numbers, and nothing before it. A finished run tells nothing. What
they raise ends the run as a kill does: the same call goes on from the last checkpoint.

A run of Weights & Biases, `wandb.init()`, and a writer of TensorBoard, `SummaryWriter("board")`:

>>> from unittest.mock import Mock
>>> wandb_run, writer = Mock(), Mock()
>>> def on_step(step, metrics):
...     wandb_run.log(metrics, step=step)
>>> def on_evaluate(step, metrics):
...     for name, value in metrics.items():
...         writer.add_scalar(f"validation/{name}", value, step)

They are for `fit(..., on_step=on_step, on_evaluate=on_evaluate)` and `stpatch_jax.train` alike:

>>> on_step(1, {"loss": 0.5})
>>> wandb_run.log.call_args
call({'loss': 0.5}, step=1)
"""

from collections.abc import Callable
from typing import Any

from stpatch_jax.errors import require

Callback = Callable[[int, dict[str, Any]], object]
"""`(step, numbers by name)`; what it returns counts for nothing."""


def check_callbacks(**callbacks: Callback | None) -> None:
    """Refuses what cannot be called, by its name."""
    for name, call in callbacks.items():
        require(
            call is None or callable(call),
            f"{name}= must be a function of a step and its numbers, got {type(call).__name__}; "
            "give one or leave it out",
        )
