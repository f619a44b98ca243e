"""Labelled fields: official splits, instance counts, scaling by training examples."""

import numpy as np
import pytest

from stpatch_jax.data import LabelledSeriesConfig
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
    with pytest.raises(InputError, match=r"must be a file of series at .*Waves_X\.tsv"):
        LabelledSeriesConfig(path=path.replace("TRAIN", "X")).load()
    with pytest.raises(InputError, match="split must be 'train'"):
        LabelledSeriesConfig(path=path).load().source("dev")
