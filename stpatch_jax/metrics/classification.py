"""Counts of right and wrong classes, and what follows from them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from stpatch_jax.errors import InputError
from stpatch_jax.metrics.common import Array, divide


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

        >>> counts = Confusion.of(jnp.array([0, 1, 1]), jnp.array([0, 1, 0]), classes=2)
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
        return divide(self.counts.trace(), self.counts.sum())

    def precision(self) -> Array:
        """Share of a class's predictions that are right [classes]; NaN if never predicted."""
        return divide(self.counts.diagonal(), self.counts.sum(axis=0))

    def recall(self) -> Array:
        """Share of a class's examples that are found [classes]; NaN if it has none."""
        return divide(self.counts.diagonal(), self.counts.sum(axis=1))

    def f1(self) -> Array:
        """Harmonic mean of precision and recall [classes]; NaN for a class never seen nor said."""
        return divide(2 * self.counts.diagonal(), self.counts.sum(axis=0) + self.counts.sum(axis=1))
