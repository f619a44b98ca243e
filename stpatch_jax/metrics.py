"""Metrics: what a report prints, masked, in the units of the target.

They add up over batches: make a `LeadTimeErrors` or `Confusion` of each batch, add them, and ask
the sum.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from stpatch_jax.errors import InputError

Array = jax.Array | np.ndarray


def _divide(numerator: Array, denominator: Array) -> Array:
    """Divides where the denominator is not 0; NaN, without a warning, where it is."""
    xp = jnp if isinstance(numerator, jax.Array) or isinstance(denominator, jax.Array) else np
    nonzero = xp.asarray(denominator) != 0
    ratio = xp.asarray(numerator) / xp.where(nonzero, denominator, 1)
    return xp.where(nonzero, ratio, xp.nan)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LeadTimeErrors:
    """Sums of forecast errors per lead time, from which MAE and RMSE follow.

    A pytree, so it may be returned from `jax.jit`. `a + b` is the errors of both batches together:
    the mean is over all real entries of all batches, not over batch means.

    Attributes:
        absolute: [horizon] sum of absolute errors over batch, space and channel.
        squared: [horizon] sum of squared errors.
        count: [horizon] number of real entries, an integer.
    """

    absolute: Array
    squared: Array
    count: Array

    @classmethod
    def of(cls, prediction: Array, target: Array, *, mask: Array | None = None) -> LeadTimeErrors:
        """Sums the errors of one batch.

        Args:
            prediction: [batch, horizon, *space, channel].
            target: Shape of `prediction`; ignored where the mask is False, also if it is NaN.
            mask: Bool, shape of `target`, True where the target is real; None means everywhere.

        Returns:
            NumPy float64 sums if all arguments are NumPy arrays, else JAX float32 sums.

        Raises:
            InputError: If the shapes differ or there is no lead-time axis.

        >>> errors = LeadTimeErrors.of(np.zeros((1, 2, 1)), np.array([[[3.0], [4.0]]]))
        >>> errors.rmse().tolist(), errors.pooled().mae().tolist()
        ([3.0, 4.0], [3.5])
        """
        shapes = {tuple(a.shape) for a in (prediction, target, mask) if a is not None}
        if len(shapes) > 1 or prediction.ndim < 2:
            raise InputError(
                "LeadTimeErrors needs prediction, target and mask of one shape "
                f"(batch, horizon, *space, channel), got {sorted(shapes)}; broadcast them first"
            )
        on_host = not any(isinstance(a, jax.Array) for a in (prediction, target, mask))
        xp, dtype = (np, np.float64) if on_host else (jnp, jnp.float32)
        if mask is None:
            mask = xp.ones(target.shape, bool)
        error = xp.where(mask, prediction.astype(dtype) - target.astype(dtype), 0)
        axes = (0, *range(2, error.ndim))
        return cls(
            absolute=xp.sum(xp.abs(error), axis=axes),
            squared=xp.sum(xp.square(error), axis=axes),
            count=xp.sum(mask, axis=axes),
        )

    def __add__(self, other: LeadTimeErrors) -> LeadTimeErrors:
        return jax.tree.map(lambda a, b: a + b, self, other)

    def to_host(self) -> LeadTimeErrors:
        """Fetches the sums as NumPy float64 (counts int64), in which many batches add up."""
        sums = jax.device_get((self.absolute, self.squared))
        absolute, squared = (np.asarray(s, np.float64) for s in sums)
        return LeadTimeErrors(absolute, squared, np.asarray(jax.device_get(self.count), np.int64))

    def pooled(self) -> LeadTimeErrors:
        """The same errors with all lead times taken together, [1]."""
        return jax.tree.map(lambda s: s.sum(keepdims=True), self)

    def mae(self) -> Array:
        """Mean absolute error [horizon], in the target's units; NaN where nothing is real."""
        return _divide(self.absolute, self.count)

    def rmse(self) -> Array:
        """Root of the mean squared error [horizon], target's units; NaN where nothing is real."""
        return _divide(self.squared, self.count) ** 0.5


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Confusion:
    """Counts of true against predicted classes, from which accuracy and its kin follow.

    A pytree; `a + b` is the counts of both batches together.

    Attributes:
        counts: [classes, classes] integers; row is the true class, column the predicted one.
    """

    counts: Array

    @classmethod
    def of(
        cls, predicted: Array, label: Array, *, classes: int, mask: Array | None = None
    ) -> Confusion:
        """Counts one batch.

        Args:
            predicted: [*batch] predicted classes, integers from 0 to classes - 1.
            label: [*batch] true classes.
            classes: Number of classes.
            mask: Bool [*batch], True where the label is real; None means everywhere.

        Returns:
            JAX int32 counts.

        Raises:
            InputError: If the shapes differ.

        >>> counts = Confusion.of(np.array([0, 1, 1]), np.array([0, 1, 0]), classes=2)
        >>> counts.counts.tolist(), round(float(counts.accuracy()), 3)
        ([[1, 1], [0, 1]], 0.667)
        """
        shapes = {tuple(a.shape) for a in (predicted, label, mask) if a is not None}
        if len(shapes) > 1:
            raise InputError(
                "Confusion needs predicted classes, labels and mask of one shape, "
                f"got {sorted(shapes)}; take the argmax over the classes first"
            )
        pair = jnp.asarray(label) * classes + jnp.asarray(predicted)
        real = jnp.ones(pair.shape, bool) if mask is None else jnp.asarray(mask)
        # What is not real is counted in a bin of its own, which is cut off.
        pair = jnp.where(real, pair, classes * classes).ravel()
        counts = jnp.bincount(pair, length=classes * classes + 1)[:-1]
        return cls(counts.reshape(classes, classes))

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.counts + other.counts)

    def accuracy(self) -> Array:
        """Share of real examples whose class is predicted right, a scalar; NaN without any."""
        return _divide(self.counts.trace(), self.counts.sum())

    def precision(self) -> Array:
        """Share of a class's predictions that are right [classes]; NaN if never predicted."""
        return _divide(self.counts.diagonal(), self.counts.sum(axis=0))

    def recall(self) -> Array:
        """Share of a class's examples that are found [classes]; NaN if it has none."""
        return _divide(self.counts.diagonal(), self.counts.sum(axis=1))

    def f1(self) -> Array:
        """Harmonic mean of precision and recall [classes]; NaN for a class never seen nor said."""
        return _divide(
            2 * self.counts.diagonal(), self.counts.sum(axis=0) + self.counts.sum(axis=1)
        )


def skill(error: Array, error_naive: Array) -> Array:
    """Skill against a naive baseline, `1 - error / error_naive`.

    1 is a perfect forecast, 0 no better than the baseline, negative worse. Both errors are MAE, or
    both RMSE, over the same targets.

    Args:
        error: The model's error, any shape.
        error_naive: The baseline's error, shape of `error`.

    Returns:
        Shape of `error`; NaN where the baseline's error is 0 and there is nothing to gain.

    Raises:
        InputError: If the shapes differ.

    >>> skill(np.array([0.5, 3.0]), np.array([2.0, 2.0])).tolist()
    [0.75, -0.5]
    """
    if np.shape(error) != np.shape(error_naive):
        raise InputError(
            f"skill needs both errors of one shape, got {np.shape(error)} and "
            f"{np.shape(error_naive)}; compute them over the same lead times"
        )
    return 1 - _divide(error, error_naive)
