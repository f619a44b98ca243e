"""Purchases: against pandas, and without a look at the weeks that are forecast."""

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
    amount=arrays(np.int64, 25, elements=st.integers(-1, 9)),
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
    frame.loc[frame.index[70:75], "amount"] = np.nan
    frame.loc[frame.index[75], "amount"] = 1e6
    save(frame, tmp_path)
    found = CustomersConfig(path, horizon=8, clip=0.9).load()
    assert found.report["amounts_missing"] == 5
    assert found.report["amount_limit"] < 100
    assert np.isfinite(found.splits["train"].features).all()
    assert found.splits["test"].scale.max() < 1e4


def test_a_short_table_is_refused(tmp_path):
    path, _ = table(tmp_path)
    with pytest.raises(InputError, match=r"weeks to learn from before the 39"):
        CustomersConfig(path).load()
    with pytest.raises(InputError, match=r"data\.horizon must be a whole number >= 1"):
        CustomersConfig(path, horizon=0)
    with pytest.raises(InputError, match=r"data\.clip must be in \(0, 1\]"):
        CustomersConfig(path, clip=0.0)
    with pytest.raises(InputError, match="split must be 'train', 'validation' or 'test'"):
        CustomersConfig(path, horizon=8).load().source("all")
