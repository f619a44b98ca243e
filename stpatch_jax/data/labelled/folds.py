"""Cross-validation of labelled items."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stpatch_jax.errors import check_range, check_size, require


def k_fold(
    labels: Sequence[object] | np.ndarray, folds: int, *, seed: int, stratified: bool = True
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Splits items into folds; every item is tested exactly once.

    scikit-learn's `StratifiedKFold`, or `KFold`, with shuffling: the same folds for the same seed.
    For windows of one series use `chronological_splits`, as neighbours in time are no independent
    items.

    Args:
        labels: The class of each item [items].
        folds: Number of folds, at least 2.
        seed: Seed of the shuffle, not negative.
        stratified: Whether every fold has about the same share of each class.

    Returns:
        For each fold the numbers of its training items and of its test items, int64, ascending.

    Raises:
        InputError: If an item has no class, there are too few items, or too few of one class.

    Example:
        >>> train, test = k_fold([0, 0, 1, 1], 2, seed=0)[0]
        >>> len(train), len(test)
        (2, 2)
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    classes = np.asarray(labels)
    missing = pd.isna(classes)
    require(
        not missing.any(),
        f"every item must have a class, got none for item {int(missing.argmax())}; label it or "
        "leave it out",
    )
    check_range("the number of folds of these items", folds, 2, len(classes))
    check_size("seed", seed, least=0)
    if stratified:
        names, counts = np.unique(classes, return_counts=True)
        require(
            counts.min() >= folds,
            f"every class must have at least {folds} items for {folds} stratified folds, got "
            f"{counts.min()} of {names[counts.argmin()]!s}; use fewer folds or stratified=False",
        )
    kind = StratifiedKFold if stratified else KFold
    splitter = kind(n_splits=folds, shuffle=True, random_state=seed)
    return [
        (train.astype(np.int64), test.astype(np.int64))
        for train, test in splitter.split(np.zeros(len(classes)), classes)
    ]
