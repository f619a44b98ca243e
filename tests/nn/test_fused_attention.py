"""Attention of many tokens: the forms of all platforms against the library's own on a CPU."""

import functools
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.nn import (
    Conv3DConfig,
    PatchTransformerConfig,
    Seen,
    attend,
    fused_attention,
    tpu_attention,
)


def looks(case, batch, tokens):
    """What tokens may see, and whether in the order of the row."""
    rng = np.random.default_rng(1)
    segment_ids = jnp.asarray(np.sort(rng.integers(0, 4, (batch, tokens)), 1))
    times = jnp.asarray(rng.integers(0, 5, (1, tokens)))
    mask = jnp.asarray(rng.random((1, tokens, tokens)) < 0.4)
    seen = {
        "all": Seen(),
        "segments, times": Seen(segment_ids=segment_ids, times=times),
        "segments, causal": Seen(segment_ids=segment_ids),
        "mask, times, causal": Seen(mask=mask, times=times),
    }[case]
    return seen, "causal" in case


@pytest.mark.parametrize(
    ("form", "case", "tokens", "heads", "width"),
    [
        ("_on_tpu", "all", 128, 2, 64),
        ("_on_tpu", "segments, times", 130, 1, 128),
        ("_by_blocks", "segments, causal", 260, 1, 4),
        ("_by_blocks", "mask, times, causal", 260, 1, 4),
    ],
)
def test_every_form_is_the_librarys(form, case, tokens, heads, width, normal, monkeypatch):
    """The same values and gradients where a token may look at any, to 1e-5 in float32."""
    kernel = tpu_attention.attention_on_tpu

    def on_host(*arguments):
        return kernel(*arguments[:-1], True)

    monkeypatch.setattr(tpu_attention, "attention_on_tpu", on_host)
    qkv, dy = normal(0, 2, tokens, 3, heads, width), normal(1, 2, tokens, heads, width)
    seen, causal = looks(case, 2, tokens)
    sees = seen.any(causal=causal)
    dy = dy if sees is None else jnp.where(sees[..., None, None], dy, 0)

    @functools.partial(jax.jit, static_argnums=0)
    def values(function, qkv):
        y, back = jax.vjp(lambda qkv: function(qkv, seen=seen, causal=causal), qkv)
        return jnp.where(dy != 0, y, 0), back(dy)[0]

    expected = values(attend, qkv)
    for actual, plain in zip(values(getattr(fused_attention, form), qkv), expected, strict=True):
        np.testing.assert_allclose(actual, plain, rtol=1e-5, atol=1e-5)


def test_a_process_without_accelerators_exports_for_them():
    """Weights of many tokens stand in no program but that of a CPU."""
    qkv = jax.ShapeDtypeStruct((2, 1024, 3, 2, 64), jnp.bfloat16)
    gradient = jax.jit(jax.grad(lambda qkv: attend(qkv, causal=True).astype("float32").sum()))
    # Since 0.12, JAX lowers no kernel for a TPU without being told which.
    v5e = jax.sharding.AbstractDevice("TPU v5e", num_cores=1, platform="tpu")
    mesh = jax.sharding.AbstractMesh((1,), ("data",), abstract_device=v5e)
    for platform in ("cpu", "cuda", "tpu"):
        with jax.sharding.use_abstract_mesh(mesh) if platform == "tpu" else nullcontext():
            text = jax.export.export(gradient, platforms=(platform,))(qkv).mlir_module()
        assert ("tensor<2x2x1024x1024xf32>" in text) == (platform == "cpu")
        assert ("tpu_custom_call" in text) == (platform == "tpu")


def test_one_export_of_networks_runs_anywhere(normal):
    """Where all tokens are few; JAX lowers no kernel for several platforms at once."""
    configs = (PatchTransformerConfig.tiny((1, 2, 2)), Conv3DConfig.tiny(2))
    graphdef, state = nnx.split([config.build(1, rngs=nnx.Rngs(0)) for config in configs])
    leaves, tree = jax.tree.flatten(state)

    @jax.jit
    def forward(x, *leaves):
        networks = nnx.merge(graphdef, jax.tree.unflatten(tree, leaves))
        return [network(x) for network in networks]

    x = normal(0, 1, 2, 4, 4, 1)
    exported = jax.export.export(forward, platforms=("cpu", "cuda", "tpu"))(x, *leaves)
    for actual, expected in zip(exported.call(x, *leaves), forward(x, *leaves), strict=True):
        np.testing.assert_array_equal(actual, expected)
