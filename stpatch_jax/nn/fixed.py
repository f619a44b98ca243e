"""What a network holds that no optimiser moves."""

import math

import numpy as np
from flax import nnx

_GOLDEN = (math.sqrt(5) + 1) / 2


class Fixed(nnx.Variable):
    """Drawn at random, or fitted to examples at once: checkpoints keep it, steps leave it."""


def spread_levels(count: int) -> np.ndarray:
    """Levels in (0, 1), spread evenly over any run of them [count]: multiples of the golden ratio.

    >>> spread_levels(3).round(3).tolist()
    [0.618, 0.236, 0.854]
    """
    return np.arange(1, count + 1) * _GOLDEN % 1
