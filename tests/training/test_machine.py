import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from small_run import CONFIG, run

from stpatch_jax.flops import count_flops


def shape(*sizes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def test_matrix_products_and_convolutions_are_counted() -> None:
    a, b = shape(2, 3, 5), shape(2, 5, 7)
    assert count_flops(jnp.matmul, a, b) == 2 * 2 * 3 * 5 * 7
    assert count_flops(jax.jit(jnp.matmul), a, b) == 2 * 2 * 3 * 5 * 7
    assert count_flops(jnp.matmul, shape(4, 4, dtype=jnp.int32), shape(4, 4, dtype=jnp.int32)) == 0
    numbers = ("NHWC", "HWIO", "NHWC")

    def convolve(x: jax.Array, kernel: jax.Array, groups: int = 1) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups
        )

    assert count_flops(convolve, shape(2, 8, 8, 4), shape(3, 3, 4, 6)) == 2 * 2 * 64 * 6 * 36
    grouped = count_flops(lambda x, k: convolve(x, k, 2), shape(2, 8, 8, 4), shape(3, 3, 2, 6))
    assert grouped == 2 * 2 * 64 * 6 * 18


def test_loops_count_once_a_turn_and_branches_at_their_dearest() -> None:
    weight = shape(4, 4)

    def loop(w: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), None), jnp.ones((1, 4)), length=9)[0]

    once = 2 * 4 * 4
    assert count_flops(loop, weight) == 9 * once
    # Backwards, each turn has the product with w and the outer product for it.
    assert count_flops(jax.grad(lambda w: loop(w).sum()), weight) == 3 * 9 * once

    def branch(w: jax.Array) -> jax.Array:
        return jax.lax.cond(w[0, 0] > 0, lambda w: w, lambda w: w @ w @ w, w)

    assert count_flops(branch, weight) == 2 * 2 * 4**3


@pytest.mark.slow
def test_a_profile_is_written_on_request(tmp_path: Path) -> None:
    run(tmp_path, dataclasses.replace(CONFIG, profile=True, steps=6), validate=None)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
