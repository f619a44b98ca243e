"""What attention and blocks of transformers cost on chips, by the chips' own compilers."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from stpatch_jax import chips
from stpatch_jax.nn import TransformerEncoder, TransformerOptions, attend

pytestmark = [
    pytest.mark.slow,
    pytest.mark.chips,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("libtpu", "jax_cuda13_plugin"))),
        reason="the extra chips is not installed",
    ),
]
# One activation of a ViT-B on 8 clips of 16x224x224 in tubelets of 2x16x16.
SHAPE, GB = (8, 1568, 768), 1e9


def gradient(depth, **segments):
    """The gradient of blocks of a ViT-B in bfloat16, and its arguments."""
    options = TransformerOptions(features=768, heads=12, hidden=3072, dtype="bfloat16")
    encoder = nnx.eval_shape(lambda: TransformerEncoder(depth, options, rngs=nnx.Rngs(0)))
    graphdef, params, rest = nnx.split(encoder, nnx.Param, ...)

    def loss(params, x, rest, segments):
        positions = jnp.arange(SHAPE[1])[None, :, None]
        y = nnx.merge(graphdef, params, rest)(x, positions, **segments)
        return y.astype(jnp.float32).sum()

    x = jax.ShapeDtypeStruct(SHAPE, jnp.bfloat16)
    return jax.grad(loss, argnums=(0, 1)), params, x, rest, segments


@pytest.mark.parametrize(
    ("chip", "moved", "kept"), [("v5e:2x2", 2.5, 0.4), ("h100:1", 5.2, 0.8)], ids=["v5e", "h100"]
)
def test_blocks_of_a_transformer_stay_within_their_bytes(chip, moved, kept):
    """In GB of two blocks; on a v5e they were above 20 and 3 with weights in memory."""
    program = chips.compile(*gradient(2), on=chip)
    measured = chips.measure(program)
    assert measured.bytes_moved <= moved * GB
    assert measured.temporaries <= kept * GB


def test_maps_of_many_tokens_fit_beside_the_cores():
    """721 x 1440 cells in windows of 8 x 8, heads of 128: no pair of tokens stands in memory.

    On a v5p, whose memory beside the cores is the smallest.
    """

    def loss(qkv):
        return attend(qkv).astype(jnp.float32).sum()

    qkv = jax.ShapeDtypeStruct((1, 91 * 180, 3, 2, 128), jnp.bfloat16)
    measured = chips.measure(chips.compile(jax.grad(loss), qkv, on="v5p:2x2x1"))
    assert measured.temporaries <= 0.2 * GB


def test_attention_of_many_tokens_on_a_gpu_is_cudnns():
    qkv = jax.ShapeDtypeStruct((2, 512, 3, 2, 64), jnp.bfloat16)

    def loss(qkv):
        return attend(qkv).astype(jnp.float32).sum()

    measured = chips.measure(chips.compile(jax.grad(loss), qkv, on="h100:1"))
    calls = {k.name: k for k in measured.kernels if k.kind == "custom-call"}
    assert len(calls) == 2
    (forward,), (backward,) = ([k for n, k in calls.items() if d in n] for d in ("fwd", "bwd"))
    part, rows = 2 * 512 * 2 * 64 * 2, 2 * 2 * 512 * 4
    # Queries, keys, values and what comes of them; and of each query what its softmax divides by.
    assert forward.bytes == 4 * part + rows
    assert backward.bytes == 8 * part + rows
