"""Heads over `model`, tokens over `sequence`: one example on several devices, the same training."""

import dataclasses
import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small_run import CONFIG, SmallModel, arrays

from stpatch_jax import WindowSpec
from stpatch_jax.errors import InputError
from stpatch_jax.nn import PatchTransformerConfig
from stpatch_jax.training import (
    OptimizerConfig,
    create_state,
    make_mesh,
    make_train_step,
    shard_local_batch,
)
from stpatch_jax.training.step import abstract_state

FIELDS = {"x": np.random.default_rng(0).normal(size=(8, 8, 8, 8, 1)).astype(np.float32)}

SGD = dataclasses.replace(CONFIG, optimizer=OptimizerConfig("sgd", 0.05))
SLOW = pytest.mark.slow


def config_of(attention: Any, **settings: Any) -> PatchTransformerConfig:
    return PatchTransformerConfig(
        WindowSpec((2, 4, 4)),
        features=32,
        depth=2,
        heads=4,
        attention=attention,
        temporal_depth=1,
        causal=attention != "joint",
        dropout=0.25,
        **settings,
    )


@functools.cache
def trained(attention: Any, remat: Any, **mesh: int) -> tuple[Any, Any, Any]:
    """Losses of two steps and the weights after them, on 8 devices."""
    config = config_of(attention, scan=remat != "none")
    over = make_mesh(**mesh)
    state = create_state(lambda rngs: config.build(1, rngs=rngs), SGD, over)
    step = make_train_step(energy, over, remat=remat)
    batch = shard_local_batch(FIELDS, over)
    losses = [float(step(state, batch)["loss"]) for _ in range(2)]
    return losses, arrays(nnx.state(state.model, nnx.Param)), (step, state, batch)


def traced(create_model: Any, x: np.ndarray, **mesh: int) -> None:
    """Traces a step, of which nothing is compiled."""
    over = make_mesh(**mesh)
    graphdef, values = abstract_state(create_model, SGD, over)
    make_train_step(energy, over).lower(
        nnx.merge(graphdef, values), shard_local_batch({"x": x}, over)
    )


def energy(model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    return jnp.mean(jnp.square(model(batch["x"]).astype(jnp.float32) - 1)), {}


@pytest.mark.parametrize(
    ("attention", "remat", "mesh"),
    [
        pytest.param("joint", "none", {"sequence": 2, "model": 2}, marks=SLOW),
        pytest.param("joint", "block", {"fsdp": 2, "sequence": 2, "model": 2}, marks=SLOW),
        pytest.param("factorised", "dots", {"fsdp": 2, "sequence": 2, "model": 2}, marks=SLOW),
        pytest.param("factorised_encoder", "block", {"sequence": 4}, marks=SLOW),
        pytest.param("time", "block", {"sequence": 2, "model": 2}, marks=SLOW),
    ],
)
def test_sharing_examples_trains_alike(attention: str, remat: str, mesh: dict[str, int]) -> None:
    losses, weights, _ = trained(attention, remat)
    others, same, _ = trained(attention, remat, **mesh)
    np.testing.assert_allclose(others, losses, rtol=1e-5)
    for one, other in zip(weights, same, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_no_device_sees_all_tokens_of_all_heads() -> None:
    """Read from the program: tokens are exchanged for heads, and logits are of a share of them."""
    _, _, (step, state, batch) = trained("joint", "none", sequence=2, model=2)
    text = step.lower(state, batch).compile().as_text()
    # 8 examples on 2 x 2 x 2 devices: of 4 of them, 16 tokens and 4 heads, a device has one head.
    pairs = re.findall(r"f32\[([\d,]*16,16)\]", text)
    assert {math.prod(map(int, shape.split(","))) for shape in pairs} == {4 * 16 * 16}
    assert "all-to-all(" in text
    gathered = re.findall(r"f32\[([\d,]*)\]\S* all-gather\(", text)
    assert not [shape for shape in gathered if shape.startswith("4,16")]


def test_what_cannot_be_shared_is_told() -> None:
    joint, factorised = (
        functools.partial(config_of(attention).build, 1) for attention in ("joint", "factorised")
    )
    with pytest.raises(
        InputError, match=r"train.mesh.model times .* must divide the 4 heads, got 8"
    ):
        traced(lambda rngs: joint(rngs=rngs), FIELDS["x"], sequence=4, model=2)
    with pytest.raises(InputError, match=r"train.mesh.sequence must divide the 4 tokens .* got 8"):
        traced(lambda rngs: factorised(rngs=rngs), FIELDS["x"], sequence=8)
    with pytest.raises(InputError, match=r"train.mesh.model must be 1 for a network without"):
        traced(SmallModel, FIELDS["x"][:, 0], model=2)
