"""TokenEmbedding: text as a field, for any backbone without space axes."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import NeighborhoodConfig, SCNNConfig, TokenEmbeddingConfig
from stpatch_jax.nn.embedding import window_buckets
from stpatch_jax.patches.windows import WindowSpec

VOCABULARY, FEATURES = 11, 4
INNER = NeighborhoodConfig(((),), lags=2, features=3, hidden=(6,))


def build(**fields: Any) -> Any:
    config = TokenEmbeddingConfig(INNER, vocabulary=VOCABULARY, features=FEATURES, **fields)
    return config.build(1, shape=(5,), rngs=nnx.Rngs(0))


@nnx.jit
def run(model, x):
    return model(x)


def tokens(*shape):
    return np.random.default_rng(0).integers(0, VOCABULARY, shape)


def test_it_is_the_backbone_on_the_rows_of_the_table():
    model, ids = build(), tokens(2, 5, 1)
    table = model.embed.embedding[...]
    expected = model.backbone(table[ids[..., 0]])
    for dtype in ("int32", "uint8", "float32"):
        np.testing.assert_allclose(run(model, ids.astype(dtype)), expected, rtol=1e-5, atol=1e-6)
    assert model.grid_shape((5,)) == expected.shape[1:-1] == (4,)
    assert model.out_features == 3
    assert model.spec == WindowSpec((2,), stride=1)


def test_what_is_no_token_is_nan_and_spoils_nothing_else():
    model, ids = build(), tokens(4, 5, 1).astype(np.float32)
    good = run(model, ids)
    wrong = ids.copy()
    wrong[0, 0], wrong[1, 0], wrong[2, 0] = -1, VOCABULARY, 0.5
    y = np.asarray(run(model, wrong))
    assert np.isnan(y[:3, 0]).all()
    np.testing.assert_array_equal(y[:, 1:], good[:, 1:])
    np.testing.assert_array_equal(y[3], good[3])


def test_gradient_reaches_the_rows_that_are_read():
    model, ids = build(), np.array([0, 1, 2, 3, 2]).reshape(1, 5, 1)
    gradient = nnx.jit(nnx.grad(lambda model: jnp.square(model(ids)).sum()))(model)
    for path, leaf in nnx.to_flat_state(gradient):
        assert np.isfinite(leaf[...]).all(), path
        assert (leaf[...] != 0).any(), path
    rows = np.abs(gradient["embed"]["embedding"][...]).sum(1)
    assert (rows[:4] > 0).all()
    assert (rows[4:] == 0).all()


def test_dropout_and_dtypes_hold_for_the_backbone_too():
    model = build(dropout=0.5, dtype="bfloat16")
    assert model.backbone.dropout.rate == model.dropout.rate == 0.5
    x = tokens(2, 5, 1)
    noisy, first, second = nnx.jit(lambda a, b: (a(x), b(x), b(x)))(
        model, nnx.view(model, deterministic=True)
    )
    assert first.dtype == jnp.bfloat16
    assert {p.dtype for p in jax.tree.leaves(nnx.state(model, nnx.Param))} == {np.dtype("float32")}
    np.testing.assert_array_equal(first, second)
    assert (noisy != first).any()
    np.testing.assert_allclose(first.astype(jnp.float32), run(build(), x), rtol=0.1, atol=0.05)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="got bfloat16, which rounds them"):
        build()(jnp.zeros((1, 5, 1), jnp.bfloat16))
    with pytest.raises(InputError, match=re.escape("must be (batch, time, 0 space axes")):
        build()(jnp.zeros((1, 5), jnp.int32))
    config = TokenEmbeddingConfig(INNER, vocabulary=VOCABULARY)
    with pytest.raises(InputError, match="one channel, got in_features=2"):
        config.build(2, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=r"window must be no longer than the input"):
        config.build(1, shape=(1,), rngs=nnx.Rngs(0))
    wide = TokenEmbeddingConfig(SCNNConfig.tiny(1), vocabulary=VOCABULARY)
    with pytest.raises(InputError, match="without space axes, got SCNNConfig with 1"):
        wide.build(1, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocabulary": 1}, "vocabulary must be a whole number >= 2, got 1"),
        ({"vocabulary": 2**24 + 1}, r"vocabulary must be in \[1, 1.67772e\+07\]"),
        ({"features": 0}, "features must be a whole number >= 1, got 0"),
        ({"backbone": "lstm"}, "config of the backbone that follows, got 'lstm'"),
        (
            {"backbone": dataclasses.replace(INNER, dropout=0.2)},
            "dropout of a .* its backbone too, got 0.0 there and 0.2 in NeighborhoodConfig",
        ),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        TokenEmbeddingConfig(**{"backbone": INNER, "vocabulary": VOCABULARY, **fields})


def test_windows_add_their_vectors_and_look_back_only():
    model, ids = build(longest_window=3, buckets=64), tokens(2, 5, 1)
    tables = [embed.embedding for embed in model.embed_windows]
    assert [table.shape for table in tables] == [(64, FEATURES)] * 2
    plain = model.backbone(model.embed.embedding[...][ids[..., 0]])
    np.testing.assert_allclose(run(model, ids), plain, rtol=1e-5, atol=1e-6)
    random = np.random.default_rng(1)
    for table in tables:
        table[...] = jnp.asarray(random.normal(size=table.shape), jnp.float32)
    buckets = [np.asarray(b) for b in window_buckets(jnp.asarray(ids[..., 0]), model.config)]
    vectors = np.asarray(model.embed.embedding[...])[ids[..., 0]]
    for table, bucket in zip(tables, buckets, strict=True):
        vectors = vectors + np.asarray(table[...])[bucket]
    expected = model.backbone(jnp.asarray(vectors))
    before = np.asarray(run(model, ids))
    np.testing.assert_allclose(before, expected, rtol=1e-5, atol=1e-6)
    changed = ids.copy()
    changed[:, 3] = (changed[:, 3] + 1) % VOCABULARY
    np.testing.assert_array_equal(np.asarray(run(model, changed))[:, :2], before[:, :2])


def test_equal_windows_share_a_bucket_and_most_others_do_not():
    config = TokenEmbeddingConfig(INNER, VOCABULARY, longest_window=3, buckets=2**12)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (4, 60), np.int32)
    for length, buckets in enumerate(window_buckets(jnp.asarray(ids), config), start=2):
        padded = np.pad(ids + 1, ((0, 0), (length - 1, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, length, axis=1)
        found: dict[tuple[int, ...], set[int]] = {}
        for window, bucket in zip(windows.reshape(-1, length), np.ravel(buckets), strict=True):
            assert 0 <= bucket < 2**12
            found.setdefault(tuple(window.tolist()), set()).add(int(bucket))
        assert all(len(numbers) == 1 for numbers in found.values())
        assert len(set.union(*found.values())) > 0.9 * len(found)


def test_windows_and_buckets_that_make_no_sense_are_refused():
    cases: Any = (
        ({"longest_window": 0}, "longest_window must be a whole number >= 1, got 0"),
        ({"buckets": 100}, "buckets must be a power of 2, got 100"),
    )
    for wrong, text in cases:
        with pytest.raises(InputError, match=text):
            TokenEmbeddingConfig(INNER, VOCABULARY, **wrong)
