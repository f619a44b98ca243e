"""What is known of a customer's purchases on a day: how often, how lately, for how much."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

DAYS = 7
# Share of the span to forecast by which the time known is lengthened in rates, and purchases that
# are added: what is known of a customer who came yesterday weighs little.
_PRIOR_TIME = 0.1
_PRIOR_PURCHASES = 0.5
# Sums of money are equal up to rounding.
_CENT = 0.005


@dataclass(frozen=True, eq=False)
class PurchaseSummary:
    """The purchases of every customer over some days, counted from the first of the table.

    Attributes:
        count: Number of days with a purchase [customer].
        paid: Money spent [customer].
        amount: The same of clipped amounts [customer].
        first: First day with a purchase [customer].
        last: Last day with one [customer].
        late: Number of purchases in the later half of the time since the first one [customer].
        priced: Number of purchases whose amount is known [customer].
    """

    count: np.ndarray
    paid: np.ndarray
    amount: np.ndarray
    first: np.ndarray
    last: np.ndarray
    late: np.ndarray
    priced: np.ndarray


@dataclass(frozen=True, eq=False)
class Refunds:
    """Money that was paid back for purchases, which stay purchases.

    Attributes:
        purchase: Number of the purchase [refund].
        day: Number of the day of the refund [refund].
        money: What was paid back of it [refund].
        report: How many days of a customer have refunds, and how many more than was paid.
    """

    purchase: np.ndarray
    day: np.ndarray
    money: np.ndarray
    report: dict[str, int]

    @classmethod
    def of(
        cls, events: xr.DataArray, day: np.ndarray, customer: np.ndarray, paid: np.ndarray
    ) -> "Refunds":
        """Finds the purchases [purchase] that the channel refund of events pays back.

        A refund is of the latest purchase of its amount, else of the latest purchases so far.
        """
        if "refund" not in events.channel:
            none = np.zeros(0, np.int64)
            return cls(none, none, np.zeros(0), {})
        back = events.sel(channel="refund").values
        kept = np.nan_to_num(paid)
        own = {of: np.flatnonzero(customer == of) for of in np.unique(np.nonzero(back)[1])}
        found, unmatched = [], 0
        for on, of in zip(*np.nonzero(back), strict=True):
            left = back[on, of]
            before = own[of][day[own[of]] <= on][::-1]
            equal = before[np.abs(kept[before] - left) < _CENT]
            for purchase in equal[:1] if len(equal) else before:
                money = min(left, kept[purchase])
                found.append((purchase, on, money))
                kept[purchase] -= money
                left -= money
                if left < _CENT:
                    break
            unmatched += bool(left >= _CENT)
        purchase, days, money = np.asarray(found).reshape(-1, 3).T
        report = {"refunds": int((back > 0).sum()), "refunds_unmatched": unmatched}
        return cls(purchase.astype(np.int64), days.astype(np.int64), money, report)

    def notes(self) -> list[str]:
        """What is told of money that nobody paid."""
        unmatched = self.report.get("refunds_unmatched")
        told = "refunds are of more than was paid before them; the rest is left out."
        return [f"{unmatched:,} {told}"] if unmatched else []

    def kept(self, paid: np.ndarray, stop: int) -> np.ndarray:
        """What was paid [purchase] and not paid back before a day; NaN where nothing is left."""
        if not len(self.day):
            return paid
        known = self.day < stop
        kept = paid.copy()
        np.subtract.at(kept, self.purchase[known], self.money[known])
        return np.where(kept < _CENT, np.nan, kept)


@dataclass(frozen=True, eq=False)
class PurchaseHistory:
    """Every day on which a customer bought, in order of time.

    Attributes:
        day: Number of the day [purchase].
        customer: Number of the customer [purchase].
        paid: Money spent, NaN where it is not known [purchase].
        refunds: What was paid back of it.
        limit: What amounts are clipped at where a customer's mean is taken.
        report: What was read, clipped and left out; JSON-able.
    """

    day: np.ndarray
    customer: np.ndarray
    paid: np.ndarray
    refunds: "Refunds"
    limit: float
    customers: int
    report: dict[str, Any]

    @classmethod
    def of(
        cls, events: xr.DataArray, *, known: int, clip: float, limit: float | None = None
    ) -> "PurchaseHistory":
        """The purchases in counts and amounts [day, customer, channel], see `read_events`.

        Amounts are clipped above the limit, by default the quantile `clip` of those of the first
        `known` days.
        """
        count, amounts = (events.sel(channel=name).values for name in ("count", "amount"))
        day, customer = np.nonzero(count)
        paid = amounts[day, customer]
        paid = np.where(paid > 0, paid, np.nan)
        before = paid[(day < known) & np.isfinite(paid)]
        if limit is None:
            limit = float(np.quantile(before, clip)) if before.size else 0.0
        refunds = Refunds.of(events, day, customer, paid)
        report = {
            "events": int(count.sum()),
            "purchases": len(day),
            "customers": events.sizes["customer"],
            "amounts_missing": int(np.isnan(paid).sum()),
            "amounts_clipped": int((paid > limit).sum()),
            "amount_limit": limit,
            **refunds.report,
        }
        return cls(day, customer, paid, refunds, limit, events.sizes["customer"], report)

    def usual(self, stop: int) -> float:
        """The median of the amounts that are known before a day, 0 where none is."""
        known = self.paid[(self.day < stop) & np.isfinite(self.paid)]
        return float(np.median(known)) if known.size else 0.0

    def summary(self, start: int, stop: int) -> PurchaseSummary:
        """The purchases from the day `start` to before the day `stop`, as known on that day."""
        chosen = (self.day >= start) & (self.day < stop)
        day, customer = self.day[chosen], self.customer[chosen]
        paid = self.refunds.kept(self.paid, stop)[chosen]
        first, last = np.full(self.customers, stop), np.full(self.customers, start)
        np.minimum.at(first, customer, day)
        np.maximum.at(last, customer, day)
        late = day > (first[customer] + stop - 1) / 2

        def total(values: np.ndarray | None) -> np.ndarray:
            return np.bincount(customer, values, self.customers)

        return PurchaseSummary(
            count=total(None),
            paid=total(np.nan_to_num(paid)),
            amount=total(np.nan_to_num(paid.clip(max=self.limit))),
            first=first,
            last=last,
            late=total(late.astype(float)),
            priced=total(np.isfinite(paid).astype(float)),
        )


def purchase_features(
    known: PurchaseSummary, customer: np.ndarray, cut: int, *, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """The features of customers at a cut, and what they would do at the rate so far.

    With x purchases after the first, the last of them t_x days after it, T days since the first,
    and h days to forecast, times lengthened by a = h / 10: log(1 + x), log((a + T) / (a + t_x)) and
    x times it, log(h / (a + T)), the logarithm of the mean spending over that of all, and the share
    of purchases in the later half of T. All but the first are free of the unit of time.

    Returns:
        Features [example, 6], and `h (x + 1/2) / (a + T)` purchases and the spending of as many at
        the customer's mean amount (drawn to that of all by one purchase of it) [example, 2].

    References:
        Fader, Hardie and Lee, Marketing Science 24 (2005): x, t_x and T tell all there is to know
        if customers buy at random and leave at random.
    """
    added = _PRIOR_TIME * horizon
    x = known.count[customer] - 1.0
    since = cut - 1.0 - known.first[customer]
    lately = known.last[customer] - known.first[customer]
    overall = known.amount.sum() / max(known.priced.sum(), 1.0) or 1.0
    mean = (known.amount + overall)[customer] / (known.priced + 1)[customer]
    silence = np.log((added + since) / (added + lately))
    features = [
        np.log1p(x),
        silence,
        x * silence,
        np.log(horizon / (added + since)),
        np.log(mean / overall),
        known.late[customer] / (x + 1),
    ]
    purchases = horizon * (x + _PRIOR_PURCHASES) / (added + since)
    return np.stack(features, axis=-1), np.stack([purchases, purchases * mean], axis=-1)
