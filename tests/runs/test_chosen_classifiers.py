"""Items told at once or by a network: folds of the training examples say which."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

import stpatch_jax as st
from stpatch_jax import nn
from stpatch_jax.recipes import recipe
from stpatch_jax.runs import Run, choosing, load_run
from stpatch_jax.runs.settings import with_settings

LENGTH = 32


def shapes_somewhere(count, seed=0):
    """Series of noise with a bump or a step up and down at a random place, and which it is."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    shapes = np.array([[1, 2, 3, 2, 1, 0, 0], [2, 2, 2, -2, -2, -2, 0]], np.float32)
    x = 0.3 * random.normal(size=(count, LENGTH)).astype(np.float32)
    for series, label in zip(x, labels, strict=True):
        at = random.integers(0, LENGTH - 7)
        series[at : at + 7] += shapes[label]
    return x, np.array(["bump", "step"])[labels]


def settings(**more):
    return with_settings(recipe("classify"), {"layout": "series", **more})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "series"
    return st.train(settings(), data=shapes_somewhere(100), workdir=path, progress=False)


def test_shapes_at_random_places_are_told_apart_in_one_step(trained):
    report = trained.metrics
    assert report["test"]["model"]["accuracy"] > 0.95
    assert report["step"] == 1
    assert "RandomKernels: " in report["chosen"]["model"]
    assert "of 80 training series wrong in 3 folds" in report["chosen"]["model"]
    assert "validated on again" in report["chosen"]["data.validation_share"]
    other, names = shapes_somewhere(60, seed=1)
    said = trained.predict(other)
    assert (said["class"].to_numpy() == names).mean() > 0.95


def test_what_was_fitted_is_kept_bit_for_bit(trained):
    """And fitted anew it is the same, as nothing else is random."""
    run = Run(trained.config, data=shapes_somewhere(100))
    own = nnx.state(run.create_start(nnx.Rngs(7)), nn.Fixed)
    kept = nnx.state(load_run(trained.directory.path).model, nn.Fixed)
    jax.tree.map(np.testing.assert_array_equal, nnx.as_pure(own), nnx.as_pure(kept))
    assert len(jax.tree.leaves(kept)) == 4


def test_the_same_command_again_compares_nothing(trained, monkeypatch):
    monkeypatch.setattr(choosing, "_fixed_errors", None)
    path = trained.directory.path
    again = st.train(settings(), data=shapes_somewhere(100), workdir=path, progress=False)
    assert again.report == trained.report
    st.runs.evaluate(path, data=shapes_somewhere(100))
    assert json.loads((path / "report.json").read_text())["chosen"] == trained.metrics["chosen"]


def test_a_network_takes_part_where_it_is_surely_better(monkeypatch):
    wrong = np.arange(80) < 20
    network = np.arange(80) < 4

    def errors(config, task, arrays, folds, shapes):
        yield from (network[held] for _, held in folds)

    monkeypatch.setattr(choosing, "_fixed_errors", lambda *_: wrong)
    monkeypatch.setattr(choosing, "_network_errors", errors)
    run = Run(settings(), data=shapes_somewhere(100))
    assert isinstance(run.config.model, nn.ConvRecurrentConfig)
    assert run.chosen["model"] == (
        "ConvRecurrent: 4 of 80; RandomKernels: 20 of 80 training series wrong in 3 folds"
    )
    assert run.config.train.steps == 400
    network[:18] = True
    run = Run(settings(), data=shapes_somewhere(100))
    assert isinstance(run.config.model, nn.RandomKernelsConfig)
    assert run.chosen["model"].endswith("wrong in 3 folds; ConvRecurrent: 18 of 80")
    # It is trained no longer than until it is behind.
    network[:] = True
    told = Run(settings(), data=shapes_somewhere(100)).chosen["model"]
    assert "ConvRecurrent: 27 of 27" in told or "ConvRecurrent: 26 of 26" in told


@pytest.mark.slow
def test_a_network_is_trained_on_all_folds_but_one(monkeypatch):
    x, y = shapes_somewhere(60)
    # What is the same place for all is easy for a network that sees places.
    x[:, 5] += np.where(y == "bump", 9, -9)
    config = settings(**{"model": "flat_patches", "steps": 30, "task.compare": "random_features"})
    monkeypatch.setattr(choosing, "_fixed_errors", lambda *_: np.arange(48) % 2 == 0)
    run = Run(config, data=(x, y))
    assert isinstance(run.config.model, nn.FlatPatchesConfig)
    counts = run.chosen["model"].removeprefix("FlatPatches: ").split()
    assert int(counts[0]) <= 6


def test_a_model_that_is_asked_for_stays(monkeypatch):
    monkeypatch.setattr(choosing, "_fixed_errors", None)
    asked = settings(model="inception:tiny")
    run = Run(asked, data=shapes_somewhere(40))
    assert isinstance(run.config.model, nn.InceptionConfig)
    kernels = Run(settings(model="random_kernels"), data=shapes_somewhere(40))
    assert kernels.config.train.steps == 1
    assert dataclasses.replace(asked, task=recipe("classify").task).task.rivals()


def test_the_items_of_a_group_are_in_one_fold():
    group = np.repeat(np.arange(12), 5)
    arrays = {"group": group, "label": np.repeat(np.arange(12) % 2, 5)}
    folds = choosing._folds(arrays, seed=0)
    assert folds is not None
    for train, held in folds:
        assert not {*group[train]} & {*group[held]}
    assert sorted(np.concatenate([held for _, held in folds])) == [*range(60)]
    arrays["label"] = (np.arange(60) >= 50).astype(int)
    assert choosing._folds(arrays, seed=0) is None


def test_what_has_no_random_features_is_not_compared():
    none: Any = None
    config, told = choosing.chosen_by_folds(settings(layout="images"), none, none, {})
    assert told == {}
    assert config.task.rivals()


def rings(count):
    """Rows of ten numbers of which two tell a class, which is no linear matter, and a number."""
    x = np.random.default_rng(0).normal(size=(count, 10)).astype(np.float32)
    x *= 10.0 ** np.arange(10, dtype=np.float32)
    radius = np.hypot(x[:, 0], x[:, 1] / 10)
    return x, radius


@pytest.fixture
def no_network(monkeypatch):
    """Folds in which any network is far behind."""

    def errors(config, task, arrays, folds, shapes):
        yield np.full(len(folds[0][1]), 9.0)

    monkeypatch.setattr(choosing, "_network_errors", errors)


def test_rows_are_told_at_once(no_network):
    x, radius = rings(400)
    y = np.array(["in", "out"])[(radius > 1.2).astype(int)]
    run = st.train("classify", data=(x, y), progress=False)
    assert run.metrics["test"]["model"]["accuracy"] > 0.8
    assert run.metrics["chosen"]["model"].startswith("RandomUnits: ")
    assert "of 320 training rows wrong in 3 folds" in run.metrics["chosen"]["model"]


def test_numbers_of_rows_are_told_at_once_but_for_medians(no_network):
    x, radius = rings(400)
    run = st.regress(x, radius, progress=False)
    told = np.asarray(run.predict(x))[:, -1].astype(float)
    assert np.corrcoef(told, radius)[0, 1] > 0.9
    assert run.metrics["step"] == 1
    assert "of 320 training rows in 3 folds" in run.metrics["chosen"]["model"]
    medians = Run(with_settings(recipe("regress"), {"loss": "mae"}), data=(x, radius))
    assert "model" not in medians.chosen
    assert medians.config.train.steps == 400
    kernels = with_settings(recipe("regress"), {"model": "random_units", "loss": "mae"})
    assert Run(kernels, data=(x, radius)).config.train.steps == 400


def test_numbers_are_compared_by_their_squared_errors(monkeypatch):
    far, near = np.full(80, 2.0), np.linspace(0.1, 0.2, 80)
    x, radius = rings(100)

    def errors(config, task, arrays, folds, shapes):
        yield from (near[held] for _, held in folds)

    monkeypatch.setattr(choosing, "_fixed_errors", lambda *_: far)
    monkeypatch.setattr(choosing, "_network_errors", errors)
    run = Run(recipe("regress"), data=(x, radius))
    assert isinstance(run.config.model, nn.ConvRecurrentConfig)
    assert run.chosen["model"] == (
        "ConvRecurrent: mean squared error 0.15 of 80; "
        "RandomUnits: mean squared error 2 of 80 training rows in 3 folds"
    )


def test_texts_are_told_at_once_and_not_validated_by_heart(no_network):
    random = np.random.default_rng(0)
    words = np.array([f"w{at}" for at in range(60)])
    y = np.arange(150) % 2
    # Of ten words a class has each of its ten a little more often.
    odds = 1 + 4 * np.stack([np.arange(60) < 10, np.arange(60) >= 50])
    x = [" ".join(random.choice(words, 10, p=odds[of] / odds[of].sum())) for of in y]
    run = st.classify(x, y, progress=False)
    assert run.metrics["chosen"]["model"].startswith("RandomUnits: ")
    assert run.metrics["test"]["model"]["accuracy"] > 0.75
    assert run.metrics["validation"]["error"] > 0.01


def test_what_validation_is_to_choose_is_not_trained_on():
    x, y = shapes_somewhere(40)
    pictures = np.repeat(x[:, :16, None], 16, axis=2)
    asked = {
        "layout": "images",
        "batch_size": 8,
        "steps": 10,
        "checkpoint_every": 5,
        "evaluate_every": 5,
    }
    splits = {}
    for keep in (None, "max:accuracy"):
        config = with_settings(recipe("classify"), {**asked, "keep_best": keep})
        data: Any = Run(config, data=(pictures, y)).data
        splits[keep] = data.splits
    assert splits[None]["train"].labels.shape == splits[None]["validation"].labels.shape == (32,)
    held = splits["max:accuracy"]
    assert held["train"].labels.shape == (24,)
    assert held["validation"].labels.shape == (8,)
