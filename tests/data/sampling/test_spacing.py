"""Gaps of files, put in as missing rows: pandas reindexes alike."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.data.sampling.spacing import can_insert, with_missing_rows
from stpatch_jax.data.times import TimeAxis
from stpatch_jax.errors import InputError

STEPS = ["15min", "h", "D", "W-WED", "B", "MS", "ME", "QS", "YS"]


def of_rows(times, rows) -> xr.DataArray:
    values = np.arange(2.0 * len(times)).reshape(-1, 2)[rows]
    coords = {"time": times[rows], "channel": ["a", "b"]}
    return xr.DataArray(values, coords, ("time", "channel"), attrs={"source": "file.nc"})


@given(
    step=st.sampled_from(STEPS),
    gaps=st.lists(st.tuples(st.integers(20, 50), st.integers(6, 9)), max_size=2),
)
def test_missing_rows_are_those_of_a_reindexed_table(step, gaps):
    times = pd.date_range("2019-02-20", periods=70, freq=step)
    left_out = [row for first, count in gaps for row in range(first, first + count)]
    field = of_rows(times, np.setdiff1d(np.arange(70), left_out))
    axis = TimeAxis.of(field.time.values)
    whole = with_missing_rows(field, axis)
    expected = pd.DataFrame(field.values, field.time.values).reindex(times)
    np.testing.assert_array_equal(whole.time.values, times)
    np.testing.assert_array_equal(whole.values, expected.values)
    np.testing.assert_array_equal(whole[5:40:3].values, expected.values[5:40:3])
    assert whole.attrs == field.attrs
    assert not TimeAxis.of(whole.time.values).gaps


def test_rows_of_a_models_calendar_are_put_in_too():
    times = xr.date_range("2000-02-25", periods=40, freq="D", calendar="360_day", use_cftime=True)
    field = of_rows(times.values, np.setdiff1d(np.arange(40), [4, 5, 6]))
    whole = with_missing_rows(field, TimeAxis.of(field.time.values))
    assert whole.time.values.tolist() == times.values.tolist()
    assert np.flatnonzero(np.isnan(whole[:, 0].values)).tolist() == [4, 5, 6]


def test_gaps_without_whole_rows_or_too_many_are_refused():
    minutes = np.array([0, 60, 120, 180, 210, 270, 330, 390], "m8[m]")
    between = of_rows(np.datetime64("2024-01-01", "ns") + minutes, np.arange(8))
    with pytest.raises(InputError, match=r"whole rows.*less than a step between"):
        with_missing_rows(between, TimeAxis.of(between.time.values))
    assert not can_insert(TimeAxis.of(between.time.values))
    far = of_rows(np.array([0, 1, 2, 3, 900, 901, 902]), np.arange(7))
    with pytest.raises(InputError, match="got 896 rows missing beside 7"):
        with_missing_rows(far, TimeAxis.of(far.time.values))
    assert not can_insert(TimeAxis.of(far.time.values))
