"""The naive forecasts of a field beside the same from NumPy."""

import numpy as np
import pytest
from small_fields import small_field

from stpatch_jax.data import Cleaner, CleaningConfig, FieldConfig, FieldData

CONFIG = FieldConfig(
    context=6,
    horizon=5,
    train_share=0.6,
    season=(3, 7),
    climatology="hour",
    cleaning=CleaningConfig(per="cell"),
)


def test_rules_are_what_numpy_says():
    data = FieldData.of(small_field((90, 3)), CONFIG)
    values = data.field.values.astype(np.float64)
    example = data.source("test")[4]
    row = int(example["index"])

    def told(name: str) -> np.ndarray:
        shape = (1, 5, *values.shape[1:])
        return data.in_units(np.broadcast_to(example[name], shape), np.array([row]))[0]

    last, rows = values[row - 1], data.splits["train"].stop
    gained = (values[rows - 1] - values[0]) / (rows - 1)
    leads = np.arange(1, 6)[:, None, None]
    hours = np.arange(90) % 24
    means = np.stack([values[:rows][hours[:rows] == hour].mean(axis=0) for hour in range(24)])
    ahead, now = means[hours[row : row + 5]], means[hours[row - 1]]
    expected = {
        "drift": last + leads * gained,
        "running_mean": np.broadcast_to(values[row - 6 : row].mean(axis=0), (5, 3, 2)),
        "season_3": values[row - 3 : row][np.arange(5) % 3],
        "season_7": values[row - 7 : row - 2],
        "anomaly_persistence": ahead + last - now,
    }
    for name, of in expected.items():
        np.testing.assert_allclose(told(name), of, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", [1, 2**22])
def test_an_increment_is_that_of_the_first_and_last_known_values(block, monkeypatch):
    monkeypatch.setattr("stpatch_jax.data.fields.rules._END_BYTES", block)
    field = small_field((90, 3))
    field[:7, 0], field[40:, 1], field[50:, 2] = np.nan, np.nan, np.nan
    data = FieldData.of(field, CONFIG)
    scaled = data.cleaner.scaled(field.values[:54], channels=range(2), clip=False)
    increment = data.increment
    assert increment is not None
    for cell, (first, last) in enumerate([(7, 53), (0, 39), (0, 49)]):
        expected = (scaled[last, cell] - scaled[first, cell]) / (last - first)
        np.testing.assert_allclose(increment[cell], expected, rtol=1e-5)
    state = data.state()
    assert Cleaner.from_dict(state).channels
    np.testing.assert_array_equal(state["increment"], increment)
