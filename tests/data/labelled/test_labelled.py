"""Labelled series and volumes of archives: official splits, classes, scaling by training items."""

from typing import Any

import numpy as np
import pytest

from stpatch_jax.data import (
    Augmentation,
    AugmentedSource,
    LabelledSeriesConfig,
    LabelledVolumesConfig,
)
from stpatch_jax.errors import InputError


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


def test_mistakes_are_told_in_one_sentence(tmp_path):
    path = write_series(tmp_path)
    with pytest.raises(InputError, match="validation_share must be in"):
        LabelledSeriesConfig(path=path, validation_share=1.0)
    with pytest.raises(InputError, match="class -1 must have items for training and validation"):
        LabelledSeriesConfig(path=path, validation_share=0.01).load()
    with pytest.raises(InputError, match=r"must be a file or folder at .*Waves_X\.tsv"):
        LabelledSeriesConfig(path=path.replace("TRAIN", "X")).load()
    with pytest.raises(InputError, match="split must be 'train'"):
        LabelledSeriesConfig(path=path).load().source("dev")


def test_a_file_of_series_without_a_pair_tests_on_a_fifth(tmp_path):
    lines = [f"{at % 2 + 1}\t{at}\t{at / 2}" for at in range(20)]
    (tmp_path / "all").write_text("\n".join(lines))  # Older files of the archive have no suffix.
    data = LabelledSeriesConfig(path=str(tmp_path / "all")).load()
    assert data.report["splits"]["test"] == {"1": 2, "2": 2}
    assert "validation and test are drawn at random" in " ".join(data.report["notes"])
    for case, test in {"Train": "Test", "TRAIN": "TEST", "train": "test"}.items():
        (tmp_path / f"train_a_{test}.TSV").write_text("\n".join(lines[:6]))
        (tmp_path / f"train_a_{case}.TSV").write_text("\n".join(lines))
        data = LabelledSeriesConfig(path=str(tmp_path / f"train_a_{case}.TSV")).load()
        assert len(data.source("test")) == 6
    # What is predicted needs no class.
    (tmp_path / "new.tsv").write_text("?\t1\t2\nNaN\t3\t4\n")
    found = LabelledSeriesConfig().restore(str(tmp_path / "new.tsv"), data.state())
    assert len(found.source("all")) == 2


def write_volumes(folder, *, channels=False, **arrays: Any):
    random = np.random.default_rng(0)
    stored = {}
    for name, count in {"train": 8, "val": 4, "test": 5}.items():
        shape = (count, 4, 4, 4, 2) if channels else (count, 4, 4, 4)
        stored[f"{name}_images"] = random.integers(0, 256, shape).astype(np.uint8)
        stored[f"{name}_labels"] = (np.arange(count)[:, None] % 3).astype(np.uint8)
    np.savez(folder / "volumes.npz", **{**stored, **arrays})
    return str(folder / "volumes.npz"), stored


@pytest.mark.parametrize("channels", [False, True])
def test_volumes_come_in_their_official_split(tmp_path, channels):
    path, stored = write_volumes(tmp_path, channels=channels)
    data = LabelledVolumesConfig(path=path).load()
    assert data.classes == ("0", "1", "2")
    assert data.class_counts == (3, 3, 2)
    train = stored["train_images"].reshape(8, 1, 4, 4, 4, -1).astype(np.float64)
    axes = tuple(range(5))
    mean, deviation = train.mean(axis=axes), train.std(axis=axes)
    for split, name in {"train": "train", "validation": "val", "test": "test"}.items():
        source = data.source(split)
        fields = np.stack([source[i]["field"] for i in range(len(source))])
        images = stored[f"{name}_images"].reshape(len(source), 1, 4, 4, 4, -1)
        np.testing.assert_allclose(fields, (images - mean) / deviation, atol=1e-5)
        labels = [int(source[i]["label"]) for i in range(len(source))]
        assert labels == stored[f"{name}_labels"][:, 0].tolist()
        assert [int(source[i]["group"]) for i in range(len(source))] == list(range(len(source)))


def test_only_training_volumes_are_changed_and_keep_their_label(tmp_path):
    path, _ = write_volumes(tmp_path)
    changes = Augmentation(turn=True, flip=(0, 1, 2), shift=1, noise=0.1)
    data = LabelledVolumesConfig(path=path, augmentation=changes).load()
    train = data.source("train")
    assert isinstance(train, AugmentedSource)
    assert not isinstance(data.source("validation"), AugmentedSource)
    assert not isinstance(data.source("test"), AugmentedSource)
    for i in range(8):
        plain, drawn = train[i], train.drawn(i, np.random.default_rng(i))
        assert not np.array_equal(plain["field"], drawn["field"])
        assert drawn["field"].shape == plain["field"].shape
        assert drawn["field"].dtype == plain["field"].dtype
        assert (drawn["label"], drawn["group"]) == (plain["label"], plain["group"])


def test_a_share_of_the_training_volumes_is_trained_on(tmp_path):
    path, stored = write_volumes(tmp_path)
    data = LabelledVolumesConfig(path=path, train_share=0.5).load()
    assert data.class_counts == (2, 2, 1)
    assert len(data.source("validation")) == 4
    kept = stored["train_images"][data.splits["train"].groups]
    np.testing.assert_array_equal(data.splits["train"].fields[:, 0, ..., 0], kept)
    assert data.scaler.center == pytest.approx(kept.mean())


def test_mistakes_in_volumes_are_told(tmp_path):
    def told(match, **arrays):
        path, _ = write_volumes(tmp_path, **arrays)
        with pytest.raises(InputError, match=match):
            LabelledVolumesConfig(path=path).load()

    told(
        r"got \(1, 4, 4, 4, 1\) in train and \(1, 5, 4, 4, 1\) in v",
        val_images=np.zeros((4, 5, 4, 4), "u1"),
    )
    told(r"axes of layout=volumes, got items of shape \(4, 4\)", train_images=np.zeros((8, 4, 4)))
    told("classes 0, 1, 2, got 7 for item 8", val_labels=np.full((4, 1), 7))
    path, _ = write_volumes(tmp_path)
    with pytest.raises(InputError, match="axes of the 3 space axes"):
        LabelledVolumesConfig(path=path, augmentation=Augmentation(flip=(3,))).load()
    infinite = np.ones((8, 4, 4, 4), "f4")
    infinite[3, 1, 1, :2] = np.nan
    others: dict[str, Any] = {
        f"{name}_images": np.ones((n, 4, 4, 4), "f4") for name, n in (("val", 4), ("test", 5))
    }
    path, _ = write_volumes(tmp_path, train_images=infinite, **others)
    notes = LabelledVolumesConfig(path=path).load().report["notes"]
    assert "2 missing values are read as the mean of their channel." in notes
    infinite[4, 0, 0, 0] = np.inf
    told("an infinite one in item", train_images=infinite, **others)


def test_classes_may_be_declared(tmp_path):
    # What lies behind a gap marks items of no class.
    path, _ = write_volumes(tmp_path, train_labels=np.tile([0, 1, 255, 2], 2))
    with pytest.raises(
        InputError, match=r"volumes\.npz must be one of the classes 0, 1, 2, got 255"
    ):
        LabelledVolumesConfig(path=path).load()
    data = LabelledVolumesConfig(path=path, classes=("0", "1", "255", "2")).load()
    assert data.class_counts == (2, 2, 2, 2)
    path, _ = write_volumes(tmp_path)
    data = LabelledVolumesConfig(path=path, classes=tuple("abcd")).load()
    assert "No training example is of the class d." in data.report["notes"]
    assert data.class_counts == (3, 3, 2, 0)


def test_volumes_of_bytes_and_of_floats_are_not_taken_for_each_other(tmp_path):
    bytes_, floats = (np.ones((4, 2, 2, 2), dtype) for dtype in (np.uint8, np.float32))
    path, _ = write_volumes(tmp_path, val_images=np.ones((4, 4, 4, 4), np.float32))
    told = "the validation split of .* must hold whole numbers from 0 to 255, as the training split"
    with pytest.raises(InputError, match=told):
        LabelledVolumesConfig(path=path).load()
    config = LabelledVolumesConfig()
    data = config.of((np.ones((10, 2, 2, 2), np.uint8), np.arange(10) % 2))
    np.savez(tmp_path / "bytes.npz", bytes_)
    np.savez(tmp_path / "floats.npz", floats)
    assert config.restore(str(tmp_path / "bytes.npz"), data.state()).fields.dtype == np.uint8
    told = r"whole numbers from 0 to 255, as the run, got numbers of"
    with pytest.raises(InputError, match=told):
        config.restore(str(tmp_path / "floats.npz"), data.state())
