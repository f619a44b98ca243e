"""Movement of stocks: examples by day, the view of the market, the published instances."""

from typing import Any

import numpy as np
import pytest

from stpatch_jax.errors import InputError
from stpatch_jax.recipes.movement import MovementConfig

DAYS = np.arange("2024-01-01", "2024-01-13", dtype="datetime64[D]")


def write_movement(folder):
    """Three stocks on twelve days; stock 1 lacks a feature on day 5."""
    random = np.random.default_rng(0)
    features = random.normal(size=(3, 12, 2)).astype(np.float32)
    features[1, 5, 0] = -123321.0
    label = np.ones((3, 12), np.float32)
    label[2] = -1
    label[0, 4] = 0
    np.savez(folder / "moves.npz", features=features, label=label, dates=DAYS)
    return str(folder / "moves.npz"), features


DATES: dict[str, Any] = {
    "train_from": "2024-01-02",
    "validation_from": "2024-01-06",
    "test_from": "2024-01-09",
}


def test_an_example_is_a_stock_on_a_labelled_day(tmp_path):
    path, features = write_movement(tmp_path)
    data = MovementConfig(path=path, lag=2, **DATES).load()
    # Rows 2 to 4 are training days; label 0 of stock 0 on row 4 is left out.
    assert data.class_counts == (3, 5)
    train = data.splits["train"]
    np.testing.assert_array_equal(train.groups, [2, 2, 2, 3, 3, 3, 4, 4])
    np.testing.assert_array_equal(train.fields[3], features[0, 1:3])
    np.testing.assert_array_equal(train.labels, [1, 1, 0, 1, 1, 0, 1, 0])
    assert data.report["notes"][0].startswith("The labelled days are of train 2024-01-03 to 2024-")
    # Stock 1 is unknown on row 5, so it has no example on rows 6 and 7.
    np.testing.assert_array_equal(data.splits["validation"].groups, [5, 5, 5, 6, 6, 7, 7])


def test_what_is_not_a_number_is_missing_and_no_label(tmp_path):
    path, _ = write_movement(tmp_path)
    expected = MovementConfig(path=path, lag=2, **DATES).load()
    with np.load(path) as stored:
        arrays: dict[str, Any] = dict(stored)
    arrays["features"][arrays["features"] < -123320] = np.nan
    np.savez(path, **arrays)
    data = MovementConfig(path=path, lag=2, **DATES).load()
    for name, split in expected.splits.items():
        np.testing.assert_array_equal(data.splits[name].fields, split.fields)
    for odd in (np.nan, 2):
        arrays["label"][1, 3] = odd
        np.savez(path, **arrays)
        with pytest.raises(InputError, match=f"got {odd}.* for stock 1 on 2024-01-04; make it one"):
            MovementConfig(path=path, lag=2, **DATES).load()


def test_the_market_is_the_mean_over_known_stocks(tmp_path):
    path, features = write_movement(tmp_path)
    features[0, 6, 1] = 50.0
    np.savez(path, features=features, label=np.ones((3, 12)), dates=DAYS)
    split = MovementConfig(path=path, lag=2, view="market", **DATES).load().splits["validation"]
    assert split.fields.shape == (len(split.labels), 1, 4)
    day = split.fields[split.groups == 7]
    # Before row 7 lie rows 5, where stock 1 is unknown, and 6, with an outlier.
    last = features[:, 6].clip(-6, 6).mean(axis=0)
    before = features[[0, 2], 5].mean(axis=0)
    for example in day:
        np.testing.assert_allclose(example[0, :2], last, rtol=1e-5)
        np.testing.assert_allclose(example[0, 2:], (last + before) / 2, rtol=1e-5)


def test_the_published_instances_come_out(data_dir):
    splits = MovementConfig(path="catalog:acl18").load().report["splits"]
    counts = {name: sum(by_class.values()) for name, by_class in splits.items()}
    assert counts == {"train": 20315, "validation": 2555, "test": 3720}
    up = splits["test"]["up"] / counts["test"]
    assert up == pytest.approx(0.513, abs=5e-4)


def test_mistakes_of_a_movement_are_told_in_one_sentence(tmp_path):
    moves, _ = write_movement(tmp_path)
    with pytest.raises(InputError, match=r"data\.lag must be a whole number >= 1"):
        MovementConfig(path=moves, lag=0)
    with pytest.raises(InputError, match="one after the other"):
        MovementConfig(path=moves, **{**DATES, "test_from": "2024-01-01"})
    early, late = {"train_from": "2023-12-31"}, {"test_from": "2024-01-13"}
    for dates in ({}, {**DATES, **early}, {**DATES, **late}):
        told = "holds 2024-01-01 to 2024-01-12, got splits that begin at .*data.test_from"
        with pytest.raises(InputError, match=told):
            MovementConfig(path=moves, **dates).load()
    np.savez(tmp_path / "other.npz", features=np.zeros((1, 2, 3)))
    with pytest.raises(InputError, match="features, label and dates, got features; give"):
        MovementConfig(path=str(tmp_path / "other.npz")).load()


def test_no_example_reaches_over_days_that_are_left_out(tmp_path):
    path, features = write_movement(tmp_path)
    days = DAYS + np.where(np.arange(12) < 10, 0, 20).astype("m8[D]")
    np.savez(path, features=features, label=np.ones((3, 12)), dates=days)
    config = MovementConfig(path=path, lag=2, **DATES)
    with pytest.warns(UserWarning, match=r"1 gap in time \(20 rows missing"):
        data = config.load()
    np.testing.assert_array_equal(np.unique(data.splits["test"].groups), [8, 9])
    with pytest.warns(UserWarning, match="1 gap in time"):
        other = config.restore(path, data.state())
    # After the last day a forecast has both its days.
    assert other.names("all")["after"][-1] == days[-1]


def test_what_could_not_be_compared_and_gaps_stand_in_the_report(tmp_path):
    path, _ = write_movement(tmp_path)
    config = MovementConfig(path=path, lag=2, **DATES)
    data = config.load()
    assert data.report["gaps"] == []
    with np.load(path) as stored:
        arrays: dict[str, Any] = dict(stored)
    np.savez(tmp_path / "new.npz", **{**arrays, "dates": np.arange(12)})
    told = "The step is not compared, as the times are numbers here alone."
    with pytest.warns(UserWarning, match=told):
        found = config.restore(str(tmp_path / "new.npz"), data.state())
    assert found.report["notes"] == [told]
    days = np.where(DAYS[4] > DAYS, DAYS, DAYS + np.timedelta64(20, "D"))
    np.savez(tmp_path / "new.npz", **{**arrays, "dates": days})
    late = {**DATES, "validation_from": "2024-01-26", "test_from": "2024-01-29"}
    with pytest.warns(UserWarning, match="has 1 gap in time"):
        gaps = MovementConfig(path=str(tmp_path / "new.npz"), lag=2, **late).load().report["gaps"]
    assert [gap["missing"] for gap in gaps] == [20]
