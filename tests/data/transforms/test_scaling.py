"""Standardisation against NumPy and scikit-learn; log levels and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import StandardScaler as Reference

from stpatch_jax.data.prices.representations import from_log_levels, log_levels
from stpatch_jax.data.transforms.steps import Affine


def panel(shape: tuple[int, ...], *, missing: float = 0.3, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.normal(50.0, 9.0, shape)
    return np.where(generator.random(shape) < missing, np.nan, values)


def test_the_fit_is_that_of_numpy_over_known_values():
    values = panel((40, 3, 2))
    scaler = Affine.standard(values)
    np.testing.assert_allclose(scaler.center, np.nanmean(values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaler.scale, np.nanstd(values, axis=0), rtol=1e-12)


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(2, 12), st.integers(1, 3)),
        elements=st.one_of(st.just(np.nan), st.integers(-50, 50).map(lambda n: n / 8)),
    )
)
def test_transform_is_that_of_scikit_learn(values):
    values[0] = 1.5  # scikit-learn has no answer for a series without values
    scaler = Affine.standard(values)
    reference = Reference().fit(values)
    expected = np.asarray(reference.transform(values))
    np.testing.assert_allclose(scaler.transform(values), expected, atol=1e-9)
    np.testing.assert_allclose(scaler.inverse(scaler.transform(values)), values, atol=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 / 3])
def test_constant_and_empty_series_are_not_blown_up(constant):
    values = np.stack([np.full(11, constant), np.full(11, np.nan)], axis=1)
    scaler = Affine.standard(values)
    np.testing.assert_array_equal(scaler.scale, [1.0, 1.0])
    np.testing.assert_allclose(scaler.center, [constant, 0.0], rtol=1e-12)


def test_a_state_keeps_every_bit_and_channels_can_be_picked():
    scaler = Affine.standard(panel((20, 3, 2)))
    again = Affine.from_dict(scaler.to_dict())
    np.testing.assert_array_equal(again.center, scaler.center)
    np.testing.assert_array_equal(again.scale, scaler.scale)
    assert scaler.channel(1).center.shape == (3, 1)
    np.testing.assert_array_equal(scaler.channel(1).scale[:, 0], scaler.scale[:, 1])


def test_log_levels_are_logs_of_prices_and_of_one_plus_volume():
    values = np.array([[2.0, 0.0], [np.nan, 7.0]])
    levels = log_levels(values, ("close", "volume"))
    np.testing.assert_allclose(levels, [[np.log(2.0), 0.0], [np.nan, np.log(8.0)]])
    np.testing.assert_allclose(from_log_levels(levels, ("close", "volume")), values)
