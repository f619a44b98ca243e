"""The weight of a trained network: between rolling origins and the validation split, to the end."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data import FieldConfig
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes import recipe
from stpatch_jax.runs import load_run, train
from stpatch_jax.runs.judging.forecast import ForecastJudge
from stpatch_jax.runs.judging.weighing import NetworkWeight
from stpatch_jax.tasks import Forecast, ForecastConfig
from stpatch_jax.training import make_mesh

ROWS, CONTEXT, HORIZON = 160, 4, 3
CONFIG = FieldConfig(context=CONTEXT, horizon=HORIZON, season=4, train_share=0.6)
WEIGHED = ForecastConfig(normalize="both", model_weight="validation", weighed_against="auto")


def frame(*, ends: float = 0.0) -> pd.DataFrame:
    """Two noisy seasons that come back to their means; the test span is moved up."""
    random = np.random.default_rng(1)
    values = 3 * np.sin(np.arange(ROWS) * np.pi / 2)[:, None] + random.normal(size=(ROWS, 2))
    values[128:] += ends
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=ROWS, freq="6h"), ["a", "b"])


@given(st.floats(0, 1), st.floats(-1, 2), st.integers(2, 40), st.integers(1, 9), st.integers(0, 99))
def test_the_weight_is_the_smaller_one_unless_validation_is_sure(before, own, count, block, seed):
    left = np.random.default_rng(seed).normal(size=(count, 3))
    missed = own * left + np.random.default_rng(seed + 1).normal(size=(count, 3))
    told = {"before": before, "block": block}
    found = NetworkWeight.of((missed * left).sum(1), (left * left).sum(1), **told)
    [[least]] = np.linalg.lstsq(left.reshape(-1, 1), missed.reshape(-1, 1))[0]
    smaller = min(before, float(np.clip(least, 0, 1)))
    assert 0 <= found.weight <= 1
    assert (found.interval is None) == (count < 2 * block)
    low = found.interval[0] if found.interval else 0.0
    assert found.weight == pytest.approx(max(smaller, low), abs=1e-9)


def judge_of(*, ends: float = 0.0) -> tuple[ForecastJudge, nnx.Module]:
    """A judge, and a network that is not what it was before training."""
    data = CONFIG.of(frame(ends=ends))
    task = WEIGHED.create().fitted(data)
    shapes = {name: (1, *x.shape) for name, x in data.source("train")[0].items()}
    model = task.build(FlatPatchesConfig(WindowSpec((None, 1))), shapes, rngs=nnx.Rngs(0))
    nnx.update(model, jax.tree.map(lambda x: x + 0.05, nnx.state(model, nnx.Param)))
    return ForecastJudge(task, data, make_mesh(), batch_size=8), model


def test_validation_alone_tells_the_weight():
    judge, model = judge_of()
    validation = judge.validation(judge(model, "validation"))
    header = judge.header()
    assert header["weighed_against"] == "season"
    assert header["model_weight"] == validation["model_weight"] < 1
    other, _ = judge_of(ends=50.0)
    assert other.validation(other(model, "validation")) == validation


@pytest.mark.slow
def test_a_trained_run_predicts_with_the_weight_of_its_report(tmp_path):
    settings = dataclasses.replace(
        recipe("forecast").train, steps=4, batch_size=8, checkpoint_every=2, evaluate_every=4
    )
    config = dataclasses.replace(recipe("forecast"), data=CONFIG, task=WEIGHED, train=settings)
    run = train(config, data=frame(), workdir=tmp_path, progress=False)
    report, task = run.metrics, run.task
    assert isinstance(task, Forecast)
    assert (
        report["model_weight"] == task.model_weight == load_run(tmp_path).task.facts["model_weight"]
    )
    assert report["model_weight"] == report["validation"]["model_weight"]
    assert report["weight_before"] == CONFIG.of(frame()).rule_weights()["season"].weight
    assert "of the trained network the validation split puts it from" in run.report
    source = run.data(values=frame()).source("test")
    batch = {key: np.stack([source[i][key] for i in range(8)]) for key in source[0]}
    network = task.network_forecast(run.model, batch)
    expected = batch["season"] + report["model_weight"] * (network - batch["season"])
    np.testing.assert_allclose(run.answers(batch), expected, atol=1e-6)
