"""Labelled items: folders of clips and volumes, arrays with labels, labelled series."""

import numpy as np
import pytest

from stpatch_jax.data.readers import read_folder
from stpatch_jax.data.readers.items import read_series
from stpatch_jax.errors import InputError


def make(folder, name, value):
    (folder / name).parent.mkdir(exist_ok=True, parents=True)
    np.save(folder / name, value)


def test_a_folder_holds_a_folder_for_each_class(tmp_path):
    for at, name in enumerate(("dog/2", "dog/1", "cat/3", "bird/1")):
        make(tmp_path, f"{name}.npy", np.full((2, 3), at))
    (tmp_path / "dog" / "notes.txt").write_text("not an item")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "README.txt").write_text("of no class")
    with pytest.warns(UserWarning, match=r"1 of 5 files are no items .* left out: dog/notes\.txt"):
        items = read_folder(tmp_path)
    assert items.notes == ("1 of 5 files are no items and were left out: dog/notes.txt.",)
    assert items.classes == ("bird", "cat", "dog")
    assert items.labels.tolist() == [0, 1, 2, 2]
    assert items.names == ["bird/1.npy", "cat/3.npy", "dog/1.npy", "dog/2.npy"]
    np.testing.assert_array_equal(items.stack()[:, 0, 0], [3, 2, 1, 0])
    np.testing.assert_array_equal(items[3], np.zeros((2, 3)))


def test_suffixes_may_be_in_capitals(tmp_path):
    for name in ("a/1.npy", "a/2.NPY", "b/1.Npz"):
        make(tmp_path, "item.npy", np.arange(6).reshape(2, 3))
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.lower().endswith("npz"):
            np.savez(tmp_path / "item.npz", x=np.arange(6).reshape(2, 3))
            (tmp_path / "item.npy").unlink()
            (tmp_path / "item.npz").rename(tmp_path / name)
        else:
            (tmp_path / "item.npy").rename(tmp_path / name)
    items = read_folder(tmp_path)
    assert items.names == ["a/1.npy", "a/2.NPY", "b/1.Npz"]
    np.testing.assert_array_equal(items.stack(), [np.arange(6).reshape(2, 3)] * 3)


def test_items_may_be_ragged_until_they_are_stacked(tmp_path):
    make(tmp_path, "a/1.npy", np.zeros((2, 3)))
    make(tmp_path, "b/1.npy", np.zeros((4, 3)))
    items = read_folder(tmp_path)
    assert [items[at].shape for at in range(2)] == [(2, 3), (4, 3)]
    with pytest.raises(InputError, match=r"got \(2, 3\) for a/1\.npy and \(4, 3\) for b/1\.npy"):
        items.stack()


def test_a_folder_of_clips(data_dir, tmp_path):
    pytest.importorskip("av")
    (tmp_path / "climbing").mkdir()
    clip = data_dir / "video" / "mmaction2_demo.mp4"
    (tmp_path / "climbing" / "1.mp4").symlink_to(clip)
    items = read_folder(tmp_path)
    assert len(items) == 1
    assert items[0].shape == (280, 256, 340, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_pictures_are_read_by_their_upper_bits(dtype, tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "cells").mkdir()
    levels = np.arange(256, dtype=dtype).reshape(8, 32)
    stored = levels * dtype(257) if dtype == np.uint16 else levels
    image.fromarray(stored).save(tmp_path / "cells" / "1.png")
    (found,) = read_folder(tmp_path).stack()
    np.testing.assert_array_equal(found, np.broadcast_to(levels[None, ..., None], (1, 8, 32, 3)))


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="there must be a folder of classes at"):
        read_folder(tmp_path / "none")
    with pytest.raises(InputError, match="got no folders"):
        read_folder(tmp_path)
    make(tmp_path, "a/1.npy", np.zeros(2))
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match="got none of class b; items are"):
        read_folder(tmp_path)
    make(tmp_path, "loose.npy", np.zeros(2))
    with pytest.raises(InputError, match=r"in the folder of its class, got loose.npy outside"):
        read_folder(tmp_path)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("TRAIN", "Validation", "test_set")])
def test_folders_of_splits_are_splits(names, tmp_path):
    for at, name in enumerate(names):
        for label in "ab"[: 2 - (at == 1)]:
            make(tmp_path, f"{name}/{label}/{at}.npy", np.full(3, at))
    items = read_folder(tmp_path)
    assert items.classes == ("a", "b")
    told = zip(items.names, items.splits, items.labels.tolist(), strict=True)
    train, validation, test = names
    assert {name: (split, label) for name, split, label in told} == {
        f"{train}/a/0.npy": ("train", 0),
        f"{train}/b/0.npy": ("train", 1),
        f"{validation}/a/1.npy": ("validation", 0),
        f"{test}/a/2.npy": ("test", 0),
        f"{test}/b/2.npy": ("test", 1),
    }
    assert items.notes == (f"The splits are those of the folders {', '.join(sorted(names))}.",)
    np.testing.assert_array_equal(items[items.names.index(f"{test}/b/2.npy")], [2, 2, 2])


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (("train/1", "test/2"), r"test must lie in the folder of its class, got 2.npy outside"),
        (("train/a/1", "test/b/2"), "must have training items, got none of b; add them"),
        (("test/a/1", "val/a/2"), r"none of class test; items .* laid out as train/CLASS, valid"),
        (("a/train/1", "b/test/2"), r"none of class a; items are .* laid out as train/CLASS, val"),
        (("train/a/1", "extra/2"), r"none of class train; .* laid out as train/CLASS, validation"),
    ],
)
def test_folders_that_tell_no_split_are_refused_with_the_layout(files, told, tmp_path):
    for file in files:
        make(tmp_path, f"{file}.npy", np.zeros(3))
    with pytest.raises(InputError, match=told):
        read_folder(tmp_path)


def test_classes_may_be_called_like_splits_beside_others(tmp_path):
    for name in ("bus/1", "train/1"):
        make(tmp_path, f"{name}.npy", np.zeros(3))
    items = read_folder(tmp_path)
    assert (items.classes, items.splits) == (("bus", "train"), ())


def test_a_file_of_two_arrays_is_no_item(tmp_path):
    (tmp_path / "a").mkdir()
    np.savez(tmp_path / "a" / "1.npz", x=np.zeros(2), y=np.zeros(2))
    with pytest.raises(InputError, match="must hold one array, got x, y"):
        read_folder(tmp_path)[0]


def test_labelled_series(tmp_path):
    path = tmp_path / "series.tsv"
    for bad in ("1\t3\n", "1\tx\t3\n", "1\t2\t3\t4\n"):
        path.write_text("1\t0.5\t2\n0\t1\t2\n" + bad)
        with pytest.raises(InputError, match="a label and 2 numbers, got line 3 with"):
            read_series(path)
    with pytest.raises(InputError, match="there must be a file of series"):
        read_series(tmp_path / "none.tsv")
