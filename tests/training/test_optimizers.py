"""Updates against the formulas of the papers, written out in NumPy."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.training import OptimizerConfig, learning_rate_schedule, make_optimizer

STEPS = 6
RATE, DECAY, MOMENTUM, CLIP = 0.1, 0.05, 0.8, 1.5


def gradients() -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [
        {"kernel": random.normal(size=(3, 2)) * scale, "bias": random.normal(size=2) * scale}
        for scale in (0.1, 3.0, 0.5, 10.0, 1.0, 0.2)
    ]


def by_numpy(name: str) -> dict[str, np.ndarray]:
    """Clip, then L2 (kernel only), then the rule; adamw decays beside the rule."""
    weights = {"kernel": np.ones((3, 2)), "bias": np.full(2, -1.0)}
    first = {key: np.zeros_like(w) for key, w in weights.items()}
    second = {key: np.zeros_like(w) for key, w in weights.items()}
    for count, gradient in enumerate(gradients()):
        norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
        rate = RATE * min(1, (count + 1) / 2)
        for key, weight in weights.items():
            decay = DECAY * weight if key == "kernel" else 0.0
            g = gradient[key] * min(1, CLIP / norm) + (0 if name == "adamw" else decay)
            if name == "sgd":
                first[key] = MOMENTUM * first[key] + g
                update = first[key]
            else:
                first[key] = 0.9 * first[key] + 0.1 * g
                second[key] = 0.999 * second[key] + 0.001 * g**2
                mean = first[key] / (1 - 0.9 ** (count + 1))
                update = mean / (np.sqrt(second[key] / (1 - 0.999 ** (count + 1))) + 1e-8)
            weights[key] = weight - rate * (update + (decay if name == "adamw" else 0))
    return weights


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("adamw", "bfloat16"),
        ("sgd", None),
        *(pytest.param(name, None, marks=pytest.mark.slow) for name in ("adamw", "adam")),
        *(pytest.param(name, "bfloat16", marks=pytest.mark.slow) for name in ("adam", "sgd")),
    ],
)
def test_update_equals_the_formula(name: Any, kept: Any) -> None:
    config = OptimizerConfig(
        name, learning_rate=RATE, momentum=MOMENTUM, weight_decay=DECAY, clip_norm=CLIP,
        warmup_steps=2, moment_dtype=kept,
    )  # fmt: skip
    tx = make_optimizer(config, STEPS)
    params: Any = {"kernel": jnp.ones((3, 2)), "bias": jnp.full(2, -1.0)}
    state = tx.init(params)
    for gradient in gradients():
        gradient = jax.tree.map(jnp.float32, gradient)
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    # A sum of a few numbers that each keep 8 bits.
    close: Any = {"rtol": 2e-5} if kept is None else {"rtol": 2e-2, "atol": 1e-2}
    for key, expected in by_numpy(name).items():
        np.testing.assert_allclose(params[key], expected, err_msg=key, **close)
    kernels = [x.dtype.name for x in jax.tree.leaves(state) if jnp.shape(x) == (3, 2)]
    assert kernels == [kept or "float32", *["float32"] * (name != "sgd")]


def test_without_a_clip_the_gradient_is_as_it_was() -> None:
    tx = make_optimizer(OptimizerConfig("sgd", 1.0, 0.0, 0.0, clip_norm=None), 1)
    params = {"w": jnp.zeros(2)}
    updates: Any
    updates, _ = tx.update({"w": jnp.array([300.0, -400.0])}, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], [-300.0, 400.0])


@given(
    warmup=st.integers(0, 20),
    rest=st.integers(1, 50),
    schedule=st.sampled_from(["constant", "cosine"]),
)
def test_schedule(warmup: int, rest: int, schedule: Literal["constant", "cosine"]) -> None:
    steps = warmup + rest
    config = OptimizerConfig(learning_rate=0.25, warmup_steps=warmup, schedule=schedule)
    rates = np.asarray(learning_rate_schedule(config, steps)(jnp.arange(71)))
    np.testing.assert_allclose(
        rates[:warmup], 0.25 * np.arange(1, warmup + 1) / max(warmup, 1), rtol=1e-6
    )
    assert rates[warmup] == 0.25
    after = np.minimum(np.arange(71 - warmup) / rest, 1)
    factor = (1 + np.cos(np.pi * after)) / 2 if schedule == "cosine" else 1
    np.testing.assert_allclose(rates[warmup:], 0.25 * factor, rtol=1e-5, atol=1e-7)
