"""Convolution and pooling against loops in NumPy; the contract's checks."""

import dataclasses
import doctest
import functools
import importlib.util
import itertools
import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax import chips
from stpatch_jax.errors import InputError
from stpatch_jax.nn import (
    Backbone,
    BackboneConfig,
    SCNNConfig,
    SpaceTimeRNNConfig,
    convolve,
    layers,
    pool,
)
from stpatch_jax.nn.layers import Convolution
from stpatch_jax.runs.values import from_values, to_values


def convolve_by_loops(x, kernel, causal):
    extents, lengths = kernel.shape[:-2], x.shape[1:-1]
    widths = [(k // 2, k // 2) for k in extents]
    if causal:
        widths[0] = (extents[0] - 1, 0)
    padded = np.pad(x, [(0, 0), *widths, (0, 0)])
    y = np.zeros((*x.shape[:-1], kernel.shape[-1]))
    for taps in itertools.product(*map(range, extents)):
        view = padded[(slice(None), *(slice(k, k + n) for k, n in zip(taps, lengths, strict=True)))]
        y += view @ kernel[taps]
    return y


@pytest.mark.parametrize(
    ("lengths", "extents", "causal"),
    [
        ((6,), (3,), False),
        ((6,), (4,), True),
        ((2,), (5,), True),
        ((6, 3), (1, 1), False),
        ((6, 3), (3, 1), True),
        ((6, 3), (1, 5), False),
        ((4, 3, 5), (3, 1, 1), True),
        ((4, 3, 5), (1, 3, 3), False),
        ((4, 3, 5), (3, 3, 5), True),
        ((4, 3, 5), (3, 1, 3), False),
        ((3, 2, 4, 3), (3, 3, 3, 3), True),
        ((3, 2, 4, 3), (1, 3, 1, 1), False),
    ],
)
@pytest.mark.parametrize(("most_axes", "features"), [(2, 2), (2, 4), (3, 2)])
def test_convolve_equals_loops(lengths, extents, causal, most_axes, features, monkeypatch):
    # Three axes are what other platforms convolve at once; both forms run anywhere.
    which = {2: "cpu", 3: "default"}[most_axes]
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *given, **of: of[which](*given))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *lengths, 3)).astype(np.float32)
    kernel = rng.normal(size=(*extents, 3, features)).astype(np.float32)
    y = jax.jit(functools.partial(convolve, causal=causal))(x, kernel)
    np.testing.assert_allclose(y, convolve_by_loops(x, kernel, causal), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("lengths", "extents", "causal"),
    [((4, 5), (3, 3), False), ((4, 3, 5), (3, 3, 3), True)],
)
def test_one_channel_is_convolved_as_the_library_does(lengths, extents, causal, monkeypatch):
    """The same sums and derivatives, whether shifted products or convolutions make them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *lengths, 1)).astype(np.float32)
    kernel = rng.normal(size=(*extents, 1, 3)).astype(np.float32)
    found = []
    for most in (0, layers._MOST_TAPS):
        monkeypatch.setattr(layers, "_MOST_TAPS", most)

        @jax.jit
        def values(x, kernel):
            y, back = jax.vjp(lambda x, kernel: convolve(x, kernel, causal=causal), x, kernel)
            return y, back(jnp.sin(y))

        text = jax.jit(functools.partial(convolve, causal=causal)).lower(x, kernel).as_text()
        assert ("stablehlo.convolution" in text) == (most == 0)
        found.append(jax.tree.leaves(values(x, kernel)))
    for library, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, library, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("features", "dtype", "copied"),
    [(1, "float32", False), (8, "float32", True), (1, "bfloat16", True)],
)
def test_taps_become_channels_where_fewer_are(features, dtype, copied, monkeypatch):
    """Inputs are copied for each tap only where outputs would be more, or lose digits."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *given, cpu, default: cpu(*given))
    x, kernel = jnp.zeros((1, 4, 5, 6, 8), dtype), jnp.zeros((3, 3, 3, 8, features))
    assert ("concatenate" in str(jax.make_jaxpr(convolve)(x, kernel))) == copied


@pytest.mark.parametrize("reduce", ["max", "average"])
@pytest.mark.parametrize("lengths", [(4, 6), (5, 3), (1, 4), (1, 1)])
def test_pool_halves_pairs_and_keeps_the_odd_cell(reduce, lengths):
    x = np.random.default_rng(0).normal(size=(2, *lengths, 3)).astype(np.float32)
    best = {"max": np.max, "average": np.mean}[reduce]
    halved = [-(-n // 2) for n in lengths]
    expected = np.empty((2, *halved, 3), np.float32)
    for i, j in np.ndindex(*halved):
        expected[:, i, j] = best(x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2], axis=(1, 2))
    y = pool(jnp.asarray(x), (1, 2), reduce=reduce)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    assert y.dtype == jnp.float32


def test_pool_leaves_other_axes_alone_and_keeps_bfloat16():
    x = jnp.arange(12, dtype=jnp.bfloat16).reshape(3, 4, 1)
    y = pool(x, (1,), reduce="max")
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y[..., 0], [[1, 3], [5, 7], [9, 11]])


@pytest.mark.parametrize("reduce", ["max", "average"])
def test_pool_gradient_sums_to_the_number_of_outputs(reduce, normal):
    x = normal(0, 2, 5, 3)
    gradient = jax.grad(lambda x: pool(x, (1,), reduce=reduce).sum())(x)
    np.testing.assert_allclose(gradient.sum(1), np.full((2, 3), 3.0), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dropout_is_that_of_flax_to_the_bit(normal, dtype):
    x = jnp.asarray(normal(3, 2, 5, 7), dtype)

    def of(dropout):
        def zeroed(x):
            return dropout(0.3, rngs=nnx.Rngs(0))(x)

        return [zeroed(x), jax.jit(zeroed)(x), jax.grad(lambda x: jnp.sum(zeroed(x) ** 2))(x)]

    for ours, theirs in zip(of(layers.Dropout), of(nnx.Dropout), strict=True):
        assert ours.dtype == dtype
        assert np.array_equal(ours, theirs)
    still = layers.Dropout(0.3, deterministic=True, rngs=nnx.Rngs(0))
    assert still(x) is x
    assert layers.Dropout(0.0, rngs=nnx.Rngs(0))(x) is x


@pytest.mark.parametrize("lengths", [(4, 6, 2), (5, 3, 1)])
def test_pools_of_all_platforms_are_the_same(lengths, normal, monkeypatch):
    x, axes = normal(0, 2, *lengths, 3), (1, 2, 3)

    def gradient(x):
        return jax.value_and_grad(lambda x: (pool(x, axes, reduce="max") ** 2).sum())(x)

    own = gradient(x)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda x, tpu, default: tpu(x))
    np.testing.assert_allclose(own[0], gradient(x)[0], rtol=1e-6)
    np.testing.assert_allclose(own[1], gradient(x)[1], rtol=1e-6)


def test_pool_takes_whole_numbers():
    assert pool(jnp.array([[3], [-7], [4]]), (0,), reduce="max").tolist() == [[3], [4]]


@pytest.mark.parametrize("reduce", ["max", "average"])
def test_a_pooled_convolution_is_what_pool_makes_of_its_relu(reduce, normal):
    convolution = Convolution((3, 3), 2, 4, rngs=nnx.Rngs(0))
    convolution.bias[...] = normal(1, 4)
    x = normal(0, 2, 5, 6, 2)

    def gradient(pooled):
        loss = nnx.value_and_grad(lambda model, x: (pooled(model, x) ** 2).sum())
        return jax.tree.leaves(loss(convolution, x))

    own = gradient(lambda model, x: model.pooled(x, (1, 2), reduce=reduce))
    plain = gradient(lambda model, x: pool(jax.nn.relu(model(x)), (1, 2), reduce=reduce))
    for one, other in zip(own, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_gradient_of_maxima_survives_a_compiler_that_computes_twice(channels, normal):
    convolution = Convolution((3, 3), channels, 4, rngs=nnx.Rngs(0))
    convolution.bias[...] = normal(1, 4)

    def slope(x):
        return jax.grad(lambda x: convolution.pooled(x, (1, 2), reduce="max").sum())(x)

    fields = normal(0, 64, 12, 4, 4, channels)
    one_by_one = np.stack([slope(x) for x in fields])
    np.testing.assert_allclose(jax.jit(jax.vmap(slope))(fields), one_by_one, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.chips
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="the extra chips is not there")
def test_a_tpu_passes_over_what_is_pooled_three_times():
    x = jax.ShapeDtypeStruct((2048, 16, 10, 10, 64), jnp.bfloat16)

    def loss(x):
        return (pool(x, (1, 2, 3), reduce="max").astype(jnp.float32) ** 2).sum()

    moved = chips.measure(chips.compile(jax.grad(loss), x, on="v5e")).bytes_moved
    # Forward it is read, backward read and written; what is pooled is an eighth.
    assert moved < 4 * 2 * math.prod(x.shape)


def test_configs_are_frozen_hashable_and_json_able():
    for config in (SCNNConfig.tiny(2), SpaceTimeRNNConfig.base(1)):
        values = json.loads(json.dumps(to_values(config)))
        assert from_values(type(config), values) == config
        assert hash(from_values(type(config), values)) == hash(config)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, "dropout", 0.5)  # noqa: B010


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dropout": 1.0}, r"SCNNConfig.dropout must be in \[0, 1\), got 1.0"),
        (
            {"dtype": "float8"},
            "SCNNConfig.dtype must be 'float32', 'bfloat16' or 'float16', got 'float8'",
        ),
        ({"param_dtype": "int8"}, "param_dtype must be .*, got 'int8'"),
    ],
)
def test_common_fields_are_checked(fields, message):
    with pytest.raises(InputError, match=message):
        SCNNConfig(1, **fields)


def test_backbones_refuse_what_they_were_not_built_for():
    rngs = nnx.Rngs(0)
    with pytest.raises(InputError, match="in_features of SCNN must be a whole number >= 1, got 0"):
        SCNNConfig.tiny(1).build(0, rngs=rngs)
    model = SCNNConfig.tiny(1).build(3, rngs=rngs)
    with pytest.raises(
        InputError, match=re.escape("(batch, time, 1 space axes, channel), got shape (2, 4, 3)")
    ):
        model(jnp.zeros((2, 4, 3)))
    with pytest.raises(InputError, match=r"SCNN must have 3 channels, got 5 .* in_features=5"):
        model(jnp.zeros((2, 4, 6, 5)))
    with pytest.raises(InputError, match=r"along time .* got 0"):
        model(jnp.zeros((2, 0, 6, 3)))


def test_documented_examples_hold():
    assert doctest.testmod(layers).failed == 0


def test_a_network_that_is_no_backbone_is_refused_in_one_sentence():
    class Windowless(Backbone):
        def __init__(self, config, in_features, *, shape, rngs):
            self.out_features = in_features

    class WindowlessConfig(BackboneConfig[Windowless]):
        pass

    class Nameless(BackboneConfig):
        pass

    with pytest.raises(InputError, match="must be a Backbone, got Windowless without spec"):
        WindowlessConfig().build(1, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="Nameless must name its network in its base class"):
        Nameless().build(1, rngs=nnx.Rngs(0))
