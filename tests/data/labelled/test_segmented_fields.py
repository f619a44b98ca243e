"""Images and their masks: classes, crops, splits, files, and what is refused of them."""

import re
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from stpatch_jax.data import Augmentation, SegmentedFieldsConfig
from stpatch_jax.data.labelled.shapes import made_shapes
from stpatch_jax.errors import InputError

RANDOM = np.random.default_rng(0)
MASKS = RANDOM.integers(0, 3, (10, 6, 7))
# A cell tells its class, so that a crop that tears both apart is seen.
IMAGES = MASKS.astype(np.float32) ** 2


def config(**settings):
    return SegmentedFieldsConfig(**settings)


def test_items_are_split_once_and_every_cell_keeps_its_class():
    data = config(seed=3).of((IMAGES, MASKS))
    rows = [data.rows[name] for name in ("train", "validation", "test")]
    assert [len(of) for of in rows] == [6, 2, 2]
    assert sorted(np.concatenate(rows).tolist()) == list(range(10))
    assert data.classes == ("0", "1", "2")
    assert data.class_counts == tuple(np.bincount(MASKS[rows[0]].ravel()).tolist())
    assert data.crop == (6, 7)
    example = data.source("test")[1]
    np.testing.assert_array_equal(example["label"], MASKS[rows[2][1]][None])
    back = example["field"][..., 0] * data.scaler.scale + data.scaler.center
    np.testing.assert_allclose(back, IMAGES[rows[2][1]][None], atol=1e-5)
    usual = [np.bincount(MASKS[rows[0], 2, at], minlength=3).argmax() for at in range(7)]
    assert example["usual"][0, 2].tolist() == usual
    again = config(seed=3).of((IMAGES, MASKS))
    assert all(again.digest(split) == data.digest(split) for split in data.rows)
    assert config(seed=4).of((IMAGES, MASKS)).digest("test") != data.digest("test")


@hypothesis.settings(max_examples=15)
@hypothesis.given(
    seed=st.integers(0, 99), sizes=st.lists(st.integers(4, 7), min_size=10, max_size=10)
)
def test_a_crop_moves_image_and_mask_alike(seed, sizes):
    """Wherever it lies, however it is turned, and where it reaches beyond a smaller item."""
    both = (zip(of, sizes, strict=True) for of in (IMAGES, MASKS))
    images, masks = ([x[:n, : 11 - n] for x, n in of] for of in both)
    change = Augmentation(turn=True, flip=(0, 1), shift=1)
    data = config(crop=(4, 4), augmentation=change).of((images, masks))
    source: Any = data.source("train")
    for at in range(len(source)):
        for example in (source[at], source.drawn(at, np.random.default_rng(seed))):
            assert example["field"].shape == (1, 4, 4, 1)
            real = example["label"] >= 0
            values = example["field"][..., 0] * data.scaler.scale + data.scaler.center
            np.testing.assert_allclose(values[real], example["label"][real] ** 2, atol=1e-4)
    # Whole items of a split have one shape.
    shapes = {example["label"].shape for example in map(data.source("test").__getitem__, (0, 1))}
    assert len(shapes) == 1


def test_values_of_masks_become_classes_by_names_or_by_themselves():
    values = np.array([0, 7, 255])[MASKS].astype(np.uint8)
    plain = config(ignored=(7,)).of((IMAGES, values))
    assert plain.classes == ("0", "255")
    assert (plain.labels[0] == np.array([0, -1, 1])[MASKS[0]]).all()
    named = config(classes=("sea", "ice", "land")).of((IMAGES, values))
    assert named.codes.tolist() == [0, 7, 255]
    assert "255 is land" in named.report["notes"][1]
    more = config(classes=("a", "b", "c", "d")).of((IMAGES, MASKS.astype(float)[..., None]))
    assert more.report["splits"]["train"]["cells"]["d"] == 0
    assert "No training cell is of the class d." in more.report["notes"]
    assert config().of((IMAGES, MASKS > 0)).classes == ("0", "1")


def test_volumes_clips_and_channels_have_their_axes():
    images = np.repeat(IMAGES[:, None, ..., None], 3, axis=1) * np.ones(2, np.float32)
    masks = np.repeat(MASKS[:, None], 3, axis=1)
    volumes = config(crop=(2, 4, 4)).of((images, masks))
    assert volumes.source("train")[0]["field"].shape == (1, 2, 4, 4, 2)
    clips = config(time=True, crop=(2, 4, 4)).of((images, masks))
    assert clips.source("train")[0]["field"].shape == (2, 4, 4, 2)


def test_files_are_read_as_arrays_in_memory_are(tmp_path):
    expected = config().of((IMAGES, MASKS))
    np.savez(tmp_path / "pairs.npz", image=IMAGES, mask=MASKS, name=np.arange(10))
    found = config(path=str(tmp_path / "pairs.npz")).load()
    assert found.digest("test") == expected.digest("test")
    for kind in ("images", "masks"):
        (tmp_path / "folder" / kind).mkdir(parents=True)
    for at, (image, mask) in enumerate(zip(IMAGES, MASKS, strict=True)):
        np.save(tmp_path / f"folder/images/{at}.npy", image)
        picture = Image.fromarray(mask.astype(np.uint8))
        picture.save(tmp_path / f"folder/masks/{at}_mask.png")
    (tmp_path / "folder" / "images" / "readme.txt").write_text("by nobody")
    with pytest.warns(UserWarning, match=re.escape("1 files of folder are of no pair")):
        folder = config(path=str(tmp_path / "folder")).load()
    for one, other in zip(folder.labels, expected.labels, strict=True):
        np.testing.assert_array_equal(one, other)
    assert folder.items[3] == "images/3.npy"
    np.savez(tmp_path / "split.npz", **{
        f"{split}_{kind}": of[rows]
        for split, rows in {"train": slice(6), "val": slice(6, 8), "test": slice(8, 10)}.items()
        for kind, of in {"images": IMAGES, "masks": MASKS}.items()
    })  # fmt: skip
    told = config(path=str(tmp_path / "split.npz")).load()
    assert told.rows["test"].tolist() == [8, 9]
    assert told.items[8] == "test 0"


def test_another_file_needs_no_masks(tmp_path):
    data = config(path=None, images=("scan",)).of((IMAGES, MASKS))
    np.savez(tmp_path / "new.npz", scan=IMAGES[:2, :5])
    other = config(images=("scan",)).restore(str(tmp_path / "new.npz"), data.state())
    assert len(other.source("all")) == 2
    assert other.source("all")[1]["field"].shape == (1, 5, 7, 1)
    np.save(tmp_path / "one.npy", IMAGES[0])
    one = config().restore(str(tmp_path / "one.npy"), data.state())
    np.testing.assert_array_equal(one.fields[0][0, ..., 0], IMAGES[0])
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "colours.png")
    with pytest.raises(InputError, match="must have 2 axes and 1 channels behind them"):
        config().restore(str(tmp_path / "colours.png"), data.state())


def changed(at, value):
    masks = MASKS.copy().astype(np.asarray(value).dtype)
    masks[at] = value
    return masks


@pytest.mark.parametrize(
    ("images", "masks", "settings", "told"),
    [
        (IMAGES, changed((3, 0, 0), 5), {"classes": "abc"}, "at most the 3 declared classes"),
        (
            IMAGES,
            changed((3, 0, 0), 0.5),
            {},
            "whole numbers, got [0.5] in item 3",
        ),
        (IMAGES, changed((3, 0, 0), np.nan), {}, "a mask must hold whole numbers, got [nan]"),
        (IMAGES[:, :5], MASKS, {}, "an image must have the cells of its mask"),
        (IMAGES[:9], MASKS, {}, "must be as many and one at least, got 9 and 10"),
        (IMAGES, 0 * MASKS, {}, "two classes or more, got 0 alone"),
        (IMAGES, MASKS, {"ignored": (0, 1)}, "two classes or more, got 2 alone"),
        (IMAGES, MASKS, {"crop": (7, 7)}, "data.crop must be a number of cells along each of 2"),
        (IMAGES, MASKS.astype(str), {}, "a mask must hold a whole number for each cell"),
        (IMAGES + np.inf, MASKS, {}, "got an infinite one"),
        (IMAGES[:2], MASKS[:2], {}, "must have an item to train on"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(images, masks, settings, told):
    settings = {name: tuple(value) for name, value in settings.items()}
    with pytest.raises(InputError, match=re.escape(told)):
        config(**settings).of((images, masks))


def test_empty_masks_are_told_and_unclear_files_refused(tmp_path):
    notes = config().of((IMAGES, changed(4, 0))).report["notes"]
    assert "1 of 10 masks hold one class alone: 0." in notes
    np.savez(tmp_path / "two.npz", a=IMAGES, b=MASKS)
    with pytest.raises(InputError, match=re.escape("got a, b; name both with images= and masks=")):
        config(path=str(tmp_path / "two.npz")).load()
    named = config(path=str(tmp_path / "two.npz"), images=("a",), masks=("b",)).load()
    assert named.digest("train") == config().of((IMAGES, MASKS)).digest("train")
    with pytest.raises(InputError, match=re.escape("c is none of them")):
        config(path=str(tmp_path / "two.npz"), images=("a",), masks=("c",)).load()
    (tmp_path / "bad.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:200])
    with pytest.raises(InputError, match=re.escape("bad.npz must be a readable")):
        config(path=str(tmp_path / "bad.npz")).load()


def test_made_shapes_are_those_of_their_seed():
    volumes, masks, _ = made_shapes(seed=1, items=2, size=12)
    again, _, _ = made_shapes(seed=1, items=3, size=12)
    np.testing.assert_array_equal(volumes, again[:2])
    assert set(np.unique(masks)) == {0, 1, 2}
    # Shapes are bright, and noise has mean 0.
    assert volumes[masks > 0].mean() > 0.4 > 0.1 > abs(volumes[masks == 0].mean())
