"""Ensembles and rollouts of whole fields."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stpatch_jax import WindowSpec
from stpatch_jax.errors import InputError
from stpatch_jax.inference import ensemble, sliding_window_rollout

RNG = np.random.default_rng(0)


def test_mean_spread_and_quantiles_are_those_of_numpy():
    members = RNG.normal(1000.0, 1.0, (7, 5, 2)).astype(np.float32)
    found = ensemble(iter(members), quantiles=(0.1, 0.5))
    assert found.members == 7
    np.testing.assert_allclose(found.mean, members.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.spread, members.std(0, ddof=1), rtol=1e-3)
    np.testing.assert_allclose(found.quantiles, np.quantile(members, (0.1, 0.5), 0), rtol=1e-6)


def test_a_tree_and_a_single_member():
    found = ensemble([{"a": np.arange(3), "b": np.ones(2, np.float16)}])
    assert found.mean["a"].tolist() == [0, 1, 2]
    assert found.spread["b"].tolist() == [0, 0]
    assert found.quantiles is None
    assert found.mean["b"].dtype == np.float32


def test_members_are_let_go():
    alive = []

    def members():
        for _ in range(3):
            alive.append(sum(x.shape == (17, 13) for x in jax.live_arrays()))
            yield jnp.ones((17, 13))

    ensemble(members())
    # Mean, sum of squares, and the member before.
    assert max(alive) <= 3


@pytest.mark.parametrize(
    ("members", "quantiles", "message"),
    [
        ([], (), "at least one member"),
        (
            [np.ones(2), np.ones(3)],
            (),
            r"shapes \[\(2,\)\] of the first, got \[\(3,\)\] of number 2",
        ),
        ([np.ones(2)], (1.5,), r"quantiles must be in \[0, 1\]"),
    ],
)
def test_bad_members(members, quantiles, message):
    with pytest.raises(InputError, match=message):
        ensemble(members, quantiles=quantiles)


SPEC = WindowSpec((None, 4), stride=(None, 2), padding=("VALID", "COVER"), padding_mode="edge")


def ahead(windows):
    """Two steps of a damped difference; local in space."""
    first = windows[:, -1] + 0.5 * (windows[:, -1] - windows[:, -2])
    return jnp.stack([first, first * 0.9], axis=1)


def test_a_rollout_is_the_rollout_of_the_whole_field():
    x = RNG.normal(size=(2, 3, 7, 1)).astype(np.float32)
    y = sliding_window_rollout(ahead, x, SPEC, step=2, horizon=5)
    context = x
    for _ in range(3):
        context = np.concatenate([context, np.asarray(ahead(context))], axis=1)
    np.testing.assert_allclose(y, context[:, 3:8], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spec": (2, 4)}, "take the whole context of 3 time steps, got windows of 2 at 1 times"),
        ({"step": 0}, "step must be a whole number >= 1, got 0"),
        ({"fn": lambda w: jnp.concatenate([ahead(w)] * 2, -1)}, "the 1 channels of its context"),
    ],
)
def test_bad_rollouts(options, message):
    given = {"fn": ahead, "x": np.zeros((3, 8, 1), np.float32), "spec": SPEC, "step": 2}
    with pytest.raises(InputError, match=message):
        sliding_window_rollout(**given | options, horizon=2)
