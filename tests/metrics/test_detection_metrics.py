"""Average precision on paper, against a plain loop and pycocotools, and how it adds up."""

import dataclasses
import re

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from stpatch_jax.errors import InputError
from stpatch_jax.metrics import COCO_THRESHOLDS, AveragePrecision

UNIT = np.array([0.0, 0.0, 4.0, 4.0])
FAR = UNIT + 10


def of(boxes, score, label, true_boxes, true_label, **options):
    """One frame, given as lists."""
    return AveragePrecision.of(
        np.reshape(boxes, (1, -1, 4)),
        np.reshape(score, (1, -1)),
        np.reshape(label, (1, -1)).astype(int),
        true_boxes=np.reshape(true_boxes, (1, -1, 4)),
        true_label=np.reshape(true_label, (1, -1)).astype(int),
        **{"classes": 1, **options},
    )


def test_perfect_is_one_nothing_is_zero_and_no_objects_are_nan():
    truth = [UNIT, FAR]
    assert of(truth, [0.1, 0.9], [0, 0], truth, [0, 0]).mean() == 1
    assert of([], [], [], truth, [0, 0]).mean() == 0
    assert np.isnan(of(truth, [0.1, 0.9], [0, 0], [], []).mean())


def test_a_curve_on_paper():
    # Hits at ranks 1, 3 and 5 of 4 objects: precision 1, 2/3 and 3/5 at recall 1/4, 1/2 and 3/4.
    truth = [UNIT + 10 * i for i in range(4)]
    found = [truth[0], UNIT + 100, truth[1], UNIT + 200, truth[2]]
    counts = of(found, [0.9, 0.8, 0.7, 0.6, 0.5], [0] * 5, truth, [0] * 4)
    np.testing.assert_array_equal(counts.hit[0], [True, False, True, False, True])
    # Of the recalls 0, 0.01 ... 1, those up to 0.75.
    assert counts.mean() == pytest.approx((26 + 25 * 2 / 3 + 25 * 3 / 5) / 101)
    # A late better precision lifts what came before: the miss at rank 1 costs half.
    late = of([FAR, UNIT], [0.9, 0.8], [0, 0], [UNIT], [0])
    assert late.mean() == pytest.approx(1 / 2)


def test_a_second_detection_of_an_object_is_a_false_positive():
    twice = of([UNIT, UNIT, FAR], [0.9, 0.8, 0.7], [0] * 3, [UNIT, FAR], [0, 0])
    np.testing.assert_array_equal(twice.hit[0], [True, False, True])
    assert twice.mean() == pytest.approx((51 + 50 * 2 / 3) / 101)
    # Where the nearest object was hit, the second nearest counts.
    near = UNIT + np.array([0, 0, 0, 1])
    both = of([UNIT, UNIT, UNIT], [0.9, 0.8, 0.7], [0, 0, 0], [UNIT, near], [0, 0])
    np.testing.assert_array_equal(both.hit[0], [True, True, False])


def test_thresholds_classes_and_the_mean():
    # IoU 3/4 with the object of class 0; class 1 found exactly; class 2 has no object.
    low = np.array([0.0, 0.0, 4.0, 3.0])
    counts = of(
        [low, FAR, UNIT],
        [0.9, 0.8, 0.7],
        [0, 1, 2],
        [UNIT, FAR],
        [0, 1],
        classes=3,
        thresholds=COCO_THRESHOLDS,
    )
    expected = np.ones((10, 3))
    expected[6:, 0] = 0
    expected[:, 2] = np.nan
    np.testing.assert_array_equal(counts.average_precision(), expected)
    assert counts.mean() == pytest.approx((6 + 10) / 20)
    # The right place with the wrong class is no hit.
    assert of([UNIT], [0.9], [1], [UNIT], [0], classes=2).mean() == 0


def test_equal_scores_enter_together():
    counts = of([UNIT, UNIT + 50, FAR], [0.9, 0.8, 0.8], [0] * 3, [UNIT, FAR], [0, 0])
    assert counts.mean() == pytest.approx((51 + 50 * 2 / 3) / 101)


def scattered_frames(seed):
    """Six frames of three classes: objects, boxes near them, twice, and boxes anywhere."""
    rng = np.random.default_rng(seed)
    lo = rng.uniform(0, 60, (6, 7, 2))
    true = np.concatenate([lo, lo + rng.uniform(5, 30, lo.shape)], -1)
    anywhere = rng.uniform(0, 60, (6, 5, 2))
    anywhere = np.concatenate([anywhere, anywhere + rng.uniform(5, 30, anywhere.shape)], -1)
    near = true + rng.normal(0, 1.5, true.shape)
    near[..., 2:] = np.maximum(near[..., 2:], near[..., :2])
    label = rng.integers(0, 3, (6, 7))
    boxes = np.concatenate([near, near + rng.normal(0, 1, near.shape), anywhere], 1)
    boxes[..., 2:] = np.maximum(boxes[..., 2:], boxes[..., :2])
    found = np.concatenate([label, label, rng.integers(0, 3, (6, 5))], 1)
    return {
        "boxes": boxes,
        "score": rng.permutation(6 * 19).reshape(6, 19) / 6 / 19,
        "label": found,
        "valid": rng.random((6, 19)) < 0.8,
        "true_boxes": true,
        "true_label": label,
        "true_mask": rng.random((6, 7)) < 0.8,
    }


# COCOeval of pycocotools 2.0.11 on these frames as annotations of bbox [x, y, width, height]:
# eval["precision"][at, :, :, 0, 2].mean(0) at the IoUs 0.5 and 0.75, and stats[0].
COCO_FIGURES = [
    ([0.534747, 0.556459, 0.5], [0.114311, 0.228076, 0.072607], 0.234131),
    ([0.408416, 0.578658, 0.595834], [0.229703, 0.276733, 0.155797], 0.258391),
    ([0.290998, 0.331089, 0.786421], [0.22452, 0.125686, 0.018388], 0.194314),
]


@pytest.mark.parametrize("seed", range(len(COCO_FIGURES)))
def test_equals_pycocotools(seed):
    frames = scattered_frames(seed)
    found = [frames.pop(name) for name in ("boxes", "score", "label")]
    counts = AveragePrecision.of(*found, **frames, classes=3, thresholds=COCO_THRESHOLDS)
    *by_class, mean = COCO_FIGURES[seed]
    np.testing.assert_allclose(counts.average_precision()[[0, 5]], by_class, atol=1e-6)
    assert counts.mean() == pytest.approx(mean, abs=1e-6)


FRAMES, FOUND, OBJECTS, CLASSES = 4, 5, 3, 2
THRESHOLDS = (0.3, 0.6)


def draw_frames(seed):
    """Frames of few distinct boxes and scores, so that overlaps and ties abound."""
    rng = np.random.default_rng(seed)

    def boxes(n):
        lo = rng.integers(0, 4, (FRAMES, n, 2))
        return np.concatenate([lo, lo + rng.integers(1, 4, lo.shape)], -1).astype(np.float32)

    return {
        "boxes": boxes(FOUND),
        "score": rng.integers(1, 6, (FRAMES, FOUND)) / np.float32(8),
        "label": rng.integers(0, CLASSES, (FRAMES, FOUND)),
        "valid": rng.random((FRAMES, FOUND)) < 0.8,
        "true_boxes": boxes(OBJECTS),
        "true_label": rng.integers(0, CLASSES, (FRAMES, OBJECTS)),
        "true_mask": rng.random((FRAMES, OBJECTS)) < 0.8,
    }


def count(frames):
    frames = dict(frames)
    found = [frames.pop(name) for name in ("boxes", "score", "label")]
    return AveragePrecision.of(*found, **frames, classes=CLASSES, thresholds=THRESHOLDS)


SEEDS = st.integers(0, 2**32 - 1)


@hypothesis.given(seed=SEEDS, cut=st.integers(0, FRAMES))
def test_batches_add_up_and_order_does_not_count(seed, cut):
    frames, rng = draw_frames(seed), np.random.default_rng(seed)
    whole = count(frames)
    parts = [count({k: v[s] for k, v in frames.items()}) for s in (slice(cut), slice(cut, None))]
    added = parts[0] + parts[1]
    for field in dataclasses.fields(AveragePrecision):
        np.testing.assert_array_equal(getattr(added, field.name), getattr(whole, field.name))
    orders = {
        FRAMES: rng.permutation(FRAMES),
        FOUND: rng.permutation(FOUND),
        OBJECTS: rng.permutation(OBJECTS),
    }
    mixed = {k: v[orders[FRAMES]][:, orders[v.shape[1]]] for k, v in frames.items()}
    np.testing.assert_array_equal(count(mixed).average_precision(), whole.average_precision())


def plain_average_precision(frames, label, level):
    """COCO's rule one detection at a time, and the mean over 101 recalls."""

    def iou(a, b):
        shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
        return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)

    found = [
        (-frames["score"][at], *frames["boxes"][at], at[0])
        for at in np.argwhere(frames["valid"] & (frames["label"] == label)).tolist()
        for at in [tuple(at)]
    ]
    truth = [
        (*frames["true_boxes"][at], at[0])
        for at in np.argwhere(frames["true_mask"] & (frames["true_label"] == label)).tolist()
        for at in [tuple(at)]
    ]
    if not truth:
        return np.nan
    used, curve, hits = set(), {}, 0
    for rank, (score, *box, frame) in enumerate(sorted(found), 1):
        rivals = sorted(
            ((-iou(np.array(box), np.array(other[:4])), other[:4], i))
            for i, other in enumerate(truth)
            if other[4] == frame and i not in used
        )
        if rivals and -rivals[0][0] >= level:
            used.add(rivals[0][2])
            hits += 1
        curve[score] = (hits / len(truth), hits / rank)
    reached = [
        max((p for recall, p in curve.values() if recall >= level), default=0.0)
        for level in np.linspace(0, 1, 101)
    ]
    return float(np.mean(reached))


@hypothesis.given(seed=SEEDS)
def test_equals_one_detection_at_a_time(seed):
    frames = draw_frames(seed)
    expected = [
        [plain_average_precision(frames, label, level) for label in range(CLASSES)]
        for level in THRESHOLDS
    ]
    np.testing.assert_allclose(count(frames).average_precision(), expected, rtol=1e-12)


def test_device_arrays_and_more_batch_axes_count_the_same():
    frames = draw_frames(3)
    device = {k: jnp.asarray(v).reshape(2, -1, *v.shape[1:]) for k, v in frames.items()}
    np.testing.assert_array_equal(
        count(device).average_precision(), count(frames).average_precision()
    )


def test_what_is_masked_may_hold_anything():
    frames = draw_frames(5)
    wild = dict(frames)
    for boxes, label, mask in (
        ("boxes", "label", "valid"),
        ("true_boxes", "true_label", "true_mask"),
    ):
        wild[boxes] = np.where(frames[mask][..., None], frames[boxes], np.nan)
        wild[label] = np.where(frames[mask], frames[label], -7)
    np.testing.assert_array_equal(
        count(wild).average_precision(), count(frames).average_precision()
    )


def test_what_does_not_fit_is_refused():
    frames = draw_frames(0)
    with pytest.raises(
        InputError, match=re.escape("detections must have boxes (*frames, n, 2 * space")
    ):
        count({**frames, "label": frames["label"][:, :2]})
    with pytest.raises(InputError, match="true objects must have boxes"):
        count({**frames, "true_mask": frames["true_mask"][:2]})
    with pytest.raises(InputError, match="a score for each detection"):
        count({**frames, "score": frames["score"][:2]})
    with pytest.raises(InputError, match="of the same frames and space axes"):
        count({**frames, "true_boxes": frames["true_boxes"][..., :2]})
    with pytest.raises(InputError, match="labels of true objects must be from 0 to 1, got 2"):
        count({**frames, "true_label": np.full((FRAMES, OBJECTS), 2)})
    for thresholds in ((), (0.0,), (1.5,)):
        with pytest.raises(
            InputError, match=r"thresholds (must be at least one|of the IoU must be in)"
        ):
            of([UNIT], [1.0], [0], [UNIT], [0], thresholds=thresholds)
    with pytest.raises(InputError, match="equal thresholds and classes"):
        _ = count(frames) + of([UNIT], [1.0], [0], [UNIT], [0])
