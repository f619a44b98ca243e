"""Value at risk from recipe to report: online level, coverage, pinball loss, no look-ahead."""

import dataclasses
import json

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from small_prices import price_table

from stpatch_jax.errors import InputError
from stpatch_jax.recipes import recipe
from stpatch_jax.recipes.risk import RiskConfig, RiskJudge
from stpatch_jax.recipes.risk.judging import Tails, online_factors
from stpatch_jax.runs import Run, RunDirectory, evaluate, train

TICKERS = ["AAPL", "XOM", "GE", "BABA"]


def small(path, *, horizon):
    config = recipe("stock-risk")
    return dataclasses.replace(
        config,
        data=RiskConfig(path=str(path), horizon=horizon),
        train=dataclasses.replace(
            config.train, steps=20, batch_size=64, checkpoint_every=20, evaluate_every=20
        ),
    )


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    """The recipe after 20 steps on the first rows of four companies, five days ahead."""
    folder = tmp_path_factory.mktemp("risk")
    table = pd.read_csv(data_dir / "finance/stocks_ohlcv_2012_2017.csv.gz")
    table = table.loc[table.ticker.isin(TICKERS)]
    table = table.loc[table.Date.isin(sorted(table.Date.unique())[300:800])]
    table.to_csv(folder / "cut.csv", index=False)
    text = train(
        small(folder / "cut.csv", horizon=5), workdir=folder / "run", progress=False
    ).report
    return table, folder / "run", text


def test_the_report_has_every_field(finished):
    _, folder, text = finished
    report = json.loads((folder / "report.json").read_text())
    assert report["recipe"] == "stock-risk"
    assert report["step"] == 20
    assert list(report["validation"]) == ["pinball", "coverage"]
    quantile = report["test"]["quantile"]
    assert quantile["level"] == 0.05
    assert quantile["unit"] == report["test"]["original"]["unit"] == "log return over 5 rows"
    assert report["test"]["scaled"]["unit"] == "sigma * sqrt(horizon)"
    names = ["model", "model_without_level", "historical_simulation", "ewma_normal"]
    assert list(quantile["rules"]) == names
    for name, figures in quantile["rules"].items():
        assert 0 <= figures["coverage"] < 0.5
        assert 0 < figures["pinball"] < 0.1
        assert f"| {name} | {figures['coverage']:.4g} | {figures['pinball']:.4g} |" in text
    verdict, rules = report["verdict"], quantile["rules"]
    assert verdict["of"] == 2
    gain = 1 - rules["model"]["pinball"] / rules[verdict["rule"]]["pinball"]
    assert verdict["gain"] == pytest.approx(gain)
    plots = {path.name for path in (folder / "plots").iterdir()}
    assert plots == {"quantile.png", "errors.png", "learning.png"}
    (folder / "report.json").unlink()
    assert evaluate(folder) == text


def test_historical_simulation_scores_as_pandas_says(finished):
    table, folder, _ = finished
    found = json.loads((folder / "report.json").read_text())["test"]["quantile"]
    logs = np.log(table.pivot_table(index="Date", columns="ticker", values="Adj Close"))
    ended = logs - logs.shift(5)
    naive = ended.rolling(250, min_periods=200).quantile(0.05).shift(5)
    # 15 % of 500 rows are 75; the first 5 returns that end there began before.
    error = (ended - naive).iloc[-70:].to_numpy()
    assert np.isfinite(error).all()
    assert found["targets"] == error.size
    rules = found["rules"]["historical_simulation"]
    assert rules["coverage"] == pytest.approx((error < 0).mean())
    assert rules["pinball"] == pytest.approx(np.maximum(0.05 * error, -0.95 * error).mean())


def test_no_forecast_depends_on_a_later_row(tmp_path):
    """Not even through the level that is learned while forecasting."""
    row = 390
    runs = []
    for after in (None, row):
        price_table(change_after=after).to_csv(tmp_path / f"{after}.csv", index=False)
        runs.append(Run(small(tmp_path / f"{after}.csv", horizon=5)))
    directory = RunDirectory(tmp_path / "run")
    runs[0].claim(directory)
    model = runs[0].fit(directory, progress=False).model
    before, after = (run.judge(model, "test").rows for run in runs)
    known = before["index"] <= row + 5  # their origins are not later than the row
    assert 0 < known.sum() < len(known)
    for name, values in before["quantiles"].items():
        np.testing.assert_array_equal(values[known], after["quantiles"][name][known])
        assert not np.array_equal(values[~known], after["quantiles"][name][~known])
    # The level moved, and between validation and test it was not begun anew.
    first = {name: values[0] for name, values in before["quantiles"].items()}
    assert not np.allclose(first["model"], first["model_without_level"])


@given(row=st.integers(0, 38), lag=st.integers(1, 5), seed=st.integers(0, 99))
def test_online_factors_use_returns_that_are_known(row, lag, seed):
    random = np.random.default_rng(seed)
    returns, quantiles = random.normal(size=(40, 6)), -1 - random.random((40, 6))
    returns[random.random(returns.shape) < 0.1] = np.nan
    other = returns.copy()
    other[row + 1 :] = -1e9  # a loss that no factor reaches
    before, after = (
        online_factors(quantiles, x, level=0.05, lag=lag, rate=0.1) for x in (returns, other)
    )
    np.testing.assert_array_equal(before[: row + lag + 1], after[: row + lag + 1])
    assert (after >= before).all()


def test_online_factors_bring_coverage_to_its_level():
    returns = np.random.default_rng(0).normal(size=(4000, 20))
    quantiles = np.full(returns.shape, -1.0)  # which 16 % of a normal law lie below
    factors = online_factors(quantiles, returns, level=0.05, lag=5, rate=0.01)
    later = slice(1000, None)
    below = returns[later] < factors[later, None] * quantiles[later]
    assert below.mean() == pytest.approx(0.05, abs=0.002)
    assert factors[later].mean() == pytest.approx(1.645, abs=0.03)


def test_coverage_and_pinball_loss_by_hand():
    # Three windows of two companies; in the last window one return is missing.
    returns = np.array([[-3.0, 0.0], [1.0, -1.0], [2.0, np.nan]])
    tails = Tails(0.25, {"model": np.full((3, 2), -2.0), "rule": np.full((3, 2), -0.5)}, returns)
    # Errors against -2: -1, 2, 3, 1, 4; one of five lies below.
    assert tails.metrics("model") == pytest.approx(
        {"coverage": 1 / 5, "pinball": (0.75 * 1 + 0.25 * (2 + 3 + 1 + 4)) / 5}
    )
    assert tails.metrics("rule") == pytest.approx(
        {"coverage": 2 / 5, "pinball": (0.75 * (2.5 + 0.5) + 0.25 * (0.5 + 1.5 + 2.5)) / 5}
    )


def test_a_task_without_the_level_is_refused(tmp_path):
    price_table().to_csv(tmp_path / "prices.csv", index=False)
    config = small(tmp_path / "prices.csv", horizon=1)
    task = dataclasses.replace(config.task, quantiles=(0.1, 0.5))
    with pytest.raises(InputError, match=r"task.quantiles must hold the level 0.05 of the data"):
        Run(dataclasses.replace(config, task=task))
    assert isinstance(Run(config).judge, RiskJudge)
