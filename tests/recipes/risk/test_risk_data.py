"""Data of value at risk: what a forecast may know, targets, masks and naive rules."""

import functools

import numpy as np
import pandas as pd
import pytest
from small_prices import COMPANIES, LATE, ROWS, price_table

from stpatch_jax.data import EVERYTHING
from stpatch_jax.data.protocols import truth
from stpatch_jax.errors import InputError
from stpatch_jax.recipes.risk.data import SINCE_VALIDATION, RiskConfig


@functools.cache
def logs():
    table = price_table().pivot_table(index="Date", columns="ticker", values="Adj Close")
    return pd.DataFrame(np.log(table[list(COMPANIES)].to_numpy()))


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prices")

    @functools.cache
    def loaded(change_after=None, **options):
        path = folder / f"{change_after}.csv"
        if not path.exists():
            price_table(change_after=change_after).to_csv(path, index=False)
        return RiskConfig(path=str(path), **options).load()

    return loaded


@pytest.mark.parametrize("row", [120, 310, 390])
@pytest.mark.parametrize("horizon", [1, 5])
def test_nothing_known_at_a_row_depends_on_later_ones(load, row, horizon):
    data, other = load(horizon=horizon), load(row, horizon=horizon)
    known = slice(row + 1)
    np.testing.assert_array_equal(data.scale[known], other.scale[known])
    np.testing.assert_array_equal(data.known[known], other.known[known])
    for name, values in data.rules.items():
        np.testing.assert_array_equal(values[known], other.rules[name][known])
    if row >= data.splits["train"].stop:  # then the training rows that scale are the same, too
        np.testing.assert_array_equal(data.inputs[known], other.inputs[known])
        assert data.digest("train") == other.digest("train")
    assert not np.array_equal(data.inputs[row + 1 :], other.inputs[row + 1 :])


@pytest.mark.parametrize("horizon", [1, 5])
def test_a_target_is_the_return_over_the_horizon_in_units_of_sigma(load, horizon):
    data = load(horizon=horizon)
    expected = (logs() - logs().shift(horizon)).to_numpy()
    source = data.source("test")
    batch = {name: np.stack([source[i][name] for i in range(len(source))]) for name in source[0]}
    index = batch["index"]
    found = truth(data, index)[:, 0, :, 0]
    ulp = np.spacing(np.nanmax(np.abs(logs())))  # what subtracting two logs can lose
    np.testing.assert_allclose(found, expected[index], rtol=1e-12, atol=ulp)
    back = data.in_units(batch["target"], index)
    assert batch["target_mask"].all()
    np.testing.assert_allclose(back[:, 0, :, 0], expected[index], rtol=1e-5, atol=1e-9)
    assert (batch["persistence"] == 0).all()
    assert batch["context"].shape == (len(source), 1, 4, len(data.features))


@pytest.mark.parametrize("horizon", [1, 5])
def test_no_return_reaches_across_a_border(load, horizon):
    data = load(horizon=horizon)
    # 15 % of 420 rows are 63.
    borders = {"train": (66, 294), "validation": (294, 357), "test": (357, 420)}
    for name, (first, last) in borders.items():
        assert data.splits[name] == range(first + horizon, last)
    both = data.source(SINCE_VALIDATION)
    assert [int(both[i]["index"]) for i in (0, len(both) - 1)] == [294 + horizon, 419]


def test_features_are_scaled_by_the_training_rows(load):
    data = load()
    rows = slice(66, 293)
    values = data.inputs[rows][data.known[rows]]
    # Clipping takes a little off.
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=0.1)
    assert np.abs(data.inputs).max() <= 5
    assert len(data.features) == len(set(data.features)) == 13


def test_a_late_company_and_a_gap_are_masked(load):
    data = load()
    late, gap = COMPANIES.index("CCC"), COMPANIES.index("DDD")
    # Its first return is that of the row after its first price; it takes 67 of them.
    assert not data.known[: LATE + 67, late].any()
    assert data.known[LATE + 67 :, late].all()
    assert not data.known[150, gap]
    source = data.source("train")
    example = source[150 - int(source[0]["index"])]
    assert int(example["index"]) == 150
    assert example["target_mask"][0, :, 0].tolist() == [True, True, False, False]
    assert (example["context"][0, late] == 0).all()
    assert (example["target"][0, late:] == 0).all()


@pytest.mark.parametrize("horizon", [1, 5])
def test_the_naive_rules_are_those_of_pandas(load, horizon):
    data = load(horizon=horizon)
    ended = logs() - logs().shift(horizon)
    history = ended.rolling(250, min_periods=200).quantile(0.05).to_numpy()
    index = np.array([300, 419])
    naive = data.naive_quantiles(index)
    np.testing.assert_allclose(
        naive["historical_simulation"][:, 0, :, 0], history[index - horizon], rtol=1e-9
    )
    sigma = data.scale[index - horizon] / np.sqrt(horizon)
    np.testing.assert_allclose(
        naive["ewma_normal"][:, 0, :, 0], -1.6448536 * sigma * np.sqrt(horizon), rtol=1e-7
    )


def test_a_wide_table_has_no_ranges_and_a_price_that_never_moves_no_infinity(tmp_path):
    table = price_table().pivot_table(index="Date", columns="ticker", values="Close")
    table["AAA"] = 5.0
    table.to_csv(tmp_path / "wide.csv")
    data = RiskConfig(path=str(tmp_path / "wide.csv")).load()
    assert len(data.features) == 10
    assert np.isfinite(data.inputs).all()
    assert np.isfinite(data.scale[66:, 0]).all()
    # The monthly table that matplotlib ships is long enough, too.
    assert RiskConfig(path=None).load().companies[0]


def test_the_report_tells_what_was_read(load):
    data = load(horizon=5)
    assert data.unit == "log return over 5 rows"
    assert load().unit == "log return over 1 row"
    splits = data.report["splits"]
    assert splits["test"]["last_target"] == "2011-02-24"  # 419 days later
    assert splits["validation"]["windows"] == len(data.source("validation")) == 58
    assert data.report["companies"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "data.horizon must be a whole number >= 1, got 0"),
        ({"level": 0.5}, r"data.level must be in \(0, 0.5\), got 0.5"),
        ({"test_share": 0.9}, r"data.test_share must be in \(0, 0.85\), got 0.9"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        RiskConfig(**options)


def test_another_table_has_an_example_for_each_of_its_rows_as_origin(load, tmp_path):
    data = load(horizon=5)
    price_table().to_csv(tmp_path / "prices.csv", index=False)
    other = data.config.restore(str(tmp_path / "prices.csv"), data.state())
    source = other.source(EVERYTHING)
    assert len(source) == ROWS
    assert other.input_axes(EVERYTHING, 0).coords["time"] == other.times[0]
    for number, row in ((300, 305), (ROWS - 1, ROWS + 4)):
        example = source[number]
        assert example["index"] == row
        np.testing.assert_array_equal(example["context"][0], data.inputs[number])
        assert example["target_mask"].any() == (row < ROWS)


def test_a_table_of_another_step_is_refused(load, tmp_path):
    data = load()
    table = price_table()
    dates = sorted(set(table.Date))
    months = dict(zip(dates, pd.date_range("1980", periods=len(dates), freq="MS"), strict=True))
    table.assign(Date=table.Date.map(months)).to_csv(tmp_path / "months.csv", index=False)
    with pytest.raises(
        InputError, match=r"months.csv must have rows .* apart, as the run, got rows 1 m"
    ):
        data.config.restore(str(tmp_path / "months.csv"), data.state())


def test_rows_that_a_table_leaves_out_are_put_in(load, tmp_path):
    table = price_table()
    days = sorted(set(table.Date))
    gone = days[200:212]
    table[~table.Date.isin(gone)].to_csv(tmp_path / "gap.csv", index=False)
    with pytest.warns(UserWarning, match=r"1 gap in time \(12 rows missing .*put in as missing"):
        data = RiskConfig(path=str(tmp_path / "gap.csv"), horizon=5).load()
    whole = load(horizon=5)
    np.testing.assert_array_equal(data.times, whole.times)
    assert [gap["missing"] for gap in data.report["gaps"]] == [12]
    assert np.isnan(data.returns[200:212]).all()
    known = np.isfinite(data.returns)
    np.testing.assert_allclose(data.returns[known], whole.returns[known])


def test_a_table_with_nothing_to_be_judged_by_is_refused(tmp_path):
    table = price_table()
    table.loc[table.Date > "2010-12-01", "Adj Close"] = np.nan
    table.to_csv(tmp_path / "ended.csv", index=False)
    with pytest.raises(
        InputError, match="must have a company with 200 returns in 250 rows for its test"
    ):
        RiskConfig(path=str(tmp_path / "ended.csv")).load()


def test_a_table_that_is_too_short_is_refused(tmp_path, load):
    for rows, message in {
        300: r"training split must hold at least 251 rows .* got 210 of the table's 300",
        60: "split must hold .* of 60 rows",
    }.items():
        price_table(rows=rows).to_csv(tmp_path / "short.csv", index=False)
        with pytest.raises(InputError, match=message):
            RiskConfig(path=str(tmp_path / "short.csv")).load()
    with pytest.raises(
        InputError, match="split must be 'train', 'validation' or 'test', got 'best'"
    ):
        load().source("best")
    assert len(load().times) == ROWS
