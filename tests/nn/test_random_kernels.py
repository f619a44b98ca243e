"""Random dilated kernels: the features are what the formula says, and nothing of them is learnt."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import Fixed, InceptionConfig, RandomKernelsConfig
from stpatch_jax.patches.windows import WindowSpec

TRIPLES = list(itertools.combinations(range(9), 3))


def outputs_by_hand(patch, kernel, dilation, channels):
    """Of one kernel on [time, channel], zeros outside [time]."""
    weights = np.full(9, -1.0)
    weights[list(TRIPLES[kernel])] = 2
    padded = np.pad(patch[:, channels].sum(axis=1), 4 * dilation)
    shifted = [padded[i * dilation :][: len(patch)] for i in range(9)]
    return weights @ np.stack(shifted)


@pytest.mark.parametrize(("shape", "window"), [((30, 1), (None,)), ((24, 2, 2), (20, 2))])
def test_features_are_those_of_the_formula(shape, window):
    spec = WindowSpec(window, stride=(4, 2)[: len(window)])
    config = RandomKernelsConfig(spec, biases=5)
    model = config.build(shape[-1], shape=shape[:-1], rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    model.fit(x, seed=1)
    features = np.asarray(nnx.jit(nnx.view(model, deterministic=True))(jnp.asarray(x)))
    length = model.window[0]
    patch = x[2, 4:24].reshape(20, -1) if len(shape) == 3 else x[2]
    found = features[2].reshape(-1, model.out_features)[-1]
    steps = np.diff(patch, axis=0, prepend=patch[:1])
    channels, biases = np.asarray(model.channels[...]) > 0, np.asarray(model.biases[...])
    expected, row = [], 0
    for at, (values, (dilation, count)) in enumerate(
        itertools.product([patch, steps], model.counts.items())
    ):
        shares, sums = np.empty((count, 84)), np.empty((count, 84))
        for kernel in range(84):
            inside = slice(4 * dilation, length - 4 * dilation)
            seen = inside if kernel % 2 and length > 8 * dilation else slice(None)
            of = outputs_by_hand(values, kernel, dilation, channels[at, :, kernel])[seen]
            above = of[None] - biases[row : row + count, kernel, None]
            shares[:, kernel] = (above > 0).mean(axis=1)
            sums[:, kernel] = np.maximum(above, 0).mean(axis=1)
        expected += [shares.ravel(), sums.ravel()]
        row += count
    np.testing.assert_allclose(found, np.concatenate(expected), atol=2e-5)


def test_biases_are_quantiles_of_the_examples_whose_scale_then_does_not_matter():
    x = np.random.default_rng(0).normal(size=(5, 40, 1)).astype(np.float32)
    config = RandomKernelsConfig(WindowSpec((None,)), biases=6)
    model, other = (config.build(1, shape=(40,), rngs=nnx.Rngs(0)) for _ in range(2))
    model.fit(x, seed=0)
    other.fit(4 * x + 0, seed=0)
    np.testing.assert_allclose(4 * model.biases[...], other.biases[...], rtol=1e-5, atol=1e-5)
    shares = np.asarray(model(jnp.asarray(x)))[:, 0, : 84 * model.counts[1]]
    assert 0.4 < shares.mean() < 0.6


def test_nothing_of_it_is_learnt_and_one_channel_is_seen_by_all():
    model = RandomKernelsConfig.tiny((8, 1)).build(1, rngs=nnx.Rngs(0))
    assert not jax.tree.leaves(nnx.state(model, nnx.Param))
    assert len(jax.tree.leaves(nnx.state(model, Fixed))) == 2
    assert (model.channels[...] == 1).all()
    many = RandomKernelsConfig.tiny((8, 3)).build(4, rngs=nnx.Rngs(0)).channels[...].sum(axis=1)
    assert many.min() == 1
    assert 5 <= many.max() <= 9


def test_an_even_kernel_is_refused():
    with pytest.raises(InputError, match=r"kernel_sizes must be odd, got \(4, 3\)"):
        InceptionConfig(WindowSpec((8,)), kernel_sizes=(4, 3))
