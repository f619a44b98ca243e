"""MASE and sMAPE against their formulas, series by series in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.errors import InputError
from stpatch_jax.metrics import NaiveErrors, RelativeErrors

HORIZON, SERIES = 3, 4


@given(seed=st.integers(0, 2**32 - 1), season=st.integers(1, 5), missing=st.sampled_from([0, 0.3]))
def test_they_are_those_of_each_series(seed: int, season: int, missing: float) -> None:
    random = np.random.default_rng(seed)
    history = random.normal(size=(20, SERIES)).cumsum(axis=0)
    history[:, 0] = 7.0  # has no scale
    history[random.random(history.shape) < missing] = np.nan
    target, forecast = random.normal(size=(2, 6, HORIZON, SERIES))
    mask = random.random(target.shape) >= missing
    target[~mask] = np.nan
    # Blocks of the history add up to it.
    cut = season + 6
    parts = NaiveErrors.of(history[:cut], season=season)
    parts += NaiveErrors.of(history[cut - season :], season=season)
    scale = parts.mae()
    apart = np.abs(history[season:] - history[:-season])
    np.testing.assert_allclose(scale[1:], np.nanmean(apart[:, 1:], axis=0))
    halves = (
        RelativeErrors.of(forecast[half], target[half], scale=scale, mask=mask[half])
        for half in (slice(2), slice(2, None))
    )
    errors = next(halves) + next(halves)
    for lead in range(HORIZON):
        missed = np.where(mask, np.abs(forecast - target), np.nan)[:, lead]
        each = [x for of in range(1, SERIES) for x in missed[:, of] / scale[of]]
        np.testing.assert_allclose(errors.mase()[lead], np.nanmean(each))
        size = (np.abs(forecast) + np.abs(target))[:, lead]
        np.testing.assert_allclose(errors.smape()[lead], np.nanmean(2 * missed / size))
    np.testing.assert_allclose(errors.pooled().smape()[0], errors.symmetric.sum() / mask.sum())


def test_they_are_the_same_on_devices() -> None:
    target, forecast = np.random.default_rng(0).normal(size=(2, 2, HORIZON, SERIES))
    scale = np.array([1.0, 2.0, 0.0, np.nan])
    host = RelativeErrors.of(forecast, target, scale=scale)
    device = RelativeErrors.of(*map(jnp.asarray, (forecast, target)), scale=jnp.asarray(scale))
    np.testing.assert_allclose(device.mase(), host.mase(), rtol=1e-5)
    np.testing.assert_allclose(device.smape(), host.smape(), rtol=1e-5)
    assert host.scaled_count.tolist() == [4] * HORIZON


def test_a_scale_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"must have the shape \(\*space, channel\)"):
        RelativeErrors.of(np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), scale=np.ones(2))
