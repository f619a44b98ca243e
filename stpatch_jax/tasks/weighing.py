"""Tasks of classes: how many there are of each in training, and what each weighs."""

import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from stpatch_jax.errors import check_choice, check_range, require
from stpatch_jax.tasks.task import TaskBase, checked_counts

ClassWeights = tuple[float, ...] | Literal["balanced"] | None


def check_class_weights(weights: ClassWeights, counts: Sequence[int]) -> None:
    """Refuses what are no weights of classes, or do not fit the `counts` of these, if any."""
    if isinstance(weights, tuple):
        for weight in weights:
            check_range("class_weights", weight, 0, math.inf, bounds="[)")
    else:
        check_choice("class_weights", weights, ("balanced", None))
    if not counts:
        return
    require(
        weights != "balanced" or all(counts),
        f"class_counts must be above 0 for balanced class_weights, got {counts}; drop the empty "
        "classes or give the weights",
    )
    require(
        not isinstance(weights, tuple) or len(weights) == len(counts),
        f"class_weights must be one for each of {len(counts)} classes, got {weights}; give as "
        "many, or balanced",
    )


def weight_of_each(weights: ClassWeights, counts: Sequence[int]) -> tuple[float, ...] | None:
    """The weight of each class; balanced ones are `n / (classes * count)`, None is 1 for all.

    >>> weight_of_each("balanced", (3, 1))
    (0.6666666666666666, 2.0)
    """
    if weights != "balanced":
        return weights
    return tuple(sum(counts) / (len(counts) * count) for count in counts)


class CountedClasses(Protocol):
    """What a task of classes asks of its data, as its own fact."""

    class_counts: tuple[int, ...]


class WeighedClasses(TaskBase):
    """What tasks of classes share: the counts of these, which the data tell, and their weights.

    Args:
        config: Settings, `class_weights` among them.
        class_counts: How often each class occurs in training: how many classes there are, which
            is the majority, and what "balanced" weights are. Empty until `fitted`.

    Raises:
        InputError: The counts are none, or the class weights do not fit them.
    """

    asks = CountedClasses

    def __init__(self, config: Any, *, class_counts: Sequence[int] = ()):
        counts = checked_counts("class_counts", class_counts, least=2)
        super().__init__(config, class_counts=counts)
        check_class_weights(config.class_weights, counts)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """How often each class occurs in training, once `fitted`."""
        return self.fact("class_counts")
