"""A run that starts from another: masked volumes first, then their classes."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from stpatch_jax.data import LabelledVolumesConfig
from stpatch_jax.errors import InputError
from stpatch_jax.nn import Conv3DConfig, RandomFiltersConfig
from stpatch_jax.recipes import recipe
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.run import Run, train
from stpatch_jax.runs.trained import load_run
from stpatch_jax.tasks import ClassifyConfig, ReconstructConfig

WIDTH = 4


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Cubes, bright or dark where there is something."""
    random = np.random.default_rng(0)
    arrays = {}
    for name, count in {"train": 16, "val": 8, "test": 8}.items():
        label = np.arange(count) % 2
        images = random.integers(0, 100, (count, 4, 4, 4)) * (1 + label.reshape(-1, 1, 1, 1))
        arrays |= {f"{name}_images": images.astype(np.uint8), f"{name}_labels": label[:, None]}
    path = tmp_path_factory.mktemp("volumes") / "volumes.npz"
    np.savez(path, **arrays)
    return str(path)


def cut(name, path, *, steps=2, width=WIDTH, **changes):
    base = recipe("scan")
    tasks = {
        "patches": ReconstructConfig((1, 2, 2, 2), mask_ratio=0.5),
        "scan": ClassifyConfig(hidden=(), reduce="mean"),
    }
    settings = dataclasses.replace(
        base.train, steps=steps, batch_size=8, checkpoint_every=steps, evaluate_every=steps, ema=0.5
    )
    return dataclasses.replace(
        base,
        data=LabelledVolumesConfig(path=path),
        # Matrix products compile faster than convolutions.
        model=Conv3DConfig(3, features=(width,), kernel_size=1),
        task=tasks[name],
        train=settings,
        **changes,
    )


@pytest.fixture(scope="module")
def pretrained(volumes, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pretrain") / "run"
    train(cut("patches", volumes), workdir=workdir, progress=False)
    return workdir


def backbone(model):
    return jax.tree.leaves(nnx.state(model.backbone, nnx.Param))


@pytest.mark.slow
def test_hidden_patches_are_reported_beside_the_naive_rules(pretrained):
    report = json.loads((pretrained / "report.json").read_text())
    assert report["task"] == "Reconstruct"
    assert report["test"]["examples"] == 8
    figures = report["test"]["scaled"]
    assert set(figures) == {"model", "visible_mean"}
    gain = 1 - figures["model"]["mse"] / figures["visible_mean"]["mse"]
    assert report["verdict"]["gain"] == pytest.approx(gain)
    assert all(0 < value < 10 for rule in figures.values() for value in rule.values())
    assert report["validation"]["rmse"] > 0
    assert "| visible_mean |" in (pretrained / "report.md").read_text()
    assert (pretrained / "plots/reconstruction.png").is_file()


def test_a_run_predicts_any_number_of_examples_on_any_device(pretrained):
    run = load_run(pretrained)
    assert run.model is run.model
    assert run.identity == load_run(pretrained).identity
    field = run.data().source("test")[0]["field"]
    # More than one batch, the last of which is filled up.
    many = np.stack([field * (1 + at / 100) for at in range(70)])
    made = run.answers({"field": many})
    assert made.shape == many.shape
    np.testing.assert_allclose(run.answers({"field": many[:1]}), made[:1], rtol=1e-4, atol=1e-5)
    last = jax.devices()[-1]
    assert last != jax.devices()[0]
    elsewhere = jax.device_put(np.ones(()), last)
    for leaf in jax.tree.leaves(nnx.state(run.model, nnx.Param)):
        # An array that is bound to another device could not be added.
        assert (leaf.sum() + elsewhere).device == last


def test_data_that_changed_are_refused(volumes, pretrained):
    whole = Path(volumes).read_bytes()
    arrays = dict(np.load(volumes))
    np.savez(volumes, **{**arrays, "train_images": arrays["train_images"] // 2})
    try:
        with pytest.raises(InputError, match="must be what it was trained on, got another"):
            load_run(pretrained).data()
    finally:
        Path(volumes).write_bytes(whole)


def test_training_starts_from_the_backbone_of_the_other_run(volumes, pretrained):
    run = Run(cut("scan", volumes, start_from=str(pretrained)))
    fresh: Any = run.create_model(nnx.Rngs(7))
    started: Any = run.create_start(nnx.Rngs(7))
    learnt = load_run(pretrained).model
    for ours, theirs in zip(backbone(started), backbone(learnt), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any(
        not np.array_equal(a, b) for a, b in zip(backbone(fresh), backbone(started), strict=True)
    )
    for ours, theirs in zip(
        jax.tree.leaves(nnx.state(started.head, nnx.Param)),
        jax.tree.leaves(nnx.state(fresh.head, nnx.Param)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_start_that_does_not_fit_is_told_before_anything_is_written(
    volumes, pretrained, tmp_path
):
    workdir = tmp_path / "run"
    with pytest.raises(InputError, match="the two models must have the same backbone"):
        train(
            cut("scan", volumes, width=WIDTH + 1, start_from=str(pretrained)),
            workdir=workdir,
            progress=False,
        )
    with pytest.raises(InputError, match=r"must be a run directory .* got none"):
        train(
            cut("scan", volumes, start_from=str(tmp_path / "none")), workdir=workdir, progress=False
        )
    fitted = cut("scan", volumes, start_from=str(pretrained))
    fitted = dataclasses.replace(
        fitted, model=RandomFiltersConfig(filters=2), task=ClassifyConfig()
    )
    with pytest.raises(InputError, match="start_from must go with a network that is trained, got"):
        train(fitted, workdir=workdir, progress=False)
    begun = RunDirectory(tmp_path / "begun")
    begun.claim(json.loads((pretrained / "config.json").read_text()))
    with pytest.raises(InputError, match="must have a checkpoint, got none yet; train it first"):
        load_run(begun.path)
    assert not workdir.exists()


@pytest.mark.slow
def test_fine_tuning_goes_on_and_is_evaluated_without_the_other_run(volumes, pretrained, tmp_path):
    start = tmp_path / "start"
    start.symlink_to(pretrained)
    config = cut("scan", volumes, start_from=str(start))
    text = train(config, workdir=tmp_path / "run", progress=False).report
    start.unlink()
    assert train(config, workdir=tmp_path / "run", progress=False).report == text
