"""Prices, value at risk and classes of other files: what the evaluation says of the same rows."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from small_panel import COMPANIES, write_table
from small_prices import price_table

from stpatch_jax import cli
from stpatch_jax.data import LabelledSeriesConfig, LabelledVolumesConfig, PanelConfig
from stpatch_jax.data.protocols import EVERYTHING, digest_of
from stpatch_jax.errors import InputError
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.recipes.movement.data import MovementConfig
from stpatch_jax.recipes.risk.data import RiskConfig
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.predicting import predict
from stpatch_jax.runs.run import Run, RunConfig
from stpatch_jax.tasks import ClassifyConfig, ForecastConfig
from stpatch_jax.training import OptimizerConfig, TrainConfig

TRAIN = TrainConfig(
    steps=3,
    batch_size=8,
    optimizer=OptimizerConfig(learning_rate=0.05),
)


def trained(folder, data, task, window):
    """A short run without its report, and its model."""
    config = RunConfig(
        recipe="small",
        data=data,
        model=FlatPatchesConfig(WindowSpec(window)),
        task=task,
        train=TRAIN,
    )
    run, directory = Run(config), RunDirectory(folder / "run")
    run.claim(directory)
    return run, run.fit(directory, progress=False).model


def judged(run, model):
    """The test examples and what the evaluation has of the model on them."""
    parts = [
        jax.tree.map(lambda x, real=batch["example_mask"]: x[real], (batch, outputs))
        for batch, outputs in run.judge.predicted(model, "test")
    ]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("panel")
    data = PanelConfig(path=str(write_table(folder / "prices.csv")), context=8, horizon=2)
    return folder, *trained(folder, data, ForecastConfig(), (None, 1))


def made(folder, source, **options):
    target = folder / "made.csv"
    target.unlink(missing_ok=True)
    told = predict(folder / "run", str(source), target, progress=False, **options)
    assert f"rows: {target}" in told
    return pd.read_csv(target)


def by_command(folder, source):
    target = folder / "by-command.csv"
    assert cli.main(["predict", str(folder / "run"), str(source), str(target)]) == 0
    return pd.read_csv(target)


def by_process(folder, source):
    """The real command, in a process of its own."""
    target = folder / "by-process.csv"
    done = subprocess.run(
        [sys.executable, "-m", "stpatch_jax", "predict", folder / "run", source, target],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"rows: {target}\n")
    return pd.read_csv(target)


@pytest.mark.slow
def test_prices_are_those_of_the_evaluation(panel):
    folder, run, model = panel
    found = made(folder, folder / "prices.csv", every=1)
    assert list(found) == ["init_time", "lead_time", "valid_time", *COMPANIES]
    # Rows 9 to 80: eight rows of returns before each, the last one behind the table.
    assert len(found) == 72 * 2
    batch, forecasts = judged(run, model)
    expected = run.data.in_units(forecasts, batch["index"])
    values = found[list(COMPANIES)].to_numpy().reshape(72, 2, 3, 1)
    np.testing.assert_allclose(values[batch["index"] - 9], expected, rtol=1e-5)
    # The table is monthly, and goes on so.
    assert found.valid_time.iloc[-1] == "2006-10-01"
    last = by_process(folder, folder / "prices.csv")
    pd.testing.assert_frame_equal(last, found.iloc[-2:].reset_index(drop=True), rtol=1e-5)


@pytest.mark.slow
def test_quantiles_of_prices_are_columns(tmp_path):
    """They are those of the returns, which keep their order as prices."""
    data = PanelConfig(path=str(write_table(tmp_path / "prices.csv")), context=8, horizon=2)
    task = ForecastConfig(quantiles=(0.1, 0.5, 0.9))
    run, model = trained(tmp_path, data, task, (None, 1))
    found = made(tmp_path, tmp_path / "prices.csv", every=1)
    names = [f"{name}_{level}" for name in COMPANIES for level in (0.1, 0.5, 0.9)]
    assert sorted(found.columns[3:]) == sorted(names)
    batch, forecasts = judged(run, model)
    prices: Any = run.data
    expected = prices.in_units(forecasts[..., 2], batch["index"])[..., 0]
    high = found[[f"{name}_0.9" for name in COMPANIES]].to_numpy().reshape(-1, 2, 3)
    np.testing.assert_allclose(high[batch["index"] - 9], expected, rtol=1e-5)
    for name in COMPANIES:
        of = found[[f"{name}_{level}" for level in (0.1, 0.5, 0.9)]].dropna()
        assert (np.diff(of, axis=1) > 0).all()


@pytest.mark.slow
def test_another_file_may_be_told_otherwise_than_that_of_the_run(panel, capsys):
    """Here it has two columns of dates, no header, and marks of its own for what is missing."""
    folder, _, _ = panel
    table = pd.read_csv(folder / "prices.csv")
    table.insert(0, "seen", "2030-01-01")
    table.fillna(-9).to_csv(folder / "other.csv", index=False, header=False)
    told = {"header": ("seen", "Date", *COMPANIES), "time": "Date", "variables": COMPANIES}
    told["missing_values"] = (-9,)
    expected, found = (
        made(folder, folder / name, **more)
        for name, more in (
            ("prices.csv", {}),
            ("other.csv", {"told": told}),
        )
    )
    pd.testing.assert_frame_equal(found, expected)
    target = folder / "flags.csv"
    command = ["predict", str(folder / "run"), str(folder / "other.csv"), str(target)]
    flags = ["--data.time", "Date", "--data.missing-values", "-9"]
    flags += ["--data.header", *told["header"], "--data.variables", *COMPANIES]
    assert cli.main([*command, *flags]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(target), expected)
    assert cli.main([*command, "--data.dims", "time"]) == 2
    with pytest.raises(InputError, match=r"by variables, time, series, .*, got dims"):
        predict(folder / "run", "other.csv", folder / "no.csv", told={"dims": ("time",)})


@pytest.mark.slow
def test_prices_of_another_table_are_scaled_as_the_run_was(panel):
    """A table cut short, with its companies in another order and one more."""
    folder, *_ = panel
    whole = made(folder, folder / "prices.csv", every=1)
    table = pd.read_csv(folder / "prices.csv").iloc[20:60].assign(NEW=1.0)
    columns = ["Date", "CCC", "NEW", "AAA", "BBB"]
    table.to_csv(folder / "other.csv", index=False, columns=columns)
    found = made(folder, folder / "other.csv", every=1)
    before = whole[whole.init_time.isin(found.init_time)].reset_index(drop=True)
    # The first rows of the cut know nothing of a price that came before.
    later = slice(-20, None)
    pd.testing.assert_frame_equal(found.iloc[later], before.iloc[later], rtol=1e-5)


def test_levels_are_restored(tmp_path):
    data = PanelConfig(
        path=str(write_table(tmp_path / "prices.csv")),
        context=8,
        horizon=2,
        representation="level",
        winsorize=0.1,
    )
    whole = data.load()
    other = data.restore(str(tmp_path / "prices.csv"), whole.state())
    assert digest_of(other.state()) == digest_of(whole.state())
    test = whole.splits["test"].start
    for name in ("inputs", "scaled"):
        both = (getattr(x.representation, name)[test:] for x in (whole, other))
        np.testing.assert_array_equal(*both)


@pytest.mark.slow
def test_tables_of_other_companies_or_columns_are_refused(panel, capsys):
    folder, *_ = panel
    table = pd.read_csv(folder / "prices.csv")
    table.drop(columns="BBB").to_csv(folder / "few.csv", index=False)
    price_table(rows=90).to_csv(folder / "long.csv", index=False)
    table[:8].to_csv(folder / "short.csv", index=False)
    cases = {
        "few.csv": "must have every company of the run, got none called BBB",
        "long.csv": "must have every channel of the run, got none called price",
        "short.csv": "must have the 9 rows that a forecast needs, got 8",
        "none.csv": "none.csv",
    }
    for name, told in cases.items():
        target = folder / "refused.csv"
        assert cli.main(["predict", str(folder / "run"), str(folder / name), str(target)]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert told in error[-1]
        assert not target.exists()
    with pytest.raises(InputError, match=r"name of the output must end with .csv, .csv.gz, got"):
        predict(folder / "run", str(folder / "prices.csv"), folder / "f.zarr")
    with pytest.raises(InputError, match=r"process_count= must be 1 for what is no .zarr, got 2"):
        predict(folder / "run", str(folder / "prices.csv"), folder / "f.csv", process_count=2)


def write_series(path, count, length=12):
    random = np.random.default_rng(count)
    rows = [[n % 2, *random.normal(n % 2, 1, length).round(4)] for n in range(count)]
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    write_series(folder / "N_TRAIN.tsv", 16)
    write_series(folder / "N_TEST.tsv", 11)
    data = LabelledSeriesConfig(path=str(folder / "N_TRAIN.tsv"))
    return folder, *trained(folder, data, ClassifyConfig(hidden=()), (None,))


@pytest.mark.slow
def test_classes_are_those_of_the_evaluation(series):
    folder, run, model = series
    _, expected = judged(run, model)
    # The same series with labels that mean nothing, without the training data.
    lines = (folder / "N_TEST.tsv").read_text().splitlines()
    renamed = "".join("?" + line[1:] + "\n" for line in lines)
    (folder / "new.tsv").write_text(renamed)
    found = by_command(folder, folder / "new.tsv")
    assert list(found) == ["line", "class", "probability_0", "probability_1"]
    np.testing.assert_array_equal(found.line, np.arange(1, 12))
    np.testing.assert_allclose(found[["probability_0", "probability_1"]], expected, rtol=1e-5)
    np.testing.assert_array_equal(found["class"], expected.argmax(-1))


@pytest.mark.slow
def test_items_of_another_length_are_refused(series):
    folder, *_ = series
    write_series(folder / "long.tsv", 3, length=13)
    with pytest.raises(InputError, match=r"have the shape .* trained on, \(12, 1\), got \(13, 1"):
        predict(folder / "run", str(folder / "long.tsv"), folder / "f.csv")
    with pytest.raises(
        InputError, match="every= must be left out of a run on items without an order in time"
    ):
        predict(folder / "run", str(folder / "long.tsv"), folder / "f.csv", every=1)


def movement_file(path, days=60):
    random = np.random.default_rng(0)
    features = random.normal(size=(4, days, 3)).astype(np.float32)
    features[2, 20, 1] = -123321.0
    dates = np.datetime64("2020-01-01") + np.arange(days)
    label = np.where(features[..., 0] > 0, 1, -1)
    tickers = np.array(["A", "B", "C", "D"])
    np.savez(path, features=features, label=label, dates=dates.astype(str), tickers=tickers)


@pytest.mark.parametrize("view", ["own", "market"])
def test_movements_after_every_day_are_the_examples_of_the_splits(tmp_path, view):
    movement_file(tmp_path / "m.npz")
    config = MovementConfig(
        path=str(tmp_path / "m.npz"),
        view=view,
        train_from="2020-01-07",
        validation_from="2020-02-01",
        test_from="2020-02-15",
    )
    data = config.load()
    found, splits = config.restore(str(tmp_path / "m.npz"), data.state()), data.splits
    after = found.items["after"].astype(str)
    assert after[-1] == "2020-02-29"
    assert list(found.items["stock"][-4:]) == ["A", "B", "C", "D"]
    test = (after >= "2020-02-14") & (after < "2020-02-29")
    np.testing.assert_array_equal(found.fields[test], splits["test"].fields)
    gap = (after >= "2020-01-21") & (after <= "2020-01-25") & (found.items["stock"] == "C")
    assert not gap.any()
    short = dataclasses.replace(config, lag=61)
    with pytest.raises(InputError, match="must have at least the 61 days"):
        short.restore(str(tmp_path / "m.npz"), data.state())


def test_volumes_are_scaled_as_those_of_the_split(tmp_path):
    random, arrays = np.random.default_rng(0), {}
    for name in ("train", "val", "test"):
        arrays[f"{name}_images"] = random.integers(0, 256, (4, 3, 3, 3)).astype(np.uint8)
        arrays[f"{name}_labels"] = np.array([[0], [1], [0], [1]])
    np.savez(tmp_path / "all.npz", **arrays)
    config = LabelledVolumesConfig(path=str(tmp_path / "all.npz"))
    data = config.load()
    test = data.source("test")
    expected = np.stack([test[at]["field"] for at in range(4)])
    np.save(tmp_path / "one.npy", arrays["test_images"])
    for name in ("all.npz", "one.npy"):
        items = config.restore(str(tmp_path / name), data.state()).source(EVERYTHING)
        np.testing.assert_array_equal([item["field"] for item in items], expected)
    np.savez(tmp_path / "two.npz", a=arrays["test_images"], b=arrays["test_images"])
    with pytest.raises(InputError, match=r"which array of .* are the items, got a, b"):
        config.restore(str(tmp_path / "two.npz"), data.state())


@pytest.mark.slow
def test_value_at_risk_is_that_of_the_evaluation(tmp_path):
    price_table().to_csv(tmp_path / "prices.csv", index=False)
    data = RiskConfig(path=str(tmp_path / "prices.csv"), horizon=5)
    task = ForecastConfig(quantiles=(0.05, 0.5), residual="none")
    run, model = trained(tmp_path, data, task, (1, 1))
    found = made(tmp_path, tmp_path / "prices.csv", every=1)
    assert list(found.columns[:4]) == ["init_time", "rows", "valid_time", "company"]
    rows = run.judge(model, "test").rows
    values = found.quantile_without_level.to_numpy().reshape(420, 4)
    np.testing.assert_allclose(
        values[rows["index"] - 5], rows["quantiles"]["model_without_level"], rtol=1e-5
    )
    moved = found["quantile"] / found.quantile_without_level
    assert moved.iloc[-1] != 1
    # One for all companies of a day, and from past rows only.
    np.testing.assert_allclose(moved[-4:], moved.iloc[-1])
    price_table(change_after=300).to_csv(tmp_path / "other.csv", index=False)
    other = made(tmp_path, tmp_path / "other.csv", every=1)
    pd.testing.assert_frame_equal(found.iloc[: 301 * 4], other.iloc[: 301 * 4])
    assert not found.equals(other)
    last = by_command(tmp_path, tmp_path / "prices.csv")
    pd.testing.assert_frame_equal(last, found.iloc[-4:].reset_index(drop=True), rtol=1e-5)
    write_table(tmp_path / "wide.csv")
    with pytest.raises(InputError, match=r"must give the features .* 5 more that the run"):
        predict(tmp_path / "run", str(tmp_path / "wide.csv"), tmp_path / "f.csv")
