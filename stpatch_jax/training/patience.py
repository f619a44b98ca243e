"""Early stopping: whether validations have gone long enough without a better one."""

import math
from collections.abc import Mapping

from stpatch_jax.training.checkpoint import Checkpoints
from stpatch_jax.training.config import TrainConfig


class Patience:
    """Counts the validations since the best one, see `TrainConfig.patience`.

    Nothing is kept for it: every validation is saved, the best checkpoint stays, and the count
    follows from their steps. So a run that goes on after a kill counts as if it had never stopped.

    Attributes:
        best: The step of the best checkpoint, None where none was measured or none is counted.
    """

    def __init__(self, config: TrainConfig, checkpoints: Checkpoints):
        self._config = config
        criterion = None if config.patience is None else config.keep_best
        self.best = checkpoints.best_step(criterion) if criterion else None
        self._least = math.inf if self.best is None else self._value(checkpoints.metrics(self.best))

    def _value(self, validation: Mapping[str, float]) -> float:
        """What is to be small, infinite where it was not finite."""
        order, _, name = (self._config.keep_best or "").partition(":")
        value = validation.get(name, math.nan)
        return (-value if order == "max" else value) if math.isfinite(value) else math.inf

    def see(self, step: int, validation: Mapping[str, float]) -> None:
        """Takes what was validated after a step."""
        value = self._value(validation)
        if value < self._least:
            self.best, self._least = step, value

    def over(self, step: int) -> bool:
        """Whether training ends with a step; the last one counts where a validation is due."""
        every, patience = self._config.evaluate_every, self._config.patience
        return patience is not None and step // every - (self.best or 0) // every >= patience
