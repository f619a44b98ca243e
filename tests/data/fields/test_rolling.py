"""The weight against persistence: against a plain loop, and what it says of known processes."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from stpatch_jax.data import FieldConfig, rolling_weight
from stpatch_jax.errors import InputError

CONTEXT, HORIZON = 4, 3


def mean_reverting(rows=400, series=3):
    random = np.random.default_rng(0)
    values = np.zeros((rows, series))
    for row in range(1, rows):
        values[row] = 0.3 * values[row - 1] + random.normal(size=series)
    return values


def by_a_plain_loop(values):
    """The same rule with scikit-learn and one window at a time."""
    rows, length = len(values), CONTEXT + HORIZON
    step, agreed, spread = rows // 30, 0.0, 0.0
    for origin in range(round(0.35 * rows), rows - HORIZON + 1, step):
        past = [values[i : i + length] for i in range(origin - length + 1)]
        past = np.concatenate([window.T for window in past])
        x, y = past[:, :CONTEXT], past[:, CONTEXT:]
        model = Ridge(alpha=1e-3 * np.trace(x.T @ x) / CONTEXT, fit_intercept=False).fit(x, y)
        for first in range(origin, min(origin + step, rows - HORIZON + 1)):
            window = values[first - CONTEXT : first + HORIZON].T
            last = window[:, CONTEXT - 1 : CONTEXT]
            left = model.predict(window[:, :CONTEXT]) - last
            agreed += ((window[:, CONTEXT:] - last) * left).sum()
            spread += (left**2).sum()
    return agreed / spread


def test_it_is_what_a_plain_loop_gives():
    values = mean_reverting()
    got = rolling_weight(values, context=CONTEXT, horizon=HORIZON)
    assert got == pytest.approx(by_a_plain_loop(values), rel=1e-6)


def test_a_process_that_comes_back_is_trusted_and_a_walk_is_not():
    assert rolling_weight(mean_reverting(), context=CONTEXT, horizon=HORIZON) > 0.9
    walk = np.random.default_rng(1).normal(size=(1500, 8)).cumsum(axis=0)
    assert rolling_weight(walk, context=CONTEXT, horizon=HORIZON) < 0.5


def test_windows_with_gaps_are_left_out():
    values = mean_reverting()
    other = values.copy()
    other[:, 1] = np.nan
    got = rolling_weight(other, context=CONTEXT, horizon=HORIZON)
    expected = rolling_weight(values[:, [0, 2]], context=CONTEXT, horizon=HORIZON)
    assert got == pytest.approx(expected, rel=1e-9)


def test_too_few_rows_are_told():
    with pytest.raises(InputError, match="rows of one window of 7, got 6"):
        rolling_weight(np.zeros((6, 1)), context=4, horizon=3)


def test_the_weight_is_taken_from_rows_before_the_test_span(data_dir):
    data = FieldConfig("catalog:exchange_rate", context=24, horizon=96).load()
    weight = data.model_weight()
    assert 0.1 < weight < 0.25
    data.field[data.splits["test"].start :] = 7.0
    assert data.model_weight() == weight
