"""Blocks gathered ahead: the values and gradients of a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np

from stpatch_jax.nn.gathering import run_ahead, share_of_one
from stpatch_jax.training import make_mesh

DEPTH = 3


def call(weights, rest, x, seen):
    """A block that counts its calls and reads a number, an integer and nothing."""
    assert seen["nothing"] is None
    y = jnp.tanh(x @ weights["kernel"] + weights["bias"][None])
    return y * seen["scale"] + seen["shift"][None] + rest, rest + 1


def test_what_comes_of_blocks_gathered_ahead_is_what_comes_of_a_loop():
    mesh = make_mesh(fsdp=2)
    keys = jax.random.split(jax.random.key(0), 4)
    weights = {
        "kernel": jax.random.normal(keys[0], (DEPTH, 4, 4)),
        "bias": jax.random.normal(keys[1], (DEPTH, 4)),
    }
    stacked = {
        "kernel": jax.NamedSharding(mesh, jax.P(None, None, "fsdp")),
        "bias": jax.NamedSharding(mesh, jax.P()),
    }
    shares = jax.tree.map(share_of_one, stacked)
    x = jax.random.normal(keys[2], (8, 4))
    seen = {"scale": jnp.float32(1.5), "shift": jnp.arange(4), "nothing": None}
    counts = jnp.arange(DEPTH)

    def ahead(weights, x, scale):
        y, after = run_ahead(
            call, (weights, counts), x, seen | {"scale": scale}, shares=shares, dtype="float32"
        )
        return jnp.square(y).mean(), after

    def loop(weights, x, scale):
        after = []
        for at in range(DEPTH):
            own = jax.tree.map(lambda w, at=at: w[at], weights)
            x, rest = call(own, counts[at], x, seen | {"scale": scale})
            after.append(rest)
        return jnp.square(x).mean(), jnp.stack(after)

    split = jax.device_put(weights, stacked)
    given, wanted = (
        jax.jit(jax.value_and_grad(function, argnums=(0, 1, 2), has_aux=True))(of, x, seen["scale"])
        for function, of in ((ahead, split), (loop, weights))
    )
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5),
        given,
        wanted,
    )
