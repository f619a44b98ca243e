"""DetectionHead: which frame is answered from where, boxes in cells, and suppression by a loop."""

import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import LayerOptions
from stpatch_jax.nn.heads import DetectionHead, Detections, non_maximum_suppression
from stpatch_jax.patches.windows import WindowSpec

FEATURES = 3


def build(spec, shape, **options):
    return DetectionHead(spec, FEATURES, shape=shape, **{"classes": 2, **options}, rngs=nnx.Rngs(0))


def set_readout(head, kernel, bias):
    for parameter, value in ((head.readout.kernel, kernel), (head.readout.bias, bias)):
        shape = parameter[...].shape
        parameter[...] = jnp.asarray(np.broadcast_to(np.float32(value), shape))


def in_time(window, *, stride=None, padding="VALID"):
    return WindowSpec((window, 2), stride=(stride or window, 2), padding=(padding, "VALID"))


@pytest.mark.parametrize(
    ("spec", "time", "answering"),
    [
        # As many grid times as frames: each answers for its own frame.
        (in_time(1), 4, [0, 1, 2, 3]),
        (in_time(3, stride=1, padding="CAUSAL"), 4, [0, 1, 2, 3]),
        (in_time(3, stride=1, padding="SAME"), 4, [0, 1, 2, 3]),
        (in_time(4, stride=1, padding="SAME"), 4, [0, 1, 2, 3]),
        # Tubelets answer for what is in them, the last one for a tail that no window covers too.
        (in_time(2), 6, [0, 0, 1, 1, 2, 2]),
        (in_time(4), 10, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]),
        (in_time(3, padding="COVER"), 7, [0, 0, 0, 1, 1, 1, 2]),
        # Windows that look back answer until the next one has ended.
        (in_time(4, stride=2, padding="CAUSAL"), 5, [0, 0, 1, 1, 2]),
        (in_time(3, stride=1), 5, [0, 0, 1, 2, 2]),
        (WindowSpec((None, 2)), 3, [0, 0, 0]),
    ],
)
def test_which_grid_time_answers_for_a_frame(spec, time, answering):
    shape = (time, 4)
    head = build(spec, shape)
    nt, ns = spec.grid_shape(shape)
    # A number for every grid time as its one feature, which alone makes the score.
    features = np.zeros((1, nt, ns, FEATURES), np.float32)
    features[..., 0] = np.arange(nt)[:, None]
    width = head.readout.out_features // head.offsets
    kernel = np.zeros((FEATURES, head.offsets, width), np.float32)
    kernel[0, :, 0] = 1
    bias = np.zeros((head.offsets, width), np.float32)
    bias[:, 0] = 0.01 * np.arange(head.offsets)
    set_readout(head, kernel.reshape(FEATURES, -1), bias.ravel())
    score = np.asarray(nnx.jit(lambda head, x: head(x).score)(head, features))
    assert score.shape == (1, time, ns)
    np.testing.assert_array_equal(np.floor(score[0, :, 0] + 1e-4), answering)
    # Frames of one grid time have outputs of their own.
    assert len(np.unique(score[0, :, 0])) == time


def test_boxes_are_in_cells_and_start_near_their_windows_at_a_low_score():
    spec = WindowSpec(
        (1, 4, 3), stride=(1, 2, 3), dilation=(1, 1, 2), padding=("VALID", "SAME", "VALID")
    )
    shape = (2, 6, 8)
    head = build(spec, shape, hidden=(5,), dropout=0.5, options=LayerOptions(dtype="bfloat16"))
    assert spec.grid_shape(shape) == (2, 3, 2)
    features = jnp.ones((2, 2, 3, 2, FEATURES), jnp.bfloat16)
    evaluate = nnx.view(head, deterministic=True)
    output = nnx.jit(lambda head: head(features))(evaluate)
    shapes = [a.shape for a in jax.tree.leaves(output)]
    assert shapes == [(2, 2, 3, 2), (2, 2, 3, 2, 2), (2, 2, 3, 2, 4), (3, 2, 4)]
    assert {a.dtype for a in jax.tree.leaves(output)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(jax.nn.sigmoid(output.score), 0.01, rtol=0.3)
    # Along the first axis windows of 4 start at -1, 1 and 3; along the second 5 cells at 0 and 3.
    windows = [[[y, x, y + 4, x + 5] for x in (0, 3)] for y in (-1, 1, 3)]
    np.testing.assert_array_equal(output.window, windows)
    np.testing.assert_allclose(output.box[0, 0], windows, atol=0.3)
    flat = output.flat()
    assert [a.shape[-2:] for a in (flat.label, flat.box, flat.window)] == [(6, 2), (6, 4), (6, 4)]
    # Centre and log size in windows: a quarter of a window on, and e^-1 and twice as large.
    bias = np.zeros(head.readout.out_features, np.float32)
    bias[3:] = [0.25, -1.0, -1.0, np.log(2.0)]
    set_readout(head, 0, bias)
    box = np.asarray(nnx.jit(lambda head: head(features).box)(evaluate))[1, 1, 2, 1]
    middle, size = np.array([5 + 1, 5.5 - 5]), np.array([4 / np.e, 10])
    np.testing.assert_allclose(box, [*(middle - size / 2), *(middle + size / 2)], rtol=0.02)


def test_any_output_of_the_network_is_a_finite_box():
    head = build(WindowSpec((1, 4, 4, 4)), (1, 4, 4, 4))
    set_readout(head, 0, 1e4)

    @nnx.jit
    def volume(head):
        box = head(jnp.zeros((1, 1, 1, 1, 1, FEATURES))).box
        return jnp.prod(box[..., 3:] - box[..., :3])

    assert np.isfinite(volume(head))


def suppressed(boxes, score, label, valid, iou, candidates, most):
    """Greedy suppression, one detection at a time; positions of what is kept."""
    order = [i for i in np.argsort(-score, kind="stable") if valid[i]][:candidates]
    kept = []
    for i in order:
        for j in kept:
            shared = np.prod(
                np.maximum(
                    np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2]),
                    0,
                )
            )
            union = sum(np.prod(boxes[k, 2:] - boxes[k, :2]) for k in (i, j)) - shared
            if label[i] == label[j] and shared / union > iou:
                break
        else:
            kept.append(i)
    return kept[:most]


@jax.jit
def suppress(detections):
    return non_maximum_suppression(detections, iou=0.4, candidates=9, max_detections=5)


@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_suppression_equals_one_detection_at_a_time(seed):
    rng = np.random.default_rng(seed)
    lo = rng.integers(0, 4, (2, 3, 12, 2))
    boxes = np.concatenate([lo, lo + rng.integers(1, 5, lo.shape)], -1).astype(np.float32)
    score = (rng.integers(0, 9, (2, 3, 12)) / 8).astype(np.float32)
    label, valid = rng.integers(0, 2, (2, 3, 12)), rng.random((2, 3, 12)) < 0.8
    kept = suppress(Detections(*map(jnp.asarray, (boxes, score, label, valid))))
    assert kept.boxes.shape == (2, 3, 5, 4)
    for at in np.ndindex(2, 3):
        index = suppressed(boxes[at], score[at], label[at], valid[at], 0.4, 9, 5)
        assert kept.valid[at].tolist() == [True] * len(index) + [False] * (5 - len(index))
        for got, source in zip(jax.tree.leaves(kept), (boxes, score, label, valid), strict=True):
            np.testing.assert_array_equal(got[at][: len(index)], source[at][index])


def test_what_does_not_fit_is_refused():
    spec = WindowSpec((2, 2))
    with pytest.raises(
        InputError, match=re.escape("the window must have a space axis for boxes, got (2,)")
    ):
        build(WindowSpec((2,)), (4,))
    for options in ({"classes": 0}, {"hidden": (0,)}):
        with pytest.raises(
            InputError, match=r"(classes|hidden\[0\]) must be a whole number >= 1, got 0"
        ):
            build(spec, (4, 4), **options)
    head = build(spec, (4, 4))
    for shape in ((1, 2, 3, FEATURES), (1, 2, 2, 1), (1, 2, FEATURES)):
        message = f"the feature map must be (batch, *(2, 2), 3), got shape {shape}"
        with pytest.raises(InputError, match=re.escape(message)):
            head(jnp.zeros(shape))
