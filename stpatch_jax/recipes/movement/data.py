"""Whether a stock rises or falls on a day, from the days before it."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stpatch_jax.data import (
    DataConfig,
    FieldIdentity,
    LabelledFields,
    LabelledSplit,
    TimeAxis,
    UnlabelledFields,
)
from stpatch_jax.data.readers import array_headers, load_array
from stpatch_jax.data.sampling.spacing import gaps_report, warn_of_gaps
from stpatch_jax.data.sampling.splits import spans_between_gaps
from stpatch_jax.errors import check_choice, check_range, check_size, listed, require

# A feature beyond this is an outlier: the usual ones are about as large as 1.
_CLIP = 6.0


@dataclass(frozen=True)
class MovementConfig(DataConfig):
    """Whether a stock rises or falls on a day, from the days before it.

    The file is an `.npz` of `features` [stock, day, channel], `label` [stock, day] (1 up, -1 down,
    0 left out) and `dates` [day]. An example is one stock and one labelled day: the features of
    the `lag` days before it [time, channel]. One with a missing feature is left out. Days are split
    by date, so the splits share no label.

    Attributes:
        lag: Number of days an example sees.
        view: "own", the stock's features of those days [lag, channel]; or "market", the same for
            all stocks of a day: the means over all stocks, of the last day and over all of the days
            [1, 2 * channel], features clipped at 6 before.
        train_from: First day of the training labels.
        validation_from: First day of the validation labels.
        test_from: First day of the test labels.
        missing: What marks a missing feature: a value below it, or NaN.

    References:
        Feng et al., "Enhancing stock movement prediction with adversarial training", IJCAI 2019,
        whose instances these are. Xu and Cohen, "Stock movement prediction from tweets and
        historical prices", ACL 2018, where labels and dates come from.
    """

    lag: int = 5
    view: Literal["own", "market"] = "own"
    train_from: str = "2014-01-02"
    validation_from: str = "2015-08-03"
    test_from: str = "2015-10-01"
    missing: float = -123320.0

    def __post_init__(self) -> None:
        check_size("data.lag", self.lag)
        check_range("data.missing", self.missing, -math.inf, math.inf, bounds="()")
        check_choice("data.view", self.view, ("own", "market"))
        dates = self.train_from, self.validation_from, self.test_from
        require(
            list(dates) == sorted(set(dates)),
            f"the splits must begin one after the other, got {', '.join(dates)}; give dates like "
            "2014-01-02 in order",
        )

    def load(self) -> LabelledFields:
        """Reads the file and lists its examples, day by day.

        Raises:
            InputError: The file cannot be read or lacks an array, or a split has no example.
        """
        path = Path(self.file())
        features, label, days = _movement_arrays(path)
        label = np.where(label < self.missing, 0, label)
        wrong = ~np.isin(label, (-1, 0, 1))
        stock, day = np.argwhere(wrong)[0] if wrong.any() else (0, 0)
        require(
            not wrong.any(),
            f"every label of {path} must be 1 (up), -1 (down) or 0 (left out), got "
            f"{label[stock, day]} for stock {stock} on {days[day]}; make it one of these",
        )
        unknown = self._unknown(features)
        begins = np.array([self.train_from, self.validation_from, self.test_from], days.dtype)
        first, *borders = map(int, np.searchsorted(days, begins))
        require(
            days[0] <= begins[0] and max(first, self.lag) < borders[0] < borders[1] < len(days),
            f"each split must have a day of {path}, which holds {days[0]} to {days[-1]}, got "
            f"splits that begin at {', '.join(map(str, begins))}; give dates in between as "
            "data.train_from, data.validation_from and data.test_from",
        )
        lag = self.lag
        spans = itertools.pairwise((max(first, lag), *borders, len(days)))
        splits = {
            name: _examples(features, label, unknown, _between_gaps(days, span, lag), lag)[0]
            for name, span in zip(("train", "validation", "test"), spans, strict=True)
        }
        if self.view == "market":
            market = _market(features, unknown, self.lag)
            splits = {
                name: replace(split, fields=market[split.groups, None])
                for name, split in splits.items()
            }
        told = (
            f"{name} {days[split.groups.min()]} to {days[split.groups.max()]}"
            for name, split in splits.items()
            if len(split.groups)
        )
        notes = [f"The labelled days are of {', '.join(told)}."]
        data = LabelledFields.of(splits, ("down", "up"), source=str(path), notes=notes)
        data.report.update(gaps_report(TimeAxis.of(days)))
        rows = FieldIdentity.of_rows((), days)
        identity = replace(data.identity, step=rows.step, calendar=rows.calendar)
        return replace(data, identity=identity)

    def restore(self, path: str, state: Mapping[str, Any]) -> UnlabelledFields:
        """For a trained run: what another file says of the days after each of its days.

        There is no item for a stock with a missing feature in its last `lag` days.

        Raises:
            InputError: The file cannot be read, lacks an array, has fewer than `lag` days, or
                another step.
        """
        file = Path(path)
        features, label, days = _movement_arrays(file)
        require(
            len(days) >= self.lag,
            f"{path} must have at least the {self.lag} days that an example sees, got "
            f"{len(days)}; give more days",
        )
        notes = FieldIdentity.of_state(state).match_times(days, name=path)
        unknown = self._unknown(features)
        coming = np.ones((len(label), len(days) + 1))
        ahead = _between_gaps(days, (self.lag, len(days) + 1), self.lag)
        items, stocks = _examples(features, coming, unknown, ahead, self.lag)
        fields = items.fields
        if self.view == "market":
            fields = _market(features, unknown, self.lag)[items.groups, None]
        named = "tickers" in array_headers(file)
        stock = load_array(file, "tickers") if named else np.arange(len(label))
        names = {"after": days[items.groups - 1], "stock": stock[stocks]}
        return UnlabelledFields.of(fields, names, state, source=path, notes=notes)

    def _unknown(self, features: np.ndarray) -> np.ndarray:
        """Where a stock lacks a feature on a day [stock, day]."""
        return ~(features.min(axis=-1) >= self.missing)


def _movement_arrays(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    arrays = array_headers(path)
    require(
        {"features", "label", "dates"} <= set(arrays),
        f"{path} must hold the arrays features, label and dates, got {listed(arrays)}; give a file "
        "with all three",
    )
    features, label, days = (load_array(path, name) for name in ("features", "label", "dates"))
    require(
        features.ndim == 3 and label.shape == features.shape[:2] and len(days) == label.shape[1],
        f"{path} must hold features [stock, day, channel], label [stock, day] and dates [day], got "
        f"the shapes {features.shape}, {label.shape} and {days.shape}; correct the file",
    )
    days = days.astype("M8[D]") if days.dtype.kind == "U" else days
    warn_of_gaps(TimeAxis.of(days, name=f"dates of {path}"), "split", name=str(path))
    return features, label, days


def _between_gaps(days: np.ndarray, span: tuple[int, int], lag: int) -> list[int]:
    """The days of a span whose `lag` days before them follow each other without a gap."""
    segments = TimeAxis.of(days, name="dates").segments
    spans = spans_between_gaps(range(*span), segments, past=lag, horizon=1)
    return [day for part in spans for day in part]


def _market(features: np.ndarray, unknown: np.ndarray, lag: int) -> np.ndarray:
    """The market before each day and after the last [day + 1, 2 * channel]; 0 in the first lag."""
    known = ~unknown[..., None]
    clipped = np.where(known, features, 0.0).clip(-_CLIP, _CLIP)
    mean = clipped.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    days = np.lib.stride_tricks.sliding_window_view(mean, lag, axis=0)
    view = np.concatenate([days[..., -1], days.mean(axis=-1)], axis=-1)
    return np.concatenate([np.zeros((lag, view.shape[-1])), view]).astype(features.dtype)


def _examples(
    features: np.ndarray, label: np.ndarray, unknown: np.ndarray, days: Sequence[int], lag: int
) -> tuple[LabelledSplit, np.ndarray]:
    """The examples of some days, all stocks of a day together; and the stock of each."""
    parts = []
    for day in days:
        complete = ~unknown[:, day - lag : day].any(axis=1)
        stocks = np.flatnonzero(complete & (label[:, day] != 0))
        up = (label[stocks, day] > 0).astype(np.int32)
        parts.append((features[stocks, day - lag : day], up, np.full(len(up), day), stocks))
    *arrays, every_stock = map(np.concatenate, zip(*parts, strict=True))
    return LabelledSplit(*arrays), every_stock
