"""The orders of a shop, one row each: who, when, how much."""

import numpy as np
import pandas as pd
import pytest
from travelled import STEPS, command, reported

pytestmark = pytest.mark.slow


def orders(path, customers, seed):
    """Customers that come at rates of their own, from a first day of their own."""
    random = np.random.default_rng(seed)
    rows = []
    for customer in range(customers):
        day, wait = random.integers(0, 60), random.exponential(30) + 3
        while day < 560:
            rows.append((f"C{customer:04}", day, round(random.gamma(2, 10), 2)))
            day += 1 + int(random.exponential(wait))
    table = pd.DataFrame(rows, columns=["customer", "day", "amount"])
    table["date"] = pd.Timestamp("2022-01-01") + pd.to_timedelta(table.pop("day"), unit="D")
    table.sort_values("date").to_csv(path, index=False)
    return sorted({row[0] for row in rows})


def test_what_customers_will_buy_is_told_by_their_orders(tmp_path):
    orders(tmp_path / "orders.csv", 150, seed=0)
    command(
        *("train", "customers", "--data.path", tmp_path / "orders.csv", "--data.horizon", 13),
        *(*STEPS, "--workdir", tmp_path / "run"),
    )
    reported(tmp_path / "run")
    names = orders(tmp_path / "others.csv", 40, seed=1)
    command("predict", tmp_path / "run", tmp_path / "others.csv", tmp_path / "coming.csv")
    coming = pd.read_csv(tmp_path / "coming.csv")
    assert sorted(coming["customer"]) == names
    assert (coming.select_dtypes("number") >= 0).all(axis=None)
