"""Segment: its laws, scores against scikit-learn, learning, refused labels and settings."""

import re
from typing import Any

import jax
import numpy as np
import optax
import pytest
import sklearn.metrics
from flax import nnx

from stpatch_jax import losses
from stpatch_jax.errors import InputError
from stpatch_jax.nn import UNetConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.tasks import Segment, SegmentConfig

COUNTS = (60, 10, 30)
SHAPE = (1, 6, 5)
# Windows of 2 x 2 cells, which cover an odd number of columns.
UNET = UNetConfig(WindowSpec((1, 2, 2), padding=("VALID", "COVER", "COVER")), features=(6,))


def make_batch(examples=3):
    random = np.random.default_rng(0)
    field = random.normal(size=(examples, *SHAPE, 2)).astype(np.float32)
    label = (field[..., 0] > 0) + (field[..., 1] > 1).astype(np.int32)
    label[1, :, :2] = -1
    return {"field": field, "label": label}


@pytest.fixture(scope="module")
def built():
    task = Segment(
        SegmentConfig(class_weights=(1.0, 3.0, 2.0), cross_entropy=0.5), class_counts=COUNTS
    )
    batch = make_batch()
    model: Any = task.build(UNET, {name: x.shape for name, x in batch.items()}, rngs=nnx.Rngs(0))
    kernel = model.head.dense.kernel
    # What a head says at first is the same everywhere.
    kernel[...] = 0.3 * jax.random.normal(jax.random.key(1), kernel.shape)
    return task, model, batch, nnx.jit(task.loss)


def test_the_loss_is_that_of_the_real_cells(built):
    task, model, batch, loss_of = built
    loss, metrics = loss_of(model, batch)
    probability, label = nnx.jit(task.predict)(model, batch), batch["label"]
    probability, mask = np.asarray(probability, np.float64), label >= 0
    probability /= probability.sum(-1, keepdims=True)
    logits = np.log(probability).astype(np.float32)
    weight = np.array([1.0, 3.0, 2.0])[label] * mask
    entropy = sklearn.metrics.log_loss(
        label[mask], probability[mask].astype(np.float64), sample_weight=weight[mask]
    )
    each = [
        losses.dice(*(x[at : at + 1] for x in (logits, label)), mask=mask[at : at + 1])
        for at in range(3)
    ]
    dice = np.average(each, weights=weight.sum((1, 2, 3)))
    np.testing.assert_allclose(loss, 0.5 * entropy + dice, rtol=1e-5)
    np.testing.assert_allclose(metrics["weight"], weight.sum())
    said = probability.argmax(-1)[mask]
    theirs = {
        "accuracy": sklearn.metrics.accuracy_score(label[mask], said),
        "dice": sklearn.metrics.f1_score(label[mask], said, average="macro"),
        "iou": sklearn.metrics.jaccard_score(label[mask], said, average="macro"),
    }
    for name, value in theirs.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5)


def test_order_fillings_and_ignored_cells_change_neither_loss_nor_score(built):
    _, model, batch, loss_of = built
    whole = loss_of(model, batch)
    order = np.array([2, 0, 1])
    filled = {name: np.concatenate([x[order], x[:1]]) for name, x in batch.items()}
    filled["example_mask"] = np.array([True, True, True, False])
    moved = loss_of(model, filled)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), whole, moved)


@pytest.mark.slow
def test_one_batch_is_learnt():
    task, batch = Segment(SegmentConfig(), class_counts=COUNTS), make_batch()
    model = task.build(UNET, {name: x.shape for name, x in batch.items()}, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(0.02), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer, batch):
        (loss, metrics), gradient = nnx.value_and_grad(task.loss, has_aux=True)(model, batch)
        optimizer.update(model, gradient)
        return loss, metrics

    first, _ = train_step(model, optimizer, batch)
    for _ in range(120):
        train_step(model, optimizer, batch)
    loss, metrics = train_step(model, optimizer, batch)
    assert loss < 0.1 * first
    assert metrics["dice"] > 0.95


def test_rules_say_what_is_most_frequent():
    task, batch = Segment(SegmentConfig(), class_counts=(1, 9, 3)), make_batch()
    naive = task.baselines(batch)
    assert naive.keys() == {"majority"}
    assert naive["majority"].shape == (3, *SHAPE, 3)
    assert (np.asarray(naive["majority"]).argmax(-1) == 1).all()
    batch["usual"] = np.full(batch["label"].shape, 2, np.int32)
    assert (np.asarray(task.baselines(batch)["cell"]).argmax(-1) == 2).all()


def test_wrong_labels_and_settings_are_refused():
    task, batch = Segment(SegmentConfig(), class_counts=COUNTS), make_batch()
    task.check_batch(batch)
    with pytest.raises(InputError, match=re.escape("label must be whole numbers from 0 to 2, got")):
        task.check_batch({**batch, "label": np.where(batch["label"] == 1, 3, batch["label"])})
    with pytest.raises(InputError, match=re.escape("label must have the cells of the field")):
        task.check_batch({**batch, "label": batch["label"][:, 0]})
    with pytest.raises(InputError, match="must not both be 0"):
        SegmentConfig(cross_entropy=0, dice=0)
    with pytest.raises(InputError, match="one for each of 3 classes"):
        Segment(SegmentConfig(class_weights=(1.0, 2.0)), class_counts=COUNTS)
    with pytest.raises(InputError, match="above 0 for balanced"):
        Segment(SegmentConfig(class_weights="balanced"), class_counts=(3, 0))
