"""Chronological splits of forecast problems."""

from stpatch_jax.errors import InputError


def chronological_splits(
    rows: int,
    *,
    context: int,
    horizon: int,
    validation_fraction: float,
    test_fraction: float,
    first: int = 0,
) -> dict[str, range]:
    """Cuts time into training, validation and test spans, in this order, by their target rows.

    The test span is the last `round(test_fraction * rows)` rows, the validation span the
    `round(validation_fraction * rows)` rows before it. A target row belongs to one split only.
    The context of a validation or test window may reach back across the border, so every row of
    these spans is a target row; training targets begin after the first context. What is fitted to
    the data may see the training rows alone, that is rows before `["train"].stop`.

    Args:
        rows: Number of rows of the table.
        context: Length of the context, in time steps.
        horizon: Number of predicted time steps.
        validation_fraction: Share of the rows in the validation span, in (0, 1).
        test_fraction: Share of the rows in the test span, in (0, 1).
        first: Rows at the start that are no use as context, e.g. 1 for returns, which need the
            row before.

    Returns:
        The target rows of the splits `train`, `validation` and `test`.

    Raises:
        InputError: If the table, or a split of it, cannot hold one window.

    Example:
        >>> chronological_splits(
        ...     20, context=4, horizon=2, validation_fraction=0.2, test_fraction=0.2
        ... )
        {'train': range(4, 12), 'validation': range(12, 16), 'test': range(16, 20)}
    """
    extra = f" + {first} for the first return" if first else ""
    needed = first + context + horizon
    if rows < needed:
        raise InputError(
            f"the table must have at least {needed} rows (context {context} + horizon {horizon}"
            f"{extra}), but it has {rows}; use a longer table or a shorter context or horizon"
        )
    test = round(test_fraction * rows)
    validation = round(validation_fraction * rows)
    train = rows - test - validation
    sizes = {"training": (train, needed), "validation": (validation, horizon)}
    for name, (size, least) in {**sizes, "test": (test, horizon)}.items():
        if size < least:
            parts = f"context {context} + horizon {horizon}{extra}"
            raise InputError(
                f"the {name} split must hold at least {least} rows "
                f"({parts if name == 'training' else f'horizon {horizon}'}), but it has "
                f"{max(size, 0)} of the table's {rows}; use a longer table, a shorter context or "
                "horizon, or other validation and test fractions"
            )
    return {
        "train": range(first + context, train),
        "validation": range(train, train + validation),
        "test": range(train + validation, rows),
    }


def window_starts(targets: range, *, horizon: int) -> range:
    """First target rows of all windows (stride 1) whose targets lie wholly inside a split.

    Every row of the split is a target of at least one window.

    Args:
        targets: Target rows of the split.
        horizon: Number of predicted time steps.

    Returns:
        `len(targets) - horizon + 1` rows.

    Example:
        >>> window_starts(range(16, 20), horizon=2)
        range(16, 19)
    """
    return range(targets.start, targets.stop - horizon + 1)
