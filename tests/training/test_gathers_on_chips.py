"""Which gathers of a block's weights a TPU works beside, read from the compiled step."""

import importlib.util
import math
import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from stpatch_jax import WindowSpec, chips
from stpatch_jax.nn import PatchTransformerConfig
from stpatch_jax.training import TrainConfig, batch_sharding, make_train_step
from stpatch_jax.training.step import abstract_state

pytestmark = [
    pytest.mark.slow,
    pytest.mark.chips,
    pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="the extra chips is absent"),
]
GATHER = re.compile(r"= bf16\[([\d,]+)\]\S* all-gather\(%(\S+)\), channel_id=(\d+)")


def test_weights_of_the_next_block_are_gathered_beside_products():
    """Such a gather goes on through several kernels, in each as an operand handed on."""
    mesh = chips.mesh("v5e:4x4", {"data": 1, "fsdp": 16, "space": 1, "sequence": 1, "model": 1})
    config = PatchTransformerConfig(
        WindowSpec((2, 16, 16)), features=1024, depth=4, heads=16, dtype="bfloat16", scan=True
    )

    def loss(model, batch):
        return jnp.mean(jnp.square(model(batch["x"]).astype(jnp.float32))), {}

    graphdef, values = abstract_state(
        lambda rngs: config.build(3, rngs=rngs), TrainConfig(steps=10), mesh
    )
    shape = (64, 16, 112, 112, 3)
    rows = batch_sharding(mesh, shape=shape)
    batch = {"x": jax.ShapeDtypeStruct(shape, jnp.float32, sharding=rows)}
    with jax.set_mesh(mesh):
        step = make_train_step(loss, mesh, remat="block")
        lowered = step.lower(nnx.merge(graphdef, values), batch)
    text = chips.finish(lowered, mesh.devices.flat[0]).as_text()
    beside, alone = {}, {}
    for sizes, operand, channel in GATHER.findall(text):
        found = beside if operand.startswith("param") else alone
        found[channel] = math.prod(map(int, sizes.split(",")))
    # A block has 12 x 1024 x 1024 numbers in kernels. Forward and backward, one is gathered before
    # the first round and one in each, for the next. A tubelet has 2 x 16 x 16 x 3.
    block, embedding = 12 * 2**20, 1536 * 2**10
    assert sum(beside.values()) + sum(alone.values()) == 4 * block + embedding
    assert sum(beside.values()) >= 2 * block
