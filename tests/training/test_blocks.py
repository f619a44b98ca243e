"""Blocks of a stack, recomputed and gathered one at a time: the same training in less memory."""

import dataclasses
import functools
import itertools
import re
from pathlib import Path
from typing import Any, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small_run import CONFIG, SmallModel, arrays

from stpatch_jax import WindowSpec
from stpatch_jax.errors import InputError
from stpatch_jax.flops import gradient_flops
from stpatch_jax.nn import PatchTransformerConfig
from stpatch_jax.nn.blocks import Remat, paths_unrolled
from stpatch_jax.nn.blocks import unrolled as one_by_one
from stpatch_jax.tasks.models import BackboneWithHead, transfer_backbone
from stpatch_jax.training import (
    Checkpoints,
    OptimizerConfig,
    create_state,
    make_mesh,
    make_train_step,
    replicate,
    shard_local_batch,
)
from stpatch_jax.training.optimizers import decays
from stpatch_jax.training.step import abstract_state
from stpatch_jax.training.weights import whole_weights

SGD = dataclasses.replace(CONFIG, optimizer=OptimizerConfig("sgd", learning_rate=0.05))
FIELDS = {"x": np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)}
DEPTH = 2
WHOLE = r"sharding_constraint.*?<@?mesh, \[\{\}, \{\}\]> : tensor<32x128x(\w+)>"


def network(rngs: nnx.Rngs, *, dropout: float = 0.25, **more: Any) -> Any:
    settings = {"features": 32, "depth": DEPTH, "heads": 2, "dropout": dropout, **more}
    return PatchTransformerConfig(WindowSpec((2, 2)), **settings).build(1, rngs=rngs)


def scanned_at(state: nnx.State, path: tuple[Any, ...]) -> nnx.Variable:
    return dict(nnx.to_flat_state(state))[path]


def energy(model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    return jnp.mean(jnp.square(model(batch["x"]).astype(jnp.float32))), {}


def compiled(remat: Remat, fsdp: int, **more: Any) -> tuple[Any, Any, Any]:
    """A state, its step and a batch on 8 devices."""
    mesh = make_mesh(fsdp=fsdp)
    state = create_state(functools.partial(network, **more), SGD, mesh)
    step: Any = make_train_step(energy, mesh, remat=remat)
    return state, step, shard_local_batch(FIELDS, mesh)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float], list[np.ndarray]]:
    """A checkpoint of unrolled blocks, the two losses after it, dropout included, and weights."""
    state, step, batch = compiled("none", 1)
    step(state, batch)
    path = tmp_path_factory.mktemp("checkpoints")
    with Checkpoints(path, keep=1) as checkpoints:
        checkpoints.save(1, nnx.state(state), {})
    losses = [float(step(state, batch)["loss"]) for _ in range(2)]
    return path, losses, arrays(nnx.state(state.model.encoder.blocks, nnx.Param))


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("remat", "fsdp", "scan"),
    [
        pytest.param("block", 4, False, marks=SLOW),
        pytest.param("dots", 4, False, marks=SLOW),
        pytest.param("none", 1, True, marks=SLOW),
        pytest.param("block", 4, True, marks=SLOW),
        pytest.param("dots", 4, True, marks=SLOW),
        pytest.param("offload", 4, True, marks=SLOW),
    ],
)
def test_whatever_is_recomputed_gathered_or_scanned_goes_on_alike(
    before: Any, remat: Remat, fsdp: int, scan: bool
) -> None:
    path, losses, weights = before
    state, step, batch = compiled(remat, fsdp, scan=scan)
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), nnx.state(state)
    )
    with Checkpoints(path) as checkpoints:
        nnx.update(state, checkpoints.restore(1, abstract)[0])
    others = [float(step(state, batch)["loss"]) for _ in range(2)]
    np.testing.assert_allclose(others, losses, rtol=1e-5)
    same = arrays(nnx.state(one_by_one(state.model.encoder.blocks), nnx.Param))
    for one, other in zip(weights, same, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)


def test_a_scanned_program_does_not_grow_with_depth() -> None:
    mesh, sizes = make_mesh(fsdp=4), []
    step: Any = make_train_step(energy, mesh, remat="block")
    batch: Any = shard_local_batch(FIELDS, mesh)
    for depth in (12, 48):
        create = functools.partial(network, scan=True, depth=depth)
        state = nnx.merge(*abstract_state(create, SGD, mesh))
        sizes.append(len(step.lower(state, batch).as_text()))
    assert sizes[1] < 1.2 * sizes[0]


def test_weight_decay_spares_biases_and_scales_of_stacked_blocks() -> None:
    unrolled, scanned = (
        nnx.state(nnx.eval_shape(lambda scan=scan: network(nnx.Rngs(0), scan=scan)), nnx.Param)
        for scan in (False, True)
    )
    one, all_ = (dict(nnx.to_flat_state(cast(Any, decays(state)))) for state in (unrolled, scanned))
    for path, decayed in all_.items():
        assert {one[at] for at in paths_unrolled(path, scanned_at(scanned, path))} == {decayed}


@pytest.mark.slow
def test_a_backbone_is_handed_on_whether_scanned_or_not() -> None:
    build = nnx.jit(lambda key, scan: network(nnx.Rngs(key), scan=scan), static_argnums=1)
    models = [
        BackboneWithHead(build(jax.random.key(seed), scan), jnp.mean)
        for seed, scan in enumerate((False, True, False))
    ]
    for before, after in itertools.pairwise(models):
        transfer_backbone(before, after)
    first, _, last = (arrays(nnx.state(model, nnx.Param)) for model in models)
    jax.tree.map(np.testing.assert_array_equal, first, last)


@pytest.mark.slow
def test_weights_of_blocks_are_gathered_twice_and_in_the_dtype_that_computes() -> None:
    """Read from the program: once forward and once backward, unlike all others."""
    state, step, batch = compiled("dots", 4, dtype="bfloat16")
    text = step.lower(state, batch).as_text()
    assert re.findall(WHOLE, text) == ["bf16"] * 2 * DEPTH


def test_answers_gather_the_weights_of_one_block_after_the_other() -> None:
    mesh = make_mesh(fsdp=4)
    state, _, batch = compiled("none", 4, dtype="bfloat16")
    graphdef, values = nnx.split(nnx.view(state.model, deterministic=True))

    @jax.jit
    def answer(values: nnx.State, x: jax.Array) -> jax.Array:
        model: Any = nnx.merge(graphdef, values)
        with whole_weights(model, mesh):
            return model(x)

    assert re.findall(WHOLE, answer.lower(values, batch["x"]).as_text()) == ["bf16"] * DEPTH
    wanted: Any = replicate(nnx.merge(graphdef, values), mesh)
    np.testing.assert_array_equal(
        np.float32(answer(values, batch["x"])), np.float32(nnx.jit(wanted)(batch["x"]))
    )


def test_what_is_computed_again_is_counted() -> None:
    state, _, batch = compiled("none", 1)
    none, dots, block = (
        make_train_step(energy, make_mesh(), remat=remat).flops(state, batch)
        for remat in get_args(Remat)[:3]
    )
    assert none == gradient_flops(energy, state.model, batch)
    # A forward pass is a third; `dots` computes again what attention made of pairs of tokens.
    assert none < dots < block <= none * 4 / 3
    state, step, batch = compiled("block", 4, scan=True)
    assert step.flops(state, batch) == block


def test_networks_without_blocks_are_told_what_they_can_do() -> None:
    mesh = make_mesh()
    state = create_state(SmallModel, SGD, mesh)
    with pytest.raises(InputError, match=r"none or dots for SmallModel, .* got block; use dots"):
        make_train_step(energy, mesh, remat="block")(state, shard_local_batch(FIELDS, mesh))
