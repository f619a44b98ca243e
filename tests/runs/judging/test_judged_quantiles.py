"""Quantiles in reports: every score against references, rules by their past errors, figures."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from flax import nnx
from sklearn.metrics import brier_score_loss, mean_pinball_loss

from stpatch_jax.data import AlertConfig, CleaningConfig, FieldConfig, FieldData
from stpatch_jax.metrics import exceedance_probability
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.judging.alerts import FieldJudge
from stpatch_jax.runs.judging.quantiles import count_errors, error_quantiles
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import make_mesh

LEVELS, ROWS, HORIZON = (0.1, 0.9), 120, 2


def field() -> xr.DataArray:
    """Random walks of two variables, whose steps are of size 1 and 3 K."""
    steps = np.random.default_rng(0).normal(size=(ROWS, 3, 2)) * np.array([1.0, 3.0])
    coords = {
        "time": pd.date_range("2024-01-01", periods=ROWS, freq="h"),
        "channel": ["near", "far"],
        "units": ("channel", ["K", "K"]),
    }
    return xr.DataArray(steps.cumsum(0), coords, ("time", "cell", "channel"))


@pytest.fixture(scope="module")
def judged():
    """The judge of an untrained model, what it found on the test split, and its report."""
    alert = AlertConfig("above", 0.0)
    config = FieldConfig(
        context=4, horizon=HORIZON, alert=alert, cleaning=CleaningConfig(per="channel")
    )
    data, task = FieldData.of(field(), config), ForecastConfig(quantiles=LEVELS).create()
    shapes = {name: (1, *x.shape) for name, x in data.source("train")[0].items()}
    model = task.build(FlatPatchesConfig(WindowSpec((None, 1))), shapes, rngs=nnx.Rngs(0))
    judge = FieldJudge(task, data, make_mesh(), batch_size=8)
    test = judge(model, "test")
    report = judge.report(test)
    return judge, model, test, report


def windows(rows: range) -> tuple[np.ndarray, np.ndarray]:
    """The targets [window, horizon, cell, channel] of some rows, and persistence."""
    starts = np.arange(rows.start, rows.stop - HORIZON + 1)
    values = field().values
    return values[starts[:, None] + np.arange(HORIZON)], values[starts - 1][:, None]


def deviations(judge) -> np.ndarray:
    """The size of a scaled unit [channel]."""
    return np.diff(judge.data.cleaner.inverse(np.array([[[0.0, 0]], [[1.0, 1]]])), axis=0)[0, 0]


def test_scores_of_model_and_rules_are_those_of_scikit_learn(judged):
    judge, model, _, report = judged
    splits, deviation = judge.data.splits, deviations(judge)
    real, last = windows(splits["test"])
    # An untrained model is persistence with quantiles at 0 and log 2 deviations.
    bands = {"model": last[..., None] + np.array([0, np.log(2)]) * deviation[:, None]}
    past, before = windows(splits["validation"])
    errors = (past - before) / deviation
    spread = np.quantile(errors, LEVELS, axis=(0, 2))  # by lead time and variable
    spread = np.moveaxis(spread, 0, -1)[:, None] * deviation[:, None]
    bands["persistence"] = last[..., None] + spread
    for rule, tolerance in (("model", 1e-5), ("persistence", 0.05)):
        of = report["quantiles"]["original"][rule]
        band = np.broadcast_to(bands[rule], (*real.shape, 2))
        losses = [
            mean_pinball_loss(real.ravel(), band[..., at].ravel(), alpha=level)
            for at, level in enumerate(LEVELS)
        ]
        found = [of["pinball"][str(level)]["all"] for level in LEVELS]
        np.testing.assert_allclose(found, losses, rtol=tolerance)
        np.testing.assert_allclose(of["crps"]["all"], 2 * np.mean(losses), rtol=tolerance)
        wql = 2 * np.mean(losses) / np.abs(real).mean()
        np.testing.assert_allclose(of["wql"]["all"], wql, rtol=tolerance)
        inside = (band[..., 0] <= real) & (real <= band[..., 1])
        assert of["inside"]["0.1 to 0.9"]["all"] == pytest.approx(inside.mean(), abs=tolerance)
        lead = of["inside"]["0.1 to 0.9"]["per_lead"]
        np.testing.assert_allclose(lead, inside.mean((0, 2, 3)), atol=tolerance)
        series = report["quantiles"]["series"]["far"][rule]["below"]["0.1"]
        below = (real <= band[..., 0])[..., 1].mean()
        assert series == pytest.approx(below, abs=tolerance)
    assert judge.validation(judge(model, "validation")).keys() == {"crps", "mae", "rmse", "skill"}


def test_a_report_tells_quantiles_in_few_lines(judged):
    judge, _, _, test = judged
    lines = judge.markdown({**judge.header(), "test": test, "data": judge.data.report})
    assert any("level 0.5, linear between the quantiles 0.1 and 0.9. CRPS" in x for x in lines)
    heads = "| quantiles | CRPS (K) | WQL | in 0.1 to 0.9 (at best 0.8) |"
    assert sum(line == heads for line in lines) == 1
    for start, cells in (("| 0.1 |", 5), ("| far | K |", 6)):
        (line,) = (x for x in lines if x.startswith(start) and x.count("|") == cells + 1)
        assert "-" not in line.split("|")


def test_forecasts_are_drawn_with_their_bands(judged):
    judge, _, test, report = judged
    ax = judge.figures(test, {"test": report})["forecasts"].axes[0]
    origins = len(test.shown["lines"]["index"][::HORIZON])
    assert [len(x.get_paths()) for x in ax.collections] == [1] * origins
    assert "0.1 to 0.9" in ax.get_legend_handles_labels()[1]


def test_alerts_have_the_probability_of_the_quantiles(judged):
    judge, _, _, report = judged
    real, last = windows(judge.data.splits["test"])
    band = last[..., None] + np.array([0, np.log(2)]) * deviations(judge)[:, None]
    chance = exceedance_probability(band, 0.0, quantiles=LEVELS)
    chance = np.broadcast_to(chance, real.shape)
    expected = brier_score_loss((real > 0).ravel(), chance.ravel())
    found = report["alerts"]["rules"]["model_quantiles"]["brier"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert any("model_quantiles is the prob" in line for line in judge.before_errors(report))


@pytest.mark.parametrize("scale", [1e-2, 1.0, 300.0])
def test_counted_errors_have_the_quantiles_of_numpy(scale):
    rng = np.random.default_rng(0)
    errors = scale * rng.normal(size=(4000, 1, 2)) * np.array([1.0, 3.0])
    mask = rng.random(errors.shape) < 0.7
    counts = count_errors(errors[:1000], mask[:1000]) + count_errors(errors[1000:], mask[1000:])
    levels = (0.05, 0.3, 0.95)
    for channel in range(2):
        expected = np.quantile(errors[..., channel][mask[..., channel]], levels)
        found = error_quantiles(counts, levels)[0, channel]
        np.testing.assert_allclose(found, expected, rtol=0.03)
