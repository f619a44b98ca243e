"""What known covariates tell of a series, and what `forecast` makes of it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from stpatch_jax.data import FieldConfig, FieldData
from stpatch_jax.data.fields.combining import Combination, _drawn
from stpatch_jax.data.fields.regression import Regression, Terms, explained, known_series

ROWS = 400


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def frame(values: np.ndarray, **known: np.ndarray) -> pd.DataFrame:
    times = pd.date_range("2024-01-01", periods=len(values), freq="D")
    return pd.DataFrame({"load": values, **known}, index=times)


def problem(table: pd.DataFrame, *, combination: bool = True) -> FieldData:
    names = tuple(map(str, table.columns[1:]))
    config = FieldConfig(
        known=names, columns="channels", context=14, horizon=7, combination=combination
    )
    return config.of(table)


def errors(data: FieldData) -> dict[str, float]:
    """Mean absolute errors of combination and rules over the test split."""
    found = data.combination
    assert found is not None
    lost: dict[str, Any] = {}
    source = data.source("test")
    for example in (source[at] for at in range(len(source))):
        past = example["context"][..., : example["target"].shape[-1]]
        example["combination"] = example["combination"] + np.tensordot(found.linear, past, (0, 0))
        for name in {"combination", "persistence", "regression"} & set(example):
            missed = np.abs(example[name] - example["target"]).mean()
            lost[name] = lost.get(name, 0.0) + float(missed) / len(source)
    return lost


def quasi_differences(rows: np.ndarray, series: np.ndarray) -> np.ndarray:
    """The weights of Cochrane and Orcutt, step by step."""
    kept, slopes = 0.0, np.zeros(rows.shape[1])
    for _ in range(5):
        new, wanted = rows[1:] - kept * rows[:-1], series[1:] - kept * series[:-1]
        slopes = LinearRegression().fit(new, wanted).coef_
        missed = series - rows @ slopes
        missed = missed - missed[1:].mean()
        kept = np.clip(np.sum(missed[1:] * missed[:-1]) / np.sum(missed[:-1] ** 2), 0, 0.98)
    return slopes


@pytest.mark.parametrize("stays", [0.0, 0.7])
def test_weights_are_those_of_cochrane_and_orcutt(stays):
    covariates, noise = normal(0, ROWS, 1, 2), normal(1, ROWS)
    for row in range(1, ROWS):
        noise[row] += stays * noise[row - 1]
    values = 2 * covariates[:, 0, 0] - np.abs(covariates[:, 0, 1]) + noise
    first = covariates[:1].repeat(7, 0)
    before = np.concatenate([first, covariates])
    mean = np.stack([before[row : row + 8].mean(0) for row in range(ROWS)])
    parts = [covariates, np.abs(covariates), before[6:-1], mean, np.abs(mean)]
    rows = np.concatenate(parts, axis=-1)[:, 0]
    found = Regression.fit(values[:, None], Terms.of(covariates)).weights[0]
    np.testing.assert_allclose(found[1:], quasi_differences(rows, values), atol=0.01)


def test_rows_that_come_in_blocks_with_gaps_are_one():
    covariates = normal(0, ROWS, 3, 2)
    values = 2 * covariates[..., 0] - covariates[..., 1] + normal(1, ROWS, 3)
    values[40:60, 1], covariates[100, 2, 0], values[:, 0] = np.nan, np.nan, np.nan
    terms = Terms.of(covariates)
    whole = Regression.fit(values, terms)
    blocks = ((0, 151), (151, 152), (152, 155), (155, ROWS))
    parts = []
    for start, stop in blocks:
        rows = slice(max(start - 1, 0), stop)
        parts.append(Regression.fit(values[rows], terms[rows]))
    joined = parts[0] + parts[1] + parts[2] + parts[3]
    np.testing.assert_allclose(joined.weights, whole.weights, atol=1e-9)
    assert np.isfinite(whole.weights).all()
    # A series without a row expects what is usual.
    assert not whole.weights[0].any()


@pytest.mark.parametrize("phase", [None, "weekday_hour", "day_of_year"])
def test_windows_are_told_what_the_whole_series_is(phase):
    table = frame(normal(0, ROWS), a=normal(1, ROWS), b=normal(2, ROWS))
    for context in (3, 14):
        sizes: Any = {"context": context, "horizon": 7, "climatology": phase}
        data = FieldConfig(known=("a", "b"), columns="channels", **sizes).of(table)
        known = known_series(data, range(ROWS))
        assert known is not None
        assert data.regression is not None
        whole = explained(data.regression.reshape(1, -1), known)[:, 0]
        source = data.source("train")
        for number in (0, 1, 100):
            example = source[number]
            row = int(example["index"])
            found = example["regression"].ravel()
            np.testing.assert_allclose(found, whole[row : row + 7], atol=1e-5)


def test_slopes_are_found_in_series_that_wander_off():
    for seed in range(5):
        covariates = normal(seed, ROWS, 1, 1)
        walk = normal(seed + 5, ROWS).cumsum()
        found = Regression.fit(covariates[..., 0] + walk[:, None], Terms.of(covariates)).weights[0]
        assert found[1] == pytest.approx(1, abs=0.25)


def test_a_series_that_a_covariate_tells_is_forecast_exactly():
    temperature = 10 + normal(0, ROWS)
    for load in (5 * temperature, np.abs(temperature - temperature[:280].mean())):
        data = problem(frame(load, temperature=temperature))
        lost = errors(data)
        assert max(lost["combination"], lost["regression"]) < 1e-3 * lost["persistence"]
        # In the words of the report.
        assert "less what covariates tell" in data.config.settled(data)[1]["data.combination"]


def test_a_load_that_goes_by_days_of_warmth_is_forecast_where_rows_suffice():
    temperature = normal(0, ROWS + 7)
    warmth = np.convolve(temperature, np.ones(8) / 8, "valid")
    load = np.abs(warmth - warmth[:280].mean())
    lost = errors(problem(frame(load, temperature=temperature[7:])))
    assert lost["regression"] < 0.2 * lost["persistence"]
    few = Regression.fit(load[:100, None], Terms.of(temperature[7:107, None, None])).weights[0]
    assert abs(few[-2:]).max() < 1e-4 < abs(few[1:-2]).max()


def test_a_slope_that_changes_with_the_hour_is_found_where_rows_suffice():
    """Heat that costs at noon what it saves at midnight, and cold is no cost at all."""
    rows = 24 * 150
    warm = normal(0, rows)
    times = pd.date_range("2024-01-01", periods=rows, freq="h")
    load = np.cos(2 * np.pi * np.asarray(times.hour) / 24) * warm
    for count, told in ((rows, True), (24 * 50, False)):
        table = pd.DataFrame({"load": load, "warm": warm}, index=times)[:count]
        sizes: Any = {"context": 24, "horizon": 24, "climatology": "hour"}
        data = FieldConfig(known=("warm",), columns="channels", **sizes).of(table)
        source = data.source("test")
        missed = [of["regression"] - of["target"] for of in map(source.__getitem__, range(24))]
        assert (np.abs(missed).mean() < 0.01) == told


def test_what_covariates_tell_is_added_to_what_the_past_does():
    effect, walk = normal(0, ROWS), normal(1, ROWS).cumsum()
    told = errors(problem(frame(walk + 3 * effect, promotion=effect)))
    assert told["combination"] < 0.75 * min(told["persistence"], told["regression"])


def test_covariates_that_tell_nothing_cost_next_to_nothing():
    for seed in range(3):
        walk = normal(seed, ROWS).cumsum()
        noise = {name: normal(seed + at, ROWS) for at, name in enumerate("abc", 5)}
        wanders = normal(seed + 9, ROWS).cumsum()
        told = errors(problem(frame(walk, **noise, other=wanders)))
        assert told["combination"] < 1.01 * errors(problem(frame(walk)))["combination"]


@pytest.mark.parametrize(
    ("lost", "share"), [(1.1, 0.0), (1.0, 0.0), (0.98, 0.4), (0.95, 1.0), (0.5, 1.0)]
)
def test_what_gained_little_has_little_weight(lost, share):
    targets, missed = normal(0, 200, 3), normal(1, 200, 3)
    made = {"without": targets + missed, "told": targets + lost * missed}
    found = _drawn({"told": 1.0}, {"without": 1.0}, made, targets, sure=0.05)
    assert found == pytest.approx(
        {name: of for name, of in (("without", 1 - share), ("told", share)) if of}
    )


def test_without_known_covariates_nothing_is_regressed():
    data = problem(frame(np.arange(ROWS) % 7.0))
    assert data.regression is None
    assert "regression" not in data.source("test")[0]
    assert "regression" not in data.state()


def test_a_combination_of_before_is_read():
    departing = normal(0, 4, 2)
    state = {"linear": departing, "departing": departing, "rules": {"climatology": 1.0}}
    found = Combination.of_state(state)
    np.testing.assert_array_equal(found.departing["climatology"], np.float32(departing))
    again = Combination.of_state(found.to_dict())
    np.testing.assert_array_equal(again.departing["climatology"], found.departing["climatology"])
