"""Every recipe trains twenty steps on a cut of its real data and reports every field."""

import dataclasses
import json
import math

import pytest

from stpatch_jax.recipes import RECIPES, recipe
from stpatch_jax.runs.run import train

# These have tests of their own.
ELSEWHERE = {
    "clip",
    "pretrain",
    "pretrain-motion",
    "scan",
    "stock-risk",
    "video-classification",
    "video-classification-motion",
    "video-detection",
    "video-prediction",
    "video-prediction-full",
}
# What makes each other data set small.
CUTS = {
    "customers": {
        "path": "catalog:cdnow_sample",
        "header": ("id", "customer", "date", "number", "amount"),
    },
    "etth1": {"most_rows": 900, "context": 48, "horizon": 6},
    "exchange": {"most_rows": 600, "horizon": 6},
    "heartbeat": {},
    "language": {"validation_share": 0.002, "test_share": 0.002},
    "pretrain-movement": {"train_from": "2015-06-01"},
    "pretrain-stocks": {"train_from": "2015-06-01"},
    "sentiment": {},
    "stock-movement": {"train_from": "2015-06-01"},
    "stocks": {"path": "catalog:stocks", "context": 8, "horizon": 2},
    "traffic": {"most_rows": 700},
    "weather": {"most_rows": 300, "horizon": 12},
}
# The 20 steps of a forecast meet the quick suite once; the others differ by their data and network.
SLOW = CUTS.keys() - {"etth1"}
NAIVE = {
    "customers": {"persistence"},
    "etth1": {"persistence", "seasonal_persistence"},
    "exchange": {"persistence"},
    "heartbeat": {"majority"},
    "language": {"unigram"},
    "pretrain-movement": {"majority"},
    "pretrain-stocks": {"visible_mean"},
    "sentiment": {"majority"},
    "stock-movement": {"majority"},
    "stocks": {"persistence"},
    "traffic": {"persistence", "seasonal_persistence", "climatology"},
    "weather": {"persistence", "seasonal_persistence", "climatology"},
}


def numbers(values):
    """All numbers of a tree."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list):
        return [number for value in values for number in numbers(value)]
    return [values] if isinstance(values, int | float) else []


def test_every_recipe_is_cut_here():
    assert CUTS.keys() | ELSEWHERE == RECIPES.keys()


@pytest.mark.filterwarnings("ignore:.*companies dropped")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CUTS]
)
def test_twenty_steps_on_a_cut_report_every_field(data_dir, tmp_path, name):
    config = recipe(name)
    data = dataclasses.replace(config.data, **CUTS[name])
    settings = dataclasses.replace(
        config.train, steps=20, batch_size=16, checkpoint_every=20, evaluate_every=20
    )
    cut = dataclasses.replace(config, data=data, train=settings)
    text = train(cut, workdir=tmp_path / "run", progress=False)
    assert text is not None
    assert text.startswith(f"# {name}\n")
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert {"recipe", "version", "task", "parameters", "data", "validation", "test", "machine"} <= (
        report.keys()
    )
    assert report["step"] == 20
    assert set(report["data"]["splits"]) == {"train", "validation", "test"}
    test = report["test"]
    figures = test.get("scaled", test)
    assert NAIVE[name] | {"model"} <= figures.keys()
    for rule in ("model", *NAIVE[name]):
        assert numbers(figures[rule])
        assert all(map(math.isfinite, numbers(figures[rule])))
    assert all(map(math.isfinite, report["validation"].values()))
    assert {path.suffix for path in (tmp_path / "run/plots").iterdir()} == {".png"}
