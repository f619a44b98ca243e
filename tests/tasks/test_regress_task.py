"""Regress: losses of scaled targets, rules of the training examples."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.tasks import RegressConfig

RANDOM = np.random.default_rng(0)
MEDIANS = (-0.2, 0.1)


def batch(count=6):
    field = RANDOM.normal(size=(count, 4, 1)).astype(np.float32)
    target = RANDOM.normal(size=(count, 2)).astype(np.float32)
    return {"field": jnp.asarray(field), "target": jnp.asarray(target)}


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_losses_count_real_examples_alone(loss):
    task = RegressConfig(loss=loss, hidden=()).create()
    task = task.fitted(SimpleNamespace(target_medians=MEDIANS))
    given = batch()
    shapes = {name: values.shape for name, values in given.items()}
    model = task.build(FlatPatchesConfig(WindowSpec((None,))), shapes, rngs=nnx.Rngs(0))
    error = np.asarray(task.predict(model, given) - given["target"])[:4]
    size = np.abs(error)
    expected = {
        "mse": error**2,
        "mae": size,
        "huber": np.where(size < 1, error**2 / 2, size - 0.5),
    }[loss].mean()
    mask = np.arange(6) < 4
    masked = {**given, "target": given["target"].at[4:].set(jnp.nan), "example_mask": mask}
    found, metrics = task.loss(model, masked)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["mae"]) == pytest.approx(size.mean(), rel=1e-5)
    assert float(metrics["weight"]) == 8


def test_rules_are_mean_and_median_of_the_training_examples():
    task = RegressConfig().create(facts={"target_medians": [*MEDIANS]})
    rules = task.baselines(batch(3))
    np.testing.assert_array_equal(rules["mean"], np.zeros((3, 2)))
    np.testing.assert_allclose(rules["median"], np.tile(MEDIANS, (3, 1)), rtol=1e-6)
    with pytest.raises(InputError, match=r"target must be \[batch, 2\], got shape \(3, 1\)"):
        task.check_batch({"target": np.zeros((3, 1))})
    with pytest.raises(InputError, match="loss must be 'mse', 'mae' or 'huber', got 'l2'"):
        RegressConfig(loss="l2")  # type: ignore[arg-type]
