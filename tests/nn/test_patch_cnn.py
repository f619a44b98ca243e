"""PatchCNN: which axes it convolves, what is left of a window, hand-counted parameters."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import PatchCNNConfig
from stpatch_jax.patches.windows import WindowSpec


def kernel_extents(model):
    return [stage.kernel.shape[:-2] for stage in model.stages]


@pytest.mark.parametrize(
    ("window", "axes", "expected"),
    [
        ((8,), "auto", [(3,), (3,)]),
        ((8, 4), "auto", [(3, 3), (3, 3)]),
        ((8, 4), "time", [(3, 1), (3, 1)]),
        ((2, 8, 8), "auto", [(1, 3, 3), (1, 3, 3)]),
        ((2, 8, 8), "all", [(3, 3, 3), (1, 3, 3)]),
        ((2, 4, 4, 4), "auto", [(1, 3, 3, 3), (1, 3, 3, 3)]),
        ((4, 4, 4, 4), "all", [(3, 3, 3, 3), (3, 3, 3, 3)]),
    ],
)
def test_convolved_axes_by_rank_and_on_request(window, axes, expected):
    config = PatchCNNConfig(window, axes=axes, features=(2, 3))
    model = config.build(1, rngs=nnx.Rngs(0))
    assert kernel_extents(model) == expected


def test_no_weight_sees_only_padding(normal):
    # Cells along the axis per stage: 5 -> 3 -> 2 -> 1, and extents of at most 2 n - 1.
    config = PatchCNNConfig(WindowSpec((5,)), features=(2, 2, 2, 2), kernel_size=5)
    model = config.build(1, rngs=nnx.Rngs(0))
    assert kernel_extents(model) == [(5,), (5,), (3,), (1,)]
    assert model.readout is None
    x = normal(0, 8, 20, 1)
    gradient = nnx.jit(nnx.grad(lambda model: model(x).sum()))(model)
    for stage in gradient["stages"].values():
        assert (stage["kernel"][...] != 0).any(axis=(1, 2)).all()


def test_parameter_count_by_hand():
    # Base on panel windows of 8 x 1, 6 channels: along time 8 -> 4 -> 2 -> 1, nothing left over.
    conv = (3 * 6 * 64 + 64) + (3 * 64 * 128 + 128) + (3 * 128 * 256 + 256)
    base = PatchCNNConfig.base((8, 1)).build(6, rngs=nnx.Rngs(0))
    assert _count(base) == conv
    # Frames of 16 x 16, two per patch: 16 -> 8 -> 4 leaves 2 * 4 * 4 cells of 16 for the readout.
    video = (9 * 3 * 8 + 8) + (9 * 8 * 16 + 16) + (2 * 4 * 4 * 16 * 16 + 16)
    tiny = PatchCNNConfig.tiny((2, 16, 16)).build(3, rngs=nnx.Rngs(0))
    assert _count(tiny) == video


def _count(model):
    return sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param)))


def test_each_feature_vector_depends_on_its_own_window_only(normal):
    spec = WindowSpec((4, 2), stride=(4, 1))
    model = PatchCNNConfig.tiny(spec).build(1, rngs=nnx.Rngs(0))
    x = normal(0, 1, 8, 4, 1)
    changed = np.abs(model(x.at[0, 5, 1].add(1.0)) - model(x)).max(axis=(0, 3)) > 0
    # Time 5 is in the second window; company 1 in the windows that start at 0 and 1.
    np.testing.assert_array_equal(changed, [[False, False, False], [True, True, False]])


def test_whole_axis_windows_need_the_shape_and_keep_to_it():
    config = PatchCNNConfig.tiny((4, None))
    with pytest.raises(InputError, match=re.escape("shape must be (time, *space)")):
        config.build(2, rngs=nnx.Rngs(0))
    model = config.build(2, shape=(8, 5), rngs=nnx.Rngs(0))
    assert model.grid_shape((8, 5)) == (2, 1)
    assert model(jnp.zeros((3, 8, 5, 2))).shape == (3, 2, 1, 16)
    with pytest.raises(InputError, match=re.escape("built for, (4, 5), got (4, 6)")):
        model(jnp.zeros((3, 8, 6, 2)))


def test_a_context_too_short_is_refused_at_build_and_at_the_call():
    config = PatchCNNConfig.tiny((6, 1))
    message = re.escape("window must be no longer than the input (5, 3) along time, got (6, 1)")
    with pytest.raises(InputError, match=message):
        config.build(2, shape=(5, 3), rngs=nnx.Rngs(0))
    model = config.build(2, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=message):
        model(jnp.zeros((1, 5, 3, 2)))


def test_footprint_overlap_dilation_and_padding_reach_the_patches(normal):
    cross = np.zeros((3, 3, 3), bool)
    cross[:, 1, :] = cross[:, :, 1] = True
    spec = WindowSpec((3, 3, 3), stride=1, dilation=(2, 1, 1), padding="SAME", footprint=cross)
    model = PatchCNNConfig.tiny(spec).build(1, rngs=nnx.Rngs(0))
    x = normal(0, 1, 5, 4, 4, 1)
    y = model(x)
    assert y.shape == (1, 5, 4, 4, 16)
    # Cell (0, 0) is a corner of the window round (1, 1), and the arm of the one round (0, 1).
    changed = np.abs(model(x.at[0, 2, 0, 0].add(1.0)) - y).max(axis=(0, 4)) > 0
    assert not changed[:, 1, 1].any()
    assert changed[[0, 2, 4], 0, 1].all()
    assert not changed[[1, 3]].any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernel_size": 4}, "PatchCNNConfig.kernel_size must be 3 or 5, got 4"),
        ({"features": ()}, "features must have at least 1 entries"),
        ({"features": (8, 0)}, r"features\[1\] must be a whole number >= 1, got 0"),
        ({"pooling": "min"}, "pooling must be 'max' or 'average', got 'min'"),
        ({"axes": "height"}, "axes must be .*, got 'height'"),
        ({"axes": "space"}, 'must have a space axis for axes="space"'),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        PatchCNNConfig(WindowSpec((4,)), **fields)
