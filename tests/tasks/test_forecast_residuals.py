"""What a forecast adds to: any naive forecast that the batch brings."""

import numpy as np
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.tasks import ForecastConfig

RANDOM = np.random.default_rng(0)
BATCH = {
    "context": RANDOM.normal(size=(2, 4, 3, 1)).astype(np.float32),
    "persistence": RANDOM.normal(size=(2, 1, 3, 1)).astype(np.float32),
    "season": RANDOM.normal(size=(2, 2, 3, 1)).astype(np.float32),
    "climatology": RANDOM.normal(size=(2, 2, 3, 1)).astype(np.float32),
    "level": RANDOM.uniform(0.5, 2, size=(2, 2, 3, 1)).astype(np.float32),
}
SHAPES = {"context": (2, 4, 3, 1), "target": (2, 2, 3, 1)}


def untrained(**settings) -> np.ndarray:
    task = ForecastConfig(**settings).create()
    task.check_batch(BATCH)
    model = task.build(FlatPatchesConfig(WindowSpec((None, 1))), SHAPES, rngs=nnx.Rngs(0))
    batch = {name: BATCH[name] for name in task.inputs}
    return np.asarray(task.predict(model, batch))


@pytest.mark.parametrize("residual", ["persistence", "season", "climatology"])
def test_an_untrained_model_is_what_it_adds_to(residual):
    expected = np.broadcast_to(BATCH[residual], (2, 2, 3, 1))
    np.testing.assert_allclose(untrained(residual=residual), expected, rtol=1e-6)


def test_normalised_departures_keep_their_mean_above_the_climatology():
    level = BATCH["context"].mean(axis=1, keepdims=True)
    both = BATCH["climatology"] + level / 2
    got = untrained(residual="climatology", normalize="both")
    np.testing.assert_allclose(got, both, rtol=1e-4, atol=1e-5)


def test_relative_departures_are_as_large_as_the_level_says():
    np.testing.assert_allclose(untrained(residual="relative"), BATCH["climatology"], rtol=1e-6)
    mean = BATCH["context"].mean(axis=1, keepdims=True)
    both = BATCH["climatology"] + BATCH["level"] * mean / 2
    got = untrained(residual="relative", normalize="both")
    np.testing.assert_allclose(got, both, rtol=1e-4, atol=1e-5)


def test_a_relative_forecast_spreads_its_quantiles_by_the_level():
    got = untrained(residual="relative", quantiles=(0.1, 0.5, 0.9))
    climatology, level = BATCH["climatology"][..., None], BATCH["level"][..., None]
    expected = climatology + level * np.log(2) * np.array([-1, 0, 1])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_forecast_is_weighed_against_any_naive_one():
    options = {"residual": "climatology", "model_weight": 0.25}
    got = untrained(weighed_against="season", **options)
    expected = 0.25 * BATCH["climatology"] + 0.75 * BATCH["season"]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_residual_that_is_not_there_is_told():
    task = ForecastConfig(residual="climatology").create()
    batch = {name: BATCH[name] for name in ("context", "persistence")}
    with pytest.raises(
        InputError, match="must have context, persistence, climatology, got context"
    ):
        task.check_batch(batch)
    with pytest.raises(InputError, match="residual must be persistence or none in a rollout"):
        ForecastConfig(residual="climatology", mode="rollout")
