"""Random filters: the features are what the formula says, and nothing of them is learnt."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.nn import Fixed, RandomFiltersConfig
from stpatch_jax.patches.windows import WindowSpec

WHOLE = WindowSpec((None,) * 4)


def outputs_by_hand(patch, weights, dilation):
    """Of all filters on a patch [time, *space, channel], its edge repeated [cell, filter]."""
    *extents, _, filters = weights.shape
    reach = [(extent // 2 * dilation,) * 2 for extent in extents]
    padded = np.pad(patch, [*reach, (0, 0)], mode="edge")
    total = np.zeros((*patch.shape[:-1], filters))
    for place in itertools.product(*map(range, extents)):
        at = tuple(
            slice(i * dilation, i * dilation + n)
            for i, n in zip(place, patch.shape[:-1], strict=True)
        )
        total += padded[at] @ weights[place]
    return total.reshape(-1, filters)


@pytest.mark.parametrize(
    ("shape", "window"), [((1, 7, 6, 5, 1), (None,) * 4), ((6, 8, 8, 2), (4, 6, 6))]
)
def test_features_are_those_of_the_formula(shape, window):
    spec = WindowSpec(window, stride=(1,) * 4 if len(window) == 4 else (2, 2, 2))
    config = RandomFiltersConfig(spec, filters=3, dilations=2, biases=2)
    model = config.build(shape[-1], shape=shape[:-1], rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    model.fit(x, seed=1)
    found = np.asarray(nnx.jit(nnx.view(model, deterministic=True))(jnp.asarray(x)))
    corner = tuple(slice(n - cells, n) for n, cells in zip(shape, model.window, strict=False))
    patch = x[(2, *corner)]
    weights, biases = np.asarray(model.weights[...]), np.asarray(model.biases[...])
    expected = []
    for at in range(2):
        of = outputs_by_hand(patch, weights[at], at + 1)
        expected += [np.maximum(of - bias, 0).mean(axis=0) for bias in biases[at]]
    last = found[2].reshape(-1, model.out_features)[-1]
    np.testing.assert_allclose(last, np.concatenate(expected), atol=1e-5)


def volumes(places):
    """A block of 3 x 4 x 2 cells in each volume of zeros, at each place."""
    x = np.zeros((len(places), 1, 16, 16, 16, 1), np.float32)
    for volume, (i, j, k) in zip(x, places, strict=True):
        volume[0, i : i + 3, j : j + 4, k : k + 2] = 1
    return x


def test_where_a_thing_lies_and_what_is_added_everywhere_does_not_matter():
    x = volumes([(6, 6, 6), (5, 8, 7), (8, 5, 6)])
    model = RandomFiltersConfig(WHOLE, filters=8).build(1, shape=(1, 16, 16, 16), rngs=nnx.Rngs(0))
    model.fit(x, seed=0)
    features = np.asarray(model(jnp.asarray(x))).reshape(3, -1)
    np.testing.assert_allclose(features[1:], features[:1].repeat(2, axis=0), atol=1e-5)
    added = np.asarray(model(jnp.asarray(x + 1))).reshape(3, -1)
    np.testing.assert_allclose(added, features, atol=1e-5)
    assert (features.std(axis=1) > 0).all()


def test_biases_are_quantiles_of_what_is_not_empty_and_follow_its_scale():
    x = volumes([(6, 6, 6), (5, 8, 7)])
    config = RandomFiltersConfig(WHOLE, filters=8)
    model, other = (config.build(1, shape=(1, 16, 16, 16), rngs=nnx.Rngs(0)) for _ in range(2))
    model.fit(x, seed=0)
    other.fit(4 * x, seed=0)
    np.testing.assert_allclose(4 * model.biases[...], other.biases[...], rtol=1e-4, atol=1e-4)
    assert (np.abs(model.biases[...]) > 1e-3).mean() > 0.9
    before = np.asarray(model.biases[...])
    model.fit(np.zeros_like(x), seed=0)
    np.testing.assert_array_equal(model.biases[...], before)


def test_nothing_of_it_is_learnt_and_one_value_everywhere_gives_nothing():
    model = RandomFiltersConfig.tiny((2, 4, 4)).build(3, rngs=nnx.Rngs(0))
    assert not jax.tree.leaves(nnx.state(model, nnx.Param))
    assert len(jax.tree.leaves(nnx.state(model, Fixed))) == 2
    assert model.weights.shape == (3, 3, 3, 3, 3, 8)
    np.testing.assert_allclose(model.weights[...].sum(axis=(1, 2, 3)), 0, atol=1e-5)
