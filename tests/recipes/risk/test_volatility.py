"""Variances and quantiles of past returns, against pandas and by hand."""

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from stpatch_jax.errors import InputError
from stpatch_jax.recipes.risk.volatility import (
    ewma_variance,
    parkinson_variance,
    rolling_mean,
    rolling_quantile,
)

ROWS = 60


def returns(seed=0, gaps=0.1):
    random = np.random.default_rng(seed)
    values = random.normal(0, 0.01, (ROWS, 3))
    values[random.random(values.shape) < gaps] = np.nan
    values[:15, 1] = np.nan
    return values


def test_ewma_is_that_of_pandas_after_its_beginning():
    values = returns()
    found = ewma_variance(values, decay=0.9, start=10)
    for series, variance in zip(values.T, found.T, strict=True):
        known = np.flatnonzero(np.isfinite(series))
        squares = series[known] ** 2
        begun = np.concatenate([[squares[:10].mean()], squares[10:]])
        expected = pd.Series(begun).ewm(alpha=0.1, adjust=False).mean().to_numpy()[1:]
        assert np.isnan(variance[: known[10]]).all()
        np.testing.assert_allclose(variance[known[10:]], expected, rtol=1e-12)
        # A missing return leaves the variance as it was.
        held = pd.Series(variance).where(np.isfinite(series)).ffill().to_numpy()
        np.testing.assert_array_equal(variance[known[10] :], held[known[10] :])


def test_ewma_of_equal_squares_is_that_square():
    values = 0.02 * np.where(np.arange(40) % 2, 1, -1)
    np.testing.assert_allclose(ewma_variance(values)[20:], 0.0004, rtol=1e-12)


@pytest.mark.parametrize(("rows", "least"), [(5, None), (5, 2), (100, 10)])
def test_rolling_mean_and_quantile_are_those_of_pandas(rows, least):
    values = returns(1)
    windows = pd.DataFrame(values).rolling(rows, min_periods=least or rows)
    np.testing.assert_allclose(
        rolling_mean(values, rows, least=least), windows.mean(), rtol=1e-9, atol=1e-15
    )
    np.testing.assert_allclose(
        rolling_quantile(values, 0.05, rows, least=least), windows.quantile(0.05), rtol=1e-9
    )


def test_one_huge_value_spoils_nothing_after_it_left_the_window():
    values = np.array([1e9, 1e-9, 3e-9, 1e-9])
    assert rolling_mean(values, 2)[2:].tolist() == pytest.approx([2e-9, 2e-9], rel=1e-12)


def test_parkinson_by_hand():
    low = np.array([1.0, 7.0, np.nan])
    found = parkinson_variance(low * np.e, low)
    np.testing.assert_allclose(found, np.array([1, 1, np.nan]) / (4 * np.log(2)))


@given(row=st.integers(0, ROWS - 2), seed=st.integers(0, 99), size=st.sampled_from([0, 1, np.nan]))
def test_no_row_depends_on_a_later_one(row, seed, size):
    before = returns(seed)
    after = before.copy()
    after[row + 1 :] *= size
    for function in (
        lambda x: ewma_variance(x, start=5),
        lambda x: rolling_mean(x, 7, least=2),
        lambda x: rolling_quantile(x, 0.05, 7, least=2),
    ):
        np.testing.assert_array_equal(function(before)[: row + 1], function(after)[: row + 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ewma_variance(x, decay=1.0), r"decay must be in \(0, 1\), got 1"),
        (lambda x: ewma_variance(x, start=0), "start must be a whole number >= 1, got 0"),
        (lambda x: rolling_mean(x, 0), "rows must be a whole number >= 1, got 0"),
        (lambda x: rolling_quantile(x, 0.05, 5, least=6), r"least must be in \[1, 5\], got 6"),
    ],
)
def test_options_out_of_range_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(returns())
