"""A broker's export: semicolons, decimal commas, days first, newest first, days without a quote."""

import numpy as np
import pandas as pd
import pytest
from travelled import STEPS, command, reported

pytestmark = pytest.mark.slow


def export(path, days, seed):
    """Three shares, of which one has no quote on some days; holidays are left out."""
    random = np.random.default_rng(seed)
    prices = 100 * np.exp(random.normal(0, 0.01, (len(days), 3)).cumsum(axis=0))
    table = pd.DataFrame(prices.round(2), columns=["Alpha", "Beta", "Gamma"])
    table.loc[random.choice(len(days), 5, replace=False), "Beta"] = np.nan
    table.insert(0, "Datum", days.strftime("%d.%m.%Y"))
    table[::-1].to_csv(path, sep=";", decimal=",", index=False)


def test_prices_are_forecast_from_a_broker_s_file(tmp_path):
    days = pd.bdate_range("2023-01-02", periods=300).drop(["2023-12-25", "2023-12-26"])
    export(tmp_path / "prices.csv", days, seed=0)
    command(
        *("train", "stocks", "--data.path", tmp_path / "prices.csv", *STEPS),
        *("--workdir", tmp_path / "run"),
    )
    report = reported(tmp_path / "run")
    assert set(report["test"]["series"]) == {"Alpha", "Beta", "Gamma"}
    assert report["data"]["splits"]["train"]["first_target"].startswith("2023-02")

    command("predict", tmp_path / "run", tmp_path / "prices.csv", tmp_path / "next.csv")
    coming = pd.read_csv(tmp_path / "next.csv", parse_dates=["valid_time"])
    # As wide as the broker's table.
    assert list(coming)[3:] == ["Alpha", "Beta", "Gamma"]
    assert list(coming["valid_time"]) == list(pd.bdate_range(days[-1], periods=7)[1:])
    assert np.isfinite(coming[["Alpha", "Beta", "Gamma"]]).all(axis=None)
