"""Fully sharded training: the same run on every shape of the mesh, in smaller shares."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from small_run import CONFIG, arrays, batches, digest, squared_error

from stpatch_jax.errors import InputError
from stpatch_jax.nn import ShardConfig
from stpatch_jax.training import (
    Checkpoints,
    OptimizerConfig,
    create_state,
    make_mesh,
    make_train_step,
    replicate,
    restore_state,
    shard_local_batch,
    state_sharding,
)
from stpatch_jax.training.step import abstract_state

SGD = dataclasses.replace(CONFIG, optimizer=OptimizerConfig("sgd", learning_rate=0.05))


class Series(nnx.Module):
    """A recurrence over the columns of x with annotated weights, and a wide head without any."""

    def __init__(self, rngs: nnx.Rngs):
        shard = ShardConfig.fsdp()
        kernel = nnx.initializers.lecun_normal()(rngs.params(), (8, 8))
        self.inner = nnx.Linear(1, 8, **shard.linear(), rngs=rngs)
        self.recurrent_kernel = nnx.Param(kernel, **shard.kernel())
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(8, 130, rngs=rngs)
        self.narrow = nnx.Linear(130, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        def step(h: jax.Array, now: jax.Array) -> tuple[jax.Array, None]:
            return jnp.tanh(now + h @ self.recurrent_kernel[...]), None

        inputs = self.inner(jnp.moveaxis(x, 1, 0)[..., None])
        h = jax.lax.scan(step, jnp.zeros_like(inputs[0]), inputs)[0]
        return self.narrow(self.head(self.dropout(h)))


def lower(mesh: Mesh) -> Any:
    """The compiled training step of `Series` on a mesh."""
    state = create_state(Series, SGD, mesh)
    step: Any = make_train_step(squared_error, mesh)
    return step.lower(state, shard_local_batch(next(batches(0)), mesh)).compile()


@pytest.mark.slow  # some 20 s of compilation
def test_every_mesh_trains_alike_and_checkpoints_move_between_them(tmp_path: Path) -> None:
    losses, states = [], []
    for fsdp in (1, 2, 4):
        mesh = make_mesh(fsdp=fsdp)
        assert [mesh.shape[name] for name in ("data", "fsdp", "space")] == [8 // fsdp, fsdp, 1]
        state = create_state(Series, SGD, mesh)
        placed = nnx.state(state)
        step = make_train_step(squared_error, mesh)
        source = batches(0)
        run = [step(state, shard_local_batch(next(source), mesh)) for _ in range(3)]
        losses.append([float(metrics["loss"]) for metrics in run])
        states.append(state)
        for one, other in zip(
            jax.tree.leaves(state_sharding(placed, mesh)),
            jax.tree.leaves(nnx.state(state)),
            strict=True,
        ):
            assert one == other.sharding
        copied = replicate(state.model, mesh)
        assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(nnx.state(copied)))
        assert digest(copied) == digest(state.model)
    for other in losses[1:]:
        np.testing.assert_allclose(other, losses[0], rtol=1e-4)
    for state in states[1:]:
        for one, other in zip(arrays(states[0]), arrays(state), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(3, nnx.state(states[1]), {})
    for fsdp in (1, 4):
        mesh = make_mesh(fsdp=fsdp)
        with Checkpoints(tmp_path) as checkpoints:
            restored = restore_state(Series, SGD, checkpoints, mesh)
        assert restored is not None
        assert digest(restored[0]) == digest(states[1])
        for one, other in zip(
            jax.tree.leaves(state_sharding(nnx.state(restored[0]), mesh)),
            jax.tree.leaves(nnx.state(restored[0])),
            strict=True,
        ):
            assert one == other.sharding


def test_abstract_state_predicts_the_shares() -> None:
    mesh = make_mesh(fsdp=2)
    _, abstract = abstract_state(Series, SGD, mesh)
    real = nnx.state(create_state(Series, SGD, mesh))
    assert jax.tree.structure(abstract) == jax.tree.structure(real)
    for one, other in zip(jax.tree.leaves(abstract), jax.tree.leaves(real), strict=True):
        assert (one.shape, one.dtype, one.sharding) == (other.shape, other.dtype, other.sharding)


def test_moments_lie_as_their_weights_do() -> None:
    mesh = make_mesh(fsdp=2)
    _, state = abstract_state(Series, CONFIG, mesh)
    split = {
        "/".join(map(str, path)): leaf.sharding.spec
        for path, leaf in nnx.to_flat_state(state)
        if not leaf.sharding.is_fully_replicated
    }
    out = PartitionSpec(None, "fsdp")
    weights = {
        "inner/kernel": out,
        "recurrent_kernel": out,
        "head/kernel": out,
    }
    expected = {f"model/{name}": spec for name, spec in weights.items()}
    for moment in ("mu", "nu"):
        for name, spec in weights.items():
            found = [key for key in split if f"/{moment}/" in key and key.endswith(name)]
            assert len(found) == 1
            expected[found[0]] = spec
    assert split == expected


def test_the_step_gathers_each_weight_once_and_moves_no_activation() -> None:
    whole, split = lower(make_mesh()), lower(make_mesh(fsdp=4))
    text = split.as_text()
    assert not re.findall(r"all-to-all\(|collective-permute\(", text)
    assert len(re.findall(r"all-gather(?:-start)?\(", text)) == 3
    assert not re.findall(r"all-gather(?:-start)?\(.*while/body", text)
    # Weights and moments in quarters; what is not split: biases, `narrow` and the counters.
    shares = split.memory_analysis().argument_size_in_bytes
    assert shares < 0.5 * whole.memory_analysis().argument_size_in_bytes


def test_unannotated_arrays_are_split_by_one_rule() -> None:
    mesh = make_mesh(fsdp=4)
    cases = {
        (3, 3, 128, 64): PartitionSpec(None, None, "fsdp"),
        (64, 64): PartitionSpec(None, "fsdp"),
        (4096,): PartitionSpec(),
        (1026, 36): PartitionSpec(None, "fsdp"),
        (31, 33): PartitionSpec(),
        (1001, 33): PartitionSpec(),
        (): PartitionSpec(),
    }
    for shape, spec in cases.items():
        state = nnx.State({"w": nnx.Param(jax.ShapeDtypeStruct(shape, jnp.float32))})
        assert jax.tree.leaves(state_sharding(state, mesh)) == [NamedSharding(mesh, spec)], shape
        alone = state_sharding(state, make_mesh())
        assert jax.tree.leaves(alone) == [NamedSharding(make_mesh(), PartitionSpec())]


def test_an_annotation_decides_as_far_as_it_divides() -> None:
    mesh = make_mesh(fsdp=4)

    def spec(shape: tuple[int, ...], *annotation: Any) -> PartitionSpec:
        abstract = jax.ShapeDtypeStruct(shape, jnp.float32)
        metadata: Any = {"out_sharding": PartitionSpec(*annotation), "eager_sharding": False}
        state = nnx.State({"w": nnx.Param(abstract, **metadata)})
        return jax.tree.leaves(state_sharding(state, mesh))[0].spec

    assert spec((2, 4), None, "fsdp") == PartitionSpec(None, "fsdp")
    assert spec((64, 64)) == PartitionSpec()
    assert spec((64, 6), None, "fsdp") == PartitionSpec()
    assert spec((16, 6), ("data", "fsdp"), "fsdp") == PartitionSpec(("data", "fsdp"))
    with pytest.raises(
        InputError, match=r"over axes of the mesh, data, .* model, got 'expert'; name"
    ):
        spec((64, 64), "expert")


@pytest.mark.parametrize("fsdp", [3, 16])
def test_fsdp_must_divide_the_devices(fsdp: int) -> None:
    with pytest.raises(InputError, match=rf"number of devices, 8, got .*'fsdp': {fsdp},"):
        make_mesh(fsdp=fsdp)
    with pytest.raises(InputError, match="set one size to -1 and the others to divisors of 8"):
        make_mesh(data=2, fsdp=2)
