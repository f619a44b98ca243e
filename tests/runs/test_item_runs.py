"""Items of any layout from a file to a report and to predictions of new items, by the recipes."""

import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stpatch_jax.data import LabelledConfig, MeasuredConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.recipes import recipe
from stpatch_jax.runs import load_run
from stpatch_jax.runs.predicting import predict
from stpatch_jax.runs.run import train

RANDOM = np.random.default_rng(5)
COUNT = 60
CLASSES = np.asarray(["a", "b"])[np.arange(COUNT) % 2]


def series(folder):
    rows = [[label, *RANDOM.normal(label == "b", 1, 24)] for label in CLASSES]
    for name in ("N_TRAIN.tsv", "N_TEST.tsv"):
        pd.DataFrame(rows).to_csv(folder / name, sep="\t", header=False, index=False)
    return "N_TRAIN.tsv", "N_TEST.tsv", "line"


def pictures(folder):
    for at, label in enumerate(CLASSES):
        (folder / "x" / label).mkdir(parents=True, exist_ok=True)
        pixels = RANDOM.integers(0, 256, (12, 14, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "x" / label / f"{at}.jpg")
    return "x", "x", "file"


def rows(folder):
    table = pd.DataFrame(RANDOM.normal(size=(COUNT, 5))).add_prefix("x")
    table.assign(stars=CLASSES).to_csv(folder / "t.csv", index=False)
    table.to_csv(folder / "new.csv", index=False)
    return "t.csv", "new.csv", "line"


def short(name, data, *, whole=False):
    """A few steps, of the recipe's own network or of one that compiles sooner."""
    config = recipe(name)
    settings = dataclasses.replace(config.train, steps=3, checkpoint_every=3, evaluate_every=3)
    model = config.model if whole else FlatPatchesConfig()
    return dataclasses.replace(config, data=data, model=model, train=settings)


@pytest.mark.slow
@pytest.mark.parametrize("made", [series, pictures, rows])
def test_every_layout_is_classified_from_file_to_prediction(tmp_path, made):
    path, new, column = made(tmp_path)
    labels = ("stars",) if path.endswith(".csv") else ()
    data = LabelledConfig(path=str(tmp_path / path), labels=labels)
    config = short("classify", data, whole=made is rows)
    train(config, workdir=tmp_path / "run", progress=False)
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert {"model", "majority", "nearest_neighbor"} <= report["test"].keys()
    assert {"data.layout", "model.spec.window", "train.batch_size"} <= report["chosen"].keys()
    settled: Any = load_run(tmp_path / "run").config.data
    assert settled.layout == report["data"]["found"]["layout"][0]
    predict(tmp_path / "run", str(tmp_path / new), tmp_path / "out.csv", progress=False)
    made = pd.read_csv(tmp_path / "out.csv")
    assert list(made) == [column, "class", "probability_a", "probability_b"]
    assert len(made) == COUNT
    assert made[column].is_unique


@pytest.mark.slow
def test_numbers_of_texts_are_told(tmp_path):
    words = ["dull film", "fine film", "fine fine play"] * 20
    table = pd.DataFrame({"review": words, "stars": [1.0, 4.0, 5.0] * 20})
    table.to_csv(tmp_path / "r.csv", index=False)
    config = short("regress", MeasuredConfig(path=str(tmp_path / "r.csv"), labels=("stars",)))
    train(config, workdir=tmp_path / "run", progress=False)
    (tmp_path / "new.txt").write_text("fine play\ndull\n")
    predict(tmp_path / "run", str(tmp_path / "new.txt"), tmp_path / "out.csv", progress=False)
    made = pd.read_csv(tmp_path / "out.csv")
    assert list(made) == ["line", "stars"]
    assert np.isfinite(made.stars).all()
