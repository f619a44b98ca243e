"""Random inputs from NumPy: JAX compiles a generator for every shape, which costs more."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope="session")
def normal() -> Callable[..., jax.Array]:
    """`normal(seed, *shape)`: standard normal float32 values."""

    def draw(seed: int, *shape: int) -> jax.Array:
        return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)

    return draw
