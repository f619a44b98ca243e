import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, Mesh
from small_run import (
    CONFIG,
    NAN_STEP,
    PlainModel,
    SmallModel,
    arrays,
    batches,
    squared_error,
)

from stpatch_jax.training import (
    OptimizerConfig,
    create_state,
    make_mesh,
    make_train_step,
    shard_local_batch,
)
from stpatch_jax.training.mesh import Batch
from stpatch_jax.training.step import abstract_state


def mesh_of(devices: int) -> Mesh:
    return jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


def test_eight_devices_equal_one() -> None:
    # Not Adam: it blows the rounding of a gradient that ought to be zero up to a full update.
    config = dataclasses.replace(CONFIG, optimizer=OptimizerConfig("sgd", learning_rate=0.05))
    losses, states = [], []
    for mesh in (make_mesh(), mesh_of(1)):
        state = create_state(SmallModel, config, mesh)
        step = make_train_step(squared_error, mesh)
        source = batches(0)
        run = [step(state, shard_local_batch(next(source), mesh)) for _ in range(8)]
        losses.append([float(metrics["loss"]) for metrics in run])
        states.append(arrays(state))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for one, other in zip(*states, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_state_is_replicated_and_donated() -> None:
    mesh = make_mesh()
    state = create_state(SmallModel, CONFIG, mesh)
    step = make_train_step(squared_error, mesh)
    leaves = jax.tree.leaves(nnx.state(state))
    assert all(leaf.sharding.is_fully_replicated for leaf in leaves)
    assert all(leaf.sharding.device_set == set(jax.devices()) for leaf in leaves)
    step(state, shard_local_batch(next(batches(0)), mesh))
    assert all(leaf.is_deleted() for leaf in leaves)
    after = jax.tree.leaves(nnx.state(state))
    assert [leaf.sharding for leaf in after] == [leaf.sharding for leaf in leaves]


def test_one_trace_for_all_steps() -> None:
    traces = []

    def counted(model: nnx.Module, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        traces.append(1)
        return squared_error(model, batch)

    mesh = make_mesh()
    state = create_state(SmallModel, CONFIG, mesh)
    step = make_train_step(counted, mesh)
    source = batches(0)
    for _ in range(4):
        step(state, shard_local_batch(next(source), mesh))
    assert len(traces) == 1


def test_memory_is_that_of_the_step_that_was_compiled() -> None:
    mesh = make_mesh()
    state = create_state(SmallModel, CONFIG, mesh)
    step = make_train_step(squared_error, mesh)
    batch = shard_local_batch(next(batches(0)), mesh)
    step(state, batch)
    compiled = []

    def listen(event: str, *_: Any, **__: Any) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    memory = step.memory(state, batch)
    assert memory is not None
    assert not compiled
    jax.jit(lambda x: x + len(compiled))(0.0)
    jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled
    # The state on every device and a share of the batch, and less than ten times that beside them.
    own = sum(x.nbytes for x in jax.tree.leaves(nnx.state(state)))
    given = own + sum(x.nbytes for x in batch.values()) // 8
    assert given < memory < 10 * given


def test_compiled_step_reduces_once_and_gathers_nothing() -> None:
    mesh = make_mesh()
    state = create_state(PlainModel, CONFIG, mesh)
    step = make_train_step(squared_error, mesh)
    batch = shard_local_batch(next(batches(0)), mesh)
    text = step.lower(state, batch).compile().as_text() or ""
    assert len(re.findall(r" all-reduce(?:-start)?\(", text)) == 1
    assert "input_output_alias" in text
    for collective in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert collective not in text


def test_a_spoiled_batch_changes_nothing_but_counters() -> None:
    mesh = make_mesh()
    state = create_state(SmallModel, CONFIG, mesh)
    step = make_train_step(squared_error, mesh)
    step(state, shard_local_batch(next(batches(0)), mesh))
    counters = nnx.Any(nnx.RngState, nnx.PathContains("skipped"))
    kept, moved = nnx.Not(counters), nnx.RngCount
    before = arrays(nnx.state(state, kept)), arrays(nnx.state(state, moved))
    metrics = step(state, shard_local_batch(next(batches(NAN_STEP - 1)), mesh))
    assert (bool(metrics["finite"]), int(metrics["skipped"])) == (False, 1)
    for one, other in zip(before[0], arrays(nnx.state(state, kept)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert arrays(nnx.state(state, moved))[0] == before[1][0] + 1


@pytest.mark.parametrize("spoiled", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_seen(spoiled: float) -> None:
    """The loss stays finite while its derivative does not."""

    def loss(model: SmallModel, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        kernel = model.inner.kernel[...]
        leak = jax.custom_jvp(lambda x: jnp.zeros(()))
        leak.defjvp(lambda primals, tangents: (jnp.zeros(()), jnp.sum(tangents[0]) * spoiled))
        return jnp.mean(batch["x"] ** 2) + leak(kernel), {}

    mesh = make_mesh()
    state = create_state(SmallModel, CONFIG, mesh)
    model: Any = state.model
    before = np.asarray(model.inner.kernel[...])
    metrics = make_train_step(loss, mesh)(state, shard_local_batch(next(batches(0)), mesh))
    assert np.isfinite(metrics["loss"])
    assert not metrics["finite"]
    np.testing.assert_array_equal(model.inner.kernel[...], before)


def test_abstract_state_predicts_the_state() -> None:
    mesh = make_mesh()
    _, abstract = abstract_state(SmallModel, CONFIG, mesh)
    real = nnx.state(create_state(SmallModel, CONFIG, mesh))
    assert jax.tree.structure(abstract) == jax.tree.structure(real)
    for one, other in zip(jax.tree.leaves(abstract), jax.tree.leaves(real), strict=True):
        assert (one.shape, one.dtype, one.sharding) == (other.shape, other.dtype, other.sharding)


def test_the_norm_is_that_of_the_gradient_before_the_clip() -> None:
    clipped = dataclasses.replace(CONFIG.optimizer, clip_norm=1e-3)
    norms = []
    for optimizer in (CONFIG.optimizer, clipped):
        mesh = make_mesh()
        state = create_state(SmallModel, dataclasses.replace(CONFIG, optimizer=optimizer), mesh)
        step = make_train_step(squared_error, mesh)
        norms.append(float(step(state, shard_local_batch(next(batches(0)), mesh))["grad_norm"]))
    assert norms[0] == norms[1] > 1e-3


def test_one_batch_is_learnt() -> None:
    rate = dataclasses.replace(CONFIG.optimizer, learning_rate=0.03, schedule="constant")
    config = dataclasses.replace(CONFIG, optimizer=rate)
    mesh = make_mesh()

    def loss(model: SmallModel, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        return squared_error(nnx.view(model, deterministic=True), batch)

    state = create_state(SmallModel, config, mesh)
    step = make_train_step(loss, mesh)
    batch = shard_local_batch(next(batches(0)), mesh)
    losses = [float(step(state, batch)["loss"]) for _ in range(60)]
    assert losses[-1] < losses[0] / 10
