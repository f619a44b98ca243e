"""The weight against persistence: against a plain loop, and what it says of known processes."""

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge

from stpatch_jax.data import FieldConfig
from stpatch_jax.data.fields.climatology import Phases
from stpatch_jax.data.fields.rolling import rolling_rules, rolling_weight
from stpatch_jax.errors import InputError
from stpatch_jax.tasks import ForecastConfig

CONTEXT, HORIZON = 4, 3


def mean_reverting(rows=400, series=3):
    random = np.random.default_rng(0)
    values = np.zeros((rows, series))
    for row in range(1, rows):
        values[row] = 0.3 * values[row - 1] + random.normal(size=series)
    return values


def persistence(values, _origin, first):
    return values[first - 1 : first]


def by_a_plain_loop(values, rule=persistence):
    """The same weight with scikit-learn and one window at a time."""
    rows, length = len(values), CONTEXT + HORIZON
    step, agreed, spread = rows // 30, 0.0, 0.0
    for origin in range(round(0.35 * rows), rows - HORIZON + 1, step):
        past = [values[i : i + length] for i in range(origin - length + 1)]
        past = np.concatenate([window.T for window in past])
        x, y = past[:, :CONTEXT], past[:, CONTEXT:]
        model = Ridge(alpha=1e-3 * np.trace(x.T @ x) / CONTEXT, fit_intercept=False).fit(x, y)
        for first in range(origin, min(origin + step, rows - HORIZON + 1)):
            window = values[first - CONTEXT : first + HORIZON].T
            last = rule(values, origin, first).T
            left = model.predict(window[:, :CONTEXT]) - last
            agreed += ((window[:, CONTEXT:] - last) * left).sum()
            spread += (left**2).sum()
    return agreed / spread


def test_it_is_what_a_plain_loop_gives():
    values = mean_reverting()
    got = rolling_weight(values, context=CONTEXT, horizon=HORIZON)
    assert got == pytest.approx(by_a_plain_loop(values), rel=1e-6)


def season(values, _origin, first):
    return values[first - 4 : first - 1]


def drift(values, origin, first):
    gained = (values[origin - 1] - values[0]) / (origin - 1)
    return values[first - 1] + np.arange(1, HORIZON + 1)[:, None] * gained


def by_phase(values, origin, first):
    return np.stack([values[row % 6 : origin : 6].mean(0) for row in range(first, first + HORIZON)])


def departure(values, origin, first):
    usual = values[(first - 1) % 6 : origin : 6].mean(0)
    return by_phase(values, origin, first) + values[first - 1] - usual


RULES = {
    "persistence": persistence,
    "drift": drift,
    "season": season,
    "running_mean": lambda values, _, first: values[first - CONTEXT : first].mean(0)[None],
    "climatology": by_phase,
    "anomaly_persistence": departure,
}


def test_every_rule_is_weighed_as_a_plain_loop_does():
    values = mean_reverting(rows=240, series=2) + 0.05 * np.arange(240)[:, None]
    told = {"seasons": {"season": 4}, "phases": Phases("hour", np.arange(240) % 6)}
    found = rolling_rules(values, context=CONTEXT, horizon=HORIZON, **told)
    assert found.keys() == RULES.keys()
    whole = rolling_weight(values, context=CONTEXT, horizon=HORIZON)
    assert found["persistence"][0] == pytest.approx(whole, rel=1e-12)
    for name, rule in RULES.items():
        expected = np.clip(by_a_plain_loop(values, rule), 0, 1)
        assert found[name][0] == pytest.approx(expected, rel=1e-6), name


def hourly(values):
    times = np.datetime64("2024-01-01", "h") + np.arange(len(values))
    coords = {"time": times, "channel": ["load"]}
    return xr.DataArray(values[..., None], coords, ("time", "cell", "channel"))


@pytest.mark.parametrize("rule", ["season", "drift", "climatology"])
def test_a_task_is_weighed_against_the_rule_that_fits_the_process(rule):
    random = np.random.default_rng(2)
    noise = random.normal(size=(600, 2))
    days = np.tile(random.normal(size=(24, 2)), (25, 1))
    values = {
        "season": noise.reshape(25, 24, 2).cumsum(axis=0).reshape(600, 2),  # A walk each hour.
        "drift": (noise + 0.5).cumsum(axis=0),
        "climatology": 9 * days + noise,
    }[rule]
    config = FieldConfig(context=3, horizon=24, season=24, climatology="hour")
    data = config.of(hourly(values))
    task = ForecastConfig(model_weight="auto", weighed_against="auto").create().fitted(data)
    assert task.facts["weighed_against"] == task.weighed_against == rule
    assert 0 <= task.model_weight < 0.5
    assert task.inputs == ("context", "persistence", rule)
    # Nothing of the test span is asked.
    values[data.splits["test"].start :] = 7
    assert config.of(hourly(values)).rule_weights() == data.rule_weights()


def test_the_rule_of_a_weight_may_be_named():
    data = FieldConfig(context=3, horizon=2).of(hourly(mean_reverting()))
    task = ForecastConfig(model_weight="auto", weighed_against="drift").create().fitted(data)
    assert task.model_weight == data.rule_weights()["drift"][0]
    with pytest.raises(InputError, match="weighed_against must be 'persistence', 'drift'"):
        ForecastConfig(model_weight="auto", weighed_against="season").create().fitted(data)
    with pytest.raises(InputError, match=r"model_weight must be auto .*, got 1\.0"):
        ForecastConfig(weighed_against="auto")


def test_a_process_that_comes_back_is_trusted_and_a_walk_is_not():
    assert rolling_weight(mean_reverting(), context=CONTEXT, horizon=HORIZON) > 0.9
    walk = np.random.default_rng(1).normal(size=(1500, 8)).cumsum(axis=0)
    assert rolling_weight(walk, context=CONTEXT, horizon=HORIZON) < 0.5


def test_windows_with_gaps_are_left_out():
    values = mean_reverting()
    other = values.copy()
    other[:, 1] = np.nan
    got = rolling_weight(other, context=CONTEXT, horizon=HORIZON)
    expected = rolling_weight(values[:, [0, 2]], context=CONTEXT, horizon=HORIZON)
    assert got == pytest.approx(expected, rel=1e-9)


def test_too_few_rows_are_told():
    with pytest.raises(InputError, match="rows of one window of 7, got 6"):
        rolling_weight(np.zeros((6, 1)), context=4, horizon=3)


def test_the_weight_is_taken_from_rows_before_the_test_span(data_dir):
    data = FieldConfig("catalog:exchange_rate", context=24, horizon=96).load()
    weight = data.model_weight()
    assert 0.1 < weight < 0.25
    data.field[data.splits["test"].start :] = 7.0
    assert data.model_weight() == weight
