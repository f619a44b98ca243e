"""How sure a figure of examples in order of time is: sums of blocks of them, drawn anew."""

import numpy as np

_RESAMPLES = 1000
_SEED = 0


def resampled(*values: np.ndarray, block: int) -> list[np.ndarray] | None:
    """Sums of some values [example] in each of 1000 draws of as many, the same ones of each.

    Blocks of neighbours are drawn with replacement, round the end; None for fewer than two. The
    draws depend on the number of examples alone.

    References:
        Politis and Romano, "A circular block-resampling procedure for stationary data", 1992.

    >>> [sums] = resampled(np.ones(8), block=2)
    >>> sums.shape, float(sums.min())
    ((1000,), 8.0)
    """
    count = len(values[0])
    if count < 2 * block:
        return None
    draws = -(-count // block)
    starts = np.random.default_rng(_SEED).integers(count, size=(_RESAMPLES, draws))
    sums = []
    for of in values:
        upto = np.concatenate([[0.0], np.cumsum(np.concatenate([of, of[:block]]))])
        sums.append((upto[starts + block] - upto[starts]).sum(axis=1))
    return sums
