"""Naive forecasts against pandas and counting by hand."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from stpatch_jax.errors import InputError
from stpatch_jax.tasks.baselines import climatology, persistence, seasonal_persistence


def test_persistence_repeats_the_last_value():
    last = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 3, 2)), jnp.float32)
    y = persistence(last, horizon=4)
    assert y.shape == (2, 4, 3, 2)
    np.testing.assert_array_equal(y, np.repeat(last, 4, axis=1))
    with pytest.raises(InputError, match=r"persistence needs the last values .* got shape"):
        persistence(jnp.zeros((2, 2, 3)), horizon=1)


@pytest.mark.parametrize(("season", "horizon"), [(1, 3), (4, 3), (4, 4), (4, 11), (7, 2)])
def test_seasonal_persistence_goes_on_with_a_periodic_series(season, horizon):
    series = np.random.default_rng(0).normal(size=(2, season, 3, 1))
    series = np.tile(series, (1, 25, 1, 1)).astype(np.float32)
    context, coming = series[:, 2:9], series[:, 9 : 9 + horizon]
    got = seasonal_persistence(jnp.asarray(context), horizon=horizon, season=season)
    np.testing.assert_array_equal(got, coming)


def test_a_season_longer_than_the_context_is_refused():
    with pytest.raises(InputError, match="at least one season of 5 time steps, got 4"):
        seasonal_persistence(jnp.zeros((1, 4, 1)), horizon=1, season=5)
    with pytest.raises(InputError, match="got 1 and 0"):
        seasonal_persistence(jnp.zeros((1, 4, 1)), horizon=1, season=0)


def test_climatology_equals_pandas_and_skips_what_is_missing():
    rng = np.random.default_rng(0)
    field = rng.normal(size=(30, 4))
    field[rng.random(field.shape) < 0.3] = np.nan
    phase = np.arange(30) % 5
    field[phase == 3, 1] = np.nan
    got = climatology(field.reshape(30, 2, 2), phase, phases=6)
    means: Any = pd.DataFrame(field).groupby(phase).mean()
    expected = means.reindex(range(6)).to_numpy()
    np.testing.assert_allclose(got.reshape(6, 4), expected, rtol=1e-12)
    assert np.isnan(got[3, 0, 1])
    assert np.isnan(got[5]).all()


def test_phases_that_do_not_fit_the_rows_are_refused():
    field = np.zeros((3, 1))
    for phase in ([0, 1], [0, 1, 2], [0, -1, 1], [0.0, 1.0, 1.0]):
        with pytest.raises(InputError, match="needs a phase from 0 to 2 - 1 for each of 3 rows"):
            climatology(field, np.array(phase), phases=2)
