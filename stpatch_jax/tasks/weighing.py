"""What examples of a class weigh, out of how many there are of each."""

import math
from collections.abc import Sequence
from typing import Literal

from stpatch_jax.errors import check_choice, check_range, require

ClassWeights = tuple[float, ...] | Literal["balanced"] | None


def check_class_weights(weights: ClassWeights, counts: Sequence[int]) -> None:
    """Refuses what are no weights of classes, or do not fit the `counts` of these, if any.

    Raises:
        InputError: Saying why.
    """
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
