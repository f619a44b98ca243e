"""Attention against NumPy and PyTorch: masks, segments, causality, the blocks made of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import (
    SelfAttention,
    TransformerBlock,
    TransformerEncoder,
    TransformerOptions,
    attention_mask,
    sinusoidal_positions,
)


def random_attention(normal, features, heads):
    """An attention with random weights and biases, and those by name, in float64."""
    model = SelfAttention(features, heads, rngs=nnx.Rngs(0))
    state = nnx.state(model, nnx.Param)
    nnx.update(model, jax.tree.map(lambda leaf: 0.5 * normal(leaf.size, *leaf.shape), state))
    weights = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return model, {
        ".".join(map(str, path)): np.asarray(leaf[...], np.float64) for path, leaf in weights
    }


def numpy_attention(weights, heads, x, mask):
    """The same in NumPy, token by token; 0 for a token that may look at none."""
    x = np.asarray(x, np.float64)
    batch, tokens, features = x.shape
    width = features // heads
    qkv = x @ weights["qkv.kernel"] + weights["qkv.bias"]
    query, keys, values = np.split(qkv, 3, axis=-1)
    y = np.zeros_like(x)
    for b in range(batch):
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            for token in range(tokens):
                seen = np.flatnonzero(mask[b, token])
                if not len(seen):
                    continue
                logits = keys[b, seen, part] @ query[b, token, part] / np.sqrt(width)
                share = np.exp(logits - logits.max())
                y[b, token, part] = share @ values[b, seen, part] / share.sum()
    y = y @ weights["out.kernel"] + weights["out.bias"]
    return np.where(mask.any(-1)[..., None], y, 0.0)


def test_attention_against_numpy_with_masks_segments_and_causality(normal):
    model, weights = random_attention(normal, 8, 2)
    x = normal(2, 2, 6, 8)
    segment_ids = jnp.array([[1, 1, 2, 2, 2, 0], [0, 0, 0, 0, 0, 0]])
    times = jnp.array([[0, 0, 1, 1, 0, 2], [0, 1, 2, 0, 1, 2]])
    drawn = np.random.default_rng(3).random((1, 6, 6)) < 0.4
    drawn[0, 2] = False

    @nnx.jit
    def run(model, x, segment_ids, times, drawn):
        segments = attention_mask(segment_ids=segment_ids)
        late = attention_mask(times=times)
        both = attention_mask(segment_ids=segment_ids, times=times)
        outputs = [model(x, mask=mask) for mask in (None, drawn, segments, late, both)]
        return [*outputs, model(x, causal=True), model(x, mask=drawn, causal=True)]

    outputs = run(model, x, segment_ids, times, jnp.asarray(drawn))
    s, t = np.asarray(segment_ids), np.asarray(times)
    segments = (s[:, :, None] == s[:, None, :]) & (s[:, :, None] != 0)
    late = t[:, :, None] >= t[:, None, :]
    rows = np.tri(6, dtype=bool)[None].repeat(2, 0)
    drawn = drawn.repeat(2, 0)
    masks = [rows | True, drawn, segments, late, segments & late, rows, drawn & rows]
    for output, mask in zip(outputs, masks, strict=True):
        expected = numpy_attention(weights, 2, x, mask)
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
    assert not outputs[2][1].any()
    assert attention_mask() is None


def test_space_then_time_is_joint_attention_within_segments(normal):
    # Along an axis, a token looks at those that differ from it along that axis only.
    times, cells = 3, 4
    x = normal(0, 2, times, cells, 8)
    options = TransformerOptions(features=8, heads=2, hidden=16, axes=(2, 1), causal=True)
    factorised = TransformerBlock(options, rngs=nnx.Rngs(0))
    time, cell = (ids.reshape(1, -1) + 1 for ids in np.indices((times, cells)))

    @nnx.jit
    def run(block, x):
        row = x.reshape(2, times * cells, 8)
        of_time = attention_mask(segment_ids=jnp.asarray(time))
        of_cell = attention_mask(segment_ids=jnp.asarray(cell), times=jnp.asarray(time))
        for norm, attention, mask in zip(
            block.norms, block.attentions, (of_time, of_cell), strict=False
        ):
            row = row + attention(norm(row), mask=mask)
        row = row + block.contract(jax.nn.gelu(block.expand(block.norms[-1](row))))
        return block(x), row.reshape(x.shape)

    actual, expected = run(factorised, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_attention_against_pytorch(normal):
    torch = pytest.importorskip("torch")
    model, weights = random_attention(normal, 12, 3)
    peer = torch.nn.MultiheadAttention(12, 3, batch_first=True)
    names = {"in_proj_weight": "qkv.kernel", "in_proj_bias": "qkv.bias"}
    names |= {"out_proj.weight": "out.kernel", "out_proj.bias": "out.bias"}
    with torch.no_grad():
        for name, own in names.items():
            peer.get_parameter(name).copy_(torch.tensor(weights[own].T))
    x, hidden = normal(2, 2, 5, 12), ~np.tri(5, dtype=bool)
    tensor = torch.tensor(np.array(x))
    expected = peer(tensor, tensor, tensor, attn_mask=torch.tensor(hidden), need_weights=False)[0]
    causal = model(x, causal=True)
    np.testing.assert_allclose(causal, expected.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_positions_are_the_sines_and_cosines_of_every_axis():
    positions = np.array([[0, 0, 0], [5, 2, 7], [300, 1, 4]])
    actual = np.asarray(sinusoidal_positions(positions, 14))
    assert actual.dtype == np.float32
    # Seven pairs over three axes: 3, 2 and 2.
    expected = []
    for axis, pairs in enumerate((3, 2, 2)):
        angles = positions[:, axis, None] * 10000.0 ** (-np.arange(pairs) / pairs)
        expected += [np.sin(angles), np.cos(angles)]
    np.testing.assert_allclose(actual, np.concatenate(expected, -1), atol=2e-5)


def test_parameter_count_by_hand():
    def count(module):
        return sum(p.size for p in jax.tree.leaves(nnx.state(module, nnx.Param)))

    norm, attention, mlp = 2 * 8, 8 * 24 + 24 + 8 * 8 + 8, 8 * 20 + 20 + 20 * 8 + 8
    one = TransformerOptions(features=8, heads=2, hidden=20)
    two = dataclasses.replace(one, axes=(2, 1))
    assert count(TransformerBlock(one, rngs=nnx.Rngs(0))) == 2 * norm + attention + mlp
    assert count(TransformerBlock(two, rngs=nnx.Rngs(0))) == 3 * norm + 2 * attention + mlp
    encoder = TransformerEncoder(3, one, rngs=nnx.Rngs(0))
    assert count(encoder) == 3 * (2 * norm + attention + mlp) + norm


def test_heads_that_do_not_divide_the_features_are_refused():
    with pytest.raises(InputError, match="features must be a multiple of heads, got 8 and 3; "):
        SelfAttention(8, 3, rngs=nnx.Rngs(0))
