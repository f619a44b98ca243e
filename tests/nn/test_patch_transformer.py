"""PatchTransformer: packed equals unpacked, padding, causality and the kinds of attention."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax import WindowSpec
from stpatch_jax.errors import InputError
from stpatch_jax.nn import ForecastHead, PatchTransformerConfig, pack_clips

KINDS = ("joint", "factorised", "factorised_encoder", "time")
each_kind = pytest.mark.parametrize("kind", KINDS)


def small(spec, **fields):
    sizes: dict[str, Any] = {"features": 8, "depth": 1, "heads": 2, "temporal_depth": 1}
    return PatchTransformerConfig(WindowSpec.of(spec), **(sizes | fields))


def build(spec, channels=2, shape=None, **fields):
    return small(spec, **fields).build(channels, shape=shape, rngs=nnx.Rngs(0))


jitted = nnx.jit(lambda model, x: model(x))


def run(model, x):
    # What is not compiled together is NumPy: eager operations compile one by one.
    return np.asarray(jitted(model, x))


def shifted(x, *cells):
    """The field with 1 added at some cells."""
    x = np.array(x)
    x[cells] += 1.0
    return x


def count(model):
    return sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param)))


@pytest.mark.parametrize("causal", [False, True])
def test_packed_clips_come_out_as_each_would_alone(normal, causal):
    window = (2, 2, 3)
    model = build(WindowSpec(window, padding="COVER"), causal=causal)
    clips = [normal(0, 4, 4, 6, 2), normal(1, 3, 5, 4, 2), normal(2, 4, 4, 6, 2)]
    packed = pack_clips(clips, window, row_length=14)
    assert len(packed.tokens) == 3
    # Whatever stands at padding must not matter, NaN included.
    tokens = np.where(packed.segment_ids[..., None] == 0, np.nan, packed.tokens)

    @nnx.jit
    def both(model, tokens, clips):
        packed_features = model.encode(tokens, packed.positions, packed.segment_ids)
        return packed_features, [model(clip[None])[0] for clip in clips]

    features, alone = both(model, tokens, clips)
    assert not np.asarray(features)[packed.segment_ids == 0].any()
    for together, one in zip(packed.unpack(features), alone, strict=True):
        np.testing.assert_allclose(together, one, rtol=1e-5, atol=1e-5)


def test_clips_that_share_a_row_do_not_see_each_other(normal):
    model = build((2, 2))
    clips = [normal(0, 4, 4, 2), normal(1, 2, 4, 2), normal(2, 2, 2, 2)]
    packed = pack_clips(clips, (2, 2), row_length=8)
    assert packed.segment_ids.tolist() == [[1, 1, 1, 1, 2, 2, 3, 0]]

    @nnx.jit
    def encode(model, tokens):
        return model.encode(tokens, packed.positions, packed.segment_ids)

    before = packed.unpack(encode(model, packed.tokens))
    changed = packed.tokens.copy()
    changed[0, 4:6] += 1
    after = packed.unpack(encode(model, changed))
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[2], after[2])
    assert (before[1] != after[1]).all(-1).all()


@each_kind
def test_a_padded_batch_comes_out_as_the_smaller_fields_alone(normal, kind):
    model = build((2, 2, 2), attention=kind)
    x, y = normal(0, 4, 4, 6, 2), normal(1, 2, 4, 2, 2)
    batch, mask = padded(x, y)

    @nnx.jit
    def both(model, batch, mask):
        return model(batch, mask=mask), model(y[None])[0]

    features, alone = map(np.asarray, both(model, batch, mask))
    times, *space = alone.shape[:-1]
    together = features[1][tuple(slice(n) for n in (times, *space))]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    assert not features[1, times:].any()
    assert not features[2].any()
    assert features[0].any()


def padded(x, y):
    """A larger and a smaller field and one all padding, NaN where there is none; and the mask."""
    batch = np.full((3, *x.shape), np.nan, np.float32)
    batch[0], batch[1, :2, :, :2] = x, y
    mask = np.zeros((3, 2, 2, 3), bool)
    mask[0] = mask[1, :1, :, :1] = True
    return batch, mask


def test_gradients_are_finite_and_not_zero_beside_padding(normal):
    model = build((2, 2, 2), attention="time")
    batch, mask = padded(normal(0, 4, 4, 6, 2), normal(1, 2, 4, 2, 2))

    @nnx.jit
    def gradient(model, batch):
        return nnx.grad(lambda model: jnp.square(model(batch, mask=mask) - 1.0).sum())(model)

    for path, leaf in nnx.to_flat_state(gradient(model, batch)):
        values = np.asarray(leaf[...])
        assert np.isfinite(values).all(), path
        assert (values != 0).any(), path


# Joint attention is among the causal networks of test_contract.py.
@pytest.mark.parametrize("kind", ["factorised", "factorised_encoder", "time"])
def test_causal_attention_of_other_kinds_does_not_see_the_future(normal, kind):
    spec = WindowSpec((2, 2), stride=(1, 2), padding=("CAUSAL", "VALID"))
    model = build(spec, attention=kind, causal=True)
    x = normal(0, 1, 5, 4, 2)
    before, after = run(model, x), run(model, shifted(x, slice(None), slice(3, None)))
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] != after[:, 3:]).any((0, 2, 3)).all()


@pytest.mark.parametrize("kind", ["factorised", "time"])
def test_which_tokens_see_a_cell_without_causality(normal, kind):
    model = build((2, 2), attention=kind)
    x = normal(0, 1, 6, 8, 2)
    before, after = run(model, x), run(model, shifted(x, 0, 3, 5))
    changed = (before != after)[0].any(-1)
    by_place = np.arange(4)[None] == [[2]] * 3
    np.testing.assert_array_equal(changed, by_place if kind == "time" else by_place | True)


def test_over_time_every_cell_is_a_series_of_its_own(normal):
    panel = build((4, 1), channels=1, attention="time")
    series = build((4,), channels=1, attention="joint")
    kernel = panel.embedding.kernel[...].reshape(4, 1, 8)
    nnx.update(series, nnx.state(panel, nnx.Param))
    series.embedding.kernel = nnx.Param(kernel)
    x = normal(0, 2, 12, 3, 1)
    alone = np.moveaxis(np.asarray(x), 2, 1).reshape(6, 12, 1)
    expected = np.moveaxis(run(series, alone).reshape(2, 3, 3, 8), 1, 2)
    np.testing.assert_allclose(run(panel, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["joint", "factorised_encoder"])
def test_the_feature_map_fits_a_dense_head_also_where_space_is_pooled(normal, kind):
    model = build((2, 4, 4), shape=(4, 8, 8), attention=kind)
    assert model.grid_shape((4, 8, 8)) == ((2, 1, 1) if kind == "factorised_encoder" else (2, 2, 2))
    head = ForecastHead(
        model.spec, model.out_features, space=(8, 8), horizon=3, channels=1, rngs=nnx.Rngs(1)
    )
    y = nnx.eval_shape(lambda model, head, x: head(model(x)), model, head, normal(0, 1, 4, 8, 8, 2))
    assert y.shape == (1, 3, 8, 8, 1)


def test_windows_of_every_kind_run_and_reach_the_tokens(normal):
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)[None]
    spec = WindowSpec(
        (1, 3, 3), stride=(1, 2, 2), dilation=(1, 2, 1), padding="SAME", footprint=cross
    )
    model = build(spec, attention="time")
    x = normal(0, 1, 2, 8, 8, 2)
    y = run(model, x)
    assert y.shape == (1, 2, *spec.grid_shape((2, 8, 8))[1:], 8)
    # Cell (3, 4) is an arm of the window round (3, 5), and between the rows of all others.
    changed = (run(model, shifted(x, 0, 0, 3, 4)) != y)[0].any((0, 3))
    mean = [axis.source_cells() for axis in spec.axes((2, 8, 8))[1:]]
    inside = [
        [
            any(
                cross[0, i, j] and mean[0][g, i] == 3 and mean[1][h, j] == 4
                for i in range(3)
                for j in range(3)
            )
            for h in range(len(mean[1]))
        ]
        for g in range(len(mean[0]))
    ]
    np.testing.assert_array_equal(changed, inside)
    assert 0 < changed.sum() < changed.size


def test_parameter_counts_by_hand():
    def block(width, hidden, attentions=1):
        attention = 4 * width**2 + 4 * width
        mlp = 2 * width * hidden + hidden + width
        return attentions * (attention + 2 * width) + 2 * width + mlp

    def embedding(values, width):
        return values * width + width

    vivit = PatchTransformerConfig.vivit_factorised_encoder()
    # One block per stage of the large one: the others are the same.
    vivit = dataclasses.replace(vivit, depth=1, temporal_depth=1)
    factorised = small((2, 4, 4), attention="factorised", mlp_ratio=2.5)
    expected = {
        PatchTransformerConfig.tiny((2, 4, 4)): embedding(96, 16) + 2 * block(16, 32) + 32,
        factorised: embedding(96, 8) + block(8, 20, attentions=2) + 16,
        vivit: embedding(1536, 768) + 2 * block(768, 3072) + 4 * 768,
    }
    for config, parameters in expected.items():
        abstract = nnx.eval_shape(lambda config=config: config.build(3, rngs=nnx.Rngs(0)))
        assert count(abstract) == parameters


def test_presets_have_the_published_sizes():
    vivit = PatchTransformerConfig.vivit_factorised_encoder()
    patch_tst = PatchTransformerConfig.patch_tst()
    assert (vivit.depth, vivit.temporal_depth, vivit.heads, vivit.hidden) == (12, 4, 12, 3072)
    assert vivit.spec.grid_shape((32, 224, 224)) == (16, 14, 14)
    assert (patch_tst.depth, patch_tst.heads, patch_tst.hidden) == (3, 16, 256)
    assert patch_tst.dropout == 0.2
    # PatchTST/64 and /42 are the contexts 512 and 336.
    assert patch_tst.spec.grid_shape((512, 7)) == (64, 7)
    assert patch_tst.spec.grid_shape((336, 7)) == (42, 7)
    # The end is padded by the last value, so the last window starts 8 steps before the end.
    last = patch_tst.spec.axes((512, 7))[0].source_cells()[-1]
    assert last.tolist() == [*range(504, 512), *[511] * 8]


def test_whole_axis_windows_and_inputs_that_do_not_fit_are_refused():
    config = small((2, None), attention="factorised_encoder")
    with pytest.raises(InputError, match=re.escape("shape must be (time, *space)")):
        config.build(1, rngs=nnx.Rngs(0))
    for kind in ("joint", "factorised_encoder"):
        with pytest.raises(InputError, match=r"no longer than .*space.*, got \(2, 4\)"):
            build((2, 4), shape=(4, 3), attention=kind)
    model = build((2, 2), channels=1)
    with pytest.raises(InputError, match="PatchTransformer must have 1 channels, got 2"):
        model(jnp.zeros((1, 4, 4, 2)))
    for mask in (jnp.ones((1, 2, 2)), jnp.ones((1, 4, 4), bool)):
        with pytest.raises(InputError, match=r"mask must be boolean of shape \(1, 2, 2\)"):
            model(jnp.zeros((1, 4, 4, 1)), mask=mask)


def test_packed_rows_that_do_not_fit_are_refused():
    ids = np.ones((2, 5), np.int32)
    tokens, positions = np.zeros((2, 5, 8), np.float32), np.zeros((2, 5, 2), np.int32)
    with pytest.raises(InputError, match='attention must be "joint" for packed rows, got "time"'):
        build((2, 2), attention="time").encode(tokens, positions, ids)
    model = build((2, 2))
    with pytest.raises(
        InputError, match=r"tokens must be \(rows, length, 8\) .* got shape \(2, 5, 4\)"
    ):
        model.encode(tokens[..., :4], positions, ids)
    with pytest.raises(InputError, match=r"segment_ids must be \(2, 5, 2\) and \(2, 5\)"):
        model.encode(tokens, positions[..., :1], ids)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"features": 9},
            "even, a multiple of heads and at least 6 .*, got features=9 and heads=2",
        ),
        ({"features": 4}, "at least 6 for 3 window axes, got features=4"),
        ({"heads": 3}, "got features=8 and heads=3"),
        ({"depth": 0}, "depth must be a whole number >= 1, got 0"),
        ({"mlp_ratio": 0.0}, r"mlp_ratio must be in \(0.0625, 1024\], got 0.0"),
        ({"attention": "space"}, "attention must be 'joint', .*, got 'space'"),
        (
            {"spec": (4,), "attention": "factorised"},
            'must have a space axis for attention "factorised"',
        ),
    ],
)
def test_bad_settings_are_refused(fields, message):
    fields = {"spec": (2, 4, 4), **fields}
    with pytest.raises(InputError, match=message):
        small(fields.pop("spec"), **fields)
