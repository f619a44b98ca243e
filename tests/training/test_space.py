"""Examples shared by devices along their first space axis, by the compiler's own halo exchange."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from small_run import CONFIG, arrays

from stpatch_jax.training import (
    OptimizerConfig,
    create_state,
    make_mesh,
    make_train_step,
    shard_local_batch,
)

SGD = dataclasses.replace(CONFIG, optimizer=OptimizerConfig("sgd", learning_rate=0.05))


class Field(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.near = nnx.Conv(2, 4, (1, 3), rngs=rngs)
        self.out = nnx.Conv(4, 2, (1, 3), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(jnp.tanh(self.near(x)))


def error(model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    return jnp.mean((model(batch["context"]) - batch["target"]) ** 2), {}


def test_a_split_field_trains_alike_and_exchanges_only_halos() -> None:
    draw = np.random.default_rng(0).normal
    fields = {name: draw(size=(8, 2, 16, 2)).astype(np.float32) for name in ("context", "target")}
    outcomes = []
    for space in (1, 4):
        mesh = make_mesh(space=space)
        state = create_state(Field, SGD, mesh)
        step: Any = make_train_step(error, mesh)
        batch = shard_local_batch(fields, mesh)
        outcomes.append(([float(step(state, batch)["loss"]) for _ in range(3)], arrays(state)))
    text = step.lower(state, batch).compile().as_text()
    assert "collective-permute" in text
    assert "all-reduce" in text
    assert not re.findall(r"(all-gather|all-to-all|reduce-scatter)(-start)?\(", text)
    np.testing.assert_allclose(outcomes[1][0], outcomes[0][0], rtol=1e-5)
    for one, other in zip(outcomes[1][1], outcomes[0][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
