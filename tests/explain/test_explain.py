"""Explanations: what they add up to, what they find, and that a wrong one is found out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial
from scipy import stats

from stpatch_jax import WindowSpec, cover_count
from stpatch_jax.errors import InputError
from stpatch_jax.explain import (
    attention_rollout,
    deletion_insertion,
    integrated_gradients,
    neighborhood_weights,
    occlusion,
    permutation_importance,
    randomization_test,
    rank_correlation,
    rollout_matrix,
    smooth_grad,
)
from stpatch_jax.nn import NeighborhoodConfig, PatchTransformerConfig
from stpatch_jax.testing import reference_extract_patches

SHAPE = (6, 5, 2)
SPECS = (
    WindowSpec((1, 1)),
    WindowSpec((3, 2), stride=(1, 2), padding=("CAUSAL", "COVER")),
    WindowSpec(
        (2, 3), stride=(2, 1), dilation=(2, 1), padding="SAME", footprint=((1, 0, 1), (0, 1, 1))
    ),
    WindowSpec((2, 2), stride=(4, 4), padding=("VALID", "SAME"), padding_mode="wrap"),
)


def field_of(values):
    values = np.asarray(values)
    return xr.DataArray(
        values,
        dims=("time", "cell", "channel"),
        coords={
            "time": np.datetime64("2024-01-01", "h") + np.arange(values.shape[0]),
            "cell": ("cell", np.arange(values.shape[1]) * 0.5, {"units": "m"}),
            "channel": [f"c{number}" for number in range(values.shape[2])],
        },
    )


def random_field(seed, shape=SHAPE):
    return field_of(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def linear(weights):
    return Partial(_linear, jnp.asarray(weights))


def _linear(w, x):
    return jnp.sum(w[None] * x, axis=(1, 2, 3))


def bent(weights):
    """Nonlinear, with products between values."""
    return Partial(_bent, jnp.asarray(weights))


def _bent(w, x):
    return jnp.sum(jnp.tanh(w[None] * x), (1, 2, 3)) * (1 + x[:, 0, 0, 0] ** 2)


@pytest.mark.parametrize(
    "spec", [*SPECS[:2], *(pytest.param(spec, marks=pytest.mark.slow) for spec in SPECS[2:])]
)
@settings(max_examples=3)
@given(seed=st.integers(0, 2**16))
def test_occlusion_of_a_linear_function_is_weight_times_value(spec, seed):
    field, weights = random_field(seed), np.asarray(random_field(seed + 1).values)
    baseline = np.array([0.5, -1.0], np.float32)
    got = occlusion(linear(weights), field, spec, baseline=baseline, batch_size=7)
    each = (weights * (field.values - baseline)).sum(-1)
    # A window tells the sum over its cells, once each; a cell the mean over its windows.
    number = np.arange(each.size, dtype=np.float64).reshape(*each.shape, 1)
    marked = spec.replace(fill_value=-1.0)
    windows = reference_extract_patches(number, marked)[..., 0].reshape(
        *spec.grid_shape(SHAPE[:2]), -1
    )
    inside = np.broadcast_to(True if spec.footprint is None else spec.footprint, spec.window)
    total, count = np.zeros(each.size), np.zeros(each.size)
    for window in windows.reshape(-1, windows.shape[-1]):
        cells = window[inside.ravel().astype(bool) & (window >= 0)].astype(int)
        loss = each.ravel()[np.unique(cells)].sum()
        np.add.at(total, cells, loss)
        np.add.at(count, cells, 1)
    np.testing.assert_array_equal(count.reshape(each.shape), cover_count(spec, each.shape))
    wanted = (total / np.maximum(count, 1)).reshape(each.shape)
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    if spec == SPECS[0]:
        np.testing.assert_allclose(got, each, atol=1e-4)


def test_explanations_keep_coordinates_and_units():
    field = random_field(0)
    key = jax.random.key(0)
    maps = [
        occlusion(linear(np.ones(SHAPE)), field, (2, 5), unit="K"),
        integrated_gradients(linear(np.ones(SHAPE)), field, unit="K"),
        smooth_grad(linear(np.ones(SHAPE)), field, key=key, samples=2, unit="K"),
    ]
    for values, unit in zip(maps, ("K", "K", "K per unit of input"), strict=True):
        assert values.attrs["units"] == unit
        for dim in values.dims:
            xr.testing.assert_identical(values[dim], field[dim])
    assert maps[0].dims == ("time", "cell")
    assert maps[1].dims == maps[2].dims == field.dims
    np.testing.assert_allclose(maps[2], 1, rtol=1e-6)


@settings(max_examples=5)
@given(seed=st.integers(0, 2**16))
def test_integrated_gradients_are_complete(seed):
    field = random_field(seed)
    weights, baseline = (random_field(seed + n).values for n in (1, 2))
    got = integrated_gradients(bent(weights), field, baseline=baseline, batch_size=12)

    def score(x):
        return np.tanh(weights * x).sum(dtype=np.float64) * (1 + x[0, 0, 0] ** 2)

    gain = score(field.values) - score(baseline)
    assert float(got.sum()) == pytest.approx(gain, abs=1e-3)
    assert got.attrs["score_gain"] == pytest.approx(gain, abs=1e-3)
    assert abs(got.attrs["completeness_gap"]) < 1e-3


def test_integrated_gradients_of_a_linear_function_and_too_few_points():
    field, weights = random_field(3), random_field(4).values
    got = integrated_gradients(linear(weights), field, baseline=1.0, points=1)
    np.testing.assert_allclose(got, weights * (field.values - 1), atol=1e-5)
    with pytest.warns(RuntimeWarning, match="take more than 1 points"):
        integrated_gradients(bent(5 * weights), field, points=1)


@pytest.mark.slow
def test_smooth_grad_is_the_mean_gradient_of_noisy_copies():
    field = random_field(5)
    score = Partial(lambda x: jnp.sum(x**3, (1, 2, 3)))
    key = jax.random.key(1)
    without = smooth_grad(score, field, key=key, samples=3, noise=0.0)
    np.testing.assert_allclose(without, 3 * field.values**2, rtol=1e-5)
    # The mean of 3 (x + e)^2 is 3 (x^2 + s^2).
    noisy = smooth_grad(score, field, key=key, samples=4000, noise=0.1, batch_size=1000)
    deviation = 0.1 * np.ptp(field.values)
    wanted = 3 * (field.values**2 + deviation**2)
    error = np.abs(noisy - wanted) / (6 * np.abs(field.values) * deviation + 3 * deviation**2)
    assert float(error.max()) < 5 / np.sqrt(4000)
    again = smooth_grad(score, field, key=key, samples=4000, noise=0.1, batch_size=1000)
    np.testing.assert_array_equal(noisy, again)


@pytest.mark.parametrize(
    ("attention", "causal"),
    [
        ("joint", True),
        pytest.param("factorised", False, marks=pytest.mark.slow),
        pytest.param("factorised_encoder", False, marks=pytest.mark.slow),
        pytest.param("time", True, marks=pytest.mark.slow),
    ],
)
def test_attention_rollout_rows_sum_to_one(attention, causal):
    field = random_field(6)
    config = PatchTransformerConfig(
        WindowSpec((2, 2), stride=(2, 1)),
        features=8,
        depth=2,
        heads=2,
        mlp_ratio=1.0,
        attention=attention,
        temporal_depth=1,
        causal=causal,
        dropout=0.5,
        scan=attention != "joint",
    )
    backbone = nnx.jit(lambda: config.build(2, rngs=nnx.Rngs(0)))()
    matrix = rollout_matrix(backbone, field)
    pooled = attention == "factorised_encoder"
    assert matrix.shape == ((3, 12) if pooled else (12, 12))
    np.testing.assert_allclose(matrix.sum(-1), 1, rtol=1e-5)
    assert (matrix >= 0).all()
    blocks = matrix.reshape(3, -1, 3, 4)
    if causal:
        assert all(np.all(blocks[t, :, t + 1 :] == 0) for t in range(3))
    if attention == "time":
        others = ~np.eye(4, dtype=bool)
        assert np.all(np.moveaxis(blocks, 2, 1)[:, :, others] == 0)
    else:
        assert (blocks[-1] > 0).all()
    shares = attention_rollout(backbone, field, time="last")
    assert shares.dims == ("time", "cell")
    # The mean over windows of the last time's rows, spread over their cells.
    row = blocks[-1].mean(0)
    wanted = np.stack([row[:, 0], *(row[:, at : at + 2].mean(1) for at in range(3)), row[:, 3]], 1)
    np.testing.assert_allclose(shares, np.repeat(wanted, 2, axis=0), rtol=1e-5)
    # Nothing of the looking is left behind.
    assert not nnx.state(backbone, nnx.Intermediate)
    assert not any(hasattr(part, "__captures__") for _, part in nnx.iter_modules(backbone))


@pytest.mark.slow
def test_captured_attention_makes_the_output():
    config = PatchTransformerConfig(WindowSpec((1,)), features=8, depth=1, heads=2, causal=True)
    encoder = nnx.jit(lambda: config.build(1, rngs=nnx.Rngs(0)))().encoder
    attention = encoder.blocks[0].attentions[0]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32))
    look: Any = nnx.capture(lambda m, x: m(x, causal=True), nnx.Intermediate)
    y, found = look(attention, x)
    (weights,) = found["weights"].get_value()
    values = np.asarray(attention.qkv(x)).reshape(2, 5, 3, 2, 4)[:, :, 2]
    mixed = np.einsum("bhqk,bkhf->bqhf", weights, values).reshape(2, 5, 8)
    np.testing.assert_allclose(y, attention.out(jnp.asarray(mixed)), atol=1e-5)


def test_neighborhood_weights_find_the_lag_and_the_neighbor_in_use():
    config = NeighborhoodConfig(((0,), (1,), (-1,)), lags=3)
    operator = config.build(2, rngs=nnx.Rngs(0))
    kernel = np.zeros((3, 3, 2), np.float32)
    kernel[2, 1, 0], kernel[0, 0, 1] = -3.0, 1.0
    operator.layers[0].kernel[...] = jnp.asarray(kernel.reshape(-1, 1))
    found = neighborhood_weights(operator, random_field(7))
    assert found.dims == ("lag", "neighbor", "channel")
    assert float(found.sel(lag=3, neighbor="+1", channel="c0")) == pytest.approx(0.75)
    assert float(found.sel(lag=1, neighbor="0", channel="c1")) == pytest.approx(0.25)
    assert float(found.sum()) == pytest.approx(1)


@pytest.mark.slow
def test_neighborhood_weights_of_a_network_are_shares():
    mlp = NeighborhoodConfig(((0,),), lags=2, hidden=(4,)).build(2, rngs=nnx.Rngs(0))
    found = neighborhood_weights(mlp, random_field(7))
    assert found.shape == (2, 1, 2)
    assert float(found.min()) > 0
    assert float(found.sum()) == pytest.approx(1)


@pytest.mark.slow
def test_permutation_importance_finds_the_channel_that_counts():
    values = np.random.default_rng(0).normal(size=(60, 2, 3)).astype(np.float32)
    fields = xr.DataArray(
        values, dims=("example", "time", "channel"), coords={"channel": ["a", "b", "c"]}
    )
    truth = values[:, -1, 1]
    found = permutation_importance(
        lambda x: -jnp.abs(2 * x[:, -1, 1] - 2 * truth), fields, key=jax.random.key(0), repeats=4
    )
    assert found.dims == ("repeat", "channel")
    np.testing.assert_array_equal(found.sel(channel=["a", "c"]), 0)
    # Two normal numbers with deviation 2 differ by 4 / sqrt(pi) on average.
    assert float(found.sel(channel="b").mean()) == pytest.approx(4 / np.sqrt(np.pi), rel=0.2)


def test_a_true_explanation_deletes_faster_than_a_random_one():
    field, weights = random_field(8), random_field(9).values
    right = occlusion(linear(weights), field, (1, 1))
    generator = np.random.default_rng(0)
    orders = [right.copy(data=generator.permuted(right.values.ravel()).reshape(right.shape))]
    orders += [right.copy(data=generator.normal(size=right.shape)) for _ in range(4)]
    found = deletion_insertion(linear(weights), field, right, shares=6)
    for other in orders:
        random = deletion_insertion(linear(weights), field, other, shares=6)
        assert found.attrs["faithfulness"] > random.attrs["faithfulness"]
        assert float(found.deletion.mean()) < float(random.deletion.mean())
    each = np.sort((weights * field.values).sum(-1).ravel())[::-1]
    removed = np.concatenate([[0], np.cumsum(each)[4::5]])
    np.testing.assert_allclose(found.deletion, each.sum() - removed, atol=1e-4)
    np.testing.assert_allclose(found.insertion, removed, atol=1e-4)
    per_value = integrated_gradients(linear(weights), field)
    finer = deletion_insertion(linear(weights), field, per_value, shares=6)
    assert finer.attrs["faithfulness"] >= found.attrs["faithfulness"] - 1e-4


def test_random_weights_change_a_map_but_not_one_of_the_input_alone():
    field, weights = random_field(10), random_field(11).values

    def explained(weights):
        return integrated_gradients(linear(weights), field, points=1)

    key = jax.random.key(0)
    found = randomization_test(explained, weights, key=key, draws=6)
    assert found.passed
    assert -1 <= found.correlation < 0.5
    constant = randomization_test(lambda _: abs(field), weights, key=key)
    assert constant.correlations == (1.0,) * 3
    assert not constant.passed
    flat = randomization_test(lambda _: np.ones(4), weights, key=key)
    assert flat.correlations == (1.0,) * 3
    assert not flat.passed
    few = randomization_test(lambda w: np.array([float(w[0, 0, 0]), 0, 0]), weights, key=key)
    assert np.isnan(few.correlation)
    assert not few.passed


@given(st.lists(st.integers(-4, 4), min_size=3, max_size=12), st.integers(0, 99))
def test_rank_correlation_is_scipys(values, seed):
    other = np.random.default_rng(seed).integers(-3, 3, len(values)).astype(float)
    values = np.array(values, float)
    if np.ptp(values) and np.ptp(other):
        wanted = stats.spearmanr(values, other)[0]
        assert rank_correlation(values, other) == pytest.approx(wanted, abs=1e-9)
    else:
        assert rank_correlation(values, other) == 1


class Average:
    """A transformer of a user's own: one attention that looks at all tokens alike."""

    token_spec = WindowSpec((2, 1), stride=(2, 1))

    def attention(self, x):
        tokens = 3 * x.shape[2]
        return [("joint", jnp.full((1, 2, tokens, tokens), 1 / tokens))]


def test_attention_of_a_model_of_ones_own_is_followed():
    matrix = rollout_matrix(Average(), random_field(12))
    np.testing.assert_allclose(matrix, (np.eye(15) + 1 / 15) / 2, rtol=1e-6)


class Sum:
    """A model of lags and neighbours of a user's own: weight 2 at lag 1, 1 at lag 2."""

    config = NeighborhoodConfig(((0,),), lags=2)
    in_features = 2

    def neighbors(self, x):
        return jnp.concatenate([x[:, 1:], x[:, :-1]], -1)

    def combine(self, neighbors):
        return neighbors @ jnp.array([[2.0], [2.0], [1.0], [1.0]])


def test_lags_of_a_model_of_ones_own_are_found():
    shares = neighborhood_weights(Sum(), random_field(13))
    np.testing.assert_allclose(shares.sum(("neighbor", "channel")), [2 / 3, 1 / 3], rtol=1e-6)


def test_arrays_are_explained_as_fields_are():
    field, score, key = random_field(14), bent(random_field(15).values), jax.random.key(0)
    for array in (field.values, jnp.asarray(field.values)):
        for explain in (
            lambda x: occlusion(score, x, (2, 1)),
            lambda x: integrated_gradients(score, x, tolerance=np.inf),
            lambda x: smooth_grad(score, x, key=key, samples=2),
        ):
            values = explain(array)
            np.testing.assert_array_equal(values.values, explain(field).values)
            assert values.dims == ("time", "space_1", "channel")[: values.ndim]
    curves = deletion_insertion(score, field.values, np.abs(field.values), shares=3)
    xr.testing.assert_identical(curves, deletion_insertion(score, field, abs(field), shares=3))
    with pytest.raises(InputError, match=r"\(time, \*space, channel\), got shape \(6,\)"):
        occlusion(score, np.zeros(6), (1,))


def test_mistakes_are_told():
    field, score = random_field(0), linear(np.ones(SHAPE))
    with pytest.raises(InputError, match="must give one number per field"):
        occlusion(lambda x: x, field, (1, 1))
    with pytest.raises(InputError, match=r"must have the dims \(time, \*space, channel\)"):
        integrated_gradients(score, field.T)
    with pytest.raises(InputError, match="baseline must be one number"):
        occlusion(score, field, (1, 1), baseline=np.zeros(3))
    with pytest.raises(InputError, match="an attribution must be finite"):
        deletion_insertion(score, field, field[0])
    other: Any = "a convolution"
    with pytest.raises(InputError, match="must have the members of AttentionModel, got str"):
        attention_rollout(other, field)
