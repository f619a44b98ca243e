"""What the metrics share: sums that add up over batches, and the mean of any score."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from stpatch_jax.losses.reduction import check_one_shape, check_weights

Array = jax.Array | np.ndarray


def divide(numerator: Array, denominator: Array) -> Array:
    """Divides where the denominator is not 0; NaN, without a warning, where it is."""
    xp = jnp if isinstance(numerator, jax.Array) or isinstance(denominator, jax.Array) else np
    nonzero = xp.asarray(denominator) != 0
    ratio = xp.asarray(numerator) / xp.where(nonzero, denominator, 1)
    return xp.where(nonzero, ratio, xp.nan)


def host_or_device(*arrays: Array | None) -> tuple[Any, Any]:
    """Returns jax.numpy and float32 if one of the arrays is JAX's, else NumPy and float64."""
    if any(isinstance(array, jax.Array) for array in arrays):
        return jnp, jnp.float32
    return np, np.float64


class Sums:
    """Base of the pytrees of sums over entries: those of two batches add up to those of both.

    They may be returned from `jax.jit`. `of` makes those of one batch, in NumPy float64 if all
    arguments are NumPy arrays, else in JAX float32; what is masked, NaN included, does not count.
    """

    def __add__(self, other: Self) -> Self:
        return jax.tree.map(lambda a, b: a + b, self, other)

    def to_host(self) -> Self:
        """Fetches the sums as NumPy float64 (counts int64), in which many batches add up."""
        return jax.tree.map(_widened, jax.device_get(self))


def _widened(array: np.ndarray) -> np.ndarray:
    whole = np.issubdtype(np.asarray(array).dtype, np.integer)
    return np.asarray(array, np.int64 if whole else np.float64)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean(Sums):
    """The (weighted) mean of any score per entry, over all real entries of all batches.

    It streams what the functions here return per entry: CRPS, Brier score, coverage, PSNR, SSIM.

    Attributes:
        total: Sum of weighted scores, a scalar.
        weight: Sum of weights, a scalar; the number of real entries if there are none.
    """

    total: Array
    weight: Array

    @classmethod
    def of(cls, values: Array, *, mask: Array | None = None, weights: Array | None = None) -> Mean:
        """Sums the scores of one batch, as `Sums` says.

        Args:
            values: Scores, any shape.
            mask: Bool, shape of `values`, True where the score is real; None means everywhere.
            weights: Weight >= 0 of each entry: the rank of `values`, each axis as long as theirs
                or 1 (`losses.latitude_weights`); None means 1 everywhere.

        Raises:
            InputError: If the shapes do not fit.

        >>> scores = Mean.of(np.array([1.0, 2.0])) + Mean.of(np.array([6.0]))
        >>> float(scores.value())
        3.0
        """
        xp, dtype = host_or_device(values, mask, weights)
        shape = tuple(values.shape)
        check_one_shape("values and mask of Mean", values, mask)
        values, weight = xp.asarray(values, dtype), xp.ones(shape, dtype)
        if weights is not None:
            check_weights("Mean", tuple(weights.shape), shape)
            weight = xp.broadcast_to(xp.asarray(weights, dtype), shape)
        if mask is not None:
            values, weight = xp.where(mask, values, 0), xp.where(mask, weight, 0)
        return cls(xp.sum(weight * values), xp.sum(weight))

    def value(self) -> Array:
        """The mean, a scalar in the units of the scores; NaN if nothing is real."""
        return divide(self.total, self.weight)
