"""The judges of clips: frames and boxes by hand."""

import numpy as np
import pytest
from flax import nnx
from skimage.metrics import structural_similarity

from stpatch_jax.metrics import COCO_THRESHOLDS, AveragePrecision
from stpatch_jax.recipes.video import ClipObjectsConfig, NextFramesConfig
from stpatch_jax.runs.judging import judges
from stpatch_jax.runs.judging.detection import total
from stpatch_jax.runs.judging.undefined import without_undefined
from stpatch_jax.tasks import DetectConfig, ForecastConfig
from stpatch_jax.training import make_mesh


class Nothing(nnx.Module):
    """A model without weights."""


def judge_of(config, task_config, predict):
    """The judge of a task that predicts what a function says."""
    data = config.load()
    task = task_config.create().fitted(data)
    task.predict = predict
    return judges.of(task, data)(task, data, make_mesh(), batch_size=8)


def test_frames_are_judged_by_sums_over_a_frame_and_means_over_frames():
    config = NextFramesConfig(
        canvas=16, digit=8, context=2, horizon=2, validation_clips=9, train_clips=1
    )

    def predict(model, batch):
        return batch["context"] * 1.5 - 0.1

    judge = judge_of(config, ForecastConfig(), predict)
    judged = judge(Nothing(), "validation")
    source = judge.data.source("validation")
    clips = [source[number] for number in range(9)]
    target = np.stack([clip["target"] for clip in clips])
    model = np.stack([clip["context"] * 1.5 - 0.1 for clip in clips]).clip(0, 1)
    last = np.stack([clip["persistence"] for clip in clips]).repeat(2, axis=1)
    for name, frames in (("model", model), ("persistence", last)):
        error = (frames - target).astype(float)
        np.testing.assert_allclose(judged.rows["mse"][name], (error**2).sum((2, 3, 4)), rtol=1e-5)
        expected = np.abs(error).sum((2, 3, 4))
        np.testing.assert_allclose(judged.rows["mae"][name], expected, rtol=1e-5)
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        similarity = structural_similarity(
            frames[8, 1, ..., 0], target[8, 1, ..., 0], data_range=1.0, **options
        )
        assert judged.rows["ssim"][name][8, 1] == pytest.approx(similarity, abs=1e-4)
    lost = judge.losses(judged)
    assert lost is not None
    report = judge.report(judged)
    for name, of in lost.of.items():
        assert of.sum() / lost.weight.sum() == pytest.approx(report["scaled"][name]["mse"]["all"])
    assert report["clips"] == 9
    leads = report["scaled"]["model"]["mse"]
    assert np.mean(leads["per_lead"]) == pytest.approx(leads["all"])
    np.testing.assert_array_equal(judged.shown["frames"]["target"], target[:3])


def test_detections_of_the_truth_are_perfect_and_others_are_counted():
    config = ClipObjectsConfig(
        canvas=24, digit=8, frames=2, validation_clips=9, test_clips=9, train_clips=20
    )
    judge = judge_of(config, DetectConfig(), lambda model, batch: batch["field"])
    source = judge.data.source("validation")
    clips = [source[number] for number in range(9)]
    true = {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}

    def predicted(model, split):
        """The truth, but that every other object has a low score and the wrong box."""
        boxes, score = true["boxes"].copy(), np.full(true["label"].shape, 0.9)
        boxes[:, :, 1] += 100
        score[:, :, 1] = 0.2
        number = np.arange(9)
        outputs = {"boxes": boxes, "score": score, "label": true["label"]}
        yield (
            {**true, "example_mask": number < 8, "example_number": number},
            {**outputs, "valid": true["object_mask"]},
        )

    judge.predicted = predicted
    judged = judge(Nothing(), "validation")
    matched = judged.rows["matched"]["model"]
    assert {len(values) for values in matched.values()} == {8}
    first = {name: values[:8] for name, values in true.items()}
    together = AveragePrecision.of(
        np.where(np.arange(2)[:, None] == 1, first["boxes"] + 100, first["boxes"]),
        np.broadcast_to([0.9, 0.2], first["label"].shape),
        first["label"],
        valid=first["object_mask"],
        true_boxes=first["boxes"],
        true_label=first["label"],
        true_mask=first["object_mask"],
        classes=len(judge.data.classes),
        thresholds=COCO_THRESHOLDS,
    )
    assert total(matched).mean() == together.mean()
    assert total(matched).objects.tolist() == together.objects.tolist()
    losses = judge.losses(judged)
    assert losses is not None
    # Of two objects in each of two frames one is found where sure, and nothing else.
    assert losses.of["model"].tolist() == [2.0] * 8
    report = judge.report(judged)
    assert report["objects"] == 8 * 2 * 2
    assert report["model"]["precision"] == 1.0
    assert report["model"]["recall"] == 0.5
    assert 0 < report["model"]["map"] < 1
    lost = judge.losses(judged)
    assert lost is not None
    # Of two objects a frame one is missed, of the model and, unsure, of the rule both.
    assert {name: of.tolist() for name, of in lost.of.items()} == {
        "model": [2] * 8,
        "mean_box": [4] * 8,
    }
    assert lost.weight.tolist() == [4] * 8
    assert report["mean_box"]["precision"] is None
    assert (
        "test.mean_box.precision"
        in without_undefined({"test": report}, {"test": judged})["not_finite"]
    )
    for figures in report["classes"].values():
        reached = np.ceil(100 * figures["recall"] + 1e-9) / 101 if figures["recall"] else 0
        assert figures["objects"] == 0 or figures["ap"] == pytest.approx(reached)
