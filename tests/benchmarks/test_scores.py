"""The scores of the published protocols, by hand and against scikit-learn; rows of the file."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    jaccard_score,
    matthews_corrcoef,
    roc_auc_score,
)

from benchmarks.experiments import EXPERIMENTS
from benchmarks.published import KEY, configured, merged
from benchmarks.scores import (
    alert_scores,
    class_scores,
    forecast_scores,
    interval,
    quantile_scores,
)
from stpatch_jax.metrics import EventCounts
from stpatch_jax.recipes.risk.judging import Tails


def forecasts(model, target, mask):
    model, target = (np.asarray(x, float) for x in (model, target))

    def summed(values):
        errors = np.where(mask, values - target, 0.0)
        return {"absolute": np.abs(errors).sum(axis=1), "squared": (errors**2).sum(axis=1)}

    errors = {"model": summed(model), "zero": summed(0 * model)}
    return {"targets": np.sum(mask, axis=1), "errors": errors}


def test_a_score_is_the_mean_over_windows_of_real_targets():
    rows = forecasts([[1, 1], [2, 2], [3, 3]], [[0, 2], [2, 4], [3, 9]], [[1, 1], [1, 1], [1, 0]])
    scores, every = forecast_scores(rows, batch=2), np.arange(3)
    # Windows have squared errors (1, 1), (0, 4), (0).
    assert scores["mse"]["model"](every) == pytest.approx((1 + 2 + 0) / 3)
    assert scores["mae"]["model"](every) == pytest.approx((1 + 1 + 0) / 3)
    assert scores["rmse"]["model"](every) == pytest.approx(1)
    assert scores["mse_drop_last"]["model"](every) == pytest.approx((1 + 2) / 2)
    assert scores["mse"]["zero"](every) == pytest.approx((2 + 10 + 9) / 3)
    assert scores["mae"]["model"](np.array([2, 2, 0])) == pytest.approx(1 / 3)


def test_class_scores_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    label, score = random.integers(0, 2, 50), random.random(50)
    probabilities = np.stack([1 - score, score], axis=-1)
    rows = {"probabilities": {"model": probabilities}, "label": label}
    scores = {name: by_rule["model"](np.arange(50)) for name, by_rule in class_scores(rows).items()}
    assert scores["accuracy"] == pytest.approx(accuracy_score(label, score > 0.5))
    assert scores["mcc"] == pytest.approx(matthews_corrcoef(label, score > 0.5), abs=1e-6)
    assert scores["auc"] == pytest.approx(roc_auc_score(label, score))


def test_coverage_and_pinball_loss_are_means_over_the_scored_returns():
    returns = np.array([[-3.0, 0.0], [1.0, -1.0], [2.0, np.nan]])
    tails = {name: np.full((3, 2), -2.0) for name in ("model", "model_without_level")}
    tails["rule"] = np.full((3, 2), -0.5)
    scores, every = quantile_scores(Tails(0.25, tails, returns)), np.arange(3)
    assert list(scores["coverage"]) == ["model", "rule"]
    assert scores["coverage"]["model"](every) == pytest.approx(1 / 5)
    assert scores["coverage"]["rule"](np.array([1, 1, 2])) == pytest.approx(2 / 5)
    # Errors against -2 are -1, 2, 3, 1 and 4.
    assert scores["pinball"]["model"](every) == pytest.approx((0.75 + 0.25 * 10) / 5)


def test_errors_in_units_and_alerts_are_those_of_the_chosen_lead_times():
    random = np.random.default_rng(0)
    shape = (6, 3, 4, 1)
    real, model = random.normal(size=(2, *shape))
    scored = np.ones(shape, bool)
    scored[:, :, 3] = False  # a cell that never changed in training
    probability, event = random.random(shape), random.random(shape) < 0.4

    def alerts(probability):
        warned = (probability >= 0.5) & scored
        told = [warned & event, ~warned & event & scored, warned & ~event, ~warned & ~event]
        squares = np.where(scored, (probability - event) ** 2, 0.0)
        return {
            "brier": squares.sum((2, 3)),
            "counts": EventCounts(*(values.sum((2, 3)) for values in told)),
        }

    rules = {"model": alerts(probability), "frequency": alerts(0 * probability)}
    sums = {"known": np.full((6, 3), 4), "squares": {"model": ((model - real) ** 2).sum((2, 3))}}
    rows = {"alerts": {**sums, "scored": scored.sum((2, 3)), "rules": rules}}
    scores = alert_scores(rows, leads=slice(1, 3), changing=scored[0, 0])
    chosen = np.array([0, 4, 4])
    late = (chosen, slice(1, 3), slice(0, 3))
    by_lead = [np.sqrt(((model - real)[chosen, lead] ** 2).mean()) for lead in (1, 2)]
    assert scores["rmse"]["model"](chosen) == pytest.approx(np.mean(by_lead))
    factor = np.sqrt(4 / 3)
    assert scores["rmse_scaled"]["model"](chosen) == pytest.approx(factor * np.mean(by_lead))
    brier = brier_score_loss(event[late].ravel(), probability[late].ravel())
    assert scores["brier"]["model"](chosen) == pytest.approx(brier)
    csi = jaccard_score(event[late].ravel(), probability[late].ravel() >= 0.5)
    assert scores["csi"]["model"](chosen) == pytest.approx(csi)
    assert scores["csi"]["frequency"](chosen) == 0


def test_an_interval_has_the_width_that_theory_says():
    values = np.random.default_rng(0).normal(size=400)
    low, high = interval(lambda chosen: float(values[chosen].mean()), np.arange(400))
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.02)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    # Four copies of each case hold no more than one: by group the interval stays as wide.
    copies = np.repeat(values, 4)
    again = interval(lambda chosen: float(copies[chosen].mean()), np.repeat(np.arange(400), 4))
    assert again == pytest.approx([low, high], abs=1e-12)


def test_a_row_that_is_scored_again_replaces_and_counts():
    row = dict.fromkeys(KEY, "a") | {"value": 1.0, "test_openings": 1}
    other = {**row, "horizon": 5}
    found = merged([row, other], [{**row, "value": 2.0}])
    assert found == [{**row, "value": 2.0, "test_openings": 2}, other]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_a_recipe_with_its_horizon_and_seed(name):
    experiment = EXPERIMENTS[name]
    config = configured(experiment, experiment.horizons[-1], 3)
    assert config.recipe == experiment.recipe
    assert name == experiment.name
    assert experiment.path in (None, config.data.path)
    assert config.train.seed == 3
    assert experiment.horizons[-1] in (None, getattr(config.data, "horizon", None))
    assert experiment.published.keys() <= set(experiment.horizons)
