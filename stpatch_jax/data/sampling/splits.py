"""Chronological splits of forecast problems."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stpatch_jax.errors import InputError


def chronological_splits(
    rows: int,
    *,
    context: int,
    horizon: int,
    validation_share: float,
    test_share: float,
    first: int = 0,
    gap: int = 0,
) -> dict[str, range]:
    """Cuts time into training, validation and test spans, in this order, by their target rows.

    The test span is the last `round(test_share * rows)` rows, the validation span the
    `round(validation_share * rows)` rows before it. A target row belongs to one split only.
    The context of a validation or test window may reach back across the border, so every row of
    these spans is a target row; training targets begin after the first context. What is fitted to
    the data may see the training rows alone, that is rows before `["train"].stop`.

    Args:
        rows: Number of rows of the table.
        context: Length of the context, in time steps.
        horizon: Number of predicted time steps.
        validation_share: Share of the rows in the validation span, in (0, 1).
        test_share: Share of the rows in the test span, in (0, 1).
        first: Rows at the start that are no use as context, e.g. 1 for returns, which need the
            row before.
        gap: Rows left out at the end of the training and of the validation span, as targets and in
            fitting, so that close neighbours in time do not lie on both sides of a border.

    Returns:
        The target rows of the splits `train`, `validation` and `test`.

    Raises:
        InputError: If the table, or a split of it, cannot hold one window.

    Example:
        >>> chronological_splits(
        ...     20, context=4, horizon=2, validation_share=0.2, test_share=0.2
        ... )
        {'train': range(4, 12), 'validation': range(12, 16), 'test': range(16, 20)}
    """
    extra = f" + {first} for the first return" if first else ""
    if gap < 0:
        raise InputError(f"gap must not be negative, but it is {gap}; use 0 or more time steps")
    needed = first + context + horizon
    if rows < needed:
        raise InputError(
            f"the table must have at least {needed} rows (context {context} + horizon {horizon}"
            f"{extra}), but it has {rows}; use a longer table or a shorter context or horizon"
        )
    test = round(test_share * rows)
    validation = round(validation_share * rows)
    borders = (rows - test - validation, rows - test)
    # What a gap takes is taken from the span before it.
    train, validation = borders[0] - gap, validation - gap
    sizes = {"training": (train, needed), "validation": (validation, horizon)}
    without = f" without the gap of {gap}" if gap else ""
    for name, (size, least) in {**sizes, "test": (test, horizon)}.items():
        if size < least:
            parts = f"context {context} + horizon {horizon}{extra}"
            raise InputError(
                f"the {name} split must hold at least {least} rows "
                f"({parts if name == 'training' else f'horizon {horizon}'}), but it has "
                f"{max(size, 0)} of the table's {rows}{without}; use a longer table, a shorter "
                "context or horizon, or other shares"
            )
    return {
        "train": range(first + context, train),
        "validation": range(borders[0], borders[0] + validation),
        "test": range(borders[1], rows),
    }


def split_by_rows(
    rows: int, spans: Mapping[str, tuple[int, int]], *, context: int, horizon: int, first: int = 0
) -> dict[str, range]:
    """Official splits: the target rows lie in given spans.

    A context may reach back across the border of its span; the targets of a span that begins
    before the first context begin after it. Rows between the spans belong to no split.

    Args:
        rows: Number of rows of the table.
        spans: First row, and row after the last, of each split, by its name, in order of time.
        context: Length of the context, in time steps.
        horizon: Number of predicted time steps.
        first: Rows at the start that are no use as context.

    Returns:
        The target rows of each split.

    Raises:
        InputError: If spans overlap, leave the table, are not in order of time or cannot hold one
            window.

    Example:
        >>> split_by_rows(20, {"train": (0, 12), "test": (14, 20)}, context=4, horizon=2)
        {'train': range(4, 12), 'test': range(14, 20)}
    """
    result: dict[str, range] = {}
    end = 0
    for name, (start, stop) in spans.items():
        if not end <= start <= stop <= rows:
            raise InputError(
                f"the {name} split must lie in rows {end} to {rows}, after the split before it, "
                f"but it goes from {start} to {stop}; give spans in order of time"
            )
        targets = range(max(start, first + context), stop)
        if len(targets) < horizon:
            raise InputError(
                f"the {name} split must hold {horizon} target rows (one horizon) after the first "
                f"context of {first + context}, but it has {len(targets)}; use a longer span or a "
                "shorter context or horizon"
            )
        result[name], end = targets, stop
    return result


def split_by_times(
    times: np.ndarray,
    spans: Mapping[str, tuple[str, str]],
    *,
    context: int,
    horizon: int,
    first: int = 0,
) -> dict[str, range]:
    """Official splits by dates, see `split_by_rows`.

    Args:
        times: Time of each row [time], datetime64, ascending.
        spans: First time of each split, and the time before which it ends, by its name; as
            "2014-09-21" or "2014-09-21T06:00".
        context: Length of the context, in time steps.
        horizon: Number of predicted time steps.
        first: Rows at the start that are no use as context.

    Returns:
        The target rows of each split.

    Raises:
        InputError: If a time cannot be read, the times do not ascend, or the rows do not serve.

    Example:
        >>> times = np.arange("2024-01-01", "2024-01-11", dtype="datetime64[D]")
        >>> spans = {"train": ("2024-01-01", "2024-01-08"), "test": ("2024-01-08", "2024-02-01")}
        >>> split_by_times(times, spans, context=2, horizon=1)
        {'train': range(2, 7), 'test': range(7, 10)}
    """
    if not np.issubdtype(times.dtype, np.datetime64) or (times[1:] <= times[:-1]).any():
        raise InputError(
            f"times must be datetime64 in ascending order to split by dates, but they are "
            f"{times.dtype}{' out of order' if times.dtype.kind == 'M' else ''}; sort the field by "
            "time or split by rows"
        )
    rows: dict[str, tuple[int, int]] = {}
    for name, span in spans.items():
        try:
            borders = np.array(span, "datetime64[ns]")
        except ValueError as error:
            raise InputError(
                f"the {name} split must have times like 2014-09-21, but they are {span}; write "
                "dates with the year first"
            ) from error
        start, stop = np.searchsorted(times, borders)
        rows[name] = int(start), int(stop)
    return split_by_rows(len(times), rows, context=context, horizon=horizon, first=first)


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


def splits_report(
    splits: Mapping[str, range], times: np.ndarray, *, horizon: int
) -> dict[str, dict[str, Any]]:
    """What a report tells of each split: first and last target time, target rows and windows.

    Args:
        splits: Target rows by split.
        times: Time of each row [time]; dates are told to the second.
        horizon: Number of predicted time steps.

    >>> splits_report({"test": range(4, 8)}, np.arange(8), horizon=2)["test"]["windows"]
    3
    """

    def told(time: Any) -> str:
        return str(time.astype("datetime64[s]") if time.dtype.kind == "M" else time)

    return {
        name: {
            "first_target": told(times[rows[0]]),
            "last_target": told(times[rows[-1]]),
            "target_rows": len(rows),
            "windows": len(window_starts(rows, horizon=horizon)),
        }
        for name, rows in splits.items()
    }
