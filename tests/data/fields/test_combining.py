"""What rules and linear maps are combined to: fits, weights, what is looked at, what it wins."""

import json
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge

from stpatch_jax.data import Combination, FieldConfig
from stpatch_jax.data.fields import combining
from stpatch_jax.data.fields.climatology import Phases
from stpatch_jax.data.fields.combining import _surely, _views, _weights
from stpatch_jax.data.fields.rolling import asked_of, rolling_origins, window_products
from stpatch_jax.errors import InputError
from stpatch_jax.runs.values import without_arrays
from stpatch_jax.tasks import Forecast, ForecastConfig

CONTEXT, HORIZON, SEASON = 24, 12, 12


def monthly(values):
    times = np.datetime64("1960-01", "M") + np.arange(len(values))
    coords = {"time": times.astype("M8[ns]"), "channel": ["sales"]}
    return xr.DataArray(
        values.reshape(len(values), -1)[..., None], coords, ("time", "shop", "channel")
    )


def autoregressive(noise, *weights):
    values = np.zeros_like(noise)
    for row in range(len(noise)):
        past = [w * values[row - lag] for lag, w in enumerate(weights, 1) if lag <= row]
        values[row] = sum(past) + noise[row]
    return values


def kinds(seed, rows=480):
    """Ten kinds of series [row, series], of two each."""
    random = np.random.default_rng(seed)
    noise, at = random.normal(size=(rows, 2)), np.arange(rows)[:, None]
    season = np.tile(random.normal(size=(SEASON, 2)), (rows // SEASON, 1))
    return {
        "noise": noise,
        "trend": 0.05 * at + noise,
        "season": 2 * season + noise,
        "both": 0.03 * at + 2 * season + autoregressive(noise, 0.6),
        "walk": noise.cumsum(axis=0),
        "levels": np.repeat(4 * random.normal(size=(6, 2)), rows // 6, axis=0) + noise,
        "wild": autoregressive(noise * np.exp(noise[::-1].cumsum(axis=0) / 12), 0.7),
        "counts": random.poisson(np.exp(0.5 * season)).astype(float),
        "growing": np.exp(0.008 * at + 0.25 * season + 0.05 * noise),
        "cycle": autoregressive(noise, 1.5, -0.8),
    }


def problem(values, **settings):
    told = {"context": CONTEXT, "horizon": HORIZON, "season": SEASON, "combination": True}
    return FieldConfig(**(told | settings)).of(monthly(values))


def combined(data, name="combination") -> Combination:
    """What a problem combines."""
    found = getattr(data, name)
    assert found is not None
    return found


def shares(values):
    """The error over the last fifth as a share of that of each rule."""
    known = len(values) - len(values) // 5
    told: Any = {"context": CONTEXT, "horizon": HORIZON, "seasons": {"season": SEASON}}
    phases = Phases("hour", np.arange(len(values)) % SEASON)
    early = phases._replace(numbers=phases.numbers[:known])
    found = Combination.of(values[:known], phases=early, **told)
    lost = {}
    for origin in rolling_origins(values, phases=phases, **told):
        if origin.row < known:
            continue
        own = origin.context @ found.linear
        for name, departing in found.departing.items():
            own -= origin.expected[name][..., :CONTEXT] @ departing
        own = own + sum(weight * origin.rules[name] for name, weight in found.rules.items())
        for name, forecast in (origin.rules | {"own": own}).items():
            lost[name] = lost.get(name, 0) + np.abs(forecast - origin.target).sum()
    own = lost.pop("own")
    return {name: own / of for name, of in lost.items()}


def test_it_wins_on_kinds_that_go_on_and_hardly_loses_on_those_that_do_not():
    every = [kinds(seed) for seed in range(2)]
    most = {name: [max(shares(of[name]).values()) for of in every] for name in every[0]}
    means = {name: np.exp(np.mean(np.log(of))) for name, of in most.items()}
    assert np.exp(np.mean(np.log([*means.values()]))) < 0.89, means
    # The best rule in hindsight: where a walk or a level ends nobody knows before.
    assert max(means.values()) < 1.03, means
    for name in ("trend", "both", "growing", "cycle"):
        assert means[name] < 0.93, means


@pytest.mark.parametrize(("gain", "share"), [(-0.2, 0), (0.0, 0), (0.05, 0.5), (0.1, 1), (0.5, 1)])
def test_a_gain_that_may_be_luck_leaves_weight_to_the_best_rule(gain, share, monkeypatch):
    targets = np.zeros((50, 3))
    made = {"drift": targets + 1.1, "persistence": targets + 1, (0, 1.0): targets + 1 - gain}
    monkeypatch.setattr(combining, "_weights", lambda *_: {(0, 1.0): 1.0})
    # What was averaged is nothing to fall back on.
    for name in ("climatology", "anomaly_persistence"):
        weights = _surely(made | {name: targets + 0.01}, targets)
        assert weights.get((0, 1.0), 0.0) == pytest.approx(share)
        assert weights.get("persistence", 0.0) == pytest.approx(1 - share)
        assert sum(weights.values()) == pytest.approx(1)


def test_a_level_that_moved_late_is_followed():
    for seed in range(4):
        random = np.random.default_rng(seed)
        moved = 15.0 * (np.arange(480) >= 330)[:, None]  # Of 384 rows before the last fifth.
        walk = 0.3 * random.normal(size=(480, 2)).cumsum(axis=0)
        assert shares(walk + moved)["persistence"] < 1.02
        seasons = np.tile(2 * random.normal(size=(SEASON, 2)), (480 // SEASON, 1))
        found = shares(seasons + random.normal(size=(480, 2)) + moved)
        assert max(found.values()) < 0.95, found


def test_departures_are_seen_where_their_means_are_of_many_cycles():
    random = np.random.default_rng(0)
    for cycles, seen in ((5, False), (40, True)):
        phases = Phases("hour", np.arange(SEASON * cycles) % SEASON)
        noise = random.normal(size=SEASON * cycles)
        for row in range(1, len(noise)):
            noise[row] += 0.8 * noise[row - 1]
        values = (3 * np.sin(2 * np.pi * phases.numbers / SEASON) + noise)[:, None]
        told = {"context": CONTEXT, "horizon": 4, "seasons": {}, "phases": phases}
        assert bool(Combination.of(values, **told).departing) == seen


def test_nothing_is_asked_of_what_comes_after():
    values = kinds(0, rows=240)["both"]
    first = problem(values)
    for split, name in (("test", "combination"), ("validation", "early_combination")):
        other = values.copy()
        other[first.splits[split].start :] = 77.0
        own, changed = (combined(data, name) for data in (first, problem(other)))
        assert own.told == changed.told
        np.testing.assert_array_equal(own.linear, changed.linear)
        assert own.rules == changed.rules
    assert not np.array_equal(combined(first).linear, combined(first, "early_combination").linear)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_task_forecasts_the_combination_of_the_split(split):
    data = problem(kinds(0, rows=240)["both"])
    task = ForecastConfig(model_weight="validation", weighed_against="auto").create().fitted(data)
    assert task.weighed_against == "combination"
    assert task.model_weight == 0
    facts = json.loads(json.dumps(task.facts))
    again = Forecast(task.config, **facts)
    assert task.inputs == again.inputs == ("context", "persistence", "combination")
    example = data.source(split)[2]
    own = combined(data, "combination" if split == "test" else "early_combination")
    expected = np.einsum("tsc,th->hsc", example["context"], own.linear)
    expected += sum(weight * example[rule] for rule, weight in own.rules.items())
    batch = {name: values[None] for name, values in example.items()}
    for of in (task, again):
        np.testing.assert_allclose(of.naive(batch)[0], expected, atol=1e-5)


def test_it_comes_back_from_a_checkpoint():
    values = kinds(0, rows=240)["both"]
    data = problem(values)
    told, arrays = without_arrays(data.state())
    state = json.loads(json.dumps(told)) | {"combination": told["combination"]}
    for name, array in arrays.items():
        state[name] = state.get(name, {}) | array if isinstance(array, dict) else array
    restored = data.config.restore_values(monthly(values), state)
    row = data.splits["test"].start
    [found] = [of for of in restored.source("all") if of["index"] == row]
    np.testing.assert_allclose(found["combination"], data.source("test")[0]["combination"])
    assert combined(restored).rules == combined(data).rules
    assert not data.config.for_inputs(["context"]).combination
    assert data.config.for_inputs(["context", "combination"]) == data.config


def test_maps_are_ridge_regressions_of_what_they_see():
    values, context, horizon = kinds(1, rows=240)["both"], 8, 3
    windows = np.lib.stride_tricks.sliding_window_view(values, context + horizon, axis=0)
    windows = windows.reshape(-1, context + horizon)
    x, y = windows[:, :context], windows[:, context:]
    products = window_products(values, context=context, horizon=horizon)
    for view in _views(context, horizon, [4], phased=False, explained=True):
        seen = x @ view.seen
        alpha = 0.1 * np.trace(seen.T @ seen) / seen.shape[1]
        model = Ridge(alpha=alpha, fit_intercept=False).fit(seen, y - x @ view.base)
        expected = x @ view.base + model.predict(seen)
        (found,) = view.fitted(products, [0.1])
        np.testing.assert_allclose(x @ found, expected, atol=1e-8)


def test_weights_are_those_of_the_least_absolute_error():
    random = np.random.default_rng(0)
    targets = random.normal(size=(400, 3))
    made = {name: targets + random.normal(size=targets.shape) for name in ("a", "b")}
    found = _weights(made | {"c": targets + 9.0}, targets)
    assert found.keys() == {"a", "b"}
    assert sum(found.values()) == pytest.approx(1)
    assert found["a"] == pytest.approx(0.5, abs=0.1)
    assert _weights(made | {"c": targets}, targets) == {"c": 1.0}


def test_what_is_exact_is_taken_alone():
    # A pure cycle: its season errs by rounding, all else by 1e14 times as much.
    values = np.sin(2 * np.pi * np.arange(240) / SEASON)[:, None]
    for phases in (None, Phases("hour", np.arange(240) % SEASON)):
        told: Any = {"context": CONTEXT, "horizon": 6, "seasons": {"season": SEASON}}
        found = Combination.of(values, phases=phases, **told)
        assert set(found.rules) <= {"season", "climatology"}
        assert phases is not None or found.rules == {"season": 1.0}
    values = np.random.default_rng(0).normal(size=(400, 3)).cumsum(axis=1)
    made = {name: values + values[:, :1] * 1e14 * at for at, name in enumerate("abc")}
    made["a"] += 1e-14 * np.cos(values)
    assert _weights(made, values) == {"a": 1.0}


def test_of_too_few_rows_it_is_persistence():
    found = Combination.of(np.zeros((20, 1)), context=12, horizon=12, seasons={})
    assert found.rules == {"persistence": 1.0}
    assert not found.linear.any()


def test_origins_before_which_no_window_is_whole_forecast_what_maps_add_to():
    values = kinds(0, rows=84)["season"]
    phases = Phases("hour", np.arange(84) % SEASON)
    found = Combination.of(values, context=CONTEXT, horizon=HORIZON, seasons={}, phases=phases)
    assert np.isfinite(found.linear).all()
    level = found.linear.sum(axis=0) + sum(found.rules.values())
    level -= sum(of.sum(axis=0) for of in found.departing.values())
    np.testing.assert_allclose(level, 1, atol=1e-5)


def test_what_it_does_not_suit_is_told():
    with pytest.raises(InputError, match=r"data\.combination must be off with data\.anomalies"):
        problem(kinds(0, rows=240)["both"], anomalies=True, climatology="day_of_year")
    data = problem(kinds(0, rows=240)["both"], combination=False)
    with pytest.raises(InputError, match="weighed_against must be 'persistence'"):
        ForecastConfig(model_weight="auto", weighed_against="combination").create().fitted(data)


def test_a_network_that_sees_more_is_left_to_validation():
    values = kinds(0, rows=240)["both"]
    config = ForecastConfig(model_weight="validation", weighed_against="auto")
    assert config.create().fitted(problem(values)).model_weight == 0
    # The mean over the shops is what no map of one of them knows.
    assert config.create().fitted(problem(values, space_means=True)).model_weight == 1


def test_the_choice_stands_in_the_report():
    data = problem(kinds(0, rows=240)["both"])
    chosen = data.config.settled(data)[1]["data.combination"]
    assert chosen == combined(data).told
    assert "a linear map of" in chosen


def test_missing_values_are_no_windows_lost():
    """Contexts hold the value before a missing one; what is missed there is no loss to any."""
    for seed in range(3):
        values = kinds(seed)["season"]
        missing = np.where(np.random.default_rng(seed).random(values.shape) < 0.15, np.nan, values)
        lost = []
        for given in (values, missing):
            data = problem(given)
            found = data.combination
            assert found is not None
            source = data.source("test")
            for example in (source[at] for at in range(0, len(source), 4)):
                row = int(example["index"])
                ahead = np.tensordot(found.linear, example["context"], (0, 0))
                ahead += example["combination"]
                units = data.in_units(ahead[None], np.array([row]))[0, ..., 0]
                lost.append(np.abs(units - values[row : row + HORIZON]).mean())
        half = len(lost) // 2
        assert np.mean(lost[half:]) < 1.3 * np.mean(lost[:half])
        assert "too few rows" not in found.told


def test_the_value_before_a_short_gap_stands_for_it():
    values = np.arange(12.0)[:, None]
    values[2:4], values[5:10] = np.nan, np.nan
    data = problem(np.tile(np.arange(SEASON), 40))
    found, told = asked_of(data, values)
    np.testing.assert_array_equal(found.ravel(), [0, 1, 1, 1, 4, 4, 4, 4, np.nan, np.nan, 10, 11])
    np.testing.assert_array_equal(told["there"], np.isfinite(values))
    told |= {"context": 1, "horizon": 1, "seasons": {}, "phases": None}
    for origin in rolling_origins(found, **told):
        rows = origin.row + np.arange(len(origin.whole))
        counts = np.isfinite(values[rows]) & np.isfinite(found[rows - 1])
        np.testing.assert_array_equal(origin.whole, counts)
