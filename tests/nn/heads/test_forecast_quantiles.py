"""ForecastHead's options: quantiles that never cross, and all grid times at once."""

import re
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from stpatch_jax import losses
from stpatch_jax.errors import InputError
from stpatch_jax.nn import ForecastHead
from stpatch_jax.nn.heads.forecast import central_quantile
from stpatch_jax.patches.windows import WindowSpec

QUANTILES = (0.05, 0.2, 0.5, 0.7, 0.9)
SPEC = WindowSpec((1, 2), stride=(1, 1))


def build(spec=SPEC, features=3, **options: Any):
    sizes = {"space": (3,), "horizon": 2, "channels": 2, **options}
    return ForecastHead(spec, features, rngs=nnx.Rngs(0), **sizes)


HEAD = nnx.split(build(quantiles=QUANTILES))[0]


@jax.jit
def run(kernel, bias, features):
    state = nnx.State({"dense": {"kernel": nnx.Param(kernel), "bias": nnx.Param(bias)}})
    return nnx.merge(HEAD, state)(features)


values = st.floats(-1e6, 1e6, width=32)
# 2 lead times x 2 cells x 2 channels x 5 quantiles.
OUT = 2 * 2 * 2 * 5


@hypothesis.given(
    st_numpy.arrays(np.float32, (3, OUT), elements=values),
    st_numpy.arrays(np.float32, (OUT,), elements=values),
    st_numpy.arrays(np.float32, (1, 4, 2, 3), elements=values),
)
def test_quantiles_never_cross_whatever_the_weights(kernel, bias, features):
    y = np.asarray(run(kernel, bias, features))
    assert y.shape == (1, 2, 3, 2, 5)
    assert np.isfinite(y).all()
    assert (np.diff(y, axis=-1) >= 0).all()


def test_the_central_quantile_is_raw_and_the_others_add_softplus(normal):
    spec = WindowSpec((1, 1))
    head = build(spec, quantiles=QUANTILES)
    features = normal(0, 1, 1, 3, 3)
    untrained = np.asarray(head(features))[0, 0, 0, 0]
    np.testing.assert_allclose(untrained, np.log(2) * np.arange(-2, 3), rtol=1e-6, atol=1e-7)
    head.dense.kernel[...] = normal(1, *head.dense.kernel.shape)
    raw = np.asarray(features[0, 0]) @ np.asarray(head.dense.kernel[...])
    raw = np.moveaxis(raw.reshape(3, 2, 2, 5), 1, 0)
    gap = np.logaddexp(0, raw)
    expected = raw[..., 2:3] + np.stack(
        [
            -gap[..., 0] - gap[..., 1],
            -gap[..., 1],
            0 * gap[..., 2],
            gap[..., 3],
            gap[..., 3] + gap[..., 4],
        ],
        axis=-1,
    )
    np.testing.assert_allclose(head(features)[0], expected, rtol=1e-5, atol=1e-6)


def test_the_pinball_loss_finds_the_quantiles_of_a_sample():
    sample = jnp.asarray(np.random.default_rng(0).gamma(2.0, size=(99, 1, 1)), jnp.float32)
    head = build(WindowSpec((1,)), 1, space=(), horizon=1, channels=1, quantiles=QUANTILES)
    graphdef, state = nnx.split(head)
    rule = optax.adam(optax.cosine_decay_schedule(0.1, 600))

    @jax.jit
    def train(state):
        def loss_fn(state):
            y = nnx.merge(graphdef, state)(jnp.ones((len(sample), 1, 1)))
            return losses.pinball(y, sample, quantiles=QUANTILES)

        def step(_, carry):
            state, moments = carry
            updates, moments = rule.update(jax.grad(loss_fn)(state), moments)
            return optax.apply_updates(state, updates), moments

        return jax.lax.fori_loop(0, 600, step, (state, rule.init(state)))[0]

    found = np.asarray(nnx.merge(graphdef, train(state))(jnp.ones((1, 1, 1)))).ravel()
    # An empirical quantile is any value with that share of the sample below it.
    np.testing.assert_allclose(
        (np.asarray(sample).reshape(-1, 1) <= found).mean(0), QUANTILES, atol=0.02
    )


def test_flatten_lines_up_the_features_of_all_times(normal):
    head = build(WindowSpec((1, 1)), time="flatten", grid_time=4)
    assert head.dense.kernel.shape == (4 * 3, 2 * 2)
    features = normal(0, 2, 4, 3, 3)
    assert (head(features) == 0).all()
    head.dense.kernel[...] = normal(1, 12, 4)
    expected = np.einsum(
        "btsf,tfhc->bhsc", features, np.asarray(head.dense.kernel[...]).reshape(4, 3, 2, 2)
    )
    np.testing.assert_allclose(head(features), expected, rtol=1e-4, atol=1e-5)
    message = "the feature map must be (batch, 4, *(3,), 3), got shape (2, 5, 3, 3)"
    with pytest.raises(InputError, match=re.escape(message)):
        head(jnp.zeros((2, 5, 3, 3)))


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="time must be 'last' or 'flatten', got 'mean'"):
        build(time="mean")
    with pytest.raises(InputError, match="grid_time must be a whole number >= 1, got None"):
        build(time="flatten")
    for quantiles in ((0.5, 0.5), (0.9, 0.5), (0.0, 0.5), (0.5, 1.0)):
        with pytest.raises(InputError, match="quantiles must increase strictly between 0 and 1"):
            build(quantiles=quantiles)
    assert central_quantile((0.4, 0.6)) == 0
    assert central_quantile((0.9,)) == 0
