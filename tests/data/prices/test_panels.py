"""The panel forecast problem as a whole: examples, prices, reports, refusals."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stpatch_jax.data import EVERYTHING, PanelConfig, PanelData, batch_iterator, read_price_table
from stpatch_jax.data.protocols import truth
from stpatch_jax.data.sampling.batches import sequential_batches
from stpatch_jax.errors import InputError

SPLITS = ("train", "validation", "test")
REPRESENTATIONS = ("log_return", "level")
ROWS = 60


def write_wide(folder: Path, prices: np.ndarray, name: str = "wide.csv") -> str:
    """A wide table of daily prices; NaN becomes an empty cell."""
    companies = [chr(ord("A") + at) for at in range(prices.shape[1])]
    days = pd.date_range("2020-01-01", periods=len(prices), name="day")
    file = folder / name
    pd.DataFrame(prices, index=days, columns=companies).to_csv(file)
    return str(file)


def walks(seed: int = 0, *, companies: int = 3, missing: float = 0.1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    prices = 50 * np.exp(np.cumsum(generator.normal(0, 0.02, (ROWS, companies)), axis=0))
    # The last row stays whole, so that a table never loses a row.
    prices[:-1][generator.random((ROWS - 1, companies)) < missing] = np.nan
    prices[np.isnan(prices).all(axis=1), 0] = 50.0
    return prices


SMALL = PanelConfig(context=6, horizon=3, validation_share=0.2, test_share=0.2)


def load(folder: Path, prices: np.ndarray, **changes) -> PanelData:
    return replace(SMALL, path=write_wide(folder, prices), **changes).load()


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("split", SPLITS)
def test_examples_have_the_promised_shapes_and_no_nan(tmp_path, representation, split):
    data = load(tmp_path, walks(), representation=representation)
    source = data.source(split)
    assert data.source("train")[0]["context"].shape == (6, 3, 1)
    for i in range(len(source)):
        example = source[i]
        assert {name: (value.shape, value.dtype.name) for name, value in example.items()} == {
            "context": ((6, 3, 1), "float32"),
            "target": ((3, 3, 1), "float32"),
            "target_mask": ((3, 3, 1), "bool"),
            "persistence": ((1, 3, 1), "float32"),
            "running_mean": ((1, 3, 1), "float32"),
            "drift": ((3, 3, 1), "float32"),
            "index": ((), "int64"),
        }
        for name in ("context", "target", "persistence"):
            assert np.isfinite(example[name]).all()
        assert (example["target"][~example["target_mask"]] == 0).all()


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_targets_of_the_test_windows_tile_the_whole_test_span(tmp_path, representation):
    data = load(tmp_path, walks(), representation=representation)
    spans = {}
    for split in SPLITS:
        source = data.source(split)
        index = [int(source[i]["index"]) for i in range(len(source))]
        spans[split] = {i + lead for i in index for lead in range(3)}
        assert spans[split] == set(data.splits[split])
        assert len(index) == data.report["splits"][split]["windows"]
    assert max(spans["train"]) < min(spans["validation"])
    assert max(spans["validation"]) < min(spans["test"])
    assert max(spans["test"]) == ROWS - 1
    # A row more goes to the first return.
    assert min(spans["train"]) == 6 + (representation == "log_return")


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_scaled_targets_come_back_as_the_prices_of_the_file(tmp_path, representation):
    prices = walks()
    data = load(tmp_path, prices, representation=representation)
    for batch in sequential_batches(data.source("test"), batch_size=len(data.source("test"))):
        real = truth(data, batch["index"])
        rows = batch["index"][:, None] + np.arange(3)
        np.testing.assert_allclose(real[..., 0], prices[rows], rtol=1e-14)
        mask = batch["target_mask"]
        np.testing.assert_array_equal(mask, np.isfinite(real))
        assert 0 < mask.sum() < mask.size
        back = data.in_units(batch["target"], batch["index"])
        np.testing.assert_allclose(back[mask], real[mask], rtol=1e-6)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_persistence_comes_back_as_the_last_known_price(tmp_path, representation):
    prices = walks()
    data = load(tmp_path, prices, representation=representation)
    source = data.source("validation")
    batch = next(sequential_batches(source, batch_size=len(source)))
    repeated = np.repeat(batch["persistence"], 3, axis=1)
    last = pd.DataFrame(prices).ffill().to_numpy()[batch["index"] - 1]
    got = data.in_units(repeated, batch["index"])
    expected = np.broadcast_to(last[:, None, :, None], got.shape)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_drift_goes_on_as_the_training_rows_went_and_the_mean_stays(tmp_path, representation):
    prices = walks()
    data = load(tmp_path, prices, representation=representation)
    batch = next(sequential_batches(data.source("test"), batch_size=len(data.source("test"))))
    logs = representation == "log_return"
    levels = pd.DataFrame(np.log(prices) if logs else prices)
    trained = levels[: data.splits["train"].stop]
    first, last = (
        trained.apply(at) for at in (pd.Series.first_valid_index, pd.Series.last_valid_index)
    )
    ends = [trained[i][last[i]] - trained[i][first[i]] for i in trained]
    gained = np.array(ends) / (last - first).to_numpy()
    now = levels.ffill().to_numpy()[batch["index"] - 1]
    drift = now[:, None] + np.arange(1, 4)[:, None] * gained
    got = data.in_units(batch["drift"], batch["index"])[..., 0]
    np.testing.assert_allclose(got, np.exp(drift) if logs else drift, rtol=1e-5)
    context = np.asarray(levels.ffill().rolling(data.context).mean())[batch["index"] - 1]
    got = data.in_units(np.repeat(batch["running_mean"], 3, axis=1), batch["index"])[:, 0, :, 0]
    np.testing.assert_allclose(got, np.exp(context) if logs else context, rtol=1e-5)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_sales_by_the_hour_have_their_season_and_usual_values_as_rules(representation):
    random, hours = np.random.default_rng(0), np.arange(24 * 30) % 24
    usual = 5 + np.sin(hours * np.pi / 12)[:, None] + 0.1 * random.normal(size=(len(hours), 2))
    times = pd.date_range("2024-01-01", periods=len(hours), freq="h", name="time")
    table = pd.DataFrame(np.exp(usual), times, ["AAA", "BBB"])
    config = PanelConfig(context=6, horizon=30, representation=representation)
    data = config.of(table)
    assert data.config.seasons == {"season_24": 24}
    assert data.config.climatology == "hour"
    config, chosen = config.settled(data)
    assert config == data.config
    assert chosen.keys() == {"data.season", "data.climatology"}
    weights = data.rule_weights()
    assert min(weights, key=lambda rule: weights[rule].alone) == "climatology"
    logs = representation == "log_return"
    levels = np.log(table.to_numpy()) if logs else table.to_numpy()
    trained = range(data.splits["train"].stop)
    means = np.stack([levels[trained][hours[trained] == hour].mean(axis=0) for hour in range(24)])
    # Another table, that ends before what is forecast; the run's own rules go with it.
    state = data.state()
    for other in (data, config.restore_values(table[:-30], state)):
        split = "test" if other is data else EVERYTHING
        source = other.source(split)
        example = {name: of[None] for name, of in source[len(source) - 1].items()}
        [row] = example["index"]
        assert row == len(table) - 30
        rows = row + np.arange(30)
        before = levels[row - 1] - means[hours[row - 1]]
        expected = {
            "season_24": levels[row - 24 + np.arange(30) % 24],
            "climatology": means[hours[rows]],
            "anomaly_persistence": means[hours[rows]] + before,
        }
        for name, values in expected.items():
            got = other.in_units(example[name], example["index"])[0, ..., 0]
            np.testing.assert_allclose(got, np.exp(values) if logs else values, rtol=1e-5)
    with pytest.raises(InputError, match="season must be shorter than the 504 training rows"):
        PanelConfig(season=600).of(table)
    few = config.for_inputs(("context", "persistence", "drift"))
    assert (few.seasons, few.climatology) == ({}, None)
    assert few.restore_values(table[:12], state).source(EVERYTHING)[0]["drift"].shape == (30, 2, 1)


@pytest.mark.filterwarnings("ignore:.*if shares were split")
@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_an_example_does_not_depend_on_rows_after_its_horizon(tmp_path, representation):
    prices = walks()
    data = load(tmp_path, prices, representation=representation)
    for split in SPLITS:
        source = data.source(split)
        for i in (0, len(source) - 1):
            example = source[i]
            # Later training rows move the fit, and may.
            end = max(int(example["index"]) + 3, data.splits["train"].stop)
            changed = prices.copy()
            changed[end:] = 7 * walks(seed=1)[end:]
            again = load(tmp_path, changed, representation=representation).source(split)[i]
            for name, value in example.items():
                np.testing.assert_array_equal(again[name], value)


@pytest.mark.filterwarnings("ignore:.*if shares were split")
@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_the_fitted_state_sees_training_rows_only(tmp_path, representation):
    prices = walks()
    data = load(tmp_path, prices, representation=representation)
    start = data.splits["train"].stop
    changed = prices.copy()
    changed[start:] = 7 * walks(seed=1)[start:]
    other = load(tmp_path, changed, representation=representation)
    assert other.digest("train") == data.digest("train")
    changed[start - 1] *= 3
    moved = load(tmp_path, changed, representation=representation)
    assert moved.digest("train") != data.digest("train")
    assert json.loads(json.dumps(data.report, allow_nan=False)) == data.report


def test_companies_are_dropped_by_their_training_rows_with_a_warning(tmp_path):
    prices = walks(missing=0.0)
    prices[:50, 1] = np.nan  # starts after the training span, with many later rows
    prices[20:, 2] = np.nan  # ends early, but has enough training rows
    with pytest.warns(UserWarning, match="1 of 3 companies dropped: B has values in 0 of the 36"):
        data = load(tmp_path, prices)
    assert data.companies == ("A", "C")
    assert data.source("train")[0]["context"].shape == (6, 2, 1)
    assert list(data.report["companies_dropped"]) == ["B"]
    assert data.report["companies_used"] == ["A", "C"]
    # Nothing is invented for the company that ended: no targets, and a flat context.
    example = data.source("test")[0]
    assert not example["target_mask"][:, 1].any()
    assert np.ptp(example["context"][:, 1]) == 0


def test_no_company_with_enough_rows_is_refused(tmp_path):
    prices = walks(missing=0.0)
    prices[1:50, :2] = np.nan
    # Rows without any value would be dropped, so a company fills them with impossible prices.
    prices[:50, 2] = -1.0
    with pytest.raises(InputError, match="got none of 3: A, for one, has values in 1 of the 36"):
        load(tmp_path, prices, minimum_share=0.5)


def test_prices_that_are_not_positive_are_missing_in_log_returns_only(tmp_path):
    prices = walks(missing=0.0)
    prices[55, 0], prices[56, 1] = 0.0, -5.0
    data = load(tmp_path, prices)
    assert data.report["impossible_values"] == 2
    real = truth(data, np.array([55]))[0, :, :, 0]
    np.testing.assert_array_equal(np.isnan(real), np.isin(prices[55:58], [0.0, -5.0]))
    level = load(tmp_path, prices, representation="level")
    assert level.report["impossible_values"] == 0
    np.testing.assert_allclose(truth(level, np.array([55]))[0, :, :, 0], prices[55:58])


def test_winsorising_leaves_test_targets_and_true_prices_alone(tmp_path):
    prices = walks(missing=0.0)
    prices[30, 0] *= 10
    prices[55, 0] *= 10
    data = load(tmp_path, prices, winsorize=0.05)
    index = np.array([55])
    np.testing.assert_allclose(truth(data, index)[0, 0, 0, 0], prices[55, 0])
    example = next(e for e in map(data.source("test").__getitem__, range(9)) if e["index"] == 55)
    back = data.in_units(example["target"][None], index)
    np.testing.assert_allclose(back[0, 0, 0, 0], prices[55, 0], rtol=1e-5)
    assert data.report["clipped_inputs"] > 0
    assert load(tmp_path, prices, winsorize=0.0).report["clipped_inputs"] == 0


def test_a_forecast_beyond_the_table_has_prices(tmp_path):
    prices = walks()
    data = load(tmp_path, prices)
    got = data.in_units(np.zeros((1, 3, 3, 1)), np.array([ROWS]))
    np.testing.assert_allclose(got[0, 0, :, 0], pd.DataFrame(prices).ffill().to_numpy()[-1])


def test_the_default_problem_keeps_nine_names():
    with pytest.warns(UserWarning, match="1 of 10 companies dropped: DELL"):
        data = PanelConfig().load()
    assert len(data.companies) == 9
    assert data.target_channels == ("price",)
    assert data.unit == "price units"
    assert data.report["empty_rows_dropped"] == 133
    assert len(data.times) == data.report["rows"]
    batch = next(batch_iterator(data.source("train"), batch_size=8, seed=0, start_step=0))
    assert batch["context"].shape == (8, 24, 9, 1)
    # Inputs are standardised: fitted to training rows, so close to one over a batch of them.
    assert 0.5 < batch["context"].std() < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_a_real_table_of_87_companies(data_dir, representation):
    path = str(data_dir / "finance" / "stocks_ohlcv_2012_2017.csv.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = PanelConfig(path=path, context=20, horizon=5, representation=representation).load()
    assert data.source("train")[0]["context"].shape == (20, 87, 6)
    assert data.target_channels == ("adjusted_close",)
    source = data.source("test")
    batch = next(sequential_batches(source, batch_size=len(source)))
    back, real = data.in_units(batch["target"], batch["index"]), truth(data, batch["index"])
    np.testing.assert_allclose(back, real, rtol=1e-5)
    field = read_price_table(path).field.sel(channel="adjusted_close").values
    np.testing.assert_array_equal(real[-1, :, :, 0], field[-5:])
    train = np.concatenate([data.source("train")[i]["context"] for i in (0, 400, -1)])
    assert 0.3 < train.std() < 3
    with pytest.warns(UserWarning, match="2 of 87 companies dropped: AGFS .*; BABA"):
        fewer = PanelConfig(path=path, minimum_share=0.7).load()
    assert len(fewer.companies) == 85


def test_a_long_table_can_predict_any_channel(tmp_path):
    prices = walks(missing=0.0)
    lines = ["date,ticker,open,high,low,close,adj close,volume"]
    days = pd.date_range("2020-01-01", periods=ROWS)
    for day, row in zip(days, prices, strict=True):
        lines += [f"{day:%Y-%m-%d},{'ABC'[at]},1,2,3,4,{row[at]},{at}" for at in range(3)]
    file = tmp_path / "long.csv"
    file.write_text("\n".join(lines))
    config = replace(SMALL, path=str(file))
    assert config.load().target_channels == ("adjusted_close",)
    assert config.load().source("train")[0]["context"].shape == (6, 3, 6)
    volume = replace(config, target_channel="volume").load()
    assert volume.unit == "shares"
    np.testing.assert_array_equal(truth(volume, np.array([9]))[0, 0, :, 0], [0, 1, 2])
    with pytest.raises(InputError, match=r"target_channel must .*, got 'price'"):
        replace(config, target_channel="price").load()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": 0}, r"context must .*, got 0"),
        ({"horizon": -1}, "horizon must be a whole number .* got -1"),
        ({"context": 2.5}, "context must be a whole number .* got 2.5"),
        ({"representation": "log"}, r"representation must .*, got 'log'"),
        ({"validation_share": 0.0}, r"got 0\.0 and 0\.15"),
        ({"test_share": 1.0}, r"test_share must be above 0 and below 1.* got 0\.15 and 1"),
        ({"test_share": float("nan")}, r"test_share must be .*, got 0\.15 and nan"),
        (
            {"validation_share": 0.5, "test_share": 0.5},
            r"got 0\.5 and 0\.5",
        ),
        ({"minimum_share": 0.0}, r"minimum_share must be in \(0, 1\], got 0"),
        ({"minimum_share": 1.5}, r"minimum_share must be in \(0, 1\], got 1.5"),
        ({"winsorize": 0.5}, r"winsorize must be in \[0, 0.5\), got 0.5"),
        ({"winsorize": -0.1}, r"winsorize must be in \[0, 0.5\), got -0.1"),
    ],
)
def test_a_config_checks_itself(changes, message):
    with pytest.raises(InputError, match=message) as error:
        PanelConfig(**changes)
    assert "\n" not in str(error.value)


def test_tables_that_are_too_short_or_lack_the_channel_are_refused(tmp_path):
    prices = walks(missing=0.0)
    path = write_wide(tmp_path, prices[:9])
    for context, kind in ((7, "log_return"), (6, "level")):
        told = rf"train split must hold 3 target rows .* context of {context}, got 0 of 9"
        with pytest.raises(InputError, match=told):
            replace(SMALL, path=path, representation=kind).load()
    with pytest.raises(InputError, match="must be 'price', got 'close'"):
        load(tmp_path, prices, target_channel="close")
    with pytest.raises(InputError, match="there must be a price table at"):
        replace(SMALL, path=str(tmp_path / "none.csv")).load()


def test_wrong_splits_rows_and_shapes_are_refused(tmp_path):
    data = load(tmp_path, walks())
    with pytest.raises(InputError, match="split must be 'train', 'validation' or 'test'"):
        data.source("dev")
    with pytest.raises(IndexError):
        data.source("test")[len(data.source("test"))]
    for index in ([0], [-1], [ROWS + 1]):
        with pytest.raises(InputError, match=r"index must lie in 1\.\.60"):
            data.in_units(np.zeros((1, 3, 3, 1)), np.array(index))
    with pytest.raises(InputError, match=r"index must lie in 0\.\.57"):
        truth(data, np.array([58]))
    with pytest.raises(InputError, match="index must be a list of rows"):
        truth(data, np.array([1.0]))
    with pytest.raises(InputError, match=r"\(2, 3, 3, 1\), got \(2, 3, 3\)"):
        data.in_units(np.zeros((2, 3, 3)), np.array([8, 9]))


def test_a_table_of_another_step_is_refused_and_companies_are_found_by_name(tmp_path):
    days = pd.bdate_range("2020-01-01", periods=80, name="Date")
    prices = np.exp(np.random.default_rng(0).normal(0, 0.01, (80, 3)).cumsum(0))
    table = pd.DataFrame(prices, days, ["AAA", "BBB", "CCC"])
    table.to_csv(tmp_path / "days.csv")
    config = PanelConfig(path=str(tmp_path / "days.csv"), context=4, horizon=2)
    data = config.load()
    table[["CCC", "AAA", "BBB"]].assign(NEW=1.0).to_csv(tmp_path / "more.csv")
    other = config.restore(str(tmp_path / "more.csv"), data.state())
    assert other.companies == data.companies
    np.testing.assert_array_equal(other.prices, data.prices)
    assert other.report["notes"] == ["Along company, NEW is left out, as not in the run."]
    table.set_axis(pd.date_range("2020", periods=80, freq="ME", name="Date")).to_csv(
        tmp_path / "months.csv"
    )
    with pytest.raises(InputError, match="rows 1 business day apart, as the run, got rows 1 month"):
        config.restore(str(tmp_path / "months.csv"), data.state())
    state = {name: value for name, value in data.state().items() if name != "identity"}
    with pytest.raises(InputError, match="must tell what its data were, got one of an older"):
        config.restore(str(tmp_path / "days.csv"), state)


def weekdays(prices: np.ndarray, folder: Path, *left_out: int) -> str:
    """A table of working days without some of its rows."""
    days = pd.bdate_range("2020-01-01", periods=len(prices))
    table = pd.DataFrame(prices, days, [f"c{at}" for at in range(prices.shape[1])])
    table.drop(days[list(left_out)]).rename_axis("date").to_csv(folder / "days.csv")
    return str(folder / "days.csv")


@pytest.mark.parametrize("representation", ["log_return", "level"])
def test_no_window_or_return_crosses_a_gap(tmp_path, representation):
    prices = np.exp(np.random.default_rng(0).normal(0, 0.02, (120, 3)).cumsum(axis=0))
    prices[60:] *= 100
    settings = {"context": 8, "horizon": 3, "representation": representation, "winsorize": 0.0}
    path = weekdays(prices, tmp_path, *range(40, 60))
    with pytest.warns(UserWarning, match=r"1 gap in time \(20 rows missing between 2020-02-25"):
        data = PanelConfig(path, **settings).load()
    assert data.report["gaps"] == [{"after": "2020-02-25", "before": "2020-03-25", "missing": 20}]
    lost = data.representation.lost_rows
    sources: list[Any] = [data.source(split) for split in data.splits]
    starts = np.array([source[i]["index"] for source in sources for i in range(len(source))])
    first = starts - 8 - lost
    assert not ((first < 40) & (starts + 3 > 40)).any()
    assert starts[0] == 8 + lost
    assert 40 + 8 + lost in starts
    if representation == "log_return":
        # The leap over the gap would be log(100) a row.
        np.testing.assert_array_equal(data.representation.inputs[40], data.representation.inputs[0])


def test_holidays_are_no_gaps(tmp_path):
    prices = walks(missing=0.0)
    path = weekdays(prices, tmp_path, 5, 20, 21, 22, 23)
    data = replace(SMALL, path=path).load()
    assert data.report["gaps"] == []
    assert data.report["holidays"] == 5
    windows = sum(len(data.source(split)) for split in data.splits)
    assert windows == sum(len(rows) - 2 for rows in data.splits.values())
