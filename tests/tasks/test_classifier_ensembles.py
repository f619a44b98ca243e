"""Ensembles of classifiers: mean probabilities, mean losses, members with weights of their own."""

from typing import Any

import jax
import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from flax import nnx

from stpatch_jax.errors import InputError
from stpatch_jax.nn import BackboneConfig, FlatPatchesConfig, PatchCNNConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.tasks import Classify, ClassifyConfig, Ensemble, transfer_backbone

COUNTS = (6, 2, 4)
FLAT = FlatPatchesConfig(WindowSpec((4,)))
LEARNING = PatchCNNConfig(WindowSpec((4,)), features=(3,))


def problem(members, backbone: BackboneConfig = FLAT) -> tuple[Classify, Any, dict[str, Any]]:
    random = np.random.default_rng(0)
    batch = {
        "field": random.normal(size=(6, 8, 2)).astype(np.float32),
        "label": random.integers(0, len(COUNTS), 6),
    }
    task = Classify(ClassifyConfig(hidden=(), members=members), class_counts=COUNTS)
    return task, task.build(backbone, {"field": batch["field"].shape}, rngs=nnx.Rngs(0)), batch


def test_the_answer_is_the_mean_probability_and_the_loss_the_mean_loss():
    task, model, batch = problem(2)

    @nnx.jit
    def run(model, batch):
        logits = [member(batch["field"]) for member in model.members]
        return (
            logits,
            task.predict(model, batch),
            nnx.value_and_grad(task.loss, has_aux=True)(model, batch),
        )

    logits, probability, ((loss, metrics), gradient) = run(model, batch)
    each = scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)
    assert np.abs(each[0] - each[1]).max() > 0.01
    np.testing.assert_allclose(probability, each.mean(axis=0), rtol=1e-5)
    losses = [sklearn.metrics.log_loss(batch["label"], p, labels=[0, 1, 2]) for p in each]
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    right = sklearn.metrics.accuracy_score(batch["label"], each.mean(axis=0).argmax(-1))
    np.testing.assert_allclose(metrics["accuracy"], right, rtol=1e-6)
    leaves = nnx.to_flat_state(gradient)
    assert {path[1] for path, _ in leaves} == {0, 1}
    for path, leaf in leaves:
        assert (leaf[...] != 0).any(), path


def test_a_trained_backbone_goes_to_every_member():
    _, trained, _ = problem(1, LEARNING)
    _, model, _ = problem(2, LEARNING)
    transfer_backbone(trained, model)
    expected = jax.tree.leaves(nnx.state(trained.backbone, nnx.Param))
    assert isinstance(model, Ensemble)
    for member in model.members:
        found = jax.tree.leaves(nnx.state(member.backbone, nnx.Param))
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert model.backbone is model.members[0].backbone


def test_an_ensemble_has_members():
    with pytest.raises(InputError, match="members must be a whole number >= 1, got 0"):
        ClassifyConfig(members=0)
