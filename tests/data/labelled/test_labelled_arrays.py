"""Labelled files as people have them: splits, classes and values that are told or missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stpatch_jax.data import LabelledSeriesConfig, LabelledVolumesConfig
from stpatch_jax.errors import InputError

RANDOM = np.random.default_rng(0)


def volumes(count, *, size=3):
    return RANDOM.integers(0, 256, (count, size, size, size)).astype(np.uint8)


def classes_of(count):
    return np.arange(count) % 2


def write(folder: Path, arrays: dict[str, Any]) -> str:
    np.savez(folder / "own.npz", **arrays)
    return str(folder / "own.npz")


@pytest.mark.parametrize(
    "names",
    [
        "{split}_images {split}_labels",
        "x_{split} y_{split}",
        "X_{split} y_{split}",
        "{split}X {split}Labels",
        "{split}/scans {split}/target",
    ],
)
@pytest.mark.parametrize("splits", ["train val test", "training dev testing", "tr valid te"])
def test_splits_are_told_by_words_of_names(tmp_path, names, splits):
    arrays = {}
    for split, count in zip(splits.split(), (20, 10, 12), strict=True):
        items, labels = names.format(split=split).split()
        arrays |= {items.replace("/", "."): volumes(count)}
        arrays |= {labels.replace("/", "."): classes_of(count)}
    arrays["about"] = np.asarray(3)
    data = LabelledVolumesConfig(path=write(tmp_path, arrays)).load()
    counts = {split: len(data.source(split)) for split in ("train", "validation", "test")}
    assert counts == {"train": 20, "validation": 10, "test": 12}
    assert data.report["notes"] == []


def test_splits_that_are_not_there_are_split_off_and_told(tmp_path):
    path = write(tmp_path, {"scans": volumes(20), "kind": classes_of(20)})
    data = LabelledVolumesConfig(path=path).load()
    counts = {split: len(data.source(split)) for split in ("train", "validation", "test")}
    assert counts == {"train": 12, "validation": 4, "test": 4}
    assert len(data.report["notes"]) == 1
    groups = [int(data.source(split)[i]["group"]) for split in counts for i in range(counts[split])]
    assert sorted(groups) == list(range(20))
    assert set(data.report["splits"]["test"].values()) == {2}


def test_classes_may_be_declared(tmp_path):
    labels = np.tile([0, 1, 255], 10)
    path = write(tmp_path, {"images": volumes(30), "labels": labels})
    with pytest.raises(InputError, match=r"labels in .* got 255 for item 2"):
        LabelledVolumesConfig(path=path).load()
    data = LabelledVolumesConfig(path=path, classes=("0", "1", "255")).load()
    assert data.classes == ("0", "1", "255")
    arrays = {f"{split}_x": volumes(9) for split in ("train", "val", "test")}
    arrays |= {f"{split}_y": np.arange(9) % 3 for split in ("train", "val", "test")}
    config = LabelledVolumesConfig(path=write(tmp_path, arrays), classes=tuple("abcd"))
    data = config.load()
    assert data.report["notes"] == ["No training example is of the class d."]
    assert data.class_counts == (3, 3, 3, 0)
    # A class that training items do not have is none of the test items either.
    arrays["test_y"] = np.arange(9) % 4
    with pytest.raises(InputError, match=r"test_y in .* classes 0, 1, 2, got 3 for item 3"):
        LabelledVolumesConfig(path=write(tmp_path, arrays)).load()


def test_missing_values_are_told_and_infinite_ones_refused(tmp_path):
    items = volumes(20).astype(np.float32)
    items[3, 1, 1, :2] = np.nan
    path = write(tmp_path, {"items": items, "labels": classes_of(20)})
    notes = LabelledVolumesConfig(path=path).load().report["notes"]
    assert "2 missing values are read as the mean of their channel." in notes
    items[4, 0, 0, 0] = np.inf
    path = write(tmp_path, {"items": items, "labels": classes_of(20)})
    with pytest.raises(InputError, match="an infinite one in item"):
        LabelledVolumesConfig(path=path).load()


def test_a_file_of_series_without_a_pair_tests_on_a_fifth(tmp_path):
    lines = [f"{at % 2 + 1}\t{at}\t{at / 2}" for at in range(20)]
    (tmp_path / "all.tsv").write_text("\n".join(lines))
    data = LabelledSeriesConfig(path=str(tmp_path / "all.tsv")).load()
    assert data.report["splits"]["test"] == {"1": 2, "2": 2}
    assert data.report["notes"] == [
        "The file has no splits: a fifth of each class validates, another one tests."
    ]
    for case in ("Train", "TRAIN", "train"):
        test = {"Train": "Test", "TRAIN": "TEST", "train": "test"}[case]
        (tmp_path / f"train_a_{test}.TSV").write_text("\n".join(lines[:6]))
        (tmp_path / f"train_a_{case}.TSV").write_text("\n".join(lines))
        data = LabelledSeriesConfig(path=str(tmp_path / f"train_a_{case}.TSV")).load()
        assert len(data.source("test")) == 6
    # What is predicted needs no class.
    (tmp_path / "new.tsv").write_text("?\t1\t2\nNaN\t3\t4\n")
    found = LabelledSeriesConfig().restore(str(tmp_path / "new.tsv"), data.state())
    assert len(found.source("all")) == 2
