"""Every recipe trains twenty steps on a small form of its problem and reports every field."""

import dataclasses
import json
import math
import re
from typing import Any, NamedTuple

import pytest

from stpatch_jax.recipes import RECIPES, recipe
from stpatch_jax.runs import Run, train

CLIPS: Any = {"canvas": 16, "digit": 8, "train_clips": 64, "validation_clips": 20, "test_clips": 20}
FRAMES: Any = {**CLIPS, "context": 4, "horizon": 3}
SHORT: Any = {**CLIPS, "frames": 4, "occlusion": 4}
MONTH: Any = {
    "train_from": "2015-12-01",
    "validation_from": "2015-12-14",
    "test_from": "2015-12-21",
}
SHALLOW: Any = {"features": 24, "depth": 1}
EVENTS = ("id", "customer", "date", "number", "amount")
LINES, ERRORS = {"forecasts", "errors"}, {"frames", "errors"}
SEASON = {"persistence", "season"}


class Small(NamedTuple):
    """What makes a recipe small, and what its report must hold beside the model."""

    rules: set[str]
    figures: set[str]
    data: dict[str, Any] = {}  # noqa: RUF012
    model: dict[str, Any] = {}  # noqa: RUF012


SMALL = {
    "customers": Small(
        {"persistence"}, {"calibration"}, {"path": "catalog:cdnow_sample", "header": EVENTS}
    ),
    "etth1": Small(SEASON, LINES, {"most_rows": 900, "context": 48, "horizon": 6}),
    "exchange": Small({"persistence"}, LINES, {"most_rows": 600, "horizon": 6}),
    "heartbeat": Small({"majority"}, {"confusion"}),
    "language": Small(
        {"unigram"},
        set(),
        {"validation_share": 0.002, "test_share": 0.002},
        {"features": 8, "longest_window": 2},
    ),
    "pretrain": Small({"visible_mean"}, {"reconstruction"}, SHORT, SHALLOW),
    "pretrain-motion": Small({"majority"}, {"confusion"}, SHORT, SHALLOW),
    "pretrain-movement": Small({"majority"}, {"confusion"}, MONTH, SHALLOW),
    "pretrain-stocks": Small({"visible_mean"}, {"reconstruction"}, MONTH, SHALLOW),
    "segment": Small({"majority", "cell"}, {"masks"}, {"crop": (16, 16, 16)}, {"features": (4,)}),
    "sentiment": Small({"majority"}, {"confusion"}, {"pieces": (4,)}),
    "stock-movement": Small({"majority"}, {"confusion"}, MONTH),
    "stocks": Small({"persistence"}, LINES, {"path": "catalog:stocks", "context": 8, "horizon": 2}),
    "traffic": Small({*SEASON, "climatology"}, {*LINES, "maps"}, {"most_rows": 700}),
    "video-classification": Small({"majority"}, {"confusion"}, SHORT, {"features": (4,)}),
    "video-classification-motion": Small(
        {"majority"}, {"confusion"}, {**CLIPS, "frames": 4}, {"features": (4,)}
    ),
    "video-detection": Small(
        {"mean_box"}, {"boxes"}, {**CLIPS, "canvas": 24, "frames": 2}, {"features": (8, 8)}
    ),
    "video-prediction": Small({"persistence"}, ERRORS, FRAMES, {"features": (8, 8)}),
    "video-prediction-full": Small({"persistence"}, ERRORS, FRAMES, {"features": (4,), "depth": 1}),
    "weather": Small({*SEASON, "climatology"}, {*LINES, "maps"}, {"most_rows": 300, "horizon": 12}),
}
# Files of their own train these: test_generic, test_item_runs, test_labelled_clips, test_scans,
# test_risk_run, test_shapes_in_pictures.
ELSEWHERE = {
    "classify",
    "clip",
    "detect",
    "forecast",
    "reconstruct",
    "regress",
    "scan",
    "stock-risk",
}
# The 20 steps of a forecast meet the quick suite once; the others differ by their data and network.
QUICK = {"etth1"}


def small(name, *, steps):
    config = recipe(name)
    settings = dataclasses.replace(
        config.train, steps=steps, batch_size=16, checkpoint_every=steps, evaluate_every=steps
    )
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, **SMALL[name].data),
        model=dataclasses.replace(config.model, **SMALL[name].model),
        train=settings,
    )


def first_lines(source, folder, count=400):
    """So many lines of either file of film reviews; the path of a file of the pair."""
    for kind in ("pos", "neg"):
        lines = (source / f"rt-polarity.{kind}").read_text(encoding="latin-1").splitlines()
        (folder / f"reviews.{kind}").write_text("\n".join(lines[:count]) + "\n", encoding="utf-8")
    return str(folder / "reviews.pos")


def numbers(values):
    """All numbers of a tree."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list):
        return [number for value in values for number in numbers(value)]
    return [values] if isinstance(values, int | float) else []


def test_every_recipe_is_trained_in_some_test():
    assert SMALL.keys() | ELSEWHERE == RECIPES.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_bears_its_name(name):
    assert recipe(name).recipe == name
    assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name)


@pytest.mark.filterwarnings("ignore:.*companies dropped")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in SMALL]
)
def test_twenty_steps_report_every_field(request, tmp_path, name):
    config = small(name, steps=20)
    if config.data.path is not None:
        folder = request.getfixturevalue("data_dir")
        if name == "sentiment":
            path = first_lines(folder / "text", tmp_path)
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=path))
    text = train(config, workdir=tmp_path / "run", progress=False).report
    assert text.startswith(f"# {name}\n")
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert {"recipe", "version", "task", "parameters", "data", "validation", "test", "machine"} <= (
        report.keys()
    )
    assert report["step"] == 20
    assert set(report["data"]["splits"]) == {"train", "validation", "test"}
    metrics = report["test"].get("scaled", report["test"])
    for rule in ("model", *SMALL[name].rules):
        assert rule in text
        assert numbers(metrics[rule])
        assert all(map(math.isfinite, numbers(metrics[rule])))
    assert all(map(math.isfinite, report["validation"].values()))
    plots = {path.name for path in (tmp_path / "run/plots").iterdir()}
    assert plots == {f"{figure}.png" for figure in (*SMALL[name].figures, "learning")}


def test_a_run_is_told_the_objects_by_its_data():
    run = Run(small("video-detection", steps=1))
    data: Any = run.data
    assert tuple(run.task.facts["class_counts"]) == data.class_counts
    assert tuple(run.task.facts["mean_box"]) == data.mean_box
    assert run.patches == 2 * 6 * 6
