"""Purchases of many customers, and how many each will make over the coming weeks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from stpatch_jax.data import (
    EVERYTHING,
    Affine,
    DataConfig,
    FieldIdentity,
    MadeExamples,
    Pipeline,
    Problem,
    Source,
    TableConfig,
    TimeAxis,
    Winsorizer,
)
from stpatch_jax.data.protocols import chosen_split
from stpatch_jax.data.readers import read_as_told, read_events
from stpatch_jax.data.readers.conventions import notes_of
from stpatch_jax.errors import check_range, check_seed, check_size, require, warn
from stpatch_jax.recipes.customers.history import DAYS, PurchaseHistory, purchase_features

# Of the cut in the middle: several cuts show the same customer at several ages.
_CUTS = (0.9, 1.0, 1.1)
# So many days tell whether they are weeks or months; amounts of one money differ by less.
_DATED, _ALIKE = 5, 20


@dataclass(frozen=True)
class CustomersConfig(TableConfig, DataConfig):
    """The purchases and the spending of each customer over the last weeks of a table of events.

    Purchases of a customer on one day count as one. The last `horizon` weeks are the test span; the
    weeks before it (the calibration) are all that is known. Nothing of the test span is trained on:
    training examples are cut inside the calibration, so that weeks known and weeks forecast are in
    the same proportion as at the real cut, `C^2 / (C + horizon)` weeks known of `C`, and a tenth
    earlier and later; where a tenth is longer than what follows, at the last three spans of that
    length. Features and targets are relative to the span forecast, so what is learned over few
    weeks holds over many. Customers are split at random into training and validation.

    The customer is the series of an event, its amount the one variable; see `read_events`.

    An amount that is missing or 0 is left out of a customer's mean, in which amounts above the
    quantile `clip` of those of the calibration count as much as it. An amount below 0 is no
    purchase but a refund, which takes back the money of one from its day on.

    Attributes:
        horizon: Number of weeks to forecast.
        validation_share: Share of the customers to validate on, in (0, 1).
        clip: Quantile of the amounts above which they are clipped, in (0, 1].
        seed: Decides which customers are validated on.

    References:
        Fader, Hardie and Lee, "'Counting your customers' the easy way: an alternative to the
        Pareto/NBD model", Marketing Science 24 (2005), whose split and statistics these are.
    """

    horizon: int = 39
    validation_share: float = 0.1
    clip: float = 0.995
    seed: int = 0

    def __post_init__(self) -> None:
        check_size("data.horizon", self.horizon)
        check_seed("data.seed", self.seed)
        check_range("data.validation_share", self.validation_share, 0, 1, bounds="()")
        check_range("data.clip", self.clip, 0, 1, bounds="(]")

    def load(self) -> "Customers":
        """Reads the events, cuts the examples and fits their scaling to the training ones.

        Raises:
            InputError: The table cannot be used, or is too short for the horizon.
        """
        return self.cut(self._events(self.file()))

    def _events(self, path: str) -> xr.DataArray:
        told = {**self.told(), "period": "1D", "allow_missing_amounts": True}
        return read_as_told(read_events, path, told, kind="events")

    def restore(self, path: str, state: Mapping[str, Any]) -> "Customers":
        """Reads the purchases of another table for a trained run.

        All of its weeks are known; forecast are the `horizon` weeks behind its last day, for
        everyone who bought.

        Raises:
            InputError: The table cannot be read, is of another currency than that of the run, or
                tells weeks or months where that told days, or the other way round.
        """
        events = self._events(path)
        days, horizon = events.sizes["time"], DAYS * self.horizon
        require(
            days >= DAYS,
            f"{path} must have a week of purchases at least, got {days} days; give a longer table",
        )
        _, notes = FieldIdentity.of_state(state).match(_dated(events), name=path)
        limit = state["amount_limit"]
        history = PurchaseHistory.of(events, known=days, clip=self.clip, limit=limit)
        notes = [
            *notes_of(events),
            *history.refunds.notes(),
            *notes,
            *_unlike(history.usual(days), state),
        ]
        coming = examples(history, days, days + horizon)
        span: dict[str, Any] = {"examples": len(coming.customer)}
        for name, ahead in (("first_target", 1), ("last_target", horizon)):
            span[name] = str(events.time.values[-1] + np.timedelta64(ahead, "D"))[:10]
        return Customers(
            history=history,
            known=days,
            horizon_days=horizon,
            customers=tuple(map(str, events.customer.values)),
            splits={EVERYTHING: coming},
            scaling=Pipeline.from_dict(state),
            report={"source": path, **history.report, "notes": notes, "splits": {EVERYTHING: span}},
            fitted=state,
        )

    def cut(self, events: xr.DataArray) -> "Customers":
        """Makes the problem of the counts and amounts [day, customer, channel] of each day.

        Raises:
            InputError: They are too few for the horizon.
        """
        days = events.sizes["time"]
        known = days - DAYS * self.horizon
        dates = [str(day)[:10] for day in events.time.values]
        spans = _spans(known, days)
        require(
            known > 0 and spans[0][0] >= DAYS,
            f"{self.path} must have weeks to learn from before the {self.horizon} that are "
            f"forecast, got {days / DAYS:.1f} in all, from {dates[0]} to {dates[-1]}; use a "
            "shorter data.horizon or a longer table",
        )
        history = PurchaseHistory.of(events, known=known, clip=self.clip)
        splits = {**self._trained(history, spans), "test": examples(history, known, days)}
        for name, part in splits.items():
            require(
                len(part.customer) > 0,
                f"the {name} split of {self.path} must have a customer, got none; use more "
                "customers or another data.validation_share",
            )
        # What lies outside is brought to the border: later cuts have older customers.
        features = splits["train"].features
        limits = Winsorizer(features.min(axis=0), features.max(axis=0))
        first = {"train": spans[0][0], "validation": spans[0][0], "test": known}
        report = {
            "source": self.path,
            **history.report,
            "notes": [*notes_of(events), *history.refunds.notes()],
            "training_cuts": [dates[cut] for cut, _ in spans],
            "splits": {
                name: {
                    "examples": len(splits[name].customer),
                    "first_target": dates[at],
                    "last_target": dates[-1 if name == "test" else known - 1],
                }
                for name, at in first.items()
            },
        }
        return Customers(
            history=history,
            known=known,
            horizon_days=days - known,
            customers=tuple(map(str, events.customer.values)),
            splits=splits,
            scaling=Pipeline(("winsorize", "standard"), (limits, Affine.standard(features))),
            report=report,
            fitted={
                "identity": FieldIdentity.of(_dated(events[:known])).to_dict(),
                "amount_limit": history.limit,
                "amount_usual": history.usual(known),
            },
        )

    def _trained(
        self, history: PurchaseHistory, spans: Sequence[tuple[int, int]]
    ) -> dict[str, "Examples"]:
        """The examples of training and validation, of other customers at the same cuts."""
        held = np.random.default_rng(self.seed).random(history.customers) < self.validation_share
        cuts = [examples(history, *span) for span in spans]
        return {
            name: Examples.joined([cut.of(members[cut.customer]) for cut in cuts])
            for name, members in (("train", ~held), ("validation", held))
        }


def _dated(events: xr.DataArray) -> xr.DataArray:
    """Amounts [time, channel] at every day that the table could name: one a month, week, or each.

    Of a table with few days nobody can tell, so that there is one time alone.
    """
    amounts = events.isel(customer=0, drop=True).sel(channel=["amount"])
    days = np.flatnonzero((events.sel(channel="count") > 0).any("customer"))
    if len(days) < _DATED:
        return amounts[:1]
    step = TimeAxis.of(events.time.values[days]).step
    if step and step.unit in ("month", "year"):
        return amounts[days]
    return amounts[days[0] :: int(np.gcd.reduce(np.diff(days)))]


def _unlike(other: float, state: Mapping[str, Any]) -> Iterator[str]:
    """Warns of amounts of another size, as those in another money would have."""
    own = float(state["amount_usual"])
    if own > 0 and other > 0 and not 1 / _ALIKE < other / own < _ALIKE:
        note = f"The median amount is {other:.4g} here and {own:.4g} in the run"
        warn(f"{note}: is it the same money?", stacklevel=3)
        yield f"{note}."


def _spans(known: int, days: int) -> list[tuple[int, int]]:
    """First days of what is not known and behind what is forecast, of the training examples."""
    middle = known**2 / days
    cuts = [round(middle * share) for share in _CUTS]
    if cuts[-1] <= known - DAYS:
        return [(cut, known) for cut in cuts]
    span = max(round(known - middle), 1)
    return [(known - n * span, known - (n - 1) * span) for n in (3, 2, 1)]


@dataclass(frozen=True, eq=False)
class Examples:
    """Customers at one or several cuts.

    Attributes:
        customer: Number of the customer [example].
        features: What is known at the cut [example, channel].
        before: Purchases after the first one, and spending at them, so far [example, 2].
        real: Purchases and spending over the weeks to forecast [example, 2].
        scale: What purchases and spending are divided by [example, 2]: what a customer would do
            who went on at the rate so far.
        span: Days to forecast over days known [example].
    """

    customer: np.ndarray
    features: np.ndarray
    before: np.ndarray
    real: np.ndarray
    scale: np.ndarray
    span: np.ndarray

    def of(self, chosen: np.ndarray) -> "Examples":
        """Some of them, by numbers or a mask [example]."""
        return Examples(**{name: values[chosen] for name, values in vars(self).items()})

    @staticmethod
    def joined(parts: "list[Examples]") -> "Examples":
        """All examples of several."""
        names = vars(parts[0])
        return Examples(**{n: np.concatenate([vars(part)[n] for part in parts]) for n in names})


def examples(history: PurchaseHistory, cut: int, stop: int) -> Examples:
    """All customers who bought before a cut, the first day that is not known.

    Targets are what they did from it to before the day `stop`.
    """
    before, real = history.summary(0, cut), history.summary(cut, stop)
    customer = np.flatnonzero(before.count > 0)
    repeats = np.maximum(before.count - 1, 0)
    features, scale = purchase_features(before, customer, cut, horizon=stop - cut)
    return Examples(
        customer,
        features,
        np.stack([repeats, before.paid * repeats / (repeats + 1)], axis=-1)[customer],
        np.stack([real.count, real.paid], axis=-1)[customer],
        scale,
        np.full(len(customer), (stop - cut) / cut),
    )


@dataclass(frozen=True, eq=False)
class Customers(Problem):
    """Everything of one problem of purchases; made by `CustomersConfig.load`.

    Attributes:
        known: Number of days of the calibration.
        horizon_days: Number of days of the test span.
        splits: The examples of `train`, `validation` and `test`.
        scaling: How features are brought to mean 0 and deviation 1, inside of the range of the
            training examples.
        report: What was read, clipped and left out, and the dates of the splits; JSON-able.
        fitted: What else another table needs, a part of `state`.
    """

    history: PurchaseHistory
    known: int
    horizon_days: int
    customers: tuple[str, ...]
    splits: Mapping[str, Examples]
    scaling: Pipeline
    report: dict[str, Any]
    fitted: Mapping[str, Any]

    def source(self, split: str) -> Source:
        """The examples of a split, in order of cuts and customers.

        Each is a dict of `context` [1, channel] scaled features, `target` [1, 2] purchases and
        spending over their scale, `target_mask` (same shape) True, `persistence` [1, 2] as many as
        before, over the scale, `weights` [1, 2] of the targets, and `index`, an int64 scalar, the
        number of the example in `splits`. Floats are float32.
        """
        examples = chosen_split(self.splits, split)
        # Counts vary as their mean does, so ratios to it vary as its inverse.
        weights = examples.scale[:, :1] / examples.scale[:, 0].mean()
        arrays = {
            "context": self.scaling.transform(examples.features),
            "target": examples.real / examples.scale,
            "persistence": examples.before * examples.span[:, None] / examples.scale,
            "weights": np.repeat(weights, 2, axis=1),
        }
        rows = {name: values[:, None].astype(np.float32) for name, values in arrays.items()}
        rows["target_mask"] = np.ones((len(weights), 1, 2), bool)
        rows["index"] = np.arange(len(weights))
        return MadeExamples(lambda i: {name: x[i] for name, x in rows.items()}, len(weights))

    def names(self, split: str) -> dict[str, list[str]]:
        """The customers of a split."""
        return {"customer": [self.customers[at] for at in self.splits[split].customer]}

    def content(self, split: str) -> Mapping[str, Any]:
        """The purchases and refunds of the customers of a split, of the test split to the end."""
        history, back = self.history, self.history.refunds
        stop = self.known + (self.horizon_days if split == "test" else 0)
        members = np.unique(chosen_split(self.splits, split).customer)
        bought = np.isin(history.customer, members) & (history.day < stop)
        returned = bought[back.purchase] & (back.day < stop)
        # Numbers among these, which the purchases of others do not change.
        customer = np.searchsorted(members, history.customer[bought])
        purchase = (np.cumsum(bought) - 1)[back.purchase[returned]]
        purchases = [customer, history.day[bought], history.paid[bought]]
        refunds = [purchase, back.day[returned], back.money[returned]]
        names = [self.customers[at] for at in members]
        return {"purchases": purchases, "refunds": refunds, "customers": names}

    def state(self) -> dict[str, Any]:
        """Mean, deviation and range of each training feature, and what a table must be like."""
        return {**self.scaling.to_dict(), **self.fitted}
