"""Purchases: against pandas, and without a look at the weeks that are forecast."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stpatch_jax.data.readers import read_events
from stpatch_jax.errors import InputError
from stpatch_jax.recipes.customers.data import CustomersConfig
from stpatch_jax.recipes.customers.history import PurchaseHistory, purchase_features

DAY_ONE = pd.Timestamp("2020-01-01")


def table(folder, *, days=140, customers=60, seed=0):
    random = np.random.default_rng(seed)
    rows = [(f"c{i:03d}", random.integers(0, 20), 10.0) for i in range(customers)]
    rows += [
        (f"c{i:03d}", day, round(float(random.gamma(4, 5)), 2))
        for i in range(customers)
        for day in random.integers(20, days, random.poisson(4))
    ]
    rows += [("c000", days - 1, 5.0)]
    frame = pd.DataFrame(rows, columns=["customer", "day", "amount"])
    frame["date"] = (DAY_ONE + pd.to_timedelta(frame.day, unit="D")).dt.strftime("%Y-%m-%d")
    return save(frame, folder), frame


def save(frame, folder):
    path = folder / "events.csv"
    frame[["customer", "date", "amount"]].to_csv(path, index=False)
    return str(path)


@settings(max_examples=8)
@given(
    day=arrays(np.int64, 25, elements=st.integers(0, 30)),
    customer=arrays(np.int64, 25, elements=st.integers(0, 3)),
    amount=arrays(np.int64, 25, elements=st.integers(0, 9)),
    start=st.integers(0, 10),
    stop=st.integers(11, 30),
)
def test_summaries_are_those_of_pandas(tmp_path_factory, day, customer, amount, start, stop):
    dates = [str((DAY_ONE + pd.Timedelta(days=at)).date()) for at in (0, *day.tolist())]
    frame = pd.DataFrame(
        {"customer": np.append(0, customer), "date": dates, "amount": np.append(1, amount)}
    )
    frame["day"] = np.append(0, day)
    frame["amount"] = frame.amount.astype(float)
    frame.loc[frame.index[1:4], "amount"] = np.nan
    path = save(frame, tmp_path_factory.mktemp("events"))
    events = read_events(path, period="1D", allow_missing_amounts=True)
    history = PurchaseHistory.of(events, known=30, clip=1.0)
    found = history.summary(start, stop)
    sums = frame.groupby(["customer", "day"], as_index=False).amount.agg(
        lambda of: of.sum(skipna=False)
    )
    sums = sums[(sums.day >= start) & (sums.day < stop)]
    sums["paid"] = sums.amount.where(sums.amount > 0)
    by = sums.groupby("customer")
    names = sorted(frame.customer.unique())
    assert [str(name) for name in names] == events.customer.values.tolist()
    for values, wanted in (
        (found.count, by.day.count().reindex(names, fill_value=0)),
        (found.paid, by.paid.sum().reindex(names, fill_value=0)),
        (found.priced, by.paid.count().reindex(names, fill_value=0)),
        (found.first, by.day.min().reindex(names, fill_value=stop)),
        (found.last, by.day.max().reindex(names, fill_value=start)),
    ):
        np.testing.assert_allclose(values, wanted)
    np.testing.assert_array_equal(found.paid, found.amount)


def history_of(rows, *, known=30):
    """The purchases in rows (customer, day, amount)."""
    frame = pd.DataFrame(rows, columns=["customer", "day", "amount"])
    with tempfile.TemporaryDirectory() as folder:
        frame["date"] = (DAY_ONE + pd.to_timedelta(frame.day, unit="D")).dt.strftime("%Y-%m-%d")
        events = read_events(save(frame, Path(folder)), period="1D", allow_missing_amounts=True)
    return PurchaseHistory.of(events, known=known, clip=1.0)


ROWS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 20), st.integers(1, 4)), max_size=9)


@settings(max_examples=15)
@given(ROWS, ROWS, st.integers(1, 20), st.integers(21, 24))
def test_refunds_are_no_purchases_and_take_back_what_was_paid(bought, returned, middle, stop):
    every = [("a", 0, 1.0), ("b", 22, 1.0), *((of, day, 2.0 * paid) for of, day, paid in bought)]
    back = [(of, day, -2.0 * paid) for of, day, paid in returned]
    plain, found = history_of(every), history_of([*every, *back])
    first = min((day for _, day, _ in back), default=24)
    for start, end in ((0, middle), (0, stop), (middle, stop)):
        of, without = found.summary(start, end), plain.summary(start, end)
        np.testing.assert_array_equal(of.count, without.count)
        for name in ("first", "last", "late"):
            np.testing.assert_array_equal(getattr(of, name), getattr(without, name))
        assert (of.paid >= 0).all()
        assert (of.paid <= without.paid).all()
        # What is paid back later is not known yet.
        if end <= first:
            np.testing.assert_array_equal(of.paid, without.paid)
    for at, name in enumerate("ab"):
        paid_back = -sum(paid for of, _, paid in back if of == name)
        lost = (plain.summary(0, stop).paid - found.summary(0, stop).paid)[at]
        assert lost <= paid_back
        if not found.report.get("refunds_unmatched"):
            assert lost == pytest.approx(paid_back)


def test_a_refund_is_of_the_latest_purchase_of_its_amount():
    rows = [("a", 0, 20.0), ("a", 5, 30.0), ("a", 9, 20.0), ("a", 14, 40.0)]
    assert history_of([*rows, ("a", 16, -20.0)]).summary(0, 30).paid == [90]
    # Of several, of a part of one, and of more than was ever paid.
    for back, left in ((-20.0, [20, 30, 0, 40]), (-5, [20, 30, 20, 35]), (-45, [20, 30, 15, 0])):
        found = history_of([*rows, ("a", 16, back)])
        kept = [found.summary(day, 30).paid[0] for day in (0, 1, 6, 10, 15)]
        np.testing.assert_allclose(-np.diff(kept), left)
        assert found.report["refunds_unmatched"] == 0
        assert found.summary(0, 16).paid == [110]
        # Money that was paid back is not an amount that was paid.
        assert found.summary(0, 30).priced == [sum(money > 0 for money in left)]
    found = history_of([*rows, ("a", 16, -200.0)])
    assert (found.summary(0, 30).paid, found.summary(0, 30).count) == ([0], [4])
    assert found.report["refunds_unmatched"] == 1
    # What was bought before the table begins.
    found = history_of([("b", 0, 1.0), ("a", 1, -20.0), ("a", 3, 20.0)])
    assert found.summary(0, 30).paid.tolist() == [20, 1]
    assert found.report["refunds"] == found.report["refunds_unmatched"] == 1


def test_features_and_rate_by_hand(tmp_path):
    rows = [("a", 0, 10.0), ("a", 10, 30.0), ("a", 10, 10.0), ("b", 5, 20.0), ("b", 39, 1.0)]
    frame = pd.DataFrame(rows, columns=["customer", "day", "amount"])
    frame["date"] = (DAY_ONE + pd.to_timedelta(frame.day, unit="D")).dt.strftime("%Y-%m-%d")
    events = read_events(save(frame, tmp_path), period="1D")
    history = PurchaseHistory.of(events, known=21, clip=1.0)
    features, scale = purchase_features(history.summary(0, 21), np.array([0, 1]), 21, horizon=20)
    # a bought on days 0 and 10 (twice on one day is once), b on day 5; each added time is 2 days.
    silence = np.log([22 / 12, 17 / 2])
    overall = 70 / 3
    mean = np.array([(50 + overall) / 3, (20 + overall) / 2])
    expected = [np.log([2, 1]), silence, [silence[0], 0], np.log([20 / 22, 20 / 17])]
    np.testing.assert_allclose(features[:, :4], np.transpose(expected))
    np.testing.assert_allclose(features[:, 4], np.log(mean / overall))
    np.testing.assert_allclose(features[:, 5], [0, 0])
    np.testing.assert_allclose(scale[:, 0], [20 * 1.5 / 22, 20 * 0.5 / 17])
    np.testing.assert_allclose(scale[:, 1], scale[:, 0] * mean)


def test_the_weeks_to_forecast_change_nothing_that_is_trained_on(tmp_path):
    path, frame = table(tmp_path)
    config = CustomersConfig(path, horizon=8)
    before = config.load()
    known = 140 - 56
    last = frame.day >= known
    frame.loc[last, "amount"] *= 7
    frame.loc[last & (frame.day < 139), "customer"] = "c001"
    save(frame, tmp_path)
    after = config.load()
    for split in ("train", "validation"):
        for name, values in vars(before.splits[split]).items():
            np.testing.assert_array_equal(vars(after.splits[split])[name], values)
    assert after.digest("train") == before.digest("train")
    test = before.splits["test"]
    np.testing.assert_array_equal(after.splits["test"].features, test.features)
    assert (after.splits["test"].real != test.real).any()


def test_splits_are_of_customers_and_spans(tmp_path):
    path, _ = table(tmp_path)
    found = CustomersConfig(path, horizon=8, validation_share=0.3).load()
    train, held = (set(found.splits[name].customer) for name in ("train", "validation"))
    assert train
    assert held
    assert not train & held
    assert found.known == 84
    # 84^2 / 140 days known at the cut in the middle.
    assert found.report["training_cuts"] == ["2020-02-15", "2020-02-20", "2020-02-25"]
    assert found.report["splits"]["test"]["first_target"] == "2020-03-25"
    example = found.source("test")[0]
    assert example["context"].shape == (1, 6)
    test = found.splits["test"]
    np.testing.assert_allclose(example["target"][0] * test.scale[0], test.real[0], rtol=1e-5)
    limits: Any = found.scaling.steps[0]
    low, high = limits.lower, limits.upper
    beyond = found.scaling.transform(np.stack([low - 9, high + 9]))
    np.testing.assert_allclose(beyond, found.scaling.transform(np.stack([low, high])))


def test_missing_and_wild_amounts_do_not_move_a_mean(tmp_path):
    path, frame = table(tmp_path)
    save(pd.concat([frame, frame[:1].assign(amount=-1e3)]), tmp_path)
    notes = CustomersConfig(path, horizon=8).load().report["notes"]
    assert notes[-2:] == [
        "1 amounts are below 0: these are refunds, and no events.",
        "1 refunds are of more than was paid before them; the rest is left out.",
    ]
    frame.loc[frame.index[70:75], "amount"] = np.nan
    frame.loc[frame.index[75], "amount"] = 1e6
    save(frame, tmp_path)
    found = CustomersConfig(path, horizon=8, clip=0.9).load()
    assert found.report["amounts_missing"] == 5
    assert found.report["amount_limit"] < 100
    assert np.isfinite(found.splits["train"].features).all()
    assert found.splits["test"].scale.max() < 1e4


@pytest.mark.parametrize("horizon", [1, 2, 4, 5, 6, 13, 26])
def test_a_year_is_enough_for_any_horizon_of_less_than_half_of_it(tmp_path, horizon):
    path, _ = table(tmp_path, days=371)
    found = CustomersConfig(path, horizon=horizon, validation_share=0.3).load()
    known = 371 - 7 * horizon
    cuts = [(pd.Timestamp(cut) - DAY_ONE).days for cut in found.report["training_cuts"]]
    assert cuts == sorted(cuts)
    assert cuts[0] >= 7
    assert cuts[-1] < known
    # Spans known and forecast are in about the same proportion as at the real cut.
    proportions = found.splits["train"].span
    real = 7 * horizon / known
    assert np.isfinite(found.splits["train"].features).all()
    assert 0.5 * real < proportions.mean() < 1.5 * real
    # Nothing that is trained on is of the weeks to forecast.
    assert found.report["splits"]["train"]["last_target"] == str(
        (DAY_ONE + pd.Timedelta(days=known - 1)).date()
    )


def test_a_short_table_is_refused(tmp_path):
    path, _ = table(tmp_path)
    told = "before the 39 that are forecast, got 20.0 in all, from 2020-01-01 to 2020-05-19; use a"
    with pytest.raises(InputError, match=told):
        CustomersConfig(path).load()
    with pytest.raises(InputError, match=r"data\.horizon must be a whole number >= 1"):
        CustomersConfig(path, horizon=0)
    with pytest.raises(InputError, match=r"data\.clip must be in \(0, 1\]"):
        CustomersConfig(path, clip=0.0)
    with pytest.raises(InputError, match="split must be 'train', 'validation' or 'test'"):
        CustomersConfig(path, horizon=8).load().source("all")


def test_another_table_is_what_the_run_would_have_seen(tmp_path):
    """All of a table that ends where the test weeks begin are the weeks known before them."""
    path, frame = table(tmp_path)
    config = CustomersConfig(path, horizon=8)
    frame = pd.concat([frame, frame[:1].assign(day=83)])
    frame["date"] = (DAY_ONE + pd.to_timedelta(frame.day, unit="D")).dt.strftime("%Y-%m-%d")
    save(frame, tmp_path)
    data = config.load()
    (tmp_path / "new").mkdir()
    found = config.restore(save(frame[frame.day < 84], tmp_path / "new"), data.state())
    for name in ("features", "scale", "before", "span"):
        np.testing.assert_array_equal(
            vars(found.splits["all"])[name], vars(data.splits["test"])[name]
        )
    theirs, ours = found.source("all")[3], data.source("test")[3]
    np.testing.assert_array_equal(theirs["context"], ours["context"])
    assert found.names("all") == data.names("test")
    span = {"first_target": "2020-03-25", "last_target": "2020-05-19"}
    assert found.report["splits"]["all"] == {
        "examples": len(found.names("all")["customer"]),
        **span,
    }
    assert found.report["notes"] == []
    assert found.state().keys() == data.state().keys()


def other(frame, folder, **renamed):
    frame = frame[["customer", "date", "amount"]].rename(columns=renamed)
    frame.to_csv(folder / "other.csv", index=False)
    return str(folder / "other.csv")


def test_another_table_is_compared_with_that_of_the_run(tmp_path):
    path, frame = table(tmp_path)
    for own, new, told in (
        ("amount_eur", "amount_usd", r"must have amount in EUR, as the run, got USD, which is not"),
        ("amount_eur", "amount cents", r"must have amount in EUR, as the run, got cent, which is"),
    ):
        config = CustomersConfig(other(frame, tmp_path, amount=own), horizon=8)
        state = config.load().state()
        with pytest.raises(InputError, match=told):
            config.restore(other(frame, tmp_path, amount=new), state)
        told = "amount tells no unit here; it is taken to be in EUR, as the run."
        with pytest.warns(UserWarning, match=told):
            found = config.restore(path, state)
        assert found.report["notes"] == [told]
    config = CustomersConfig(path, horizon=8)
    state = config.load().state()
    told = "The median amount is .* here and .* in the run"
    with pytest.warns(UserWarning, match=told):
        found = config.restore(other(frame.assign(amount=frame.amount * 100), tmp_path), state)
    assert found.report["notes"][0].startswith("The median amount is ")
    with pytest.raises(InputError, match="a column of the amount, got none and the columns cust"):
        config.restore(other(frame, tmp_path, amount="total"), state)


@pytest.mark.parametrize(("freq", "told"), [("W-SUN", "7 days"), ("ME", "1 month"), ("D", "")])
def test_tables_of_weeks_and_months_are_not_of_days(freq, told, tmp_path):
    path, frame = table(tmp_path, days=400)
    config = CustomersConfig(path, horizon=8)
    data = config.load()
    dates = pd.PeriodIndex(pd.to_datetime(frame.date), freq=freq.removesuffix("E"))
    summed = other(frame.assign(date=dates.end_time.strftime("%Y-%m-%d")), tmp_path)
    if not told:
        assert config.restore(summed, data.state()).report["notes"] == []
        return
    with pytest.raises(InputError, match=rf"rows 1 day apart, as the run, got rows {told} apart"):
        config.restore(summed, data.state())
    # A run of weeks reads weeks.
    config = CustomersConfig(summed, horizon=8)
    config.restore(summed, config.load().state())


def test_a_table_of_few_days_is_read(tmp_path):
    path, frame = table(tmp_path)
    config = CustomersConfig(path, horizon=8)
    few = other(frame[frame.day.isin([0, 6, 12])], tmp_path)
    assert len(config.restore(few, config.load().state()).names("all")["customer"]) > 3
    with pytest.raises(InputError, match="a week of purchases at least, got 1 days"):
        config.restore(other(frame[frame.day == 0], tmp_path), config.load().state())
