"""Parts of a batch, recomputation and averages inside the compiled step."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small_run import CONFIG, PlainModel, SmallModel, arrays, batches, digest, squared_error

from stpatch_jax.errors import InputError
from stpatch_jax.training import (
    OptimizerConfig,
    TrainConfig,
    create_state,
    make_mesh,
    make_train_step,
    shard_local_batch,
)
from stpatch_jax.training.accumulation import cut
from stpatch_jax.training.mesh import check_batch_size

SGD = dataclasses.replace(CONFIG, optimizer=OptimizerConfig("sgd", learning_rate=0.05))


def masked_error(model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """A mean over the real targets, of which each part has another number."""
    mask = (batch["index"] % 3 > 0).astype(jnp.float32)[:, None]
    error = (model(batch["x"]) - batch["y"]) * mask
    count = mask.sum()
    return (error**2).sum() / count, {"absolute": jnp.abs(error).sum() / count, "weight": count}


def batch_of(size: int) -> dict[str, np.ndarray]:
    source = batches(10)
    parts = [next(source) for _ in range(size // 8)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_parts_equal_the_whole_batch() -> None:
    mesh = make_mesh(fsdp=2)
    outcomes = []
    settings: list[Any] = [{}, {"accumulate": 4}, {"remat": "dots"}]
    for options in settings:
        state = create_state(PlainModel, SGD, mesh)
        step: Any = make_train_step(masked_error, mesh, **options)
        batch = shard_local_batch(batch_of(32), mesh)
        metrics = [step(state, batch) for _ in range(2)][-1]
        outcomes.append((jax.device_get(metrics), arrays(state)))
        if "accumulate" in options:
            text = step.lower(state, batch).compile().as_text()
            assert not re.findall(r"(all-to-all|collective-permute|all-gather)(-start)?\(", text)
    whole, *others = outcomes
    assert whole[0].keys() >= {"absolute", "loss", "grad_norm", "skipped", "rollbacks"}
    assert "weight" not in whole[0]
    for metrics, state in others:
        assert metrics.keys() == whole[0].keys()
        for name, value in metrics.items():
            np.testing.assert_allclose(value, whole[0][name], rtol=2e-5)
        for one, other in zip(state, whole[1], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_each_part_draws_its_own_dropout_and_moves_the_statistics() -> None:
    mesh = make_mesh()
    weights = 2.0 ** -np.arange(32.0, dtype=np.float32)

    def loss(model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        drawn = model.dropout(jnp.ones(32))
        return squared_error(model, batch)[0], {"drawn": jnp.sum(drawn * weights)}

    state, again = (create_state(SmallModel, SGD, mesh) for _ in range(2))
    model: Any = again.averaged()
    expected = []
    for _ in range(2):
        expected.append(np.sum(np.asarray(model.dropout(jnp.ones(32))) * weights))
        model.dropout(jnp.ones(32))  # What `squared_error` draws.
    assert expected[0] != expected[1]
    hidden = np.asarray(model.inner(batch_of(16)["x"]))
    step = make_train_step(loss, mesh, accumulate=2)
    batch = shard_local_batch(batch_of(16), mesh)
    drawn = [float(step(one, batch)["drawn"]) for one in (state, again)]
    np.testing.assert_allclose(drawn, np.mean(expected), rtol=1e-6)
    assert digest(state) == digest(again)
    # Two rows a device: the parts are the even and the odd ones. Each moves the mean by 1 %.
    one, other = (hidden[part::2].mean(0) for part in range(2))
    trained: Any = state.model
    np.testing.assert_allclose(trained.norm.mean[...], 0.0099 * one + 0.01 * other, atol=1e-6)
    assert int(trained.dropout.rngs.count[...]) == 4


def test_devices_keep_their_examples() -> None:
    mesh = make_mesh(space=2)
    batch = shard_local_batch({"x": np.arange(16), "field": np.zeros((16, 2, 4, 3))}, mesh)
    parts = jax.jit(lambda batch: cut(batch, 2, mesh))(batch)
    assert parts["field"].shape == (2, 8, 2, 4, 3)
    np.testing.assert_array_equal(np.sort(np.ravel(parts["x"])), np.arange(16))
    for before, after in zip(
        batch["x"].addressable_shards, parts["x"].addressable_shards, strict=True
    ):
        np.testing.assert_array_equal(before.data, np.ravel(after.data))


def test_recomputation_keeps_products_only() -> None:
    """Counted in the program: what the backward pass gets from the forward pass."""
    mesh = make_mesh()
    state = create_state(PlainModel, SGD, mesh)
    batch = shard_local_batch(batch_of(8), mesh)
    sines = []
    for remat in ("none", "dots"):
        step: Any = make_train_step(squared_error, mesh, remat=remat)
        sines.append(step.lower(state, batch).as_text().count("stablehlo.sine "))
    assert sines == [1, 2]


def test_the_average_follows_the_weights() -> None:
    config = dataclasses.replace(SGD, ema=0.9)
    mesh = make_mesh(fsdp=2)
    state = create_state(SmallModel, config, mesh)
    step = make_train_step(squared_error, mesh, ema=config.ema)
    expected = [x.astype(np.float64) for x in arrays(nnx.state(state.model, nnx.Param))]
    source = batches(0)
    for n in range(1, 5):  # The fifth is spoiled, and moves nothing.
        step(state, shard_local_batch(next(source), mesh))
        share = 1 - min(0.9, (1 + n) / (10 + n))
        weights = arrays(nnx.state(state.model, nnx.Param))
        expected = [a + share * (w - a) for a, w in zip(expected, weights, strict=True)]
    assert not step(state, shard_local_batch(next(source), mesh))["finite"]
    averaged: Any = state.averaged()
    for one, other in zip(arrays(nnx.state(averaged, nnx.Param)), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    model: Any = state.model
    assert averaged.norm.mean[...] is model.norm.mean[...]
    assert averaged.inner.kernel[...].sharding == model.inner.kernel[...].sharding
    assert not np.array_equal(averaged.inner.kernel[...], model.inner.kernel[...])


@pytest.mark.slow
def test_mixed_precision_keeps_float32_where_it_counts() -> None:
    def create(rngs: nnx.Rngs) -> nnx.Module:
        return nnx.Linear(4, 1, dtype=jnp.bfloat16, param_dtype=jnp.float32, rngs=rngs)

    mesh = make_mesh()
    state = create_state(create, dataclasses.replace(CONFIG, ema=0.9), mesh)
    step = make_train_step(squared_error, mesh, ema=0.9, accumulate=2)
    metrics = step(state, shard_local_batch(batch_of(16), mesh))
    assert metrics["loss"].dtype == metrics["grad_norm"].dtype == jnp.float32
    floats = [x.dtype for x in jax.tree.leaves(nnx.state(state)) if x.dtype != jnp.uint32]
    assert all(dtype in (jnp.float32, jnp.int32) or "key" in str(dtype) for dtype in floats)


def test_parts_must_divide_the_batch() -> None:
    with pytest.raises(InputError, match=r"accumulate must be a divisor of the batch size 32.*3"):
        TrainConfig(accumulate=3)
    with pytest.raises(InputError, match=r"multiple of 32, got 40 on 8 devices in 4 parts"):
        check_batch_size(40, make_mesh(), accumulate=4)
