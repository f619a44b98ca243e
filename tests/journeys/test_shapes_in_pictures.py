"""Pictures of squares and discs with boxes as COCO has them, found in new pictures."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from travelled import command, reported

pytestmark = pytest.mark.slow
KINDS = ("square", "disc")
COLOURS = ((230, 60, 60), (60, 60, 230))


def pictures(folder, count, seed, sizes=((32, 32),)):
    """Saves pictures of one or two shapes; their boxes as COCO has them, one a shape."""
    random, found = np.random.default_rng(seed), []
    folder.mkdir(parents=True)
    for at in range(count):
        height, width = sizes[at % len(sizes)]
        pixels = random.integers(90, 130, (height, width, 3)).astype(np.uint8)
        for _ in range(random.integers(1, 3)):
            kind, side = int(random.integers(2)), int(random.integers(7, 11))
            y, x = int(random.integers(height - side)), int(random.integers(width - side))
            away = np.hypot(*(np.indices((side, side)) - (side - 1) / 2))
            inside = (away <= side / 2) | (kind == 0)
            pixels[y : y + side, x : x + side][inside] = COLOURS[kind]
            found.append({"image_id": at, "category_id": kind, "bbox": [x, y, side, side]})
        Image.fromarray(pixels).save(folder / f"{at}.png")
    return found


def test_shapes_are_found_in_new_pictures(tmp_path):
    told = {
        "images": [{"id": at, "file_name": f"{at}.png"} for at in range(120)],
        "annotations": pictures(tmp_path / "set" / "images", 120, seed=0),
        "categories": [{"id": at, "name": name} for at, name in enumerate(KINDS)],
    }
    (tmp_path / "set" / "instances.json").write_text(json.dumps(told))
    run, new = tmp_path / "run", tmp_path / "new"
    command(
        *(
            "train",
            "detect",
            "--data.path",
            tmp_path / "set",
            "--model.features",
            16,
            "--model.side",
            4,
        ),
        *("--train.steps", 100, "--train.checkpoint-every", 100, "--train.evaluate-every", 100),
        *("--train.optimizer.learning-rate", "1e-2", "--train.batch-size", 8, "--workdir", run),
    )
    test = reported(run)["test"]
    assert test["model"]["map"] > 0.5
    assert test["model"]["map"] > test["mean_box"]["map"] + 0.4
    assert test["model"]["map_50_95"] > 0.2
    # Twice as large, so that boxes are told in pixels of their own.
    expected = pictures(new, 4, seed=1, sizes=((32, 32), (64, 64)))
    for file in (new / "1.png", new / "3.png"):
        with Image.open(file) as picture:
            half = picture.crop((0, 0, 32, 32)).resize((64, 64), Image.Resampling.NEAREST)
        half.save(file)
    command("predict", run, new, tmp_path / "boxes.csv")
    table: Any = pd.read_csv(tmp_path / "boxes.csv")
    assert list(table)[:4] == ["file", "frame", "class", "score"]
    assert set(table["class"]) <= set(KINDS)
    assert (table.filter(regex="_min|_max").to_numpy() >= 0).all()
    hit = 0
    whole = [one for one in expected if one["image_id"] in (0, 2)]
    for one in whole:
        x, y, width, height = one["bbox"]
        own = table[table["file"] == f"{one['image_id']}.png"]
        own = own[own["class"] == KINDS[one["category_id"]]]
        near = (own.x_min - x).abs() + (own.x_max - x - width).abs() < 5
        near &= (own.y_min - y).abs() + (own.y_max - y - height).abs() < 5
        hit += bool(near.any())
    assert hit >= len(whole) - 1
    command("predict", run, new / "1.png", tmp_path / "found.png")
    with Image.open(tmp_path / "found.png") as picture:
        assert min(picture.size) > 64
