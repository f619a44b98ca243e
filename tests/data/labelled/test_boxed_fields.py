"""Items with boxes: read alike from COCO, tables and arrays, resized, split, checked."""

import json
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from stpatch_jax.data import Augmentation, BoxedConfig
from stpatch_jax.errors import InputError

SIZES = ((12, 16), (12, 16), (24, 20), (9, 30))
NAMES = ("square", "disc")


def pictures(folder, count=10, sizes=SIZES[:1], seed=0):
    """Grey pictures with a white rectangle each, saved, and its `(file, y0, x0, y1, x1, class)`."""
    random, rows = np.random.default_rng(seed), []
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(count):
        size = np.array(sizes[at % len(sizes)])
        lo = random.integers(0, size - 6)
        hi = lo + random.integers(3, 7, 2)
        pixels = np.full((*size, 3), 90, np.uint8)
        pixels[lo[0] : hi[0], lo[1] : hi[1]] = 250
        Image.fromarray(pixels).save(folder / f"{at}.png")
        rows.append((f"{at}.png", *map(int, (*lo, *hi)), NAMES[at % 2]))
    return rows


def coco(path, rows, **changes):
    """A COCO file of them; `changes` replace or add entries by a function of the whole."""
    files = {name: at for at, name in enumerate(dict.fromkeys(row[0] for row in rows))}
    told = {
        "images": [{"id": 5 + at, "file_name": name} for name, at in files.items()],
        "categories": [{"id": 7, "name": "square"}, {"id": 2, "name": "disc"}],
        "annotations": [
            {
                "id": at,
                "image_id": 5 + files[name],
                "category_id": {"square": 7, "disc": 2}[label],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
            }
            for at, (name, y0, x0, y1, x1, label) in enumerate(rows)
        ],
    }
    told |= changes
    path.write_text(json.dumps(told))
    return told


def table(path, rows, header="file,y0,x0,y1,x1,label"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


def of(data, split):
    """Files, boxes and classes of a split."""
    source, found = data.source(split), []
    for at, name in enumerate(data.names(split)["item"]):
        example = source[at]
        mask = example["object_mask"]
        labels = [data.classes[label] for label in example["label"][mask]]
        found.append((name, example["boxes"][mask].tolist(), labels))
    return found


def test_coco_tables_and_arrays_are_read_alike(tmp_path):
    rows = pictures(tmp_path / "images")
    coco(tmp_path / "instances.json", rows)
    data = BoxedConfig(path=str(tmp_path)).load()
    assert data.classes == ("disc", "square")
    assert {split: len(data.rows[split]) for split in data.rows} == {
        "train": 6,
        "validation": 2,
        "test": 2,
    }
    expected = {row[0]: ([list(map(float, row[1:5]))], [row[5]]) for row in rows}
    for split in data.rows:
        assert of(data, split) == [(name, *expected[name]) for name, *_ in of(data, split)]
    # x, y, width and height; files without their suffix; a row of no box.
    sizes = [(f[:-4], x0, y0, x1 - x0, y1 - y0, label) for f, y0, x0, y1, x1, label in rows]
    table(tmp_path / "boxes.csv", sizes, header="ImageID,x,y,width,height,LabelName")
    other = BoxedConfig(path=str(tmp_path / "boxes.csv")).load()
    images = np.stack([np.asarray(Image.open(tmp_path / "images" / row[0])) for row in rows])
    boxes = np.full((10, 2, 4), np.nan)
    boxes[:, 0] = [row[1:5] for row in rows]
    labels = [[label, ""] for *_, label in rows]
    memory = BoxedConfig().of((images, boxes, labels))
    np.savez(tmp_path / "boxes.npz", images=images, bboxes=boxes, labels=np.array(labels))
    stored = BoxedConfig(path=str(tmp_path / "boxes.npz")).load()
    for split in data.rows:
        told = [entry[1:] for entry in of(data, split)]
        for same in (other, memory, stored):
            assert [entry[1:] for entry in of(same, split)] == told
            np.testing.assert_array_equal(
                same.source(split)[0]["field"], data.source(split)[0]["field"]
            )
    assert data.digest("train") == BoxedConfig(path=str(tmp_path / "instances.json")).load().digest(
        "train"
    )
    assert memory.digest("train") == stored.digest("train") != data.digest("train")


def test_pictures_of_several_sizes_are_resized_with_their_boxes(tmp_path):
    rows = pictures(tmp_path / "images", count=12, sizes=SIZES)
    table(tmp_path / "boxes.csv", rows)
    config = BoxedConfig(path=str(tmp_path), size=(18, 15))
    data = config.load()
    assert "12 of 12 pictures are resized to fit into 18 x 15 pixels." in data.report["notes"]
    for split in data.rows:
        for at in range(len(data.rows[split])):
            example = data.source(split)[at]
            assert example["field"].shape == (1, 18, 15, 3)
            lo, hi = np.split(example["boxes"][0, 0], 2)
            inside = np.argwhere(data.shown(example["field"])[0, ..., 0] > 0.65) + 0.5
            np.testing.assert_allclose(inside.mean(axis=0), (lo + hi) / 2, atol=0.8)
            assert (np.ptp(inside, axis=0) <= hi - lo + 0.8).all()
    restored = config.restore(str(tmp_path / "images"), data.state())
    assert restored.in_pixels(np.zeros(0, int), np.zeros((0, 4))).shape == (0, 4)
    at = {name: number for number, name in enumerate(restored.names("all")["file"])}
    for split in data.rows:
        for number, name in enumerate(data.names(split)["item"]):
            example = data.source(split)[number]
            row = at[name]
            np.testing.assert_array_equal(restored.source("all")[row]["field"], example["field"])
            back = restored.in_pixels(np.array([row]), example["boxes"][0, :1])
            np.testing.assert_allclose(back[0], rows[int(name[:-4])][1:5], atol=1e-4)


@hypothesis.settings(max_examples=15)
@hypothesis.given(seed=st.integers(0, 2**31), axes=st.integers(1, 3), turn=st.booleans())
def test_boxes_move_with_what_they_hold(seed, axes, turn):
    random = np.random.default_rng(seed)
    shape = (2, *([9] * axes if turn else [9, 7, 8][:axes]), 1)
    lo = random.integers(2, 4, axes)
    hi = lo + random.integers(1, 4, axes)
    field = np.zeros(shape)
    field[:, *map(slice, lo, hi)] = 1
    change = Augmentation(turn=turn, flip=tuple(range(axes)), shift=1)
    boxes = np.concatenate([lo, hi]).astype(float)
    moved, found = change.moved_with(field, boxes, np.random.default_rng(seed))
    expected = np.zeros(shape)
    new_lo, new_hi = np.split(found.astype(int), 2)
    expected[:, *map(slice, new_lo, new_hi)] = 1
    np.testing.assert_array_equal(moved, expected)
    np.testing.assert_array_equal(change.moved(field, np.random.default_rng(seed)), moved)


def test_training_examples_are_changed_with_their_boxes(tmp_path):
    rows = pictures(tmp_path, count=10)
    table(tmp_path / "boxes.csv", rows)
    data = BoxedConfig(path=str(tmp_path), augmentation=Augmentation(flip=(0, 1))).load()
    source: Any = data.source("train")
    found = set()
    for seed in range(8):
        changed = source.drawn(0, np.random.default_rng(seed))
        y0, x0, y1, x1 = map(int, changed["boxes"][0, 0])
        bright = data.shown(changed["field"])[0, ..., 0] > 0.9
        assert bright[y0:y1, x0:x1].all()
        assert bright.sum() == (y1 - y0) * (x1 - x0)
        found.add((y0, x0))
    assert len(found) > 1


def test_splits_and_groups_are_kept_whole(tmp_path):
    rows = pictures(tmp_path / "images", count=12)
    told = coco(tmp_path / "all.json", rows)
    for image in told["images"]:
        image["video_id"] = image["id"] // 3
    (tmp_path / "all.json").write_text(json.dumps(told))
    data = BoxedConfig(path=str(tmp_path / "all.json")).load()
    of_split = [{(int(name[:-4]) + 5) // 3 for name in data.names(s)["item"]} for s in data.rows]
    assert sum(map(len, of_split)) == len(set.union(*of_split)) == 5
    splits = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    table(
        tmp_path / "b.csv",
        [(*row, split) for row, split in zip(rows, splits, strict=True)],
        header="file,y0,x0,y1,x1,label,split",
    )
    data = BoxedConfig(path=str(tmp_path / "b.csv")).load()
    assert data.names("validation")["item"] == ["6.png", "7.png", "8.png"]
    # As COCO has it: a file and a folder for each split, of which only one is drawn.
    for name, part in (("train", rows[:8]), ("val", rows[8:])):
        (tmp_path / name).mkdir()
        (tmp_path / "annotations").mkdir(exist_ok=True)
        coco(tmp_path / "annotations" / f"instances_{name}2017.json", part)
        for row in part:
            (tmp_path / "images" / row[0]).rename(tmp_path / name / row[0])
    (tmp_path / "all.json").unlink()
    (tmp_path / "annotations" / "captions_train2017.json").write_text("{}")
    data = BoxedConfig(path=str(tmp_path)).load()
    assert [len(data.rows[name]) for name in ("train", "validation", "test")] == [6, 4, 2]
    assert "those of test are drawn at random." in data.report["notes"][-1]


def test_boxes_that_need_a_word_are_told(tmp_path):
    rows = pictures(tmp_path, count=8)
    odd = [
        ("0.png", -2, 3, 4, 40, "disc"),
        ("1.png", 3, 3, 3, 9, "disc"),
        rows[2],
        ("3.png", "", "", "", "", ""),
        ("3.png", 1, 1, 5, 5, "disc"),
    ]
    marked = [(*row, at == len(rows) + 4) for at, row in enumerate([*rows, *odd])]
    table(tmp_path / "boxes.csv", marked, header="file,y0,x0,y1,x1,label,difficult")
    data = BoxedConfig(path=str(tmp_path)).load()
    assert [*data.report["notes"]] == [
        "1 boxes of crowds or difficult objects were left out.",
        "1 boxes reach out of their items and are cut off.",
        "1 boxes have no volume and were left out.",
        "1 boxes are listed twice and count once.",
        "Of the items, those of validation and test are drawn at random.",
    ]
    assert sum(sum(of["objects"].values()) for of in data.report["splits"].values()) == 9
    shares = [(f, y0 / 12, x0 / 16, y1 / 12, x1 / 16, label) for f, y0, x0, y1, x1, label in rows]
    table(tmp_path / "boxes.csv", shares)
    again = BoxedConfig(path=str(tmp_path)).load()
    assert "Bounds are shares" in again.report["notes"][0]
    for (_, boxes, _), row in zip(of(again, "test"), again.rows["test"], strict=True):
        np.testing.assert_allclose(boxes, [rows[row][1:5]], atol=1e-5)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_pictures_of_another_size_than_is_told_are_told(tmp_path, kind):
    rows = pictures(tmp_path, count=8)
    sizes = [[24, 32] if at == 3 else [12, 16] for at in range(8)]
    if kind == "csv":
        header = "file,y0,x0,y1,x1,label,height,width"
        table(
            tmp_path / "a.csv",
            [(*row, *of) for row, of in zip(rows, sizes, strict=True)],
            header=header,
        )
    else:
        told = coco(tmp_path / "a.json", rows)
        for image, (height, width) in zip(told["images"], sizes, strict=True):
            image |= {"height": height, "width": width}
        (tmp_path / "a.json").write_text(json.dumps(told))
    with pytest.warns(UserWarning, match="1 pictures .* as 3.png, 12 x 16 in place of 24 x 32: th"):
        data = BoxedConfig(path=str(tmp_path)).load()
    assert "their boxes may lie elsewhere" in " ".join(data.report["notes"])


def test_frames_that_are_named_count_and_volumes_have_six_bounds(tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "clips").mkdir()
    for at in range(6):
        np.save(tmp_path / "clips" / f"{at}.npy", random.integers(0, 255, (7, 12, 16)).astype("u1"))
    rows = [(f"{at}.npy", frame, 1, 2, 5, 6, "a") for at in range(6) for frame in (0, 1, 3, 4, 5)]
    rows += [("0.npy", 4, 2, 2, 9, 9, "b"), ("1.npy", 2, "", "", "", "", "")]
    table(tmp_path / "boxes.tsv", rows, header="file,frame,ymin,xmin,ymax,xmax,class")
    data = BoxedConfig(path=str(tmp_path), frames=2).load()
    assert sorted(tuple(frames) for item, frames in data.examples if item == 0) == [(0, 1), (3, 4)]
    assert sorted(tuple(of) for item, of in data.examples if item == 1) == [(0, 1), (2, 3), (4, 5)]
    assert data.most == 2
    example = data.example(
        next(at for at, (item, of) in enumerate(data.examples) if item == 1 and of[0] == 2)
    )
    assert example["field"].shape == (2, 12, 16, 1)
    assert example["object_mask"].tolist() == [[False, False], [True, False]]
    restored = BoxedConfig(frames=2).restore(str(tmp_path / "clips"), data.state())
    assert restored.names("all")["frame"][:4] == [0, 2, 4, 5]
    volumes = random.normal(size=(8, 5, 6, 7)).astype("f4")
    boxes = np.tile([1.0, 1, 1, 3, 4, 5], (8, 1, 1))
    np.savez(tmp_path / "v.npz", volumes=volumes, boxes=boxes, labels=np.full((8, 1), 3.0))
    data = BoxedConfig(path=str(tmp_path / "v.npz")).load()
    assert data.classes == ("3",)
    assert data.source("train")[0]["field"].shape == (1, 5, 6, 7, 1)
    assert data.mean_box == (1, 1, 1, 3, 4, 5)
    same = BoxedConfig().restore(str(tmp_path / "v.npz"), data.state())
    assert len(same.source("all")) == 8


GOOD = "0.png,1,1,4,4,disc"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"file,y0,x0,y1,x1,label\n{GOOD}\n0.png,5,1,4,4,disc", "it begins.*line 3"),
        (f"file,y0,x0,y1,x1,label\n{GOOD}\n0.png,1,90,4,94,disc", "reach into its item"),
        (f"file,y0,x0,y1,x1,label\n{GOOD}\nlost.png,1,1,4,4,disc", "1 of 2 that do not"),
        (f"file,y0,x0,y1,x1,label\n{GOOD}\n0.png,,1,4,4,disc", "all bounds and a class"),
        (f"file,y0,x0,y1,x1,label\n{GOOD}\n0.png,1,1,4,4,", "all bounds and a class"),
        ("file,y0,x0,y1,x1,label\n0.png,,,,,", "must hold boxes.*no box for 1 items"),
        ("file,a,b,c,d,label\n0.png,1,1,4,4,disc", "columns x0, y0, x1, y1"),
        ("file,y0,x0,y1,x1\n0.png,1,1,4,4", "a column of the class"),
        (f"file,y0,x0,y1,x1,label,frame\n{GOOD},1", "of a frame of its item"),
        (f"file,y0,x0,y1,x1,label,frame\n{GOOD},0.5", "whole numbers from 0"),
        (f"file,y0,x0,y1,x1,label,split\n{GOOD},train\n{GOOD},test", "one split and group"),
        (f"file,y0,x0,y1,x1,label,split\n{GOOD},mine", "train, validation or test"),
        (f"file,y0,x0,y1,x1,label\n{GOOD}\n1.png,1,1,4,4,disc", "an item, or a group"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused(tmp_path, text, said):
    pictures(tmp_path, count=2)
    (tmp_path / "boxes.csv").write_text(text + "\n")
    with pytest.raises(InputError, match=said):
        BoxedConfig(path=str(tmp_path)).load()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"annotations": None}, "got no list annotations"),
        ({"images": [{"id": 1}]}, "got no file_name in entry 0"),
        ({"images": [{"id": 5, "file_name": "0.png"}] * 2}, "got the id 5 again in entry 1"),
        ({"images": [{"id": i, "file_name": "0.png"} for i in range(9)]}, "9 images of 1 files"),
        ({"images": []}, "image_id of every annotation"),
        ({"categories": [{"id": 7, "name": "square"}]}, "category_id of every annotation.*got 2"),
        ({"annotations": []}, "no box for 6 items"),
        (
            {"annotations": [{"image_id": 5, "category_id": 7, "bbox": [1, 2, "x"]}]},
            "bbox of every annotation",
        ),
        (
            {"annotations": [{"image_id": 5, "category_id": 7, "bbox": [3, 3, -2, 2]}]},
            "end behind where it begins.*annotation 0",
        ),
    ],
)
def test_coco_files_that_do_not_fit_are_refused(tmp_path, changes, said):
    coco(tmp_path / "a.json", pictures(tmp_path, count=6), **changes)
    with pytest.raises(InputError, match=said):
        BoxedConfig(path=str(tmp_path)).load()


def test_what_else_does_not_fit_is_refused(tmp_path):
    rows = pictures(tmp_path, count=8)
    with pytest.raises(InputError, match="must tell the boxes, got none"):
        BoxedConfig(path=str(tmp_path)).load()
    table(tmp_path / "boxes.csv", rows)
    with pytest.raises(InputError, match=r"one of square, got disc, as in line 3 of boxes.csv"):
        BoxedConfig(path=str(tmp_path), classes=("square",)).load()
    with pytest.raises(InputError, match=r"data\.frames must be at most 1"):
        BoxedConfig(path=str(tmp_path), frames=2).load()
    with pytest.raises(InputError, match="height and width"):
        BoxedConfig(size=(3,))
    data = BoxedConfig(path=str(tmp_path)).load()
    with pytest.raises(InputError, match="3 channels of the run"):
        BoxedConfig().restore_values(np.zeros((2, 12, 16), "u1"), data.state())
    table(tmp_path / "more.csv", rows)
    with pytest.raises(InputError, match=r"or one of each split, got boxes.csv, more.csv"):
        BoxedConfig(path=str(tmp_path)).load()
    single = [(*row[:5], "rare" if row[0] == "1.png" else "disc") for row in rows]
    split = [(*row, "test" if row[0] == "1.png" else "train") for row in single]
    table(tmp_path / "more.csv", split, header="file,y0,x0,y1,x1,label,split")
    with pytest.warns(UserWarning, match="No training object is of the class rare"):
        BoxedConfig(path=str(tmp_path / "more.csv")).load()
