"""A field split over devices trains a network as the whole field on one device does."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np

from stpatch_jax import (
    WindowSpec,
    extract_patches,
    fold_patches,
    sharded_extract_patches,
    sharded_fold_patches,
)

AUTO = jax.sharding.AxisType.Auto
MESH = jax.make_mesh((2, 4), ("data", "space"), axis_types=(AUTO,) * 2)
SPLIT = jax.P("data", None, None, "space")
FIELD = (4, 4, 8, 128, 2)  # (batch, time, *space, channel)
# Encode with overlap, look at neighbouring codes, decode with overlap.
CUT = WindowSpec((2, 4, 4), stride=(1, 2, 2), padding=("CAUSAL", "SAME", "SAME"))
LOOK = WindowSpec((1, 3, 3), stride=1, padding="SAME", padding_mode=("edge", "reflect", "wrap"))
# Narrow: on two cores, eight virtual devices get stuck in wide networks.
FEATURES = 4
STEPS = 6


def parameters():
    generator = np.random.default_rng(1)
    shapes = {
        "encode": (*CUT.window, FIELD[-1], FEATURES),
        "look": (*LOOK.window, FEATURES, FEATURES),
        "decode": (FEATURES, *CUT.window, FIELD[-1]),
    }
    return {
        name: generator.standard_normal(shape, np.float32) / np.float32(4)
        for name, shape in shapes.items()
    }


def step_function(extract, fold):
    """A step of gradient descent for a convolutional autoencoder."""

    def loss(parameters, x):
        codes = jnp.tanh(jnp.tensordot(extract(x, CUT), parameters["encode"], 4))
        codes = jnp.tanh(jnp.tensordot(extract(codes, LOOK), parameters["look"], 4))
        y = fold(jnp.tensordot(codes, parameters["decode"], 1), CUT, FIELD[1:-1], blend="hann")
        return ((y - x) ** 2).mean()

    def step(parameters, x):
        value, slope = jax.value_and_grad(loss)(parameters, x)
        return jax.tree.map(lambda p, g: p - g, parameters, slope), value

    return step


def trained(step, x):
    """The program of the step, its losses, and the parameters after the last."""
    state = jax.device_put(parameters(), jax.NamedSharding(x.sharding.mesh, jax.P()))
    program = jax.jit(step).lower(state, x).compile()
    values = []
    for _ in range(STEPS):
        state, value = program(state, x)
        values.append(float(value))
    return program, values, state


def largest_array(program):
    """Elements of the largest array that one device holds at any time."""
    shapes = re.findall(r"\b[a-z]+\d+\[([\d,]+)\]", program.as_text())
    return max(math.prod(map(int, shape.split(","))) for shape in shapes)


def memory(program):
    usage = program.memory_analysis()
    return usage.argument_size_in_bytes + usage.output_size_in_bytes + usage.temp_size_in_bytes


def test_a_field_over_eight_devices_trains_like_one_on_one():
    # A travelling wave and noise.
    generator = np.random.default_rng(0)
    time, width = np.ix_(np.arange(FIELD[1]), np.arange(FIELD[3]))
    wave = np.sin((width - time) / 5)[None, :, None, :, None]
    x = (wave + 0.1 * generator.standard_normal(FIELD)).astype(np.float32)
    sharded = step_function(
        functools.partial(sharded_extract_patches, partition=SPLIT, mesh=MESH),
        functools.partial(sharded_fold_patches, partition=SPLIT, mesh=MESH),
    )
    one = jax.make_mesh((1,), ("data",), axis_types=(AUTO,), devices=jax.devices()[:1])
    program, values, state = trained(sharded, jax.device_put(x, jax.NamedSharding(MESH, SPLIT)))
    whole, expected, target = trained(
        step_function(extract_patches, fold_patches),
        jax.device_put(x, jax.NamedSharding(one, jax.P())),
    )
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    for name, value in state.items():
        np.testing.assert_allclose(value, target[name], rtol=1e-4, atol=1e-5)
    assert values[-1] < 0.8 * values[0]
    text = str(program.as_text())
    assert "collective-permute" in text
    assert "all-gather" not in text
    assert "all-to-all" not in text
    # An eighth each, and the halo.
    assert largest_array(program) <= largest_array(whole) / 7
    assert memory(program) < memory(whole) / 4
