"""Backbones whose parameters are split: the same numbers as whole ones, from smaller shares."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec
from test_contract import BACKBONES, build, field, usual

from stpatch_jax.errors import InputError
from stpatch_jax.nn import ConvRecurrentConfig, ShardConfig
from stpatch_jax.runs.values import from_values, to_values
from stpatch_jax.training import batch_sharding, make_mesh, state_sharding

# Left out are the parts of the chain, what has no weights, and cells that differ by a function.
LEFT_OUT = {"PatchCNN", "SCNN", "SpaceTimeRNN", "gru", "conv_gru", "FlatPatches", "Mixing"}
FAMILIES = sorted(BACKBONES.keys() - LEFT_OUT)
QUICK = {"PatchTransformer", "TokenEmbedding", "conv_lstm"}


def annotations(model: nnx.Module) -> dict[str, PartitionSpec | None]:
    return {
        "/".join(map(str, path)): variable.get_metadata("out_sharding", None)
        for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }


@pytest.mark.parametrize(
    "backbone",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in FAMILIES],
)
def test_split_parameters_give_the_same_output_and_gradient(backbone):
    layout = usual(backbone)
    model = build(backbone, layout, shard=ShardConfig.fsdp())
    x = field(backbone, layout, batch=8)
    mesh = make_mesh(fsdp=2)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    split = jax.device_put(params, state_sharding(params, mesh))
    for path, leaf in nnx.to_flat_state(split):
        if "kernel" in str(path[-1]):
            share = leaf.addressable_shards[0].data.shape
            assert share == (*leaf.shape[:-1], leaf.shape[-1] // 2), path

    @jax.jit
    def both(params, rest, x):
        def loss(params):
            y = nnx.merge(graphdef, params, rest, copy=True)(x)
            return jnp.sin(y + jnp.arange(y.size).reshape(y.shape)).sum(), y

        gradient, y = jax.grad(loss, has_aux=True)(params)
        return y, gradient

    alone = both(params, rest, x)
    rest = jax.device_put(rest, state_sharding(rest, mesh))
    together = both(split, rest, jax.device_put(x, batch_sharding(mesh)))
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4 * np.abs(one).max())


def test_weights_that_are_to_stay_whole_do_so_beside_others_that_are_split():
    config = dataclasses.replace(ConvRecurrentConfig.tiny((4, 1)), shard=ShardConfig.whole())
    mesh = make_mesh(fsdp=8)
    state = nnx.eval_shape(lambda: nnx.state(config.build(1, rngs=nnx.Rngs(0)), nnx.Param))
    for leaf in jax.tree.leaves(state_sharding(state, mesh)):
        assert leaf.is_fully_replicated


def test_layers_that_are_split_over_model_keep_their_axis_where_another_is_asked_for():
    shard = ShardConfig(kernel_io=PartitionSpec("fsdp", "model"))
    layout = usual("PatchTransformer")
    state = nnx.eval_shape(
        lambda: nnx.state(build("PatchTransformer", layout, shard=shard), nnx.Param)
    )
    places = nnx.to_flat_state(state_sharding(state, make_mesh(fsdp=2, model=2)))
    specs = {path[-3:]: tuple(place.get_value().spec) for path, place in places}
    # Attention asks for `in`, a hidden layer for `out`.
    assert specs[0, "qkv", "kernel"] == specs[0, "out", "kernel"] == ("model",)
    assert specs[0, "expand", "kernel"] == ("fsdp", "model")


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_kernel_is_annotated_and_only_on_request(backbone):
    layout = usual(backbone)
    plain = nnx.eval_shape(lambda: build(backbone, layout))
    split = nnx.eval_shape(lambda: build(backbone, layout, shard=ShardConfig.fsdp()))
    assert set(annotations(plain).values()) <= {None}
    for name, spec in annotations(split).items():
        if name.endswith(("kernel", "/embedding")):
            assert spec is not None, name
            assert spec[-1] == "fsdp", name
            assert set(spec[:-1]) == {None}, name
        else:
            assert spec in (None, PartitionSpec()), name


def test_specs_pass_through_json():
    shard = ShardConfig(kernel_io=PartitionSpec("fsdp", ("data", "fsdp")))
    config = dataclasses.replace(ConvRecurrentConfig.tiny((4, 1)), shard=shard)
    values = json.loads(json.dumps(to_values(config)))
    assert values["shard"] == {"kernel_io": ["fsdp", ["data", "fsdp"]], "bias_o": None}
    again = from_values(ConvRecurrentConfig, values)
    assert again == config
    assert hash(again) == hash(config)
    assert from_values(ShardConfig, to_values(ShardConfig.fsdp())) == ShardConfig.fsdp()


@pytest.mark.parametrize("bad", ["fsdp", ("fsdp",), PartitionSpec(None, None, "fsdp")])
def test_what_is_no_spec_of_a_kernel_is_refused(bad):
    with pytest.raises(InputError, match="kernel_io must be None or a PartitionSpec of at"):
        ShardConfig(kernel_io=bad)
