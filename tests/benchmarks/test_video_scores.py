"""The scores of clips: frames by sums over a frame, detections by chosen clips."""

from typing import Any

import numpy as np
import pytest

from benchmarks.scores import detection_scores, frame_scores
from stpatch_jax.metrics import COCO_THRESHOLDS, AveragePrecision


def test_frames_are_scored_by_the_mean_over_chosen_clips():
    values = np.arange(6.0).reshape(3, 2)
    scores = frame_scores({"mse": {"model": values}, "ssim": {"model": values / 6}})
    assert scores.keys() == {"mse", "ssim"}
    assert scores["mse"]["model"](np.arange(3)) == pytest.approx(2.5)
    assert scores["mse"]["model"](np.array([2, 2, 0])) == pytest.approx(9.5 / 3)


def test_detections_are_scored_as_if_the_chosen_clips_were_all():
    random = np.random.default_rng(0)
    clips = []
    for _ in range(4):
        lo = random.uniform(0, 4, (1, 3, 2))
        boxes = np.concatenate([lo, lo + 3], axis=-1)
        clips.append(
            {
                "boxes": boxes + random.normal(0, 0.5, boxes.shape),
                "score": random.random((1, 3)),
                "label": random.integers(0, 2, (1, 3)),
                "true_boxes": boxes,
                "true_label": random.integers(0, 2, (1, 3)),
            }
        )
    told: Any = {"classes": 2, "thresholds": COCO_THRESHOLDS}
    found = [AveragePrecision.of(**clip, **told) for clip in clips]
    matched = {
        "valid": np.ones((4, 3), bool),
        "score": np.stack([of.score for of in found]),
        "label": np.stack([of.label for of in found]),
        "hit": np.stack([of.hit.T for of in found]),
        "objects": np.stack([of.objects for of in found]),
    }
    chosen = np.array([3, 1, 1])
    together: Any = {name: np.concatenate([clips[at][name] for at in chosen]) for name in clips[0]}
    expected = AveragePrecision.of(**together, **told).at(0.5).mean()
    assert 0 < expected < 1
    assert detection_scores({"matched": {"model": matched}})["map"]["model"](
        chosen
    ) == pytest.approx(expected)
