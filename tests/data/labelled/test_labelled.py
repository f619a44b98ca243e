"""Labelled fields: official splits, instance counts, scaling by training examples."""

from typing import Any

import numpy as np
import pytest

from stpatch_jax.data import LabelledSeriesConfig
from stpatch_jax.errors import InputError
from stpatch_jax.recipes.movement.data import MovementConfig


def write_series(folder, *, train=20, test=6, length=8):
    random = np.random.default_rng(0)
    for name, count in {"TRAIN": train, "TEST": test}.items():
        labels = np.arange(count) % 2
        values = random.normal(3.0, 2.0, (count, length)) + 5 * labels[:, None]
        lines = [
            "\t".join([str(2 * label - 1), *map(repr, row.tolist())])
            for label, row in zip(labels, values, strict=True)
        ]
        (folder / f"Waves_{name}.tsv").write_text("\n".join(lines) + "\n")
    return str(folder / "Waves_TRAIN.tsv")


def test_series_come_with_their_official_split(tmp_path):
    data = LabelledSeriesConfig(path=write_series(tmp_path)).load()
    assert data.classes == ("-1", "1")
    assert data.class_counts == (10, 10)
    assert len(data.source("test")) == 6
    examples = [data.source("train")[i] for i in range(20)]
    fields = np.stack([example["field"] for example in examples])
    assert fields.shape == (20, 8, 1)
    assert fields.mean() == pytest.approx(0, abs=1e-6)
    assert fields.std() == pytest.approx(1, abs=1e-6)
    assert [int(example["label"]) for example in examples] == [0, 1] * 10


def test_a_share_of_each_class_is_validated_on(tmp_path):
    config = LabelledSeriesConfig(path=write_series(tmp_path), validation_share=0.3, seed=1)
    data = config.load()
    assert data.class_counts == (7, 7)
    held = data.source("validation")
    assert sorted(int(held[i]["label"]) for i in range(len(held))) == [0, 0, 0, 1, 1, 1]
    groups = {
        name: {int(data.source(name)[i]["group"]) for i in range(len(data.source(name)))}
        for name in ("train", "validation")
    }
    assert groups["train"].isdisjoint(groups["validation"])
    assert groups["train"] | groups["validation"] == set(range(20))


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
    # Stock 1 is unknown on row 5, so it has no example on rows 6 and 7.
    np.testing.assert_array_equal(data.splits["validation"].groups, [5, 5, 5, 6, 6, 7, 7])


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


def test_mistakes_are_told_in_one_sentence(tmp_path):
    path = write_series(tmp_path)
    with pytest.raises(InputError, match="validation_share must be in"):
        LabelledSeriesConfig(path=path, validation_share=1.0)
    with pytest.raises(InputError, match="class -1 must have items for training and validation"):
        LabelledSeriesConfig(path=path, validation_share=0.01).load()
    with pytest.raises(InputError, match=r"must be the file NAME_TRAIN\.tsv"):
        LabelledSeriesConfig(path=path.replace("TRAIN", "X")).load()
    with pytest.raises(InputError, match="split must be 'train'"):
        LabelledSeriesConfig(path=path).load().source("dev")
    moves, _ = write_movement(tmp_path)
    with pytest.raises(InputError, match="lag must be at least 1 day"):
        MovementConfig(path=moves, lag=0)
    with pytest.raises(InputError, match="one after the other"):
        MovementConfig(path=moves, **{**DATES, "test_from": "2024-01-01"})
    with pytest.raises(InputError, match="each split must have a day of"):
        MovementConfig(path=moves).load()
    np.savez(tmp_path / "other.npz", features=np.zeros((1, 2, 3)))
    with pytest.raises(InputError, match="there is no label and no dates; it has features"):
        MovementConfig(path=str(tmp_path / "other.npz")).load()
