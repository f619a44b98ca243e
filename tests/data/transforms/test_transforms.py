"""Scalers against scikit-learn; pipelines there and back, in parts, and restored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import MinMaxScaler as SklearnMinMax
from sklearn.preprocessing import RobustScaler as SklearnRobust

from stpatch_jax.data.transforms.pipeline import Pipeline, sampled_rows
from stpatch_jax.data.transforms.steps import Affine, Log, Log1p
from stpatch_jax.errors import InputError

STEPS = ("log1p", "winsorize", "robust", "standard", "min_max")
numbers = st.integers(-400, 400).map(lambda n: n / 8)
panels = hnp.arrays(np.float64, (9, 3), elements=st.one_of(st.just(np.nan), numbers))


@given(panels)
@pytest.mark.parametrize(
    ("ours", "theirs"), [(Affine.robust, SklearnRobust), (Affine.min_max, SklearnMinMax)]
)
def test_scalers_are_those_of_scikit_learn(ours, theirs, values):
    values[0] = 1.5  # scikit-learn warns of a series without values
    scaler = ours(values)
    scaled = scaler.transform(values)
    np.testing.assert_allclose(scaled, theirs().fit_transform(values), atol=1e-9)
    np.testing.assert_allclose(scaler.inverse(scaled), values, atol=1e-9)


@pytest.mark.parametrize("fit", [Affine.robust, Affine.min_max])
def test_constant_and_empty_series_have_the_scale_one(fit):
    values = np.stack([np.full(5, 7.0), np.full(5, np.nan)], axis=1)
    np.testing.assert_array_equal(fit(values).transform(np.ones((1, 2))), [[-6, 1]])


@given(hnp.arrays(np.float64, (12, 2), elements=numbers), st.integers(0, 12), st.integers(0, 12))
def test_scalers_fitted_in_parts_are_those_fitted_at_once(values, one, two):
    parts = np.split(values, sorted((one, two)))
    for fit in (Affine.standard, Affine.robust, Affine.min_max):
        whole, merged = fit(values), fit(parts)
        np.testing.assert_allclose(merged.center, whole.center, atol=1e-12)
        np.testing.assert_allclose(merged.scale, whole.scale, rtol=1e-9)


def test_a_large_mean_costs_no_precision_in_parts():
    values = 1e6 + np.random.default_rng(0).normal(size=(3000, 1)).astype(np.float32)
    merged = Affine.standard(np.split(values.astype(np.float32), 30))
    np.testing.assert_allclose(merged.scale, values.astype(np.float64).std(axis=0), rtol=1e-6)


@pytest.mark.parametrize(("log", "least"), [(Log(), 0.0), (Log1p(), -1.0)])
def test_logs_go_back_and_what_has_none_is_missing(log, least):
    values = np.array([least - 1, least, least + 0.5, 9.0, np.nan])
    scaled = log.transform(values)
    np.testing.assert_array_equal(np.isnan(scaled), [True, True, False, False, True])
    np.testing.assert_allclose(log.inverse(scaled)[2:4], values[2:4])


def test_log_values_differ_by_log_returns():
    prices = np.array([2.0, 3.0, 5.0])
    np.testing.assert_allclose(np.diff(Log().transform(prices)), np.log([1.5, 5 / 3]))


def test_a_pipeline_fits_each_step_to_the_output_of_the_one_before():
    values = np.random.default_rng(0).gamma(2.0, size=(50, 3))
    pipeline = Pipeline.fit(values, STEPS, winsorize=0.1)
    logs = np.log1p(values)
    clipped = np.clip(logs, *np.quantile(logs, (0.1, 0.9), axis=0))
    median, low, high = np.quantile(clipped, (0.5, 0.25, 0.75), axis=0)
    robust = (clipped - median) / (high - low)
    standard = (robust - robust.mean(axis=0)) / robust.std(axis=0)
    expected = (standard - standard.min(axis=0)) / np.ptp(standard, axis=0)
    np.testing.assert_allclose(pipeline.transform(values), expected, atol=1e-12)
    np.testing.assert_allclose(pipeline.inverse(expected), np.expm1(clipped), atol=1e-12)
    free = pipeline.transform(values, clip=False)
    np.testing.assert_allclose(pipeline.inverse(free), values, atol=1e-12)


def test_a_pipeline_fitted_in_parts_and_restored_is_the_same():
    values = np.random.default_rng(0).gamma(2.0, size=(50, 2, 3))
    whole = Pipeline.fit(values, STEPS)
    parts = Pipeline.fit_chunks(lambda: np.split(values, [7, 20]), STEPS, rows=50)
    np.testing.assert_allclose(parts.transform(values), whole.transform(values), atol=1e-12)
    again = Pipeline.from_dict(whole.to_dict())
    np.testing.assert_array_equal(again.transform(values), whole.transform(values))


def test_a_selection_is_the_pipeline_of_a_tile_and_some_channels():
    values = np.random.default_rng(0).gamma(2.0, size=(20, 4, 3))
    pipeline = Pipeline.fit(values, STEPS)
    part = pipeline.select(channels=(2, 0), cells=(slice(1, 3),))
    expected = pipeline.transform(values)[:, 1:3, [2, 0]]
    np.testing.assert_array_equal(part.transform(values[:, 1:3, [2, 0]]), expected)


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 60))
def test_sampled_rows_are_one_of_each_block_whatever_the_parts(rows, sample, cut):
    values = np.arange(rows)[:, None]
    drawn = sampled_rows(np.split(values, [min(cut, rows)]), rows=rows, sample=sample)[:, 0]
    np.testing.assert_array_equal(drawn, sampled_rows([values], rows=rows, sample=sample)[:, 0])
    block = -(-rows // sample)
    np.testing.assert_array_equal(drawn // block, np.arange(-(-rows // block)))


def test_quantiles_of_a_sample_are_near_those_of_all_rows():
    # A daily cycle of 24 rows, and blocks of 24 rows: every 24th row alone would see one hour.
    rows = 24 * 4000
    values = np.sin(2 * np.pi * np.arange(rows) / 24)[:, None]
    sampled = Pipeline.fit_chunks(lambda: [values], ("robust",), rows=rows, sample=4000)
    whole = Pipeline.fit(values, ("robust",))
    assert len(sampled_rows([values], rows=rows, sample=4000)) == 4000
    np.testing.assert_allclose(sampled.transform(values), whole.transform(values), atol=0.05)


@pytest.mark.parametrize(
    ("names", "share", "message"),
    [
        (("standard", "whiten"), 0.1, "a step of a pipeline must be .* got 'whiten'"),
        (("winsorize",), 0.5, r"winsorize must be in \[0, 0.5\), got 0.5"),
    ],
)
def test_unknown_steps_and_shares_are_refused(names, share, message):
    with pytest.raises(InputError, match=message):
        Pipeline.fit(np.zeros((3, 1)), names, winsorize=share)
