"""Missing values and outliers against pandas, NumPy and SciPy."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import mstats

from stpatch_jax.data.prices.problem import dropped_companies, mask_impossible
from stpatch_jax.data.transforms.cleaning import forward_fill, nan_quantiles
from stpatch_jax.data.transforms.steps import Winsorizer

panels = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 3)),
    elements=st.one_of(st.just(np.nan), st.floats(-1e6, 1e6)),
)


@given(panels)
def test_forward_fill_is_that_of_pandas(values):
    np.testing.assert_array_equal(forward_fill(values), pd.DataFrame(values).ffill().to_numpy())


@given(panels, st.data())
def test_forward_fill_sees_no_later_row(values, data):
    row = data.draw(st.integers(0, len(values)))
    changed = values.copy()
    changed[row:] = 7.0
    np.testing.assert_array_equal(forward_fill(changed)[:row], forward_fill(values)[:row])


@given(panels, st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_quantiles_are_those_of_numpy(values, quantiles):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy warns of series without values.
        expected = np.nanquantile(values, quantiles, axis=0)
    scale = np.nanmax(np.abs(values), initial=1.0)
    np.testing.assert_allclose(nan_quantiles(values, quantiles), expected, atol=1e-12 * scale)


@given(panels, st.floats(0.01, 0.4))
def test_clipping_keeps_values_between_the_quantiles_and_nan(values, quantile):
    winsorizer = Winsorizer.fit(values, quantile)
    clipped = winsorizer.transform(values)
    np.testing.assert_array_equal(np.isnan(clipped), np.isnan(values))
    inside = (values >= winsorizer.lower) & (values <= winsorizer.upper)
    np.testing.assert_array_equal(clipped[inside], values[inside])
    np.testing.assert_array_equal(winsorizer.transform(clipped), clipped)


def test_clipping_is_winsorising_where_quantiles_are_values():
    # With 101 values the 5 % quantile is exactly the sixth; SciPy replaces five at each end.
    values = np.random.default_rng(0).normal(size=101)
    expected = np.asarray(mstats.winsorize(values, limits=(0.05, 0.05)))
    clipped = Winsorizer.fit(values[:, None], 0.05).transform(values[:, None])[:, 0]
    np.testing.assert_allclose(clipped, expected, rtol=1e-12)


def test_quantile_zero_and_empty_series_have_no_bounds():
    values = np.array([[1.0, np.nan], [2.0, np.nan]])
    huge = np.array([[1e300, -1e300]])
    np.testing.assert_array_equal(Winsorizer.fit(values, 0).transform(huge), huge)
    np.testing.assert_array_equal(Winsorizer.fit(values, 0.1).transform(huge), [[1.9, -1e300]])


def test_bounds_are_restored_bit_for_bit():
    values = np.random.default_rng(0).normal(size=(9, 2, 3))
    values[:, 1, 2] = np.nan
    winsorizer = Winsorizer.fit(values, 0.05)
    again = Winsorizer.from_dict(winsorizer.to_dict())
    np.testing.assert_array_equal(again.lower, winsorizer.lower)
    np.testing.assert_array_equal(again.upper, winsorizer.upper)


def test_prices_must_be_positive_and_volumes_not_negative():
    values = np.array([[[1.0, 0.0]], [[0.0, -1.0]], [[-2.0, 3.0]], [[np.nan, np.nan]]])
    masked, count = mask_impossible(values, ("close", "volume"))
    nan = np.nan
    np.testing.assert_array_equal(masked, [[[1, 0]], [[nan, nan]], [[nan, 3]], [[nan, nan]]])
    assert count == 3
    assert values[2, 0, 0] == -2.0


@pytest.mark.parametrize(("share", "dropped"), [(0.25, ["C"]), (0.5, ["C"]), (0.51, ["B", "C"])])
def test_companies_need_their_share_of_rows(share, dropped):
    nan = np.nan
    values = np.array([[1.0, nan, nan], [1, 1, nan], [1, 1, nan], [1, nan, nan]])
    reasons = dropped_companies(values, ["A", "B", "C"], minimum_share=share)
    assert list(reasons) == dropped
    assert "values in 0 of the 4 training rows" in reasons["C"]
