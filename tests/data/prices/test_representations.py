"""Log returns and levels: their formulas, their inverses, and what the fit may see."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from stpatch_jax.data.prices.representations import Levels, LogReturns
from stpatch_jax.data.protocols import digest_of

CHANNELS = ("close", "volume")
TRAIN = 60


def values_of(seed: int = 0, *, missing: float = 0.1) -> np.ndarray:
    """Random walks [90, 3, 2] with gaps; company 2 starts at row 5."""
    generator = np.random.default_rng(seed)
    prices = 50 * np.exp(np.cumsum(generator.normal(0, 0.02, (90, 3)), axis=0))
    volumes = generator.integers(0, 10_000, (90, 3))
    values = np.stack([prices, volumes], axis=-1)
    values[generator.random(values.shape) < missing] = np.nan
    values[:5, 2] = np.nan
    return values


def log_returns(values: np.ndarray, *, winsorize: float = 0.0, horizon: int = 4) -> LogReturns:
    return LogReturns.fit(
        values, CHANNELS, target=0, train_rows=TRAIN, horizon=horizon, winsorize=winsorize
    )


def levels(values: np.ndarray, *, winsorize: float = 0.0) -> Levels:
    return Levels.fit(values, target=0, train_rows=TRAIN, winsorize=winsorize)


def pandas_returns(values: np.ndarray) -> np.ndarray:
    """One-step log returns since the last known value, NaN where a value is missing."""
    logs = np.stack([np.log(values[..., 0]), np.log1p(values[..., 1])], axis=-1).reshape(90, -1)
    frame = pd.DataFrame(logs)
    return (frame - frame.ffill().shift()).to_numpy().reshape(values.shape)


def test_inputs_are_standardised_log_returns():
    values = values_of()
    returns = pandas_returns(values)
    mean, std = np.nanmean(returns[:TRAIN], axis=0), np.nanstd(returns[:TRAIN], axis=0)
    expected = (np.where(np.isnan(returns), 0.0, returns) - mean) / std
    inputs = log_returns(values).inputs
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(inputs, expected, atol=1e-5)


def test_targets_are_log_returns_since_the_last_known_price_over_the_training_std():
    values = values_of()
    std = np.nanstd(pandas_returns(values)[:TRAIN, :, 0], axis=0)
    filled = pd.DataFrame(values[..., 0]).ffill().to_numpy()
    representation = log_returns(values)
    for index in (1, 4, 30, 85):
        target, persistence = representation.targets(index, 4, training=False)
        expected = np.log(values[index : index + 4, :, 0] / filled[index - 1]) / std
        np.testing.assert_allclose(target[..., 0], expected, atol=1e-10)
        np.testing.assert_array_equal(persistence, np.zeros((1, 3, 1)))
    # Company 2 has no price before row 5, so nothing can be said relative to it.
    assert np.isnan(representation.targets(4, 4, training=False)[0][:, 2]).all()


def test_level_inputs_and_targets_are_standardised_levels():
    values = values_of()
    mean, std = np.nanmean(values[:TRAIN], axis=0), np.nanstd(values[:TRAIN], axis=0)
    scaled = (values - mean) / std
    filled = pd.DataFrame(scaled.reshape(90, -1)).ffill().fillna(0.0).to_numpy().reshape(90, 3, 2)
    representation = levels(values)
    assert representation.inputs.dtype == np.float32
    np.testing.assert_allclose(representation.inputs, filled, atol=1e-5)
    for index in (1, 30, 85):
        target, persistence = representation.targets(index, 4, training=False)
        np.testing.assert_allclose(target, scaled[index : index + 4, :, :1], atol=1e-10)
        np.testing.assert_allclose(persistence, filled[index - 1 : index, :, :1], atol=1e-10)


@pytest.mark.parametrize("fit", [log_returns, levels])
def test_the_way_back_ends_at_the_prices(fit):
    values = values_of(missing=0.0)
    representation = fit(values, winsorize=0.05)
    index = np.array([7, 40, 86])
    targets = [representation.targets(i, 4, training=False)[0] for i in index]
    prices = values[index[:, None] + np.arange(4), :, :1]
    np.testing.assert_allclose(representation.to_price(np.stack(targets), index), prices)


@pytest.mark.parametrize("fit", [log_returns, levels])
def test_persistence_is_the_last_known_price(fit):
    values = values_of()
    representation = fit(values)
    index = np.array([30, 61, 86])
    persistence = [representation.targets(i, 4, training=False)[1] for i in index]
    repeated = np.repeat(np.stack(persistence), 4, axis=1)
    last = pd.DataFrame(values[..., 0]).ffill().to_numpy()[index - 1]
    expected = np.broadcast_to(last[:, None, :, None], repeated.shape)
    np.testing.assert_allclose(representation.to_price(repeated, index), expected)


@pytest.mark.parametrize("fit", [log_returns, levels])
def test_a_volume_can_be_predicted_and_comes_back(fit):
    values = values_of(missing=0.0)[..., ::-1]
    options: dict[str, Any] = {"target": 0, "train_rows": TRAIN, "winsorize": 0.0}
    if fit is log_returns:
        representation = LogReturns.fit(values, CHANNELS[::-1], horizon=4, **options)
    else:
        representation = Levels.fit(values, **options)
    target = representation.targets(40, 4, training=False)[0]
    got = representation.to_price(target[None], np.array([40]))
    np.testing.assert_allclose(got[0], values[40:44, :, :1], atol=1e-8)


@pytest.mark.parametrize("winsorize", [0.0, 0.05])
@pytest.mark.parametrize("fit", [log_returns, levels])
def test_later_rows_do_not_move_the_fit_nor_earlier_inputs(fit, winsorize):
    values = values_of()
    changed = values.copy()
    changed[TRAIN:] = values_of(seed=1)[TRAIN:] * 100
    before, after = fit(values, winsorize=winsorize), fit(changed, winsorize=winsorize)
    assert digest_of(after.state()) == digest_of(before.state())
    np.testing.assert_array_equal(after.inputs[:TRAIN], before.inputs[:TRAIN])
    assert not np.array_equal(after.inputs[TRAIN:], before.inputs[TRAIN:])


@pytest.mark.parametrize("fit", [log_returns, levels])
def test_an_outlier_is_clipped_in_inputs_and_training_targets_alone(fit):
    values = values_of(missing=0.0)
    values[40, 0, 0] *= 100  # in training
    values[80, 0, 0] *= 100  # in test
    raw, clipped = fit(values), fit(values, winsorize=0.05)
    # Undo the different scales to compare in the units of the table.
    index = np.array([40])

    def price(representation, first: int, *, training: bool) -> float:
        target = representation.targets(first, 4, training=training)[0]
        return representation.to_price(target[None], index * 0 + first)[0, 0, 0, 0]

    assert price(clipped, 40, training=True) < 0.05 * values[40, 0, 0]
    np.testing.assert_allclose(price(clipped, 40, training=False), values[40, 0, 0])
    np.testing.assert_allclose(price(clipped, 80, training=False), values[80, 0, 0])
    np.testing.assert_allclose(price(raw, 40, training=True), values[40, 0, 0])
    # The scale is that of ordinary days, so the outlier stands out unless it is clipped.
    assert np.abs(clipped.inputs[:TRAIN]).max() < 4 < np.abs(raw.inputs[:TRAIN]).max()
    assert clipped.clipped > raw.clipped == 0


def test_log_return_inputs_are_clipped_after_training_too_but_levels_are_not():
    values = values_of(missing=0.0)
    values[80, 0, 0] *= 100
    assert np.abs(log_returns(values, winsorize=0.05).inputs[80, 0, 0]) < 4
    assert np.abs(levels(values, winsorize=0.05).inputs[80, 0, 0]) > 100


def test_persistence_of_levels_is_clipped_in_training_examples_alone():
    values = values_of(missing=0.0)
    values[40, 0, 0] *= 100
    representation = levels(values, winsorize=0.05)
    for training, last in (
        (False, values[40, 0, 0]),
        (True, representation.winsorizer.upper[0, 0]),
    ):
        persistence = representation.targets(41, 4, training=training)[1]
        price = representation.to_price(persistence[None], np.array([41]))
        np.testing.assert_allclose(price[0, 0, 0, 0], last)


def test_training_targets_are_clipped_at_the_quantiles_of_their_own_lead_time():
    values = values_of(missing=0.0)
    bounds = log_returns(values, winsorize=0.1).target_winsorizer
    logs = np.log(values[:TRAIN, :, 0])
    for lead in range(1, 5):
        expected = np.nanquantile(logs[lead:] - logs[:-lead], [0.1, 0.9], axis=0)
        np.testing.assert_allclose(bounds.lower[lead - 1, :, 0], expected[0], atol=1e-12)
        np.testing.assert_allclose(bounds.upper[lead - 1, :, 0], expected[1], atol=1e-12)


@pytest.mark.parametrize("fit", [log_returns, levels])
def test_a_channel_without_values_is_zero(fit):
    values = values_of()
    values[..., 1] = np.nan
    representation = fit(values, winsorize=0.05)
    np.testing.assert_array_equal(representation.inputs[..., 1], 0.0)
    assert np.isfinite(representation.state()["scaler"]["center"]).all()


@pytest.mark.parametrize("fit", [log_returns, levels])
def test_inputs_cannot_be_written_to(fit):
    with pytest.raises(ValueError, match="read-only"):
        fit(values_of()).inputs[0] = 1.0
