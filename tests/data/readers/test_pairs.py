"""Which arrays are items and labels: found where there is no doubt, told, or asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data import LabelledVolumesConfig
from stpatch_jax.data.readers.arrays import Header
from stpatch_jax.data.readers.pairs import find_pairs
from stpatch_jax.errors import InputError

VOLUMES, LABELS = Header((6, 4, 4, 4), np.dtype("u1")), Header((6,), np.dtype("u1"))


def headers(*pairs, **others):
    return {items: VOLUMES for items, _ in pairs} | {labels: LABELS for _, labels in pairs} | others


@given(
    name=st.sampled_from(["x_{}", "{}_images", "{}-X", "{}.vol", "images.{}", "A {}"]),
    label=st.sampled_from(["y_{}", "{}_labels", "{}-Y", "labels.{}"]),
    words=st.sampled_from(
        [("train", "val", "test"), ("Training", "dev", "TEST"), ("train", "test")]
    ),
    random=st.randoms(),
)
def test_splits_are_found_by_their_words(name, label, words, random):
    pairs = [(name.format(word), label.format(word)) for word in words]
    there = list(headers(*pairs, class_names=Header((3,), np.dtype("U4"))).items())
    random.shuffle(there)
    found = find_pairs(dict(there), items=(), labels=(), name="a.npz")
    assert list(found.values()) == pairs
    assert list(found) == (
        ["train", "validation", "test"] if len(words) == 3 else ["train", "test"]
    )


def test_one_pair_is_all():
    assert find_pairs(headers(("vols", "target")), items=(), labels=(), name="a.npz") == {
        "all": ("vols", "target")
    }


def test_what_is_told_is_taken():
    there = headers(("a", "b"), ("c", "d"), ("e", "f"))
    told = find_pairs(there, items=("a", "c", "e"), labels=("b", "d", "f"), name="a.npz")
    assert told == {"train": ("a", "b"), "validation": ("c", "d"), "test": ("e", "f")}
    assert find_pairs(there, items=("c",), labels=("f",), name="a.npz") == {"all": ("c", "f")}


@pytest.mark.parametrize(
    ("there", "told", "message"),
    [
        (headers(("a", "b"), ("c", "d")), {}, r"got a \(6, 4, 4, 4\), .*with items= and labels="),
        (headers(("x_train", "y_train")), {}, "name both"),
        (headers(("a", "b")), {"items": ("a",)}, "name both"),
        (headers(("a", "b")), {"items": ("a",), "labels": ("no",)}, "must be 'a' or 'b', got 'no'"),
        (headers(("a", "b"), more=LABELS), {}, "must be clear"),
        ({"b": LABELS}, {}, "must be clear"),
    ],
)
def test_what_is_not_clear_is_asked_for(there, told, message):
    with pytest.raises(InputError, match=message):
        find_pairs(there, **{"items": (), "labels": (), **told}, name="a.npz")


def stored(folder, **names):
    """A file of 20 volumes and labels for each pair of names."""
    random = np.random.default_rng(0)
    arrays = {}
    for items, labels in names.items():
        arrays[items] = random.random((20, 4, 4, 4)).astype("f4")
        arrays[labels] = np.arange(20) % 2
    np.savez(folder / "a.npz", **arrays)
    return str(folder / "a.npz")


def test_a_file_without_validation_gives_a_fifth_of_the_training(tmp_path):
    path = stored(tmp_path, x_train="y_train", x_test="y_test")
    data = LabelledVolumesConfig(path).load()
    assert [len(data.source(name)) for name in ("train", "validation", "test")] == [16, 4, 20]
    predicted = LabelledVolumesConfig(path).restore(path, data.state())
    assert predicted.fields.shape == (20, 1, 4, 4, 4, 1)
    other = LabelledVolumesConfig(path, items=("x_train",)).restore(path, data.state())
    assert not np.array_equal(other.fields, predicted.fields)
    other = LabelledVolumesConfig(path, items=("vols",)).restore(path, data.state())
    assert "The items are the array x_test, as there is no vols." in other.report["notes"]
    np.savez(tmp_path / "two.npz", a=np.ones((2, 4, 4, 4)), b=np.ones((2, 4, 4, 4)))
    with pytest.raises(InputError, match="name it with items="):
        LabelledVolumesConfig(path).restore(str(tmp_path / "two.npz"), data.state())
