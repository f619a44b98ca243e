"""Labelled volumes: the official split, scaling by training volumes, augmentation only there."""

import numpy as np
import pytest

from stpatch_jax.data import Augmentation, AugmentedSource, LabelledVolumesConfig
from stpatch_jax.errors import InputError


def write(folder, *, channels=False, **arrays):
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
    path, stored = write(tmp_path, channels=channels)
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


def test_only_training_volumes_are_changed_and_keep_their_label(tmp_path):
    path, _ = write(tmp_path)
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


def test_mistakes_are_told_in_one_sentence(tmp_path):
    path, _ = write(tmp_path, val_images=np.zeros((4, 5, 4, 4)))
    with pytest.raises(InputError, match=r"got \(1, 5, 4, 4, 1\) in validation and"):
        LabelledVolumesConfig(path=path).load()
    path, _ = write(tmp_path, train_images=np.zeros((8, 4, 4)))
    with pytest.raises(InputError, match=r"must be volumes .* got \(8, 4, 4\)"):
        LabelledVolumesConfig(path=path).load()
    path, _ = write(tmp_path, val_labels=np.full((4, 1), 7))
    with pytest.raises(InputError, match="classes 0, 1, 2, got 7 for item 0"):
        LabelledVolumesConfig(path=path).load()
    path, _ = write(tmp_path)
    with pytest.raises(InputError, match="axes of the 3 space axes"):
        LabelledVolumesConfig(path=path, augmentation=Augmentation(flip=(3,))).load()


def test_volumes_of_bytes_and_of_floats_are_not_taken_for_each_other(tmp_path):
    bytes_, floats = (np.ones((4, 2, 2, 2), dtype) for dtype in (np.uint8, np.float32))
    labels = np.arange(10) % 2
    path, _ = write(tmp_path, val_images=np.ones((4, 4, 4, 4), np.float32))
    told = "the validation split of .* must hold whole numbers from 0 to 255, as the training split"
    with pytest.raises(InputError, match=told):
        LabelledVolumesConfig(path=path).load()
    data = LabelledVolumesConfig().of((np.ones((10, 2, 2, 2), np.uint8), labels))
    np.savez(tmp_path / "bytes.npz", bytes_)
    np.savez(tmp_path / "floats.npz", floats)
    config = LabelledVolumesConfig()
    assert config.restore(str(tmp_path / "bytes.npz"), data.state()).fields.dtype == np.uint8
    with pytest.raises(
        InputError, match=r"whole numbers from 0 to 255, as the run, got numbers of"
    ):
        config.restore(str(tmp_path / "floats.npz"), data.state())
