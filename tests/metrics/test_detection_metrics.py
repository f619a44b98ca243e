"""Average precision on paper, against a plain loop and scikit-learn, and how it adds up."""

import dataclasses
import re

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

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
    assert counts.mean() == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    # A late better precision lifts what came before: the miss at rank 1 costs half.
    late = of([FAR, UNIT], [0.9, 0.8], [0, 0], [UNIT], [0])
    assert late.mean() == pytest.approx(1 / 2)


def test_a_second_detection_of_an_object_is_a_false_positive():
    twice = of([UNIT, UNIT, FAR], [0.9, 0.8, 0.7], [0] * 3, [UNIT, FAR], [0, 0])
    np.testing.assert_array_equal(twice.hit[0], [True, False, True])
    assert twice.mean() == pytest.approx((1 + 2 / 3) / 2)
    # The rule of VOC: the nearest object was hit, so the second nearest does not count.
    near = UNIT + np.array([0, 0, 0, 1])
    both = of([UNIT, UNIT], [0.9, 0.8], [0, 0], [UNIT, near], [0, 0])
    np.testing.assert_array_equal(both.hit[0], [True, False])


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


def test_equal_scores_enter_together_as_in_scikit_learn():
    # Precision falls from score to score, so that the interpolation changes nothing.
    hits = {0.9: (3, 0), 0.8: (2, 1), 0.7: (1, 3)}
    truth = [UNIT + 10 * i for i in range(6)]
    found, score, right, used = [], [], [], 0
    for level, (good, bad) in hits.items():
        found += truth[used : used + good] + [UNIT + 1000 + 10 * i for i in range(bad)]
        score += [level] * (good + bad)
        right += [1] * good + [0] * bad
        used += good
    counts = of(found, score, [0] * len(found), truth, [0] * 6)
    expected = sklearn.metrics.average_precision_score(right, score)
    assert counts.mean() == pytest.approx(expected)


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
    """Everingham's rule one detection at a time, and the area as a sum over hits."""

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
            if other[4] == frame
        )
        if rivals and -rivals[0][0] >= level and rivals[0][2] not in used:
            used.add(rivals[0][2])
            hits += 1
        curve[score] = (hits / len(truth), hits / rank)
    area, before = 0.0, 0.0
    for score, (recall, _) in sorted(curve.items()):
        best = max(precision for other, (_, precision) in curve.items() if other >= score)
        area, before = area + (recall - before) * best, recall
    return area


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
