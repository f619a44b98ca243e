"""Right and wrong classes, and how well scores rank them."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from stpatch_jax.errors import InputError
from stpatch_jax.losses.reduction import check_one_shape
from stpatch_jax.metrics.sums import Array, Sums, divide, host_or_device


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Confusion(Sums):
    """Counts of true against predicted classes, from which accuracy and its kin follow.

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

        Raises:
            InputError: If the shapes differ.

        >>> counts = Confusion.of(np.array([0, 1, 1]), np.array([0, 1, 0]), classes=2)
        >>> counts.counts.tolist(), round(float(counts.accuracy()), 3)
        ([[1, 1], [0, 1]], 0.667)
        """
        check_one_shape("predicted classes, labels and mask of Confusion", predicted, label, mask)
        xp, _ = host_or_device(predicted, label, mask)
        pair = xp.asarray(label) * classes + xp.asarray(predicted)
        # What is not real is counted in a bin of its own, which is cut off.
        pair = (pair if mask is None else xp.where(mask, pair, classes * classes)).ravel()
        most = {"minlength" if xp is np else "length": classes * classes + 1}
        return cls(xp.bincount(pair, **most)[:-1].reshape(classes, classes))

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
        """Harmonic mean of precision and recall [classes]; NaN for a class never seen nor said.

        Of cells it is the Dice coefficient: twice the cells of both over the sum of the cells of
        each.
        """
        return divide(2 * self.counts.diagonal(), self.counts.sum(axis=0) + self.counts.sum(axis=1))

    def iou(self) -> Array:
        """Intersection over union [classes], or Jaccard index; NaN if never seen nor said.

        Examples of the class that are predicted right, over those that are of it, or said to be.
        """
        both = self.counts.diagonal()
        return divide(both, self.counts.sum(axis=0) + self.counts.sum(axis=1) - both)

    def mean_iou(self) -> Array:
        """Intersection over union averaged over the classes seen or said; NaN without any."""
        return _mean_known(self.iou())

    def balanced_accuracy(self) -> Array:
        """Recall averaged over the classes that have examples, a scalar; NaN without any."""
        return _mean_known(self.recall())

    def macro_f1(self) -> Array:
        """F1 averaged over the classes that were seen or said, a scalar; NaN without any."""
        return _mean_known(self.f1())

    def mcc(self) -> Array:
        """Matthews correlation of true and predicted classes, a scalar in [-1, 1].

        `R_K = (p - sum(t q)) / sqrt((1 - sum(t^2)) (1 - sum(q^2)))` of the share p that is right
        and the shares t and q of each class among the labels and the predictions. 1 is all right,
        0 what chance gives; NaN if only one class was seen, or only one said. Where nearly all
        examples are of one class, `to_host()` first: float32 then has few digits left.

        References:
            Gorodkin, "Comparing two K-category assignments by a K-category correlation
            coefficient", Comput. Biol. Chem. 28 (2004).
        """
        total = self.counts.sum()
        seen, said = (divide(self.counts.sum(axis=axis), total) for axis in (1, 0))
        together = divide(self.counts.trace(), total) - (seen * said).sum()
        # sum(t (1 - t)) is 1 - sum(t^2), and exactly 0 where there is one class.
        spread = (seen * (1 - seen)).sum() * (said * (1 - said)).sum()
        return divide(together, spread**0.5)


def _mean_known(values: Array) -> Array:
    xp, _ = host_or_device(values)
    known = ~xp.isnan(values)
    return divide(xp.where(known, values, 0).sum(), known.sum())


def roc_auc(score: Array, label: Array, *, mask: Array | None = None) -> np.ndarray:
    """Area under the receiver operating characteristic, exactly, from all scores at once.

    The probability that an example of the class has a higher score than one that is not of it, a
    tie counting half. Areas of batches do not add up: gather the scores of all batches first, then
    call this; it runs on the host in float64 and not inside `jax.jit`.

    Args:
        score: [*batch] scores of the positive class, or [*batch, classes] one for each class: any
            monotonic function of its probability.
        label: [*batch] 0 or 1 (or bool), or classes from 0 to classes - 1.
        mask: Bool [*batch], True where the label is real; None means everywhere.

    Returns:
        Float64 scalar; with classes the mean over the areas of each against the rest (macro),
        leaving out those without examples or counterexamples. NaN if there is none, or if a real
        score is NaN.

    Raises:
        InputError: If shapes or labels do not fit.

    References:
        Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 143
        (1982).

    >>> float(roc_auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1])))
    0.875
    """
    score, label = np.asarray(score, np.float64), np.asarray(label)
    mask = np.ones(label.shape, bool) if mask is None else np.asarray(mask)
    binary = score.shape == label.shape
    if not (binary or score.shape[:-1] == label.shape) or mask.shape != label.shape:
        raise InputError(
            "roc_auc must get scores (*batch) or (*batch, classes), labels and mask (*batch), got "
            f"{score.shape}, {label.shape} and {mask.shape}; reshape them to belong together"
        )
    score, label = score[mask], label[mask].astype(np.int64)
    classes = 2 if binary else score.shape[-1]
    outside = label[(label < 0) | (label >= classes)]
    if outside.size:
        raise InputError(
            f"real labels of roc_auc must be from 0 to {classes - 1}, got {outside[0]}; mask what "
            "has no label"
        )
    if np.isnan(score).any():
        return np.asarray(np.nan)
    if binary:
        return _area(score, label == 1)
    areas = [_area(score[:, k], label == k) for k in range(classes)]
    return np.asarray(_mean_known(np.array(areas)))


def _area(score: np.ndarray, positive: np.ndarray) -> np.ndarray:
    others, own = np.sort(score[~positive]), score[positive]
    # How many counterexamples lie below each example, ties half.
    below = np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")
    return np.asarray(divide(below.sum() / 2, np.asarray(others.size * own.size)))
