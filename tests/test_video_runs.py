"""The recipes on clips of moving digits, twenty steps each: figures by hand, reports and plots."""

import dataclasses
import functools
import json
import math
import operator
from typing import Any

import numpy as np
import pytest
from flax import nnx
from skimage.metrics import structural_similarity

from stpatch_jax.metrics import AveragePrecision
from stpatch_jax.nn import UNetConfig
from stpatch_jax.nn.heads import Detections
from stpatch_jax.recipes import recipe
from stpatch_jax.recipes.video.data import ClipObjectsConfig, NextFramesConfig
from stpatch_jax.runs.judging.registry import make_evaluator
from stpatch_jax.runs.run import Run, train
from stpatch_jax.tasks import Detect, DetectConfig, Forecast, ForecastConfig
from stpatch_jax.training import make_mesh

CLIPS = {"train_clips": 64, "validation_clips": 20, "test_clips": 20}
# Narrow networks and small frames: what is tried is the way from recipe to report.
CUTS = {
    "video-prediction": ({"canvas": 16, "digit": 8, "context": 4, "horizon": 3}, (8, 8)),
    "video-prediction-full": ({"canvas": 16, "digit": 8, "context": 4, "horizon": 3}, (4,)),
    "video-classification": ({"canvas": 16, "digit": 8, "frames": 4, "occlusion": 4}, (4,)),
    "video-classification-motion": ({"canvas": 16, "digit": 8, "frames": 4}, (4,)),
    "pretrain": ({"canvas": 16, "digit": 8, "frames": 4, "occlusion": 4}, 24),
    "pretrain-motion": ({"canvas": 16, "digit": 8, "frames": 4, "occlusion": 4}, 24),
    "video-detection": ({"canvas": 24, "digit": 8, "frames": 2}, (8, 8)),
}
NAIVE = {
    "Forecast": "persistence",
    "Classify": "majority",
    "Detect": "mean_box",
    "Reconstruct": "visible_mean",
}
PLOTS = {
    "Forecast": {"frames", "errors"},
    "Classify": {"confusion"},
    "Detect": {"boxes"},
    "Reconstruct": {"reconstruction"},
}


def cut(name, *, steps):
    config = recipe(name)
    fields, features = CUTS[name]
    model = {"features": features} | ({"depth": 1} if name.endswith("full") else {})
    settings = dataclasses.replace(
        config.train, steps=steps, batch_size=8, checkpoint_every=steps, evaluate_every=steps
    )
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, **CLIPS, **fields),
        model=dataclasses.replace(config.model, **model),
        train=settings,
    )


def numbers(values):
    """All numbers of a tree."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list):
        return [number for value in values for number in numbers(value)]
    return [values] if isinstance(values, int | float) else []


@pytest.mark.slow
@pytest.mark.parametrize("name", CUTS)
def test_twenty_steps_on_a_cut_report_every_field(request, tmp_path, name):
    config = cut(name, steps=20)
    if config.data.path is not None:
        request.getfixturevalue("data_dir")
    text = train(config, workdir=tmp_path / "run", progress=False)
    assert text is not None
    assert text.startswith(f"# {name}\n")
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["step"] == 20
    assert set(report["data"]["splits"]) == {"train", "validation", "test"}
    test, naive = report["test"], NAIVE[report["task"]]
    figures = test.get("scaled", test)
    assert naive in text
    for rule in ("model", naive):
        assert numbers(figures[rule])
        assert all(map(math.isfinite, numbers(figures[rule])))
    assert all(map(math.isfinite, report["validation"].values()))
    plots = {path.name for path in (tmp_path / "run/plots").iterdir()}
    assert plots == {f"{plot}.png" for plot in (*PLOTS[report["task"]], "learning")}


class Nothing(nnx.Module):
    """A model without weights."""


def evaluator_of(config, task, predict):
    """The evaluator of a task that predicts what a function says."""
    task.predict = predict
    data = config.load()
    return make_evaluator(task, data, make_mesh(), batch_size=8)


def test_frames_are_judged_by_sums_over_a_frame_and_means_over_frames():
    config = NextFramesConfig(
        canvas=16, digit=8, context=2, horizon=2, validation_clips=9, train_clips=1
    )
    task = Forecast(ForecastConfig())

    def predict(model, batch):
        return batch["context"] * 1.5 - 0.1

    evaluator = evaluator_of(config, task, predict)
    found = evaluator(Nothing(), "validation")
    source = evaluator.data.source("validation")
    clips = [source[number] for number in range(9)]
    target = np.stack([clip["target"] for clip in clips])
    model = np.stack([clip["context"] * 1.5 - 0.1 for clip in clips]).clip(0, 1)
    last = np.stack([clip["persistence"] for clip in clips]).repeat(2, axis=1)
    for name, frames in (("model", model), ("persistence", last)):
        error = (frames - target).astype(float)
        np.testing.assert_allclose(found.errors["mse"][name], (error**2).sum((2, 3, 4)), rtol=1e-5)
        expected = np.abs(error).sum((2, 3, 4))
        np.testing.assert_allclose(found.errors["mae"][name], expected, rtol=1e-5)
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        similarity = structural_similarity(
            frames[8, 1, ..., 0], target[8, 1, ..., 0], data_range=1.0, **options
        )
        assert found.errors["ssim"][name][8, 1] == pytest.approx(similarity, abs=1e-4)
    report = evaluator.report(found)
    assert report["clips"] == 9
    leads = report["scaled"]["model"]["mse"]
    assert np.mean(leads["per_lead"]) == pytest.approx(leads["all"])
    np.testing.assert_array_equal(found.shown["target"], target[:3])


def test_detections_of_the_truth_are_perfect_and_others_are_counted():
    config = ClipObjectsConfig(
        canvas=24, digit=8, frames=2, validation_clips=9, test_clips=9, train_clips=20
    )
    data = config.load()
    task = Detect(DetectConfig()).fitted(data)
    evaluator = evaluator_of(config, task, lambda model, batch: batch["field"])
    source = evaluator.data.source("validation")
    clips = [source[number] for number in range(9)]
    true = {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}

    def predicted(model, split):
        """The truth, but that every other object has a low score and the wrong box."""
        detected: Any = Detections
        boxes, score = true["boxes"].copy(), np.full(true["label"].shape, 0.9)
        boxes[:, :, 1] += 100
        score[:, :, 1] = 0.2
        yield (
            {**true, "example_mask": np.arange(9) < 8},
            detected(boxes, score, true["label"], true["object_mask"]),
        )

    evaluator.predicted = predicted
    found = evaluator(Nothing(), "validation")
    assert len(found.matched["model"]) == 8
    whole = found.total("model")
    assert isinstance(whole, AveragePrecision)
    summed = functools.reduce(operator.add, found.matched["model"])
    assert whole.mean() == summed.mean()
    twice = found.total("model", chosen=np.array([3, 3]))
    assert twice.objects.tolist() == (2 * found.matched["model"][3].objects).tolist()
    report = evaluator.report(found)
    assert report["objects"] == 8 * 2 * 2
    assert report["model"]["precision"] == 1.0
    assert report["model"]["recall"] == 0.5
    assert 0 < report["model"]["map"] < 1
    assert report["mean_box"]["precision"] is None
    assert json.dumps(report, allow_nan=False)
    for figures in report["classes"].values():
        assert figures["objects"] == 0 or figures["ap"] == pytest.approx(figures["recall"])


def test_a_run_is_told_the_objects_by_its_data():
    run = Run(cut("video-detection", steps=1))
    assert run.task.class_counts == run.data.class_counts
    assert run.task.mean_box == run.data.mean_box
    assert isinstance(run.config.model, UNetConfig)
    assert run.patches == 2 * 6 * 6
