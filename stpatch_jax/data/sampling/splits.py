"""Chronological splits of forecast problems."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stpatch_jax.data.times import time_text
from stpatch_jax.errors import InputError, check_choice, require


def chronological_splits(
    rows: int,
    *,
    context: int,
    horizon: int,
    validation_share: float,
    test_share: float,
    first: int = 0,
) -> dict[str, range]:
    """Cuts time into training, validation and test spans, in this order, by their target rows.

    The test span is the last `round(test_share * rows)` rows, the validation span the
    `round(validation_share * rows)` rows before it, shares in (0, 1). A target row belongs to one
    split only. The context of a validation or test window may reach back across the border, so
    every row of these spans is a target row; training targets begin after the first context. What
    is fitted to the data may see the training rows alone, that is rows before `["train"].stop`.

    Args:
        rows: Number of rows of the table.
        context: Length of the context, in time steps.
        horizon: Number of predicted time steps.
        validation_share: Share of the rows in the validation span.
        test_share: Share of the rows in the test span.
        first: Rows at the start that are no use as context, e.g. 1 for returns, which need the
            row before.

    Raises:
        InputError: If the table, or a split of it, cannot hold one window.

    >>> chronological_splits(
    ...     20, context=4, horizon=2, validation_share=0.2, test_share=0.2
    ... )
    {'train': range(4, 12), 'validation': range(12, 16), 'test': range(16, 20)}
    """
    test = rows - round(test_share * rows)
    train = test - round(validation_share * rows)
    spans = {"train": (0, train), "validation": (train, test), "test": (test, rows)}
    return split_by_rows(rows, spans, context=context, horizon=horizon, first=first)


def check_shares(**shares: float) -> None:
    """Refuses shares of splits that are not above 0, or leave no rest for the split without one.

    >>> check_shares(train_share=0.7, test_share=0.2)
    """
    given = " and ".join(f"{share!r:.9}" for share in shares.values())
    require(
        min(shares.values()) > 0 and max(shares.values()) < 1 and sum(shares.values()) < 1,
        f"{' and '.join(f'data.{name}' for name in shares)} must be above 0 and below 1 together, "
        f"got {given}; use for example 0.2 each",
    )


SplitAt = tuple[int, int, int]
"""First row of the validation span, first row of the test span, and the row behind that."""


def check_split_at(split_at: SplitAt | None) -> None:
    """Refuses rows of splits that do not ascend from 1.

    >>> check_split_at((700, 800, 1000))
    """
    first, *others = split_at or (1, 2, 3)
    rising = len(others) == 2 and 0 < first < others[0] < others[1]
    require(
        rising,
        f"data.split_at must be three rows that ascend from 1, got {split_at!r:.60}; give the "
        "first of validation, the first of test, and the one behind the last",
    )


def spans_at(split_at: SplitAt, rows: int) -> dict[str, tuple[int, int]]:
    """The spans of `split_by_rows` for such rows of a table of `rows`.

    >>> spans_at((12, 14, 20), 30)
    {'train': (0, 12), 'validation': (12, 14), 'test': (14, 20)}
    """
    validation, test, stop = split_at
    require(
        stop <= rows,
        f"data.split_at must end by the {rows} rows of the data, got {stop}; give rows of these",
    )
    return {"train": (0, validation), "validation": (validation, test), "test": (test, stop)}


def split_by_rows(
    rows: int, spans: Mapping[str, tuple[int, int]], *, context: int, horizon: int, first: int = 0
) -> dict[str, range]:
    """Official splits: the target rows of each lie in a span, its first row and the one behind.

    A context may reach back across the border of its span; the targets of a span that begins
    before the first context begin after it. Spans are in order of time; rows between them belong
    to no split. The other arguments are those of `chronological_splits`.

    Raises:
        InputError: If spans overlap, leave the table, are not in order of time or cannot hold one
            window.

    >>> split_by_rows(20, {"train": (0, 12), "test": (14, 20)}, context=4, horizon=2)
    {'train': range(4, 12), 'test': range(14, 20)}
    """
    result: dict[str, range] = {}
    end = 0
    for name, (start, stop) in spans.items():
        if not end <= start <= stop <= rows:
            raise InputError(
                f"the {name} split must lie in rows {end} to {rows}, after the split before it, "
                f"got {start} to {stop}; give spans in order of time"
            )
        targets = range(max(start, first + context), stop)
        if len(targets) < horizon:
            raise InputError(
                f"the {name} split must hold {horizon} target rows (one horizon) after the first "
                f"context of {first + context}, got {len(targets)} of {rows} rows; use "
                "more rows, a shorter context= or horizon=, or other shares"
            )
        result[name], end = targets, stop
    return result


def rows_through(splits: Mapping[str, range], name: str) -> slice:
    """The rows of a split, and those before it that are behind the end of every other one.

    >>> rows_through({"train": range(4, 12), "test": range(14, 20)}, "test")
    slice(12, 20, None)
    """
    check_choice("split", name, tuple(splits))
    stop = splits[name].stop
    before = [rows.stop for rows in splits.values() if rows.stop < stop]
    return slice(max(before, default=0), stop)


def window_starts(targets: range, *, horizon: int) -> range:
    """First target rows of all windows (stride 1) whose targets lie wholly inside a split.

    These are `len(targets) - horizon + 1` rows; every row of the split is a target of a window.

    >>> window_starts(range(16, 20), horizon=2)
    range(16, 19)
    """
    return range(targets.start, targets.stop - horizon + 1)


def spans_between_gaps(
    targets: range, segments: Sequence[range], *, past: int, horizon: int
) -> tuple[range, ...]:
    """The parts of a split's target rows whose windows cross no gap, in order of time.

    The rows that a window reads, `past` of them before its first target, and its `horizon` targets
    lie in one segment: rows that follow each other in time. `targets` begin after the first
    context, and may go on behind the last segment, where nothing is known yet.

    >>> spans_between_gaps(range(4, 20), [range(9), range(9, 20)], past=4, horizon=2)
    (range(4, 9), range(13, 20))
    """
    spans = []
    for number, segment in enumerate(segments):
        first = segment.start + past if number else targets.start
        stop = segment.stop if number < len(segments) - 1 else targets.stop
        span = range(max(first, targets.start), min(stop, targets.stop))
        if len(span) >= horizon:
            spans.append(span)
    return tuple(spans)


def require_windows(
    spans: Mapping[str, Sequence[range]], segments: Sequence[range], *, rows: int, advice: str
) -> None:
    """Refuses splits that gaps leave no window of so many rows; `advice` says what to do."""
    for name, parts in spans.items():
        require(
            len(parts) > 0,
            f"the {name} split must hold {rows} rows without a gap in time, got "
            f"{len(segments) - 1} gaps in the data, between which at most "
            f"{max(map(len, segments))} rows follow each other; {advice}",
        )


def splits_report(
    splits: Mapping[str, range],
    times: np.ndarray,
    *,
    horizon: int,
    spans: Mapping[str, Sequence[range]] | None = None,
) -> dict[str, dict[str, Any]]:
    """What a report tells of each split: first and last target time, target rows and windows.

    Splits are target rows, `times` those of all rows [time]; dates as `time_text` tells them. Where
    windows leave gaps out, `spans` holds the parts of each split that have windows.

    >>> splits_report({"test": range(4, 8)}, np.arange(8), horizon=2)["test"]["windows"]
    3
    """
    parts = spans or {name: (rows,) for name, rows in splits.items()}
    return {
        name: {
            "first_target": time_text(times[rows[0]]),
            "last_target": time_text(times[rows[-1]]),
            "target_rows": len(rows),
            "windows": sum(len(window_starts(part, horizon=horizon)) for part in parts[name]),
        }
        for name, rows in splits.items()
    }
