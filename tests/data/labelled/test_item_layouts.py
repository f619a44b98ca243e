"""Items with labels of any layout: what lies at a path, or in memory, tells how it is read."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stpatch_jax.data import LabelledClips, LabelledConfig, MeasuredConfig
from stpatch_jax.data.labelled.found import laid_out
from stpatch_jax.data.protocols import EVERYTHING
from stpatch_jax.errors import InputError

RANDOM = np.random.default_rng(0)
COUNT = 30
CLASSES = np.asarray(["no", "yes", "maybe"])[np.arange(COUNT) % 3]
SPLITS = ("train", "validation", "test")


def field(count, *shape):
    return RANDOM.normal(size=(count, *shape)).astype(np.float32)


def counts(data):
    return {name: len(data.source(name)) for name in SPLITS}


def write_table(path, columns):
    frame = pd.DataFrame(columns)
    frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return str(path)


def restored(config, data, path):
    """The items of a file for a run on these data: its only split, and their names."""
    config, _ = config.settled(data)
    other = config.restore(str(path), data.state())
    names: dict[str, Any] = dict(other.names(EVERYTHING))
    return other.source(EVERYTHING), names, other.report


@pytest.mark.parametrize(
    ("shape", "dtype", "layout", "field_shape"),
    [
        ((5,), float, "rows", (1, 5)),
        ((40,), float, "series", (40, 1)),
        ((40, 3), float, "series", (40, 3)),
        ((12, 12), float, "images", (1, 12, 12, 1)),
        ((9, 12), np.uint8, "images", (1, 9, 12, 1)),
        ((9, 12, 3), np.uint8, "images", (1, 9, 12, 3)),
        ((9, 9, 9), float, "volumes", (1, 9, 9, 9, 1)),
        ((9, 9, 9, 2), float, "volumes", (1, 9, 9, 9, 2)),
        ((9, 5, 2), float, "fields", (9, 5, 2)),
        ((4, 9, 12, 3), np.uint8, "fields", (4, 9, 12, 3)),
    ],
)
def test_arrays_have_the_layout_that_their_axes_tell(shape, dtype, layout, field_shape):
    values = RANDOM.integers(0, 9, (2, *shape)).astype(dtype)
    fields, found, note = laid_out(values, "auto", "x")
    assert (found, fields.shape[1:]) == (layout, field_shape)
    assert layout in note
    np.testing.assert_array_equal(fields.ravel(), values.ravel())


def test_a_layout_that_is_told_is_kept_or_refused():
    data = LabelledConfig(layout="series").of((field(COUNT, 12, 12), CLASSES))
    assert data.report["shape"] == [12, 12]
    with pytest.raises(InputError, match=r"axes of layout=volumes, got items of shape \(12,\)"):
        LabelledConfig(layout="volumes").of((field(COUNT, 12), CLASSES))


@settings(max_examples=10)
@given(st.lists(st.integers(8, 20), min_size=2, max_size=3), st.integers(0, 9))
def test_splits_are_stratified_disjoint_and_of_the_seed(numbers, seed):
    labels = np.random.default_rng(seed).permutation(
        np.repeat(["a", "b", "c"][: len(numbers)], numbers)
    )
    config = LabelledConfig(seed=seed, test_share=0.3)
    data, again = (config.of((field(len(labels), 3), labels)) for _ in range(2))
    found = {name: data.splits[name].groups for name in SPLITS}
    assert sorted(np.concatenate([*found.values()])) == list(range(len(labels)))
    tested = data.report["splits"]["test"].values()
    assert list(tested) == [round(0.3 * count) for count in numbers]
    assert all((again.splits[name].groups == found[name]).all() for name in SPLITS)


def test_items_that_differ_in_shape_are_refused():
    items = [np.zeros((length, 2)) for length in (9, 12, 9)]
    with pytest.raises(InputError, match="items of memory must have one shape, got several"):
        LabelledConfig().of((items, CLASSES[:3]))


def test_codes_are_classes_as_they_stand_and_whole_numbers_are_numbers():
    for labels, classes in (
        (["02", "01", "01"], ("01", "02")),
        (["2", " 1", "1.0"], ("1", "2")),
        (["0", "-1", "0.0"], ("-1", "0")),
    ):
        assert LabelledConfig().of((field(60, 20), np.asarray(labels * 20))).classes == classes


def test_groups_are_kept_together():
    groups = np.asarray([f"person {at % 7}" for at in range(70)])
    data = LabelledConfig().of((field(70, 20), np.arange(70) % 2, groups))
    held = [set(data.splits[name].groups) for name in SPLITS]
    assert sum(map(len, held)) == len(set.union(*held)) == 7
    assert "7 groups as a whole" in " ".join(data.report["notes"])


def test_a_table_of_numbers_is_read_by_its_names(tmp_path):
    columns = {"id": range(COUNT), "height": field(COUNT), "width": 100 * field(COUNT)}
    columns |= {"name": ["x"] * COUNT, "Label": CLASSES}
    config = LabelledConfig(path=write_table(tmp_path / "x.csv", columns))
    data = config.load()
    assert data.channels == ("height", "width")
    assert data.report["shape"] == [1, 2]
    assert "id, name" in " ".join(data.report["notes"])
    assert counts(data) == {"train": 18, "validation": 6, "test": 6}
    # Each column has a scale of its own, and is found by its name in another file.
    train = np.stack([example["field"] for example in data.source("train")])
    np.testing.assert_allclose(train.std(axis=0), 1, rtol=1e-4)
    other = {"width": columns["width"], "extra": 0, "height": columns["height"]}
    items, names, _ = restored(config, data, write_table(tmp_path / "new.csv", other))
    expected = (columns["height"][3] - data.scaler.center[0]) / data.scaler.scale[0]
    assert items[3]["field"][0, 0] == pytest.approx(expected, rel=1e-5)
    assert names["line"][:2].tolist() == [2, 3]


@pytest.mark.parametrize("folder", [False, True])
def test_official_splits_of_text_tables(tmp_path, folder):
    texts = [f"{name} {at % 4}" for at, name in enumerate(CLASSES)]
    for split, count in (("train", 30), ("dev", 6), ("test", 9)):
        table = {"sentence": texts[:count], "stars": CLASSES[:count]}
        path = write_table(tmp_path / f"{split}.tsv", table)
    path = tmp_path if folder else tmp_path / "train.tsv"
    config = LabelledConfig(path=str(path), labels=("stars",))
    data = config.load()
    assert counts(data) == {"train": 30, "validation": 6, "test": 9}
    assert data.classes == ("maybe", "no", "yes")
    # Each of three classes has evidence of its own for windows of one to three words.
    assert data.report["shape"][-1] == 9
    (tmp_path / "new.txt").write_text("maybe so\n\nunheard\n")
    items, names, report = restored(config, data, tmp_path / "new.txt")
    assert items[0]["field"].shape == tuple(data.report["shape"])
    assert names["line"].tolist() == [1, 3]
    assert "1 texts hold no words that the run knows." in report["notes"]


def test_a_split_without_labels_is_told_and_left_out(tmp_path):
    write_table(tmp_path / "test.csv", {"a": field(9), "b": field(9)})
    table = {"a": field(30), "b": field(30), "label": CLASSES}
    data = LabelledConfig(path=write_table(tmp_path / "train.csv", table)).load()
    assert counts(data) == {"train": 18, "validation": 6, "test": 6}
    assert "test.csv was not read" in " ".join(data.report["notes"])


def test_series_of_the_archive_keep_their_official_split(tmp_path):
    for split, count in (("TRAIN", 20), ("TEST", 7)):
        rows = [[-1 if n % 2 else 1, *field(5).tolist()] for n in range(count)]
        text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
        (tmp_path / f"N_{split}.tsv").write_text(text)
    config = LabelledConfig(path=str(tmp_path / "N_TRAIN.tsv"))
    data = config.load()
    assert data.classes == ("-1", "1")
    assert counts(data) == {"train": 16, "validation": 4, "test": 7}
    items, names, _ = restored(config, data, tmp_path / "N_TEST.tsv")
    np.testing.assert_array_equal(items[2]["field"], data.source("test")[2]["field"])
    assert names["line"].tolist() == list(range(1, 8))
    # A test split that is damaged is no reason to draw another.
    (tmp_path / "N_TEST.tsv").write_text("1\t2\t3\t4\t5\t6\n1\t2\t3\tx4\t5\t6\n")
    with pytest.raises(InputError, match="hold a label and 5 numbers, got line 2"):
        config.load()


def test_arrays_are_named_by_flag(tmp_path):
    arrays = {"x": field(COUNT, 20), "other": field(COUNT, 2), "y": CLASSES}
    np.savez(tmp_path / "own.npz", **arrays, age=field(COUNT), who=np.arange(COUNT) % 6)
    path = str(tmp_path / "own.npz")
    data = LabelledConfig(path=path, inputs=("x",), labels=("y",), group="who").load()
    assert data.report["shape"] == [20, 1]
    assert "The arrays are x and y." in data.report["notes"]
    with pytest.raises(InputError, match=r"name both with inputs= and labels="):
        LabelledConfig(path=path).load()
    with pytest.raises(InputError, match="must hold the array z, got x, other, y"):
        LabelledConfig(path=path, inputs=("x",), labels=("z",)).load()
    measured = MeasuredConfig(path=path, inputs=("x",), labels=("age",)).load()
    assert measured.targets == ("age",)
    assert measured.source("train")[0]["target"].shape == (1,)


def test_pictures_in_class_folders_are_resized_and_told(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "x" / name).mkdir(parents=True)
        for at in range(6):
            pixels = RANDOM.integers(0, 256, (20 + at, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "x" / name / f"{at}.png")
    config = LabelledConfig(path=str(tmp_path / "x"))
    data = config.load()
    assert isinstance(data, LabelledClips)
    assert data.report["shape"] == [1, 22, 22, 3]
    assert "resized to 22 x 22" in " ".join(data.report["notes"])
    items, names, _ = restored(config, data, tmp_path / "x" / "cat")
    assert names == {"file": [f"{at}.png" for at in range(6)]}
    assert items[0]["field"].shape == (1, 22, 22, 3)
    np.save(tmp_path / "x" / "dog" / "a.npy", np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="got none of class cat"):
        config.load()


def test_arrays_in_class_folders_are_series(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for at in range(6):
            np.save(tmp_path / name / f"{at}.npy", field(30, 2))
    config = LabelledConfig(path=str(tmp_path))
    data = config.load()
    assert data.report["shape"] == [30, 2]
    _, names, _ = restored(config, data, tmp_path / "b")
    assert names["file"][:2] == ["0.npy", "1.npy"]


def test_numbers_of_several_targets_are_scaled_by_the_training_items():
    values, targets = field(40, 6), field(40, 2) * [1, 50] + 7
    config = MeasuredConfig()
    data = config.of((pd.DataFrame(values), pd.DataFrame(targets, columns=["age", "mass"])))
    assert data.targets == ("age", "mass")
    train = np.stack([example["target"] for example in data.source("train")])
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(data.in_units(train), data.splits["train"].labels, rtol=1e-6)
    np.testing.assert_allclose(np.median(train, axis=0), data.target_medians, rtol=1e-6)


def test_a_frame_in_memory_is_a_table_and_its_columns_are_found_again():
    table = pd.DataFrame(field(COUNT, 3), columns=["u", "v", "w"])
    config = MeasuredConfig(labels=("v",))
    data = config.of(table)
    assert (data.targets, data.channels) == (("v",), ("u", "w"))
    config, _ = config.settled(data)
    other = config.restore_values(table[["w", "u"]], data.state())
    row = int(data.splits["test"].groups[0])
    expected = data.source("test")[0]["field"]
    np.testing.assert_array_equal(other.source(EVERYTHING)[row]["field"], expected)
    # Values in memory without names are those of the run in their order.
    values = config.restore_values(table[["u", "w"]].to_numpy(), data.state())
    np.testing.assert_array_equal(values.source(EVERYTHING)[row]["field"], expected)


def test_one_channel_is_not_taken_for_each_of_several():
    config, labels = LabelledConfig(), np.arange(COUNT) % 2
    data = config.of((field(COUNT, 20, 2), labels))
    with pytest.raises(InputError, match="must have the channels of the run, 2, got 1; give"):
        config.restore_values(field(5, 20), data.state())


def test_missing_values_that_are_validated_on_again_are_counted_once():
    values = field(COUNT, 20)
    values[:, 3] = np.nan
    data = LabelledConfig(validation_share=0).of((values, np.arange(COUNT) % 2))
    assert "30 missing values are read as the mean of their channel." in data.report["notes"]


def test_items_without_a_label_are_left_out_and_told():
    labels = CLASSES.astype(object)
    labels[4] = None
    with pytest.warns(UserWarning, match="1 of 30 items have no label and were left out"):
        data = LabelledConfig().of((field(COUNT, 20), labels))
    assert sum(counts(data).values()) == COUNT - 1
    with pytest.warns(UserWarning, match="2 of 30 items"):
        MeasuredConfig().of((field(COUNT, 20), np.r_[np.nan, np.nan, np.arange(28.0)]))


@pytest.mark.parametrize(
    ("config", "labels", "told"),
    [
        (LabelledConfig(), ["a"] * COUNT, "two classes or more, got a alone"),
        (LabelledConfig(), ["a"] * 29 + ["b"], "class b must have items for training"),
        (LabelledConfig(), ["a", "b"] * 10, r"one for each item, got shape \(20,\)"),
        (LabelledConfig(), field(COUNT), "got 30 different numbers, .* train regress on numbers"),
        (LabelledConfig(), np.arange(COUNT) * 1000, "class 0 must have items"),
        (MeasuredConfig(), CLASSES, "must be numbers, got 'no'; train classify on names"),
        (MeasuredConfig(), np.ones(COUNT), "got one value of target for all"),
    ],
)
def test_labels_that_do_not_fit_are_refused(config, labels, told):
    with pytest.raises(InputError, match=told):
        config.of((field(COUNT, 20), labels))


def test_texts_without_a_word_are_told_and_what_is_missing_is_none():
    texts = np.array(["good film", "bad film", None, np.nan, ""] * 6, object)
    data = LabelledConfig().of((texts, np.arange(COUNT) % 2))
    assert "18 texts hold no word." in data.report["notes"]
    assert not {"none", "nan"} & {word for line in data.words["train"] for word in line}


def test_what_is_not_there_is_told(tmp_path):
    texts = {"review": ["x"] * 9, "stars": range(9)}
    path = write_table(tmp_path / "r.csv", texts)
    with pytest.raises(InputError, match=r"columns of text=, got body among review, stars"):
        LabelledConfig(path=path, text="body", labels=("stars",)).load()
    with pytest.raises(InputError, match=r"columns of labels=, got none among review, stars"):
        LabelledConfig(path=path).load()
    write_table(tmp_path / "two.csv", {"u": range(9), "label": range(9), "class": range(9)})
    with pytest.raises(InputError, match=r"columns of labels=, got label, class among u, label"):
        LabelledConfig(path=str(tmp_path / "two.csv")).load()
    (tmp_path / "empty").mkdir()
    for config in (LabelledConfig, MeasuredConfig):
        with pytest.raises(InputError, match="one folder of items for each class"):
            config(path=str(tmp_path / "empty")).load()
    with pytest.raises(InputError, match="there must be a file or folder at"):
        LabelledConfig(path=str(tmp_path / "none.csv")).load()
    for split, names in (("train", "ab"), ("test", "abc")):
        labels = [names[at % len(names)] for at in range(24)]
        write_table(tmp_path / f"{split}.csv", {"u": field(24), "v": field(24), "label": labels})
    with pytest.raises(InputError, match="must have training items, got none of c"):
        LabelledConfig(path=str(tmp_path / "train.csv")).load()
