"""Random units: the features are what the formula says, and none is of an example alone."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stpatch_jax.nn import Fixed, RandomUnitsConfig
from stpatch_jax.patches.windows import WindowSpec

CONFIG = RandomUnitsConfig(WindowSpec((4, 2)), units=50)


def examples(count=40):
    return np.random.default_rng(0).normal(3, 2, (count, 8, 4, 3)).astype(np.float32)


def fitted(x):
    model = CONFIG.build(3, shape=(8, 4), rngs=nnx.Rngs(0))
    model.fit(x, seed=0)
    return model


def test_features_are_those_of_the_formula():
    x = examples()
    model = fitted(x)
    found = np.asarray(model(jnp.asarray(x)))
    assert found.shape == (40, 2, 2, 50)
    sums = x.reshape(40, 2, 4, 2, 2, 3).sum(axis=(2, 4))
    passed = sums / sums.std(axis=(0, 1, 2)) @ np.asarray(model.kernel[...]) - np.asarray(
        model.biases[...]
    )
    np.testing.assert_allclose(found, np.maximum(passed, 0), atol=2e-4)
    np.testing.assert_allclose(np.linalg.norm(np.asarray(model.kernel[...]), axis=0), 1, rtol=1e-5)


def test_each_unit_tells_a_tenth_of_the_examples_from_the_others():
    share = (np.asarray(fitted(examples())(jnp.asarray(examples()))) > 0).mean(axis=(0, 1, 2))
    assert 0.09 < share.min() < 0.2
    assert 0.8 < share.max() < 0.91


def test_neither_scale_nor_a_channel_that_is_the_same_for_all_matters():
    x = examples()
    x[..., 2] = 5
    found = np.asarray(fitted(x)(jnp.asarray(x)))
    scaled = x * np.array([100, 0.01, 0], np.float32)
    again = np.asarray(fitted(scaled)(jnp.asarray(scaled)))
    np.testing.assert_allclose(found, again, atol=1e-3)
    assert np.isfinite(found).all()


def test_nothing_of_it_is_learnt():
    model = RandomUnitsConfig.tiny((2,)).build(1, rngs=nnx.Rngs(0))
    assert not jax.tree.leaves(nnx.state(model, nnx.Param))
    assert len(jax.tree.leaves(nnx.state(model, Fixed))) == 3
