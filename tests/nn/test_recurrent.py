"""Cells against Flax's own and NumPy ones, precision of the memory, bad settings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.special
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import ConvGRUCell, ConvLSTMCell, LayerOptions, SpaceTimeRNNConfig, scan_time

CELLS = {"lstm": ConvLSTMCell, "gru": ConvGRUCell}


def flax_cell(layer, cell, in_features):
    """Returns Flax's cell of the same kind with the layer's weights."""
    kind = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}[cell]
    reference = kind(in_features, layer.features, rngs=nnx.Rngs(1))
    reference.dense_i.kernel[...] = layer.kernel[...]
    reference.dense_h.kernel[...] = layer.recurrent_kernel[...]
    with_bias = reference.dense_h if cell == "lstm" else reference.dense_i
    with_bias.bias[...] = layer.bias[...]
    return reference


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_without_space_it_is_the_flax_cell(cell, normal):
    layer = CELLS[cell]((), 3, 5, rngs=nnx.Rngs(0))
    layer.bias[...] = normal(2, *layer.bias.shape)
    reference = flax_cell(layer, cell, 3)
    x = normal(0, 4, 6, 3)
    carry = reference.initialize_carry((4, 3), rngs=nnx.Rngs(0))
    expected = []
    for step in jnp.moveaxis(x, 1, 0):
        carry, y = reference(carry, step)
        expected.append(y)
    expected = np.stack(expected, axis=1)
    np.testing.assert_allclose(scan_time(layer, x), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_initial_weights(cell):
    layer = CELLS[cell]((), 3, 4, rngs=nnx.Rngs(0))
    gates = {"lstm": 4, "gru": 3}[cell]
    for block in np.split(np.asarray(layer.recurrent_kernel[...]), gates, axis=1):
        np.testing.assert_allclose(block @ block.T, np.eye(4), atol=1e-5)
    bias = np.zeros((gates, 4))
    if cell == "lstm":
        bias[1] = 1
    np.testing.assert_array_equal(layer.bias[...].reshape(gates, 4), bias)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_bfloat16_computes_but_memory_stays_float32(cell):
    full = CELLS[cell]((), 1, 1, rngs=nnx.Rngs(0))
    half = CELLS[cell]((), 1, 1, options=LayerOptions(dtype="bfloat16"), rngs=nnx.Rngs(0))
    # Forget almost nothing, add little at each step: bfloat16 memory would stall far below.
    gates = {"lstm": [-6.0, 12.0, 5.0, 5.0], "gru": [0.0, 6.0, 5.0]}[cell]
    for layer in (full, half):
        layer.kernel[...] = jnp.zeros_like(layer.kernel[...])
        layer.recurrent_kernel[...] = jnp.zeros_like(layer.recurrent_kernel[...])
        layer.bias[...] = jnp.asarray(gates)
    x = jnp.zeros((1, 400, 1))
    expected, y = scan_time(full, x), scan_time(half, x)
    assert y.dtype == jnp.bfloat16
    assert full.kernel[...].dtype == half.kernel[...].dtype == jnp.float32
    assert expected[0, -1, 0] > 0.6
    np.testing.assert_allclose(y[0, -1].astype(jnp.float32), expected[0, -1], rtol=0.03)


def test_param_dtype_stores():
    options = LayerOptions(param_dtype="bfloat16")
    layer = ConvGRUCell((), 2, 3, options=options, rngs=nnx.Rngs(0))
    assert {p.dtype for p in jax.tree.leaves(nnx.state(layer))} == {jnp.dtype(jnp.bfloat16)}
    assert scan_time(layer, jnp.ones((2, 1, 2))).dtype == jnp.float32


def correlate(x, kernel):
    """Correlates [batch, *space, in] with [*extents, in, out], zeros outside."""
    y = np.zeros((*x.shape[:-1], kernel.shape[-1]))
    for example, i, o in np.ndindex(len(x), *kernel.shape[-2:]):
        y[example, ..., o] += scipy.ndimage.correlate(
            x[example, ..., i], kernel[..., i, o], mode="constant"
        )
    return y


def numpy_steps(cell, kind, x):
    """Yields the outputs of a ConvLSTM or ConvGRU, written out in NumPy."""
    kernel, recurrent, bias = (
        np.asarray(p[...], np.float64) for p in (cell.kernel, cell.recurrent_kernel, cell.bias)
    )
    h = c = np.zeros((x.shape[0], *x.shape[2:-1], cell.features))
    sigmoid = scipy.special.expit
    for step in np.moveaxis(np.asarray(x, np.float64), 1, 0):
        z, u = correlate(step, kernel) + bias, correlate(h, recurrent)
        if kind == "lstm":
            i, f, g, o = np.split(z + u, 4, axis=-1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (zr, zz, zn), (ur, uz, un) = (np.split(a, 3, axis=-1) for a in (z, u))
            keep = sigmoid(zz + uz)
            h = (1 - keep) * np.tanh(zn + sigmoid(zr + ur) * un) + keep * h
        yield h


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize(
    ("extents", "space"),
    [((3,), (4,)), pytest.param((3, 5), (4, 6), marks=pytest.mark.slow)],
)
def test_convolutional_cells_equal_numpy(kind, extents, space, normal):
    cell = CELLS[kind](extents, 2, 3, rngs=nnx.Rngs(0))
    cell.bias[...] = normal(2, *cell.bias.shape)
    x = normal(0, 2, 4, *space, 2)
    expected = np.stack(list(numpy_steps(cell, kind, x)), axis=1)
    np.testing.assert_allclose(scan_time(cell, x), expected, rtol=1e-4, atol=1e-5)
    step = nnx.jit(lambda cell, carry, x: cell(carry, x))
    carry, y = step(cell, cell.initial_carry((2, *space)), x[:, 0])
    np.testing.assert_allclose(y, expected[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(step(cell, carry, x[:, 1])[1], expected[:, 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_derivatives_are_those_of_a_plain_loop(kind, normal):
    cell = CELLS[kind]((3,), 2, 3, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(cell, nnx.Param)
    x = normal(0, 2, 3, 5, 2)

    def by_scan(params, x):
        return scan_time(nnx.merge(graphdef, params), x)

    def by_loop(params, x):
        cell, outputs = nnx.merge(graphdef, params), []
        carry = cell.initial_carry((2, 5))
        for step in range(3):
            carry, y = cell(carry, x[:, step])
            outputs.append(y)
        return jnp.stack(outputs, axis=1)

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(forward, params, x):
        def loss_fn(params, x):
            return jnp.square(forward(params, x) - 0.3).sum()

        def squared_gradient(params, x):
            return sum(jnp.square(g).sum() for g in jax.tree.leaves(gradient(params, x)))

        gradient = jax.grad(loss_fn, argnums=(0, 1))
        once = gradient(params, x)
        pushed = jax.jvp(forward, (params, x), once)[1]
        return once, pushed, jax.grad(squared_gradient)(params, x)

    got, expected = derivatives(by_scan, params, x), derivatives(by_loop, params, x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


def test_cells_of_the_grid_share_weights_and_do_not_mix(normal):
    model = SpaceTimeRNNConfig(1, features=4, depth=2).build(3, rngs=nnx.Rngs(0))
    x = normal(0, 2, 5, 3, 3)
    y = model(x)
    order = jnp.array([2, 0, 1])
    np.testing.assert_allclose(model(x[:, :, order]), y[:, :, order], rtol=1e-5, atol=1e-6)
    changed = model(x.at[0, :, 1].add(1.0))
    same = np.isclose(changed, y, rtol=0, atol=1e-7).all(axis=(1, 3))
    np.testing.assert_array_equal(same, [[True, False, True], [True, True, True]])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"space_axes": 4}, "space_axes must be 0, 1, 2 or 3, got 4"),
        ({"cell": "rnn"}, "cell must be 'lstm' or 'gru', got 'rnn'"),
        ({"features": 0}, "features must be a whole number >= 1, got 0"),
        ({"spatial_kernel_size": 2}, "spatial_kernel_size must be odd, got 2"),
        ({"depth": 1.5}, "depth must be a whole number >= 1, got 1.5"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        SpaceTimeRNNConfig(**{"space_axes": 1, **fields})
