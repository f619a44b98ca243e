"""A map with land: it is not scored, plots are of cells that are known, and maps leave it out."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from flax import nnx

from stpatch_jax.data import AlertConfig, CleaningConfig, FieldConfig, FieldData
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.judging.alerts import FieldJudge
from stpatch_jax.runs.judging.question import Asked
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import make_mesh

ROWS = 120


@pytest.fixture(scope="module")
def judge():
    """Of an untrained model on a map whose middle has values after the training rows only."""
    values = 2 + np.random.default_rng(0).normal(size=(ROWS, 3, 3, 1))
    values[: int(0.7 * ROWS), 1, 1] = np.nan
    values[:, 0, 0] = np.nan
    hours = pd.date_range("2024-01-01", periods=ROWS, freq="h")
    field = xr.DataArray(
        values, {"time": hours, "channel": ["sst"]}, dims=("time", "y", "x", "channel")
    )
    config = FieldConfig(
        context=4,
        horizon=2,
        climatology="hour",
        cleaning=CleaningConfig(per="channel"),
        alert=AlertConfig("below", 1.0),
    )
    data = FieldData.of(field, config)
    return FieldJudge(ForecastConfig().create(), data, make_mesh(), batch_size=8)


@pytest.fixture(scope="module")
def model(judge):
    shapes = {name: (1, *x.shape) for name, x in judge.data.source("train")[0].items()}
    return judge.task.build(FlatPatchesConfig(WindowSpec((None, 1, 1))), shapes, rngs=nnx.Rngs(0))


def test_only_known_cells_are_scored_and_drawn(judge, model):
    judged = judge(model, "test")
    report = judge.report(judged)
    leads = judged.count * judge.data.horizon
    assert report["targets"] == report["alerts"]["targets"] == 7 * leads
    for rule in ("model", "persistence", "climatology"):
        assert np.isfinite(report["original"][rule]["mae"]["all"])
        assert np.isfinite(report["alerts"]["rules"][rule]["brier"])
    assert np.isfinite(judged.shown["lines"]["lines"]["model"]).all()
    land = np.isnan(judged.shown["map"]["forecast"][0, 0])
    assert np.argwhere(land).tolist() == [[0, 0], [1, 1]]
    figures = judge.figures(judged, {"test": report})
    assert {"forecasts", "maps", "errors"} <= set(figures)


def test_an_explanation_is_of_a_known_cell_and_blank_elsewhere(judge, model):
    question = judge.question(Asked(model, judge.task, judge.data, "test", 0))
    cells = np.arange(9.0).reshape(1, 1, 3, 3, 1)
    assert judge.shown("sst", cells).item() in (1, 3, 5, 7)  # The middle, 4, is not known.
    shown = question.shown.isnull().all(("time", "channel"))
    assert np.argwhere(shown.values).tolist() == [[0, 0], [1, 1]]
