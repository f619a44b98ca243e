"""How far a trained network may leave the best rule, as the validation split tells it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stpatch_jax.data import Batch
from stpatch_jax.metrics import resampled
from stpatch_jax.runs.judging.default import DefaultJudge
from stpatch_jax.runs.judging.judge import Tree
from stpatch_jax.tasks import Forecast


class NetworkWeight(NamedTuple):
    """The weight of a trained network against a rule.

    Attributes:
        weight: The weight, in [0, 1].
        before: What was known of it before training, see `stpatch_jax.data.rolling_rules`.
        interval: That of 95 % of the validation split; None where it has too few windows.
    """

    weight: float
    before: float
    interval: tuple[float, float] | None

    @classmethod
    def of(
        cls, agreed: np.ndarray, spread: np.ndarray, *, before: float, block: int
    ) -> "NetworkWeight":
        """The smaller of the weights before training and by validation, where that is sure.

        Rows before training tell how far a linear map may leave the rule, not how well a network
        was trained; validation tells that, but one span of it drifts one way only. So the weight
        leaves the rule as far as both say, or as the lower end of the interval demands. Least
        squares of windows [n] give `sum(agreed) / sum(spread)`, see `rolling_weight`; the interval
        is that of blocks of windows drawn anew, none where there are fewer than two.

        >>> NetworkWeight.of(np.full(8, 0.25), np.ones(8), before=0.6, block=2)
        NetworkWeight(weight=0.25, before=0.6, interval=(0.25, 0.25))
        """
        if not spread.sum() > 0:
            return cls(before, before, None)
        weight = min(before, float(_share(agreed.sum(), spread.sum())))
        drawn = resampled(agreed, spread, block=block)
        if drawn is None:
            return cls(weight, before, None)
        low, high = np.quantile(_share(*drawn), (0.025, 0.975)).tolist()
        return cls(max(weight, low), before, (low, high))


def _share(agreed: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.clip(agreed / np.where(spread > 0, spread, np.inf), 0, 1)


class WeightJudge(DefaultJudge):
    """What `NetworkWeight.of` needs, window by window: its rows `agreed` and `spread`."""

    task: Forecast

    @property
    def inputs(self) -> Sequence[str] | None:
        """Those of the task."""
        return self.task.inputs

    def outputs(self, model: Any, batch: Mapping[str, Any]) -> Tree:
        """The forecast of the network alone."""
        return self.task.network_forecast(model, batch)

    def sums(self, batch: Batch, answers: Tree) -> Tree:
        """Nothing."""
        return {}

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """See the class; a window of which the network makes no number says nothing."""
        rule, mask = np.asarray(self.task.naive(batch)), batch["target_mask"]
        left = np.nan_to_num(np.where(mask, self.task.point(answers) - rule, 0.0), posinf=0.0)
        missed = np.where(mask, batch["target"] - rule, 0.0)
        axes = tuple(range(1, mask.ndim))
        return {
            "agreed": (missed * left).sum(axes, dtype=np.float64),
            "spread": (left * left).sum(axes, dtype=np.float64),
        }
